"""Better rankings from the gallery itself: alpha query expansion and k-reciprocal re-ranking.

    reranking_of(name, calibration, layer) -> Reranking | None      the parameters fitted on validation
    reranked(index, queries, k, scope, reranking, find) -> Found    what a search gives with them
    expanded(query, hits, aqe) -> Float32                           the query among its first hits
    reordered(index, queries, found, how) -> Found                  the first DEPTH rows of a ranking anew

Only rows of the scope take part: what is hidden, filtered out or outside the gate expands no query and is nobody's
neighbour. `distances` of a Found stay those to the query as it was asked, and so do not ascend.

Alpha query expansion (Radenović, Tolias and Chum 2018, section 3.4; its exponent 0 is average query expansion, Chum
et al. 2007) searches again with

    q' = (q + sum_i w_i x_i) / (1 + sum_i w_i),    w_i = max(0, cos(q, x_i))^alpha,    over the first n hits x_i.

Rows of unit length are ranked as the paper ranks them: it scales q' to unit length, which changes no order. Of other
features q' is a weighted mean, which stays among them.

k-reciprocal re-ranking (Zhong, Zheng, Cao and Li 2017, section 3) looks at the query and its first DEPTH rows, the
pool. N(p, k) is p and its k nearest of the pool, for the query its first k hits.

    R(p, k)  = {g in N(p, k): p in N(g, k)}                                                       (eq. 2)
    R*(p, k) = R(p, k) and every R(g, k/2), g in R(p, k), of which two thirds are in R(p, k)       (eq. 3)
    V(p, g)  = exp(-d(p, g)) for g in R*(p, k1), else 0                                            (eq. 7)
    V(p)     = mean of V(g) over p and its k2 - 1 nearest                                          (eq. 11)
    d_J(g)   = 1 - sum min(V(q), V(g)) / sum max(V(q), V(g))                                       (eq. 10)
    key(g)   = (1 - lambda) d_J(g) + lambda d(q, g) + penalty(g)                                   (eq. 12)

As in the code of its authors d(p, .) is the squared distance divided by the largest in the pool, so that a layer may
have any unit, and V(p) is divided by its sum. The penalty of the soft gate is in the same unit; with lambda 1 the
ranking is what it was. Rows behind the pool follow in their order. Of several queries the smallest key counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import UsageError
from .index import Float64, Found, Index, Scope
from .index.exact import distances_to
from .types import Bool, Float32, Int, Rerank

DEPTH = 1000
"""Rows of a ranking that k-reciprocal re-ranking looks at: of any k, so that pages fit together, and of any gallery,
so that its time does not grow: 0.1 to 0.2 s (benchmarks/bench_search.py)."""

_MEASURED = 1024  # rows whose distances are measured at once


@dataclass(frozen=True)
class Aqe:
    """n: hits that expand the query, 0 leaves it as it is; alpha: at least 0."""

    n: int
    alpha: float

    def __post_init__(self) -> None:
        if self.n < 0 or not 0 <= self.alpha < float("inf"):
            raise ValueError(f"a query is expanded by at least 0 hits with an alpha of at least 0, not {self}")

    @property
    def changes_nothing(self) -> bool:
        return self.n == 0


@dataclass(frozen=True)
class KReciprocal:
    """k1, k2: sizes of neighbourhoods, at least 1; share: lambda, the part of the distance in the key, in [0, 1]."""

    k1: int
    k2: int
    share: float

    def __post_init__(self) -> None:
        if min(self.k1, self.k2) < 1 or not 0 <= self.share <= 1:
            raise ValueError(f"neighbourhoods have at least 1 row, and lambda is from 0 to 1, not {self}")

    @property
    def changes_nothing(self) -> bool:
        return self.share == 1


Reranking = Aqe | KReciprocal

Find = Callable[[Float32, int], Found]
"""The first rows of a ranking by some queries: float32 (m, dim), and how many."""


def reranking_of(name: Rerank, calibration: Mapping[str, Any], layer: str) -> Reranking | None:
    """The parameters that calibration["rerank"][layer][name] holds (rerank_fit.py); None for the name none.

    Raises UsageError where there are none.
    """
    if name == "none":
        return None
    told = calibration.get("rerank", {}).get(layer, {}).get(name)
    if told is None:
        raise UsageError(
            f"re-ranking by {name} needs parameters fitted on validation, and this encoder has none for layer {layer}; "
            "search without re-ranking"
        )
    if name == "aqe":
        return Aqe(told["n"], told["alpha"])
    return KReciprocal(told["k1"], told["k2"], told["lambda"])


def reranked(index: Index, queries: Float32, k: int, scope: Scope, reranking: Reranking | None, find: Find) -> Found:
    """The first k rows. queries: float32 (m, dim), m at least 1; find: the ranking without, in this scope."""
    if reranking is None:
        return find(queries, k)
    if isinstance(reranking, Aqe):
        found = find(_expanded_all(index, queries, scope, reranking), k)
        return replace(found, distances=_distances(index, queries, found.positions).min(axis=0))
    return reordered(index, queries, find(queries, max(k, DEPTH)), reranking).at(slice(k))


def _expanded_all(index: Index, queries: Float32, scope: Scope, aqe: Aqe) -> Float32:
    """Each query among its own first hits."""
    if aqe.n == 0:
        return queries
    hits = (index.features(index.search(query, aqe.n, scope).positions) for query in queries)
    return np.array([expanded(query, rows, aqe) for query, rows in zip(queries, hits, strict=True)], np.float32)


def expanded(query: Float32, hits: Float32, aqe: Aqe) -> Float32:
    """q' above. query: float32 (dim,); hits: float32 (m, dim), best first; those behind the first n do not count."""
    rows = hits[: aqe.n].astype(np.float64)
    origin = query.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(origin)
    cosines = np.divide(rows @ origin, lengths, out=np.zeros(len(rows)), where=lengths > 0)
    weights = np.clip(cosines, 0, 1) ** aqe.alpha  # 0**0 is 1: with alpha 0 all count alike
    return np.asarray((origin + weights @ rows) / (1 + weights.sum()), np.float32)


