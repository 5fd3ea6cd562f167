"""The exact index answers what a naive scan of everything answers, ties included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir.errors import UsageError
from cbmir.index import Scope, exact
from cbmir.index.exact import ExactIndex, from_features
from cbmir.index.twopass import coarse_of
from cbmir.types import Float32, Int

ROWS = np.array([[0, 0], [3, 4], [0, 1], [6, 8], [0, 1]], np.float32)
GROUPS = ["a", "b", "b", "a", "a"]
IDS = ["e", "d", "c", "b", "a"]


@pytest.fixture
def index() -> ExactIndex:
    """Rows in order: (a, a) (0, 1); (a, b) (6, 8); (a, e) (0, 0); (b, c) (0, 1); (b, d) (3, 4)."""
    return from_features(ROWS, GROUPS, IDS)[0]


ORIGIN = np.zeros(2, np.float32)


def naive(
    rows: Float32, groups: list[str], ids: list[str], query: Float32, scope: Scope
) -> list[tuple[str, np.float32]]:
    """(id, distance) of all rows of the scope by the definition; hidden and rows are row numbers here."""
    hidden = set(scope.hidden.tolist())
    allowed = set(range(len(rows)) if scope.rows is None else scope.rows.tolist())
    ranked = []
    for row, (features, group, name) in enumerate(zip(rows, groups, ids, strict=True)):
        if row in hidden or row not in allowed or (scope.groups is not None and group not in scope.groups):
            continue
        distance = np.float32(np.sqrt(((features.astype(float) - query.astype(float)) ** 2).sum()))
        key = float(distance) ** 2 + scope.penalties.get(group, 0.0)
        ranked.append((-key if scope.farthest else key, name, distance))
    return [(name, distance) for _, name, distance in sorted(ranked)]


def test_rows_lie_by_group_and_id(index: ExactIndex) -> None:
    assert index.groups == {"a": slice(0, 3), "b": slice(3, 5)}
    assert index.rows.tolist() == [[0, 1], [6, 8], [0, 0], [0, 1], [3, 4]]
    assert index.squared_norms.tolist() == [1, 100, 0, 1, 25]


def test_the_origin_says_which_row_a_position_was() -> None:
    index, origin = from_features(ROWS, GROUPS, IDS)
    assert [IDS[row] for row in origin] == ["a", "b", "e", "c", "d"]
    assert np.array_equal(ROWS[origin], index.rows)


def test_nearest_first_and_ties_by_id_even_across_groups(index: ExactIndex) -> None:
    found = index.search(ORIGIN, 4)
    assert found.positions.tolist() == [2, 0, 3, 4]
    assert found.distances.tolist() == [0, 1, 1, 5]


def test_a_tie_at_the_last_place_goes_to_the_smaller_id(index: ExactIndex) -> None:
    assert index.search(ORIGIN, 2).positions.tolist() == [2, 0]


def test_only_the_groups_of_the_scope_take_part(index: ExactIndex) -> None:
    found = index.search(ORIGIN, 9, Scope(groups=("b", "nobody")))
    assert found.positions.tolist() == [3, 4]
    assert found.n_candidates == 2


def test_hidden_rows_are_absent(index: ExactIndex) -> None:
    found = index.search(ORIGIN, 2, Scope(groups=("a",), hidden=np.array([2, 2, 4])))
    assert found.positions.tolist() == [0, 1]
    assert found.n_candidates == 2


def test_only_the_rows_of_the_scope_take_part(index: ExactIndex) -> None:
    found = index.search(ORIGIN, 9, Scope(rows=np.array([1, 3, 4]), hidden=np.array([0, 4])))
    assert found.positions.tolist() == [3, 1]
    assert found.n_candidates == 2
    assert index.search(ORIGIN, 9, Scope(groups=("a",), rows=np.array([1, 3]))).positions.tolist() == [1]
    assert len(index.search(ORIGIN, 9, Scope(rows=np.array([], np.int64)))) == 0


@pytest.mark.parametrize("rows", [[-1, 2], [3, 5], [2, 1], [1, 1]])
def test_the_rows_of_a_scope_ascend_and_are_positions(index: ExactIndex, rows: list[int]) -> None:
    with pytest.raises(ValueError, match="rows of a scope"):
        index.search(ORIGIN, 1, Scope(rows=np.array(rows)))


def test_the_farthest_come_first_when_asked_for_and_ties_by_id_all_the_same(index: ExactIndex) -> None:
    found = index.search(ORIGIN, 4, Scope(farthest=True))
    assert found.positions.tolist() == [1, 4, 0, 3]
    assert found.distances.tolist() == [10, 5, 1, 1]


def test_a_penalty_moves_a_group_back_but_the_distance_stays(index: ExactIndex) -> None:
    found = index.search(ORIGIN, 5, Scope(penalties={"a": 24.5}))
    assert found.positions.tolist() == [3, 2, 4, 0, 1]  # keys 1, 24.5, 25, 25.5, 124.5
    assert found.distances.tolist() == [1, 0, 5, 1, 10]
    assert found.keys.tolist() == [1, 24.5, 25, 25.5, 124.5]


def test_more_than_there_is_gives_what_there_is(index: ExactIndex) -> None:
    assert len(index.search(ORIGIN, 100)) == 5
    assert len(index.search(ORIGIN, 100, Scope(groups=()))) == 0
    assert len(index.search(ORIGIN, 1, Scope(hidden=np.arange(5)))) == 0


def test_an_empty_index_gives_nothing() -> None:
    empty, _ = from_features(np.empty((0, 2), np.float32), [], [])
    assert len(empty.search(ORIGIN, 3)) == 0
    assert empty.distances(ROWS).shape == (5, 0)


def test_k_is_at_least_1(index: ExactIndex) -> None:
    with pytest.raises(UsageError, match="k must be at least 1"):
        index.search(ORIGIN, 0)


@pytest.mark.parametrize("query", [np.zeros(3, np.float32), np.array([0, np.nan], np.float32)])
def test_a_query_has_the_dim_of_the_layer_and_finite_features(index: ExactIndex, query: Float32) -> None:
    with pytest.raises(UsageError, match="features"):
        index.search(query, 1)


def test_groups_follow_one_another() -> None:
    with pytest.raises(ValueError, match="follow"):
        ExactIndex(ROWS, ROWS[:, 0], {"a": slice(0, 2), "b": slice(3, 5)}, np.arange(5))


def test_the_distance_to_itself_is_exactly_0_though_the_norm_is_large() -> None:
    rows = (1000 + np.random.default_rng(0).random((50, 300))).astype(np.float32)
    index, _ = from_features(rows, ["a"] * 50, [f"{i:02}" for i in range(50)])
    assert all(index.search(row, 1).distances[0] == 0 for row in rows)
    assert np.diag(index.distances(rows)).tolist() == [0.0] * 50


def test_neighbours_far_from_the_origin_are_told_apart() -> None:
    """|x|^2 - 2 q.x + |q|^2 in float32 is off by hundreds here; the true distances are 1, 2, 3, ..."""
    rows = np.full((40, 16), 30_000, np.float32)
    rows[:, 0] += np.arange(40)
    index, _ = from_features(rows, ["a"] * 40, [f"{99 - i}" for i in range(40)])
    assert index.search(rows[0], 5).distances.tolist() == [0, 1, 2, 3, 4]
    assert index.distances(rows[:1])[0, index.search(rows[0], 40).positions].tolist() == list(range(40))


@pytest.mark.parametrize("size", [1e-42, 1e-25, 1.8e19], ids=["denormal", "tiny", "huge"])
def test_features_at_the_ends_of_float32_are_ranked_right(size: float) -> None:
    """Squares that float32 cannot hold: below its smallest number, and sums of two above its largest."""
    rng = np.random.default_rng(0)
    rows = (rng.choice([-1.0, 0.5, 1.0], (200, 4)) / 2 * size).astype(np.float32)
    ids = [f"{i:03}" for i in range(200)]
    index, _ = from_features(rows, ["a"] * 200, ids)
    for row in rows[:5]:
        expected = naive(rows, ["a"] * 200, ids, row, Scope())[:20]
        found = index.search(row, 20)
        assert [(ids[p], d) for p, d in zip(found.positions, found.distances, strict=True)] == expected


def _some(rng: np.random.Generator, n: int, part: float) -> Int:
    return np.flatnonzero(rng.random(n) < part)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_search_and_full_ranking_equal_a_naive_scan(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1), label="seed")
    rng = np.random.default_rng(seed)
    n, dim, k = (data.draw(st.integers(1, top)) for top in (400, 9, 20))
    whole = data.draw(st.booleans(), label="whole numbers, so many ties")
    rows = rng.integers(0, 3, (n, dim)) if whole else rng.standard_normal((n, dim))
    rows = np.asarray(rows, np.float32)
    groups = [f"g{i}" for i in rng.integers(0, 5, n)]
    ids = [f"{i:04}" for i in rng.permutation(n)]
    query = rows[rng.integers(n)]
    scope = Scope(
        groups=data.draw(st.sampled_from([None, ("g1",), ("g0", "g3", "g9")])),
        penalties=data.draw(st.sampled_from([{}, {"g1": 2.0, "g3": 0.5}])),
        hidden=rng.integers(0, n, rng.integers(0, 5)),
        rows=data.draw(st.sampled_from([None, 0.02, 0.5, 0.95]).map(lambda part: part and _some(rng, n, part))),
        farthest=data.draw(st.booleans()),
    )
    expected = naive(rows, groups, ids, query, scope)
    index, origin = from_features(rows, groups, ids)
    place = np.argsort(origin)
    passing = None if scope.rows is None else np.sort(place[scope.rows])
    there = replace(scope, hidden=place[scope.hidden], rows=passing)

    found = index.search(query, k, there)
    ranking = index.rank(index.distances(query[None])[0], there)

    assert [(ids[origin[p]], d) for p, d in zip(found.positions, found.distances, strict=True)] == expected[:k]
    assert found.n_candidates == ranking.n_candidates == len(expected)
    assert [ids[origin[p]] for p in ranking.positions] == [name for name, _ in expected]
    assert ranking.distances.tolist() == [distance for _, distance in expected]


SCOPES = {
    "all": Scope(),
    "one class": Scope(groups=("c03",)),
    "farthest": Scope(farthest=True),
    "a filter with long runs": Scope(rows=np.arange(700, 4200)),
    "a filter that takes one of seven": Scope(rows=np.arange(0, 5000, 7)),
    "a filter with gaps": Scope(rows=np.flatnonzero(np.arange(5000) % 600 < 400)),
}


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
@pytest.mark.parametrize("coarse", [False, True], ids=["float32", "int8 first"])
def test_a_large_index_equals_a_naive_scan(scope: Scope, coarse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large enough for every shortcut: stripes, margins, several blocks; ReLU-like rows with duplicates."""
    monkeypatch.setattr(exact, "_COARSE_PAYS", 0)
    rng = np.random.default_rng(1)
    rows = np.maximum(rng.standard_normal((5000, 64)), 0).astype(np.float32)
    rows[2500:2600] = rows[:100]
    groups = [f"c{i % 24:02}" for i in range(5000)]
    ids = [f"{i:04}" for i in rng.permutation(5000)]
    index, origin = from_features(rows, groups, ids)
    index = replace(index, coarse=coarse_of(index.rows)) if coarse else index
    there = replace(scope, rows=None if scope.rows is None else np.sort(origin[scope.rows]))
    for row in (3, 99, 2501, 4000):
        found = index.search(rows[row], 10, scope)
        expected = naive(rows, groups, ids, rows[row], there)[:10]
        assert [(ids[origin[p]], d) for p, d in zip(found.positions, found.distances, strict=True)] == expected
        assert found.by == ("exact, int8 first" if coarse else "exact")
