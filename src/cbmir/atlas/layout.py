"""The arithmetic of a map: features laid out in two dimensions so that what is alike lies close.

Some images, the landmarks, are laid out by t-SNE; every other one is placed among those that are like it. So the time
is bounded: t-SNE never sees more than N_LANDMARKS rows, and placing is one product of matrices.

Source: van der Maaten and Hinton, Visualizing Data using t-SNE, JMLR 9, 2008; section 5 (landmarks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from ..types import Float32, Int

N_LANDMARKS = 2000
PER_CLASS = 10
"""Landmarks that every class has at least, or all it has: a rare class else lies scattered among the others."""

N_COMPONENTS = 256
"""Features are compared along so many principal components. Of 200 clusters in 576 dimensions 128 lose some: on the map
91 of 100 near images are of the same class, with 256 of them 99. Trained features need fewer, and time is no matter."""

FEWEST = 30
"""Below so many images the first two components are the map: t-SNE has nothing to tell there."""

_SPARE, _TURNS = 16, 4  # columns more, and turns, that make the last components as good as exact ones
_PERPLEXITY, _ITERATIONS = 30.0, 500
_NEAR = 5  # landmarks an image is placed among: the nearest, and those that lie near that one on the map ...
_NEAR_STEPS = (
    6.0  # ... within so many times the usual distance of two neighbours: a mean of two islands lies in the sea
)
_FINEST = 12  # the map is thinned by grids of 1, 4, 16, ... 4^12 cells
_SAMPLE, _NEIGHBOURS = 250, 10

Features = Callable[[Int], Float32]
"""Rows of some positions: float32 (n, dim)."""


def by_chance(ids: Iterable[str]) -> Int:
    """A number for each id, uint64 as if drawn by chance, and the same at every time."""
    digests = b"".join(blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(digests, "<u8")


def landmarks(chance: Int, groups: Int) -> Int:
    """Which rows are landmarks, ascending: PER_CLASS of each group, then of all, up to N_LANDMARKS, as chance has it.

    chance: (n,), as by_chance; groups: (n,), numbers of classes. What comes or goes changes few of them.
    """
    order = np.argsort(chance, kind="stable")
    by_group = order[np.argsort(groups[order], kind="stable")]
    starts = np.flatnonzero(np.r_[True, np.diff(groups[by_group]) != 0])
    place_in_group = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    first = by_group[place_in_group < PER_CLASS]
    rest = order[~np.isin(order, first)]
    return np.sort(np.r_[first[np.argsort(chance[first])], rest][:N_LANDMARKS])


@dataclass(frozen=True)
class Projection:
    """The principal components of some rows. mean: (dim,); axes: (dim, c), the largest first."""

    mean: Float32
    axes: Float32

    @classmethod
    def of(cls, rows: Float32) -> Projection:
        """Found by subspace iteration: all of them would take ten times as long as the first ones.

        Source: Halko, Martinsson and Tropp, SIAM Review 53(2), 2011, algorithm 4.4.
        """
        mean: Float32 = rows.mean(axis=0)
        centred = rows - mean
        wanted = min(N_COMPONENTS + _SPARE, *rows.shape)
        basis: Float32 = np.random.default_rng(0).standard_normal((rows.shape[1], wanted), dtype=np.float32)
        for _ in range(_TURNS):
            basis = np.asarray(np.linalg.qr(centred.T @ np.linalg.qr(centred @ basis).Q).Q, np.float32)
        _, values, turn = np.linalg.svd(centred @ basis, full_matrices=False)
        kept = np.flatnonzero(values > 1e-3 * values[:1])[:N_COMPONENTS]
        return cls(mean, np.asarray(basis @ turn[kept].T, np.float32))

    def __call__(self, rows: Float32) -> Float32:
        """float32 (n, c)."""
        return np.asarray((rows - self.mean) @ self.axes, np.float32)


def lay_out(projected: Float32) -> Float32:
    """Positions of landmarks, float32 (n, 2), in any unit. projected: (n, c). The same at every time.

    Raises ImportError where there is no scikit-learn, from FEWEST rows on.
    """
    first = np.zeros((len(projected), 2), np.float32)
    first[:, : min(2, projected.shape[1])] = projected[:, :2]
    if len(projected) < FEWEST or (spread := float(first.std())) == 0:
        return first
    from sklearn.manifold import TSNE

    # one thread: with more the order of sums, and so the map, is another one each time, and beside other work slower
    tsne = TSNE(
        perplexity=min(_PERPLEXITY, (len(projected) - 1) / 3),
        init=first / spread * np.float32(1e-4),
        max_iter=_ITERATIONS,
        random_state=0,
        n_jobs=1,
    )
    return np.asarray(tsne.fit_transform(projected), np.float32)


@dataclass(frozen=True)
class Land:
    """Landmarks: along their principal components, (n, c), and on the map, (n, 2)."""

    projection: Projection
    projected: Float32
    places: Float32

    def place(self, positions: Int, features: Features, at_once: int = 4096) -> Float32:
        """Where images belong on the map, float32 (n, 2)."""
        found = np.empty((len(positions), 2), np.float32)
        if not len(self.places):
            return np.zeros_like(found)
        step, reach = _usual_distance(self.places), _usual_distance(self.projected)
        for start in range(0, len(positions), at_once):
            here = slice(start, start + at_once)
            found[here] = self._placed(self.projection(features(positions[here])), step, reach)
        return found

    def _placed(self, rows: Float32, step: float, reach: float) -> Float32:
        """The mean of the near landmarks, weighted by closeness, and from there a little in the direction in which an
        image differs from the nearest one, so that no two lie on each other.
        """
        squared = _squared_distances(rows, self.projected)
        near = np.argpartition(squared, min(_NEAR, squared.shape[1]) - 1, axis=1)[:, :_NEAR]
        near = np.take_along_axis(near, np.argsort(np.take_along_axis(squared, near, 1), axis=1, kind="stable"), 1)
        unit = np.float32(reach or 1)
        weights = 1 / (np.take_along_axis(squared, near, 1) / unit**2 + np.float32(1e-6))
        there = self.places[near]  # (n, near, 2)
        weights *= np.linalg.norm(there - there[:, :1], axis=2) <= _NEAR_STEPS * step
        weights /= weights.sum(axis=1, keepdims=True)
        aside = np.zeros((len(rows), 2), np.float32)
        differs = (rows - self.projected[near[:, 0]])[:, :2]
        aside[:, : differs.shape[1]] = np.tanh(differs / unit) * np.float32(step)
        return np.asarray((weights[:, :, None] * there).sum(axis=1) + aside, np.float32)


def _usual_distance(rows: Float32) -> float:
    """The median distance to the nearest other row that is not the same."""
    if len(rows) < 2:
        return 0.0
    squared = _squared_distances(rows, rows)
    squared[squared <= 1e-9 * squared.max()] = np.inf
    nearest = squared.min(axis=1)
    nearest = nearest[np.isfinite(nearest)]
    return float(np.sqrt(np.median(nearest))) if len(nearest) else 0.0


def _squared_distances(rows: Float32, others: Float32) -> Float32:
    """float32 (n, m), at least 0."""
    norms = (rows * rows).sum(axis=1)[:, None] + (others * others).sum(axis=1)
    return np.asarray(np.maximum(norms - 2 * (rows @ others.T), 0), np.float32)


def into_square(places: Float32) -> Float32:
    """The same map with its middle at the middle of [0, 1] x [0, 1] and its longer side as long as that."""
    if not len(places):
        return places
    low, high = places.min(axis=0), places.max(axis=0)
    side = float((high - low).max()) or 1.0
    return np.asarray((places - (low + high) / 2) / side + 0.5, np.float32)


def spread_first(places: Float32, chance: Int) -> Int:
    """An order of rows of which any beginning covers the map evenly: of each cell of a grid the first by chance, then
    those of a grid twice as fine, and so on. places: in about [0, 1] x [0, 1].
    """
    order = np.argsort(chance, kind="stable")
    level = np.full(len(order), _FINEST + 1)
    for fineness in reversed(range(_FINEST + 1)):
        cells = np.floor(places[order] * (1 << fineness)).astype(np.int64)
        _, first = np.unique(cells[:, 0] * (1 << 32) + cells[:, 1], return_index=True)
        level[order[first]] = fineness
    return order[np.argsort(level[order], kind="stable")]


def agreement(places: Float32, features: Features, groups: Int, chance: Int) -> tuple[float, float]:
    """How well the map tells classes apart: the share of the ten nearest images that are of the class of the image, on
    the map and by all features, over a sample. The row itself does not count.

    features: of positions 0 to n; groups: (n,) numbers of classes.
    """
    n = len(places)
    k = min(_NEIGHBOURS, n - 1)
    sample = np.argsort(chance, kind="stable")[:_SAMPLE]
    if k < 1:
        return 1.0, 1.0
    on_map = _nearest(places[sample], _blocks(n, lambda rows: places[rows]), k, sample)
    by_features = _nearest(features(sample), _blocks(n, features), k, sample)
    shares = [float((groups[near] == groups[sample][:, None]).mean()) for near in (on_map, by_features)]
    return shares[0], shares[1]


def _blocks(n: int, rows_of: Features, at_once: int = 4096) -> Iterator[tuple[int, Float32]]:
    for start in range(0, n, at_once):
        yield start, rows_of(np.arange(start, min(start + at_once, n)))


def _nearest(queries: Float32, blocks: Iterable[tuple[int, Float32]], k: int, own: Int) -> Int:
    """int64 (n, k), nearest rows of all blocks but the own one; in any order."""
    best = np.full((len(queries), k), np.inf, np.float32)
    rows = np.zeros((len(queries), k), np.int64)
    for start, block in blocks:
        squared = _squared_distances(queries, block)
        inside = (own >= start) & (own < start + len(block))
        squared[np.flatnonzero(inside), own[inside] - start] = np.inf
        together = np.concatenate([best, squared], axis=1)
        numbers = np.concatenate([rows, np.broadcast_to(np.arange(start, start + len(block)), squared.shape)], axis=1)
        nearest = np.argpartition(together, k - 1, axis=1)[:, :k]
        best, rows = np.take_along_axis(together, nearest, 1), np.take_along_axis(numbers, nearest, 1)
    return rows