def reordered(index: Index, queries: Float32, found: Found, how: KReciprocal) -> Found:
    """The same rows, the first DEPTH of them in the order of their keys above; ties stay in order."""
    if len(found) == 0:
        return found
    near = slice(min(DEPTH, len(found)))
    rows, distances = index.features(found.positions[near]), _distances(index, queries, found.positions[near])
    penalties = found.keys[near] - found.distances[near].astype(np.float64) ** 2
    keys = distances.astype(np.float64) ** 2 + penalties
    among = squared_among(rows)
    unit = float(distances.max()) ** 2 or 1.0
    smallest = np.full(len(rows), np.inf)
    for line, own in zip(distances, keys, strict=True):
        pool = Pool.around(among, line, np.argsort(own, kind="stable"), how.k1)
        jaccard = pool.jaccard(pool.weights(how.k1), how.k2)
        np.minimum(smallest, blended(jaccard, line, penalties, unit, how.share), out=smallest)
    order = np.arange(len(found))
    order[near] = np.argsort(smallest, kind="stable")
    return found.at(order)


def blended(jaccard: Float64, distances: Float32, penalties: Float64, unit: float, share: float) -> Float64:
    """The key of eq. 12. unit: the largest squared distance of the pool."""
    return (1 - share) * jaccard + (share * distances.astype(np.float64) ** 2 + penalties) / unit


