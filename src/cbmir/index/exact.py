"""Exact search: the whole scope is scanned with BLAS, then the few best are measured again without rounding loss.

Rows lie sorted by (group, id), so a group is one slice and a gate reads only the rows it allows.
A scan gives d^2 = |x|^2 - 2 q.x + |q|^2 in float32, which loses digits when x and q are close. The scan therefore
only chooses candidates, with a margin no rounding error can cross; their distances are summed as (x - q)^2 in
float64. A distance is the float32 nearest to that, the distance of a row to itself is exactly 0, and ties are
rows with the same float32 distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..types import Float32, Int
from . import Found, Scope

Float64 = npt.NDArray[np.float64]

_STRIPES = 64  # a scan is cut into this many stripes to bound the k-th smallest value without sorting
_BLOCK = 1024  # rows handled at once in float64, to bound memory
_NEAR = 1e-4  # below this part of the norms, a product of matrices has lost too many digits of d^2


@dataclass(frozen=True)
class ExactIndex:
    """rows: float32 (n, dim), C order, sorted by (group, id); may be memory-mapped.

    squared_norms: float32 (n,). groups: group -> slice of rows; the slices follow one another and cover all rows.
    id_order: int64 (n,), the place of each row's id among all ids in order; breaks ties across groups.
    """

    rows: Float32
    squared_norms: Float32
    groups: Mapping[str, slice]
    id_order: Int

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.dtype != np.float32:
            raise ValueError(f"rows are float32 (n, dim), not {self.rows.dtype} {self.rows.shape}")
        if not len(self.rows) == len(self.squared_norms) == len(self.id_order):
            raise ValueError("rows, squared_norms and id_order have one entry per row")
        end = 0
        for group, rows in self.groups.items():
            if rows.start != end or rows.stop < rows.start:
                raise ValueError(f"the rows of group {group!r} do not follow those before it")
            end = rows.stop
        if end != len(self.rows):
            raise ValueError("the groups cover all rows")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dim(self) -> int:
        return int(self.rows.shape[1])

    def search(self, query: Float32, k: int, scope: Scope = Scope()) -> Found:  # noqa: B008 (frozen)
        """At most k rows of the scope, nearest first. query: float32 (dim,), finite; k: at least 1."""
        query = self._checked(query, (self.dim,))
        if k < 1:
            raise UsageError("k must be at least 1")
        parts = self._parts(scope)
        lower, scale = self._scan(query, parts)
        n_candidates = len(lower) - _hide(lower, parts, scope.hidden)
        chosen = _candidates(lower, scale, min(k, n_candidates))
        positions, penalties = _place(chosen, parts)
        distances = distances_to(self.rows, positions, query)
        best = _ranked(_keys(distances, penalties), self.id_order[positions])[:k]
        return Found(distances[best], positions[best], n_candidates)

    def distances(self, queries: Float32) -> Float32:
        """All distances of several queries, for evaluation. queries: float32 (b, dim). Returns float32 (b, n).

        One product of matrices in float64 around the mean of the queries; pairs so close that even this loses
        digits are measured again one by one. Agrees with `search` to the last bit of float32 but for accidents
        of rounding (about one distance in ten million may differ by one unit in the last place).
        """
        queries = self._checked(queries, (len(queries), self.dim))
        center = queries.astype(np.float64).mean(axis=0) if len(queries) else np.zeros(self.dim)
        centred = queries - center  # (b, dim) float64
        out = np.empty((len(queries), len(self)), np.float32)
        for start in range(0, len(self), _BLOCK):
            block = slice(start, min(start + _BLOCK, len(self)))
            out[:, block] = self._block_distances(queries, centred, center, block)
        return out

    def rank(self, distances: Float32, scope: Scope = Scope()) -> Found:  # noqa: B008 (frozen)
        """All rows of the scope, nearest first, from one line of `distances` (float32 (n,))."""
        parts = self._parts(scope)
        visible = np.ones(sum(part.size for part in parts), np.bool_)
        positions, penalties = _place(np.arange(len(visible)), parts)
        if len(scope.hidden):
            visible = ~np.isin(positions, scope.hidden)
            positions, penalties = positions[visible], penalties[visible]
        allowed = distances[positions]
        best = _ranked(_keys(allowed, penalties), self.id_order[positions])
        return Found(allowed[best], positions[best], len(positions))

    def _checked(self, query: Float32, shape: tuple[int, ...]) -> Float32:
        query = np.ascontiguousarray(query, np.float32)
        if query.shape != shape:
            raise UsageError(f"the query has {query.shape[-1:]} features, this layer has {self.dim}")
        if not np.isfinite(query).all():
            raise UsageError("the features of the query are not finite numbers")
        return query

    def _parts(self, scope: Scope) -> list[_Part]:
        """The slices of the scope in order, joined where they touch and cost the same."""
        parts: list[_Part] = []
        for group, rows in self.groups.items():
            if rows.start == rows.stop or (scope.groups is not None and group not in scope.groups):
                continue
            penalty = scope.penalties.get(group, 0.0)
            if parts and parts[-1].stop == rows.start and parts[-1].penalty == penalty:
                parts[-1] = _Part(parts[-1].start, rows.stop, penalty)
            else:
                parts.append(_Part(rows.start, rows.stop, penalty))
        return parts

    def _scan(self, query: Float32, parts: Sequence[_Part]) -> tuple[Float32, Float32]:
        """Lower bounds of the ranking keys of the scope, and per row the width of their uncertainty.

        The error of a float32 inner product of n terms is within about sqrt(n) u |x||q| (Higham and Mary 2019);
        8 sqrt(n) u is above the worst case for the vector units BLAS sums with (8 lanes and more, n <= 4096).
        """
        unit = float(np.finfo(np.float32).eps) / 2
        error = np.float32((8 * np.sqrt(self.dim) + 16) * unit)
        norm = np.float32(np.dot(query, query))
        lower = np.empty(sum(part.size for part in parts), np.float32)
        scale = np.empty_like(lower)
        start = 0
        for part in parts:
            here = slice(start, start + part.size)
            np.matmul(self.rows[part.start : part.stop], query, out=lower[here])
            np.add(self.squared_norms[part.start : part.stop], norm + np.float32(part.penalty), out=scale[here])
            start += part.size
        lower *= -2
        lower += scale * (1 - error)
        scale *= 2 * error
        return lower, scale

    def _block_distances(self, queries: Float32, centred: Float64, center: Float64, block: slice) -> Float32:
        rows = self.rows[block] - center  # (m, dim) float64
        norms = np.einsum("ij,ij->i", centred, centred)[:, None] + np.einsum("ij,ij->i", rows, rows)
        squared = norms - 2 * (centred @ rows.T)  # (b, m)
        for i, j in np.argwhere(squared < _NEAR * norms):
            squared[i, j] = _squared(self.rows[block.start + j], queries[i])
        distances: Float32 = np.sqrt(squared).astype(np.float32)
        return distances


@dataclass(frozen=True)
class _Part:
    """A run of rows of a scope that pay the same penalty."""

    start: int
    stop: int
    penalty: float

    @property
    def size(self) -> int:
        return self.stop - self.start


def from_features(features: Float32, groups: Sequence[str], ids: Sequence[str]) -> tuple[ExactIndex, Int]:
    """An index in memory. features: float32 (n, dim); groups, ids: one per row, ids unique.

    Returns the index and `origin`, int64 (n,): position p of the index is row origin[p] of features.
    """
    origin = np.array(sorted(range(len(ids)), key=lambda row: (groups[row], ids[row])), np.int64)
    rows = np.ascontiguousarray(features[origin], np.float32)
    id_order = order_of([ids[row] for row in origin])
    return ExactIndex(rows, squared_norms(rows), slices_of([groups[row] for row in origin]), id_order), origin


def squared_norms(rows: Float32) -> Float32:
    """|x|^2 of every row: float32 (n,), summed in float64."""
    norms: Float32 = np.einsum("ij,ij->i", rows, rows, dtype=np.float64).astype(np.float32)
    return norms


def slices_of(groups: Sequence[str]) -> dict[str, slice]:
    """Where each group lies. groups: one per row, equal ones side by side."""
    found: dict[str, slice] = {}
    for position, group in enumerate(groups):
        start = found[group].start if group in found else position
        found[group] = slice(start, position + 1)
    return found


def order_of(ids: Sequence[str]) -> Int:
    """The place of each id among all ids in order: int64 (n,)."""
    order = np.empty(len(ids), np.int64)
    order[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    return order


def distances_to(rows: Float32, positions: Int, query: Float32) -> Float32:
    """Euclidean distances (eq. 5) of some rows to the query, summed in float64: float32 (len(positions),)."""
    squared = np.empty(len(positions), np.float64)
    for start in range(0, len(positions), _BLOCK):
        here = slice(start, start + _BLOCK)
        squared[here] = _squared(rows[positions[here]], query)
    return np.sqrt(squared).astype(np.float32)


def _squared(rows: Float32, query: Float32) -> Float64:
    difference = np.subtract(rows, query, dtype=np.float64)
    result: Float64 = np.einsum("...j,...j->...", difference, difference)
    return result


def _hide(lower: Float32, parts: Sequence[_Part], hidden: Int) -> int:
    """Puts the hidden positions out of reach and says how many of them the scope held."""
    start = n_hidden = 0
    for part in parts if len(hidden) else ():
        inside = np.unique(hidden[(hidden >= part.start) & (hidden < part.stop)])
        lower[inside - part.start + start] = np.inf
        n_hidden += len(inside)
        start += part.size
    return n_hidden


def _candidates(lower: Float32, width: Float32, k: int) -> Int:
    """All rows that may be among the k best: every true key lies in [lower, lower + width].

    k rows lie at or below the k-th smallest `lower`; no row whose `lower` is above the largest upper end of those
    can be better than all of them. A bound for the k-th smallest comes from the stripes' minima: k stripes hold
    at least k rows at or below it, at a twentieth of the time of a partition of 200,000 values.
    """
    if k == 0:
        return np.empty(0, np.int64)
    n_columns = len(lower) // _STRIPES
    minima = lower[: n_columns * _STRIPES].reshape(_STRIPES, n_columns).min(axis=0) if k <= n_columns else lower
    first = np.flatnonzero(lower <= np.partition(minima, k - 1)[k - 1])
    if len(first) > k:
        first = first[np.argpartition(lower[first], k - 1)[:k]]
    return np.flatnonzero(lower <= (lower[first] + width[first]).max())


def _place(chosen: Int, parts: Sequence[_Part]) -> tuple[Int, Float64]:
    """Positions and penalties of rows counted along the parts. chosen: int64 (m,), ascending."""
    sizes = np.array([part.size for part in parts], np.int64)
    ends = np.cumsum(sizes)
    which = np.searchsorted(ends, chosen, side="right")
    shift = np.array([part.start for part in parts], np.int64) - (ends - sizes)
    penalties = np.array([part.penalty for part in parts], np.float64)
    return chosen + shift[which], penalties[which]


def _keys(distances: Float32, penalties: Float64) -> Float64:
    """The ranking key d^2 + penalty; the square of a float32 is exact in float64, so ties stay ties."""
    return distances.astype(np.float64) ** 2 + penalties


def _ranked(keys: Float64, id_order: Int) -> Int:
    """Positions of the keys from small to large, ties by id."""
    order = np.argsort(keys)
    in_order = keys[order]
    if (in_order[1:] == in_order[:-1]).any():
        return np.lexsort((id_order, keys))
    return order
