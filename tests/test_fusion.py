"""Rankings of more than one search, each compared with one made row by row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir import fusion
from cbmir.fusion import best_of_each, least_similar, most_similar, rank_series
from cbmir.index import Scope
from cbmir.index.exact import ExactIndex, from_features
from cbmir.types import Float32, Int, SeriesRule

LINE = from_features(np.array([[0], [1], [4], [9], [9]], np.float32), ["a"] * 5, ["p", "q", "r", "s", "t"])[0]
"""Five rows on a line; the last two tie."""


def names_of(ids: Sequence[str]) -> fusion.Names:
    return lambda positions: [ids[position] for position in positions.tolist()]


LETTERS = names_of("pqrst")


def points(*values: float) -> Float32:
    return np.array(values, np.float32)[:, None]


def test_of_several_queries_the_nearest_counts() -> None:
    found = most_similar(LINE, points(0, 9), 4, Scope(), LETTERS)
    assert found.positions.tolist() == [0, 3, 4, 1]
    assert found.distances.tolist() == [0, 0, 0, 1]
    assert found.n_candidates == 5


def test_least_similar_is_the_other_end_with_the_same_order_of_ties() -> None:
    assert least_similar(LINE, points(0), 3, Scope()).positions.tolist() == [3, 4, 2]
    both = least_similar(LINE, points(0, 9), 2, Scope())
    assert (both.positions.tolist(), both.distances.tolist()) == ([2, 1], [4, 1])


def test_of_each_owner_the_first_is_kept_however_deep_it_lies() -> None:
    depths: list[int] = []

    def find(depth: int) -> fusion.Found:
        depths.append(depth)
        return LINE.search(points(0)[0], depth)

    owners = np.array([0, 0, 0, 0, 1])
    assert best_of_each(find, owners, 1).positions.tolist() == [0]
    assert best_of_each(find, owners, 2).positions.tolist() == [0, 4]
    assert depths == [4, 8]


def test_series_are_ranked_by_the_mean_over_slices_of_the_nearest_distance() -> None:
    """Slices at 0 and 4. Series 0 has 0 and 1: (0 + 3) / 2. Series 1 has 4 and 9: (4 + 0) / 2. Series 2 has 9."""
    owners = np.array([0, 0, 1, 1, 2])
    found, votes = rank_series(LINE, points(0, 4), 5, Scope(), LETTERS, owners, "mean")
    assert found.distances.tolist() == [1.5, 2, 7]
    assert found.positions.tolist() == [0, 2, 4]
    assert votes.tolist() == [1, 1, 0]
    assert found.n_candidates == 5


def test_a_series_with_more_votes_comes_first() -> None:
    """Slices at 3, 4 and 30: two are nearest to series 1 and one to series 3, which is nearer on the whole."""
    rows = from_features(points(0, 4, 20, 29), [""] * 4, list("pqrs"))[0]
    slices = points(3, 4, 30)
    owners = np.array([0, 1, 0, 1])
    found, votes = rank_series(rows, slices, 2, Scope(), LETTERS, owners, "votes")
    assert (found.positions.tolist(), votes.tolist()) == ([1, 0], [3, 0])
    owners = np.array([0, 1, 2, 3])
    found, votes = rank_series(rows, slices, 4, Scope(), LETTERS, owners, "votes")
    assert (found.positions.tolist(), votes.tolist()) == ([1, 3, 0, 2], [2, 1, 0, 0])


def test_nothing_gives_nothing() -> None:
    hidden = Scope(hidden=np.arange(5))
    assert len(most_similar(LINE, points(0, 1), 3, hidden, LETTERS)) == 0
    assert len(least_similar(LINE, points(0, 1), 3, hidden)) == 0
    found, votes = rank_series(LINE, points(0, 1), 3, hidden, LETTERS, np.arange(5), "mean")
    assert (len(found), len(votes), found.n_candidates) == (0, 0, 0)


@st.composite
def cases(draw: st.DrawFn) -> tuple[ExactIndex, list[str], Float32, Scope, Int, int]:
    """Few values, so that many distances tie; ids in no order; some rows hidden or filtered away."""
    n = draw(st.integers(1, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = [f"{number:02}" for number in rng.permutation(n)]
    groups = [str(letter) for letter in rng.choice(["a", "b"], n)]
    index, origin = from_features(rng.integers(0, 3, (n, 2)).astype(np.float32), groups, ids)
    rows = np.flatnonzero(rng.random(n) < draw(st.sampled_from([0.2, 0.8]))) if draw(st.booleans()) else None
    penalties = {"b": 2.0} if draw(st.booleans()) else {}
    scope = Scope(hidden=rng.integers(0, n, draw(st.integers(0, 3))), rows=rows, penalties=penalties)
    queries = rng.integers(0, 3, (draw(st.integers(1, 4)), 2)).astype(np.float32)
    return index, [ids[row] for row in origin], queries, scope, rng.integers(0, 4, n), draw(st.integers(1, 16))


def allowed(index: ExactIndex, scope: Scope) -> list[int]:
    rows = set(range(len(index))) if scope.rows is None else set(scope.rows.tolist())
    return sorted(rows - set(scope.hidden.tolist()))


def key_of(index: ExactIndex, row: int, queries: Float32, scope: Scope) -> float:
    group = next(name for name, rows in index.groups.items() if rows.start <= row < rows.stop)
    nearest = min(float(((index.rows[row] - query) ** 2).sum()) for query in queries)
    return float(np.float32(np.sqrt(nearest))) ** 2 + scope.penalties.get(group, 0)


@given(cases())
@settings(deadline=None)
def test_several_queries_rank_as_row_by_row(case: tuple[ExactIndex, list[str], Float32, Scope, Int, int]) -> None:
    index, ids, queries, scope, _, k = case
    keys = {row: key_of(index, row, queries, scope) for row in allowed(index, scope)}
    nearest = sorted(keys, key=lambda row: (keys[row], ids[row]))
    farthest = sorted(keys, key=lambda row: (-keys[row], ids[row]))
    assert most_similar(index, queries, k, scope, names_of(ids)).positions.tolist() == nearest[:k]
    assert least_similar(index, queries, k, scope).positions.tolist() == farthest[:k]


@given(cases())
@settings(deadline=None)
def test_groups_rank_as_row_by_row(case: tuple[ExactIndex, list[str], Float32, Scope, Int, int]) -> None:
    index, ids, queries, scope, owners, k = case
    best: dict[int, int] = {}
    for row in most_similar(index, queries, len(index), scope, names_of(ids)).positions.tolist():
        best.setdefault(int(owners[row]), row)
    found = best_of_each(lambda depth: most_similar(index, queries, depth, scope, names_of(ids)), owners, k)
    assert found.positions.tolist() == list(best.values())[:k]


@pytest.mark.parametrize("rule", ["mean", "votes"])
@given(case=cases())
@settings(deadline=None)
def test_series_rank_as_row_by_row(
    rule: SeriesRule, case: tuple[ExactIndex, list[str], Float32, Scope, Int, int]
) -> None:
    index, ids, queries, scope, owners, k = case
    scope = Scope(hidden=scope.hidden, rows=scope.rows)
    members: dict[int, list[int]] = {}
    for row in allowed(index, scope):
        members.setdefault(int(owners[row]), []).append(row)

    def distance(row: int, query: Float32) -> np.float32:
        return np.float32(np.sqrt(((index.rows[row] - query) ** 2).sum()))

    mean = {
        owner: np.float32(sum(float(min(distance(row, query) for row in rows)) for query in queries) / len(queries))
        for owner, rows in members.items()
    }
    best = {
        owner: min(rows, key=lambda row: (min(distance(row, query) for query in queries), ids[row]))
        for owner, rows in members.items()
    }
    votes = dict.fromkeys(members, 0)
    for query in queries if members else ():
        voted = min(allowed(index, scope), key=lambda row: (distance(row, query), ids[row]))
        votes[int(owners[voted])] += 1
    order = sorted(members, key=lambda owner: (-votes[owner] if rule == "votes" else 0, mean[owner], ids[best[owner]]))

    found, counted = rank_series(index, queries, k, scope, names_of(ids), owners, rule)

    assert found.positions.tolist() == [best[owner] for owner in order[:k]]
    assert found.distances.tolist() == [float(mean[owner]) for owner in order[:k]]
    assert counted.tolist() == [votes[owner] for owner in order[:k]]