@dataclass(frozen=True)
class Pool:
    """A query, which is point 0, and its first rows.

    squared: float32 (p, p), squared distances, each line divided by its largest. nearest: int64 (p, depth), for each
    point itself and its nearest, in order.
    """

    squared: Float32
    nearest: Int

    @classmethod
    def around(cls, among: tuple[Float32, float], distances: Float32, hits: Int, depth: int) -> Pool:
        """among: the rows, by `squared_among`; distances: those of the query to them, float32 (m,); hits: the rows in
        the order of the ranking; depth: the largest k1."""
        among_rows, unit = among
        m = len(among_rows)
        squared = np.empty((m + 1, m + 1), np.float32)
        squared[1:, 1:] = among_rows
        squared[0, 0] = 0
        squared[0, 1:] = squared[1:, 0] = (distances.astype(np.float64) / unit) ** 2
        np.fill_diagonal(squared, -1)  # oneself comes first, before others that are equal
        nearest = _nearest(squared, min(depth, m) + 1)
        nearest[0, 1:] = hits[: nearest.shape[1] - 1] + 1
        np.fill_diagonal(squared, 0)
        largest = squared.max(axis=1, keepdims=True)
        squared /= np.where(largest > 0, largest, 1)
        return cls(squared, nearest)

    def jaccard(self, weights: Float32, k2: int) -> Float64:
        """d_J of every row: float64 (m,). weights: float32 (p, p), see `weights`."""
        near = self.nearest[:, :k2]
        of_query = weights[near[0]].mean(axis=0)
        columns = np.flatnonzero(of_query)
        narrow = np.ascontiguousarray(weights[:, columns])
        common = np.zeros((len(weights), len(columns)), np.float32)
        for neighbour in near.T:
            common += narrow[neighbour]
        common /= near.shape[1]
        overlap = np.minimum(common[1:], of_query[columns]).sum(axis=1, dtype=np.float64)
        distances: Float64 = 1 - overlap / (2 - overlap)  # both sums are 1, so the maxima are 2 less the minima
        return distances

    def weights(self, k1: int) -> Float32:
        """V of every point, before eq. 11: float32 (p, p)."""
        star = self._expanded_sets(k1)
        point, other = np.nonzero(star)
        weight = np.exp(-self.squared[point, other])
        sums = np.bincount(point, weight, minlength=len(star))
        weights = np.zeros(star.shape, np.float32)
        weights[point, other] = weight / sums[point]
        return weights

    def _expanded_sets(self, k1: int) -> Bool:
        """Who is in R*(p, k1): bool (p, p)."""
        wide, narrow = self.nearest[:, : k1 + 1], self.nearest[:, : round(k1 / 2) + 1]
        mutual, closer = _mutual(wide), _mutual(narrow)
        lines = np.arange(len(mutual))[:, None]
        in_wide, in_narrow = mutual[lines, wide], closer[lines, narrow]  # bool, of the listed neighbours
        members = narrow[wide]  # (p, k1 + 1, k1 / 2 + 1): of each neighbour the closer ones
        there = in_narrow[wide]
        known = mutual[lines[:, :, None], members] & there
        taken = in_wide & (3 * known.sum(axis=2) >= 2 * there.sum(axis=2))
        point, place, member = np.nonzero(there & taken[:, :, None])
        star = mutual.copy()
        star[point, members[point, place, member]] = True
        return star


def _mutual(nearest: Int) -> Bool:
    """R of every point: bool (p, p)."""
    near = np.zeros((len(nearest), len(nearest)), np.bool_)
    near[np.arange(len(nearest))[:, None], nearest] = True
    return near & near.T


def _nearest(squared: Float32, count: int) -> Int:
    """The places of the smallest of each line, in order: int64 (p, count)."""
    some = np.argpartition(squared, count - 1, axis=1)[:, :count]
    some.sort(axis=1)  # of equally far ones the better hit first
    order = np.take_along_axis(squared, some, axis=1).argsort(axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def squared_among(rows: Float32) -> tuple[Float32, float]:
    """Squared distances among rows, float32 (m, m), in a unit in which none is too large; and the unit, of distance."""
    centred = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    unit = float(np.abs(centred).max(initial=0)) or 1.0
    centred /= np.float32(unit)
    products = centred @ centred.T
    norms = products.diagonal().copy()
    products *= -2
    products += norms
    products += norms[:, None]
    return np.maximum(products, 0, out=products), unit


def _distances(index: Index, queries: Float32, positions: Int) -> Float32:
    """Euclidean distances of each query to the rows at some positions: float32 (m, len(positions))."""
    found = np.empty((len(queries), len(positions)), np.float32)
    for start in range(0, len(positions), _MEASURED):
        rows = index.features(positions[start : start + _MEASURED])
        for line, query in zip(found, queries, strict=True):
            line[start : start + len(rows)] = distances_to(rows, np.arange(len(rows)), query)
    return found
