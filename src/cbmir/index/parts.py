"""What of a matrix a search reads: runs of rows and picked rows, how they are scanned, and who stays in the race.

Rows are counted along the parts: first all of the first part, then of the second. Arrays of that length hold what a
scan finds; `place` says which position a row of a part has.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..types import Float32, Int
from . import NO_POSITIONS, Float64, Scope

Array = npt.NDArray[Any]
Multiply = Callable[[Array, Float32], object]
"""Puts the products of a block of rows (m, dim) with the query into its second argument, float32 (m,)."""

CORES = len(os.sched_getaffinity(0))
_SHARE_BYTES = 1 << 24  # of the rows of a part for each thread; to wake one takes as long as to read some megabytes
_SCATTERED = 8  # a byte of a picked row takes about so much longer than one of a run
_STRIPES = 64  # a scan is cut into this many stripes to bound the k-th smallest value without sorting
_SPAN = 256  # rows of a filter are looked at by so many rows of the matrix
_GATHERED_BYTES = 1 << 19  # gathered at once: stays in the second-level cache until it is multiplied


@dataclass(frozen=True)
class Part:
    """Rows of one run that pay the same penalty: all from start to stop, or the picked ones, ascending positions."""

    start: int
    stop: int
    penalty: float
    picked: Int | None = None

    @property
    def size(self) -> int:
        return self.stop - self.start if self.picked is None else len(self.picked)

    @property
    def rows(self) -> slice | Int:
        """What takes the rows of the part out of an array."""
        return slice(self.start, self.stop) if self.picked is None else self.picked


def parts_of(groups: Mapping[str, slice], scope: Scope) -> list[Part]:
    """The rows of a scope in order, joined where they touch and cost the same; hidden rows are still among them."""
    parts: list[Part] = []
    for group, rows in groups.items():
        if rows.start == rows.stop or (scope.groups is not None and group not in scope.groups):
            continue
        penalty = scope.penalties.get(group, 0.0)
        if parts and parts[-1].stop == rows.start and parts[-1].penalty == penalty:
            parts[-1] = Part(parts[-1].start, rows.stop, penalty)
        else:
            parts.append(Part(rows.start, rows.stop, penalty))
    return parts if scope.rows is None else _picked(parts, scope.rows)


def _picked(parts: Sequence[Part], rows: Int) -> list[Part]:
    found = []
    for part in parts:
        inside = rows[np.searchsorted(rows, part.start) : np.searchsorted(rows, part.stop)]
        if len(inside) == part.size:
            found.append(part)
        elif len(inside):
            found.append(replace(part, picked=inside))
    return found


def narrowed(parts: Sequence[Part], chosen: Int) -> list[Part]:
    """The same parts with some of their rows. chosen: counted along the parts, ascending."""
    positions, _ = place(chosen, parts)
    cuts = [0, *np.searchsorted(chosen, _ends(parts)).tolist()]
    runs = zip(parts, cuts[:-1], cuts[1:], strict=True)
    return [replace(part, picked=positions[start:end]) for part, start, end in runs if end > start]


def _ends(parts: Sequence[Part]) -> Int:
    return np.cumsum([part.size for part in parts], dtype=np.int64)


def size_of(parts: Sequence[Part]) -> int:
    return sum(part.size for part in parts)


def place(chosen: Int, parts: Sequence[Part]) -> tuple[Int, Float64]:
    """Positions and penalties of rows counted along the parts. chosen: int64 (m,), ascending."""
    ends = _ends(parts)
    cuts = [0, *np.searchsorted(chosen, ends).tolist()]
    positions = np.empty(len(chosen), np.int64)
    penalties = np.empty(len(chosen), np.float64)
    for number, part in enumerate(parts):
        here = slice(cuts[number], cuts[number + 1])
        within = chosen[here] - (ends[number] - part.size)
        positions[here] = within + part.start if part.picked is None else part.picked[within]
        penalties[here] = part.penalty
    return positions, penalties


def places_of(positions: Int, parts: Sequence[Part]) -> Int:
    """The other way round: which rows, counted along the parts, some positions are; those elsewhere are left out."""
    if not len(positions):
        return NO_POSITIONS
    positions = np.unique(positions)
    found, before = [], 0
    for part in parts:
        inside = positions[np.searchsorted(positions, part.start) : np.searchsorted(positions, part.stop)]
        if part.picked is None:
            found.append(inside - part.start + before)
        else:
            where = np.searchsorted(part.picked, inside)
            there = part.picked[np.minimum(where, part.size - 1)] == inside
            found.append(where[there] + before)
        before += part.size
    return np.concatenate([NO_POSITIONS, *found])


def products(rows: Array, parts: Sequence[Part], multiply: Multiply, dense: float, *, threads: bool = False) -> Float32:
    """The products of all rows of the parts with the query, float32, counted along the parts.

    dense: with so large a part of a span picked, reading all of it is as fast as gathering. threads: `multiply` starts
    none of its own, and lets others run meanwhile: large parts are cut into one share for each core.
    """
    out = np.empty(size_of(parts), np.float32)
    start = 0
    for part in parts:
        here = out[start : start + part.size]
        cost = part.size * rows.shape[1] * rows.itemsize * (1 if part.picked is None else _SCATTERED)
        n_shares = min(CORES, cost // _SHARE_BYTES) if threads else 1
        if n_shares > 1:
            cuts = [part.size * share // n_shares for share in range(n_shares + 1)]
            shares = [(_share(part, *cut), here[slice(*cut)]) for cut in pairwise(cuts)]
            waiting = [_pool().submit(_multiply, rows, *share, multiply, dense) for share in shares[1:]]
            _multiply(rows, *shares[0], multiply, dense)
            for share in waiting:
                share.result()
        else:
            _multiply(rows, part, here, multiply, dense)
        start += part.size
    return out


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, CORES - 1), "cbmir-scan")


def in_pieces(parts: Sequence[Part], size: int) -> Iterator[Part]:
    """The same rows in parts of at most so many."""
    for part in parts:
        for first in range(0, part.size, size):
            yield _share(part, first, min(first + size, part.size))


def _share(part: Part, first: int, last: int) -> Part:
    """Its rows from first to before last."""
    if part.picked is None:
        return replace(part, start=part.start + first, stop=part.start + last)
    return replace(part, picked=part.picked[first:last])


def _multiply(rows: Array, part: Part, out: Float32, multiply: Multiply, dense: float) -> None:
    if part.picked is None:
        multiply(rows[part.rows], out)
    else:
        _multiply_picked(rows, part.picked, multiply, dense, out)


def _multiply_picked(rows: Array, picked: Int, multiply: Multiply, dense: float, out: Float32) -> None:
    """Where most rows of a run of spans are picked, all of the run is read; elsewhere the rows are gathered."""
    first = int(picked[0]) // _SPAN
    edges = np.searchsorted(picked, np.arange(first, int(picked[-1]) // _SPAN + 2) * _SPAN)
    through = np.diff(edges) >= dense * _SPAN
    turns = [0, *(np.flatnonzero(through[1:] != through[:-1]) + 1).tolist(), len(through)]
    for start, end in pairwise(turns):
        here = slice(edges[start], edges[end])
        if through[start]:
            _read_through(rows, picked[here], multiply, out[here])
        else:
            _gather(rows, picked[here], multiply, out[here])


def _read_through(rows: Array, picked: Int, multiply: Multiply, out: Float32) -> None:
    start, stop = int(picked[0]), int(picked[-1]) + 1
    whole = np.empty(stop - start, np.float32)
    multiply(rows[start:stop], whole)
    np.take(whole, picked - start, out=out, mode="clip")  # the other modes copy through a buffer


def _gather(rows: Array, picked: Int, multiply: Multiply, out: Float32) -> None:
    step = max(1, _GATHERED_BYTES // max(1, rows[:1].nbytes))
    block = np.empty((min(step, len(picked)), rows.shape[1]), rows.dtype)
    for start in range(0, len(picked), step):
        here = slice(start, min(start + step, len(picked)))
        gathered = block[: here.stop - here.start]
        np.take(rows, picked[here], axis=0, out=gathered, mode="clip")
        multiply(gathered, out[here])


@dataclass(frozen=True)
class Bounds:
    """What a scan knows of the key of every row, counted along the parts: it lies in [lower, lower + width].

    lower: float32 (m,); may be in any unit and from any zero, the same for all rows. width: of some rows, ascending.
    """

    lower: Float32
    width: Callable[[Int], Float32]

    @property
    def usable(self) -> bool:
        """False where norms were so large that float32 ran over."""
        return len(self.lower) == 0 or bool(np.isfinite(self.lower.min()) and np.isfinite(self.lower.max()))

    def turned(self) -> Bounds:
        """The same for the negative keys: the last become the first."""
        return Bounds(-(self.lower + self.width(np.arange(len(self.lower)))), self.width)


def candidates(bounds: Bounds, k: int, hidden: Int) -> Int:
    """All rows that may be among the k best, ascending. hidden: rows that take no part; k of the others are there.

    k rows lie at or below the k-th smallest `lower`; no row whose `lower` is above the largest upper end of those
    can be better than all of them. A bound for the k-th smallest comes from the stripes' minima: k stripes hold
    at least k rows at or below it, at a twentieth of the time of a partition of 200,000 values.
    """
    if k == 0:
        return NO_POSITIONS
    lower = bounds.lower
    lower[hidden] = np.inf
    n_columns = len(lower) // _STRIPES
    minima = lower[: n_columns * _STRIPES].reshape(_STRIPES, n_columns).min(axis=0) if k <= n_columns else lower
    limit = np.partition(minima, k - 1)[k - 1]
    if not np.isfinite(limit):  # all stripes but few are hidden
        limit = np.partition(lower, k - 1)[k - 1]
    first = np.flatnonzero(lower <= limit)
    if len(first) > k:
        first = np.sort(first[np.argpartition(lower[first], k - 1)[:k]])
    return np.flatnonzero(lower <= (lower[first] + bounds.width(first)).max())
