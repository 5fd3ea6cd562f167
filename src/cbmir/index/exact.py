"""Exact search: the whole scope is scanned with BLAS, then the few best are measured again without rounding loss.

Rows lie sorted by (group, id), so a group is one slice and a gate reads only the rows it allows.
A scan gives d^2 = |x|^2 - 2 q.x + |q|^2 in float32, which loses digits when x and q are close. The scan therefore
only chooses candidates, with a margin no rounding error can cross; their distances are summed as (x - q)^2 in
float64. A distance is the float32 nearest to that, the distance of a row to itself is exactly 0, and ties are
rows with the same float32 distance. Where there is an eight-bit copy of the rows it is scanned first (twopass.py),
and of the rows themselves only those are read that it cannot rule out: the answer is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from ..types import Float32, Int
from . import NO_POSITIONS, Float64, Found, Scope
from .parts import Bounds, Part, candidates, narrowed, parts_of, place, places_of, products, size_of
from .twopass import Coarse

_BLOCK = 1024  # rows handled at once in float64, to bound memory
_NEAR = 1e-4  # below this part of the norms, a product of matrices has lost too many digits of d^2
_COARSE_PAYS = 1 << 20  # features of a scope; of fewer the rows themselves are read as fast (bench_search)
_RULED_OUT = 0.75  # of the scope; if the eight-bit copy rules out less, its rows are better read through than gathered
_DENSE = 0.5  # of a run of rows; reading such a part of it costs as much as all of it (200,000 x 512, 1,000,000 x 256)
_TINY = np.float32(1e-30)  # added to all keys alike, so that products that underflow are within their uncertainty


@dataclass(frozen=True)
class ExactIndex:
    """rows: float32 (n, dim), C order, sorted by (group, id); may be memory-mapped.

    squared_norms: float32 (n,). groups: group -> slice of rows; the slices follow one another and cover all rows.
    id_order: int64 (n,), ascends with the ids; breaks ties across groups. coarse: an eight-bit copy of the rows.
    """

    rows: Float32
    squared_norms: Float32
    groups: Mapping[str, slice]
    id_order: Int
    coarse: Coarse | None = None

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
        query = self.checked(query, k)
        parts = self._parts(scope)
        hidden = places_of(scope.hidden, parts)
        n_candidates = size_of(parts) - len(hidden)
        k, by = min(k, n_candidates), "exact"
        if self.coarse is not None and size_of(parts) * self.dim >= _COARSE_PAYS:
            left = _contenders(self.coarse.bounds(query, parts), k, hidden, scope.farthest)
            if len(left) <= (1 - _RULED_OUT) * size_of(parts):
                parts, hidden, by = narrowed(parts, left), NO_POSITIONS, "exact, int8 first"
        left = _contenders(self._bounds(query, parts), k, hidden, scope.farthest)
        positions, penalties = place(left, parts)
        distances = distances_to(self.rows, positions, query)
        keys = _keys(distances, penalties)
        best = ranked(keys, self.id_order[positions], scope.farthest)[:k]
        return Found(distances[best], positions[best], n_candidates, keys[best], by)

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
        """All rows of the scope in order, from one line of `distances` (float32 (n,))."""
        parts = self._parts(scope)
        visible = np.ones(size_of(parts), np.bool_)
        visible[places_of(scope.hidden, parts)] = False
        positions, penalties = place(np.flatnonzero(visible), parts)
        allowed = distances[positions]
        keys = _keys(allowed, penalties)
        best = ranked(keys, self.id_order[positions], scope.farthest)
        return Found(allowed[best], positions[best], len(positions), keys[best])

    def features(self, positions: Int) -> Float32:
        """float32 (len(positions), dim)."""
        return self.rows[positions]

    def checked(self, query: Float32, k: int) -> Float32:
        """The query as it is searched with. Raises UsageError when it does not fit the layer, or k is below 1."""
        if k < 1:
            raise UsageError("k must be at least 1")
        return self._checked(query, (self.dim,))

    def _checked(self, query: Float32, shape: tuple[int, ...]) -> Float32:
        query = np.ascontiguousarray(query, np.float32)
        if query.shape != shape:
            raise UsageError(f"the query has {query.shape[-1:]} features, this layer has {self.dim}")
        if not np.isfinite(query).all():
            raise UsageError("the features of the query are not finite numbers")
        return query

    def _parts(self, scope: Scope) -> list[Part]:
        rows = scope.rows
        if rows is not None and len(rows) and not 0 <= rows[0] <= rows[-1] < len(self):
            raise ValueError(f"the rows of a scope are positions from 0 to {len(self) - 1}")
        return parts_of(self.groups, scope)

    def _bounds(self, query: Float32, parts: Sequence[Part]) -> Bounds:
        """Where the keys of the scope lie.

        The error of a float32 inner product of n terms is within about sqrt(n) u |x||q| (Higham and Mary 2019).
        Taken is 8 sqrt(n) u, or where that is more n/8 u: the worst case for the vector units BLAS sums with, of 8
        lanes and more.
        """
        unit = float(np.finfo(np.float32).eps) / 2
        error = np.float32((8 * max(np.sqrt(self.dim), self.dim / 64) + 16) * unit)
        with np.errstate(over="ignore", invalid="ignore"):
            norm = np.float32(np.dot(query, query)) + _TINY
            lower = products(self.rows, parts, lambda rows, out: np.matmul(rows, query, out=out), _DENSE)
            scale = np.empty_like(lower)
            start = 0
            for part in parts:
                here = scale[start : start + part.size]
                np.add(self.squared_norms[part.rows], norm + np.float32(part.penalty), out=here)
                start += part.size
            lower *= -2
            lower += scale * (1 - error)
        return Bounds(lower, lambda rows: scale[rows] * (2 * error))

    def _block_distances(self, queries: Float32, centred: Float64, center: Float64, block: slice) -> Float32:
        rows = self.rows[block] - center  # (m, dim) float64
        norms = np.einsum("ij,ij->i", centred, centred)[:, None] + np.einsum("ij,ij->i", rows, rows)
        squared = norms - 2 * (centred @ rows.T)  # (b, m)
        for i, j in np.argwhere(squared < _NEAR * norms):
            squared[i, j] = _squared(self.rows[block.start + j], queries[i])
        distances: Float32 = np.sqrt(squared).astype(np.float32)
        return distances


def _contenders(bounds: Bounds, k: int, hidden: Int, farthest: bool) -> Int:
    """Rows that may be among the k first, ascending; all that are not hidden where the bounds are of no use."""
    if not bounds.usable:
        left = np.ones(len(bounds.lower), np.bool_)
        left[hidden] = False
        return np.flatnonzero(left)
    return candidates(bounds.turned() if farthest else bounds, k, hidden)


def from_features(features: Float32, groups: Sequence[str], ids: Sequence[str]) -> tuple[ExactIndex, Int]:
    """An index in memory. features: float32 (n, dim); groups, ids: one per row, ids unique.

    Returns the index and `origin`, int64 (n,): position p of the index is row origin[p] of features.
    """
    origin = np.array(sorted(range(len(ids)), key=lambda row: (groups[row], ids[row])), np.int64)
    rows = np.ascontiguousarray(features[origin], np.float32)
    id_order = order_of([ids[row] for row in origin])
    return ExactIndex(rows, squared_norms(rows), slices_of([groups[row] for row in origin]), id_order), origin


def squared_norms(rows: Float32) -> Float32:
    """|x|^2 of every row: float32 (n,), summed in float64; infinite where float32 cannot hold it."""
    with np.errstate(over="ignore"):
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


def _keys(distances: Float32, penalties: Float64) -> Float64:
    """The ranking key d^2 + penalty; the square of a float32 is exact in float64, so ties stay ties."""
    return distances.astype(np.float64) ** 2 + penalties


def ranked(keys: Float64, id_order: Int, farthest: bool = False) -> Int:
    """Places of the keys from small to large (farthest: from large to small), ties by id."""
    keys = -keys if farthest else keys
    order = np.argsort(keys)
    in_order = keys[order]
    if (in_order[1:] == in_order[:-1]).any():
        return np.lexsort((id_order, keys))
    return order
