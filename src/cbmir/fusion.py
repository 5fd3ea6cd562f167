"""Rankings that are more than one nearest-neighbour search: several query images, least similar, groups, series.

    most_similar(index, queries, k, scope, names) -> Found     the smallest distance to any of the queries counts
    least_similar(index, queries, k, scope) -> Found           the same from the other end
    best_of_each(find, owners, k) -> Found                     the first row of each owner
    rank_series(index, queries, k, scope, names, owners, rule) -> (Found, votes)    one row of each owner

`queries` is float32 (m, dim), m at least 1. `names` tells the ids of the rows at some positions. `owners` is int64
(n,), for each position whose it is, from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from .index import Found, Index, Scope
from .index.exact import ExactIndex, squared_norms
from .types import Float32, Int, SeriesRule

Names = Callable[[Int], Sequence[str]]

_BLOCK_DISTANCES = 16_000_000
"""Held at once (64 MB). A block reads all rows: 100 slices among 200,000 x 512 take half the time of 16 MB."""
_FEW = 0.25
"""Of a smaller part of the rows a copy is measured, not all rows: so much of the features may be in memory twice."""
_FIRST_DEPTH = 4
"""So many times the wanted groups are looked at first; where that is too few, four times as many again."""


def most_similar(index: Index, queries: Float32, k: int, scope: Scope, names: Names) -> Found:
    """The k rows that are nearest to any of the queries.

    Whoever is among the k best of all is among the k best of the query it is nearest to: nothing is missed.
    """
    found = [index.search(query, k, scope) for query in queries]
    if len(found) == 1:
        return found[0]
    distances, keys, positions = (
        np.concatenate([getattr(one, part) for one in found]) for part in ("distances", "keys", "positions")
    )
    nearest_first = np.lexsort((keys, positions))
    _, first = np.unique(positions[nearest_first], return_index=True)
    each = nearest_first[first]
    best = each[_ranked(positions[each], names, [keys[each]])[:k]]
    return replace(found[0], distances=distances[best], positions=positions[best], keys=keys[best])


def least_similar(index: Index, queries: Float32, k: int, scope: Scope) -> Found:
    """The k rows whose nearest query is farthest, the farthest first."""
    scope = replace(scope, farthest=True)
    if len(queries) == 1:
        return index.search(queries[0], k, scope)
    positions = _compared(index, scope)
    nearest = np.zeros(len(index), np.float32)
    nearest[positions] = reduce(np.minimum, _distances(index, queries, positions))
    return index.rank(nearest, scope).at(slice(k))


def best_of_each(find: Callable[[int], Found], owners: Int, k: int) -> Found:
    """The first row of each owner, k owners. find(depth) gives the first rows of a ranking, or as many as there are."""
    depth = _FIRST_DEPTH * k
    while True:
        found = find(depth)
        first = np.unique(owners[found.positions], return_index=True)[1]
        if len(first) >= k or len(found) < depth:
            return found.at(np.sort(first)[:k])
        depth *= _FIRST_DEPTH


def rank_series(
    index: Index,
    queries: Float32,
    k: int,
    scope: Scope,
    names: Names,
    owners: Int,
    rule: SeriesRule,
) -> tuple[Found, Int]:
    """The k series most like the slices of the query, or least like them where the scope has the farthest first.

    Of each series the image that is nearest to any slice, at the distance of the series; and its votes, int64 (k,).
    The distance of a series is the mean, over the slices of the query, of the distance to its nearest image. `mean`
    ranks by that. `votes`: each slice of the query votes for the series of the image nearest to it; series with more
    votes come first, of those with equally many the one at the smaller distance. Ties by the id of the nearest image.
    The scope has no penalties: they are of images.
    """
    in_order = _compared(index, scope)
    if not len(in_order):
        return Found(np.empty(0, np.float32), in_order, 0, np.empty(0)), in_order
    place = np.argsort(owners[in_order], kind="stable")  # of each owner side by side, in the order of ids
    positions = in_order[place]
    starts = np.unique(owners[positions], return_index=True)[1]
    nearest = np.full(len(positions), np.inf, np.float32)
    total, votes = np.zeros(len(starts)), np.zeros(len(starts), np.int64)
    for distances in _distances(index, queries, positions):
        np.minimum(nearest, distances, out=nearest)
        total += np.minimum.reduceat(distances, starts)
        tied = np.flatnonzero(distances == distances.min())
        votes[np.searchsorted(starts, tied[place[tied].argmin()], side="right") - 1] += 1
    mean = (total / len(queries)).astype(np.float32)
    best = positions[_first_of_runs(nearest, starts)]
    keys: list[npt.NDArray[Any]] = [-mean] if scope.farthest else [-votes, mean] if rule == "votes" else [mean]
    order = _ranked(best, names, keys)[:k]
    squared = mean.astype(np.float64) ** 2
    return Found(mean[order], best[order], len(positions), squared[order]), votes[order]


def _first_of_runs(values: Float32, starts: Int) -> Int:
    """Where the smallest value of each run stands first. starts: where runs begin, the first at 0."""
    lengths = np.diff(np.append(starts, len(values)))
    smallest = np.flatnonzero(values == np.repeat(np.minimum.reduceat(values, starts), lengths))
    run = np.searchsorted(starts, smallest, side="right")
    return smallest[np.unique(run, return_index=True)[1]]


def _compared(index: Index, scope: Scope) -> Int:
    """Positions of the rows of a scope, in the order of their ids."""
    return index.rank(np.zeros(len(index), np.float32), replace(scope, penalties={}, farthest=False)).positions


def _distances(index: Index, queries: Float32, positions: Int) -> Iterator[Float32]:
    """For each query its distances to the rows at some positions: float32 (len(positions),)."""
    few = len(positions) <= _FEW * len(index)
    if few:
        rows = index.features(positions)
        index = ExactIndex(rows, squared_norms(rows), {"": slice(0, len(rows))}, np.arange(len(rows)))
    step = max(1, _BLOCK_DISTANCES // max(1, len(index)))
    for start in range(0, len(queries), step):
        for line in index.distances(queries[start : start + step]):
            yield line if few else line[positions]


def _ranked(positions: Int, names: Names, keys: Sequence[npt.NDArray[Any]]) -> Int:
    """The order of rows by their keys, the first key first; ties by id, which only ties are asked for."""
    order = np.lexsort(tuple(keys[::-1]))
    same = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in keys])
    if not same.any():
        return order
    tied = order[np.append(same, False) | np.append(False, same)]
    ids = names(positions[tied])
    place = np.zeros(len(positions), np.int64)
    place[tied[sorted(range(len(tied)), key=ids.__getitem__)]] = np.arange(len(tied))
    return np.lexsort((place, *keys[::-1]))
