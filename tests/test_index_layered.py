"""A base that is some changes old and a delta answer together what one new index would answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir.errors import UsageError
from cbmir.index import NO_POSITIONS, Found, Index, Scope
from cbmir.index.exact import from_features
from cbmir.index.layered import LayeredIndex
from cbmir.types import Float32, Int

ORIGIN = np.zeros(2, np.float32)


@pytest.fixture
def index() -> LayeredIndex:
    """Base: (a, k) at 1, (a, m) at 5, (b, p) at 2. Since then m has moved to 1 and to class b; c is new, in b at 2."""
    base, _ = from_features(np.array([[0, 1], [3, 4], [2, 0]], np.float32), ["a", "a", "b"], ["k", "m", "p"])
    delta, _ = from_features(np.array([[1, 0], [0, 2]], np.float32), ["b", "b"], ["m", "c"])
    return LayeredIndex(base, delta, np.array([1]), np.array([1, 9, 3, 0, 2]))


def test_positions_of_the_delta_follow_those_of_the_base(index: LayeredIndex) -> None:
    found = index.search(ORIGIN, 9)
    assert found.positions.tolist() == [0, 4, 3, 2]  # k, m (a tie, by id), c, p (a tie, by id)
    assert found.distances.tolist() == [1, 1, 2, 2]
    assert found.n_candidates == 4
    assert index.features(np.array([4, 0])).tolist() == [[1, 0], [0, 1]]


def test_what_is_outdated_is_not_found(index: LayeredIndex) -> None:
    assert 1 not in index.search(ORIGIN, 9, Scope(groups=("a",))).positions
    assert 1 not in index.search(ORIGIN, 9, Scope(rows=np.array([0, 1, 2]))).positions


def test_a_scope_means_the_same_in_both(index: LayeredIndex) -> None:
    assert index.search(ORIGIN, 9, Scope(groups=("b",))).positions.tolist() == [4, 3, 2]
    assert index.search(ORIGIN, 9, Scope(hidden=np.array([3, 0]))).positions.tolist() == [4, 2]
    assert index.search(ORIGIN, 9, Scope(rows=np.array([2, 3]))).positions.tolist() == [3, 2]
    assert index.search(ORIGIN, 9, Scope(penalties={"b": 10.0})).positions.tolist() == [0, 4, 3, 2]
    assert index.search(ORIGIN, 2, Scope(farthest=True)).positions.tolist() == [3, 2]
    assert sorted(index.groups) == ["a", "b"]


def test_k_is_at_least_1(index: LayeredIndex) -> None:
    with pytest.raises(UsageError, match="k must be at least 1"):
        index.search(ORIGIN, 0)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_base_and_delta_answer_what_one_index_answers(data: st.DataObject) -> None:
    """Some of n images are removed, some are changed, some are new; the naive index is made of what there is now."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    n, dim, k = (data.draw(st.integers(1, top)) for top in (60, 4, 20))
    ids = [f"{i:03}" for i in rng.permutation(n)]
    kind = rng.choice(["same", "changed", "removed", "new"], n)
    old, now = rng.integers(0, 3, (2, n, dim)).astype(np.float32)
    old_group, group = rng.choice(["g0", "g1", "g2"], (2, n)).tolist()
    now[kind == "same"], same = old[kind == "same"], np.flatnonzero(kind == "same")
    group = [old_group[i] if i in same else group[i] for i in range(n)]

    in_base, in_delta = np.flatnonzero(kind != "new"), np.flatnonzero((kind == "changed") | (kind == "new"))
    base, base_origin = from_features(old[in_base], [old_group[i] for i in in_base], [ids[i] for i in in_base])
    delta, delta_origin = from_features(now[in_delta], [group[i] for i in in_delta], [ids[i] for i in in_delta])
    rows = np.concatenate([in_base[base_origin], in_delta[delta_origin]])  # whose each position is
    outdated = np.flatnonzero(np.isin(rows[: len(base)], np.flatnonzero((kind == "changed") | (kind == "removed"))))
    layered = LayeredIndex(base, delta, outdated, np.array([int(ids[row]) for row in rows], np.int64))

    there = np.flatnonzero(kind != "removed")
    whole, origin = from_features(now[there], [group[i] for i in there], [ids[i] for i in there])
    row_of = there[origin]
    scope = Scope(
        groups=data.draw(st.sampled_from([None, ("g1",)])),
        penalties=data.draw(st.sampled_from([{}, {"g1": 2.0}])),
        farthest=data.draw(st.booleans()),
    )
    hidden = rng.choice(there, min(len(there), 3), replace=False) if len(there) else NO_POSITIONS
    passing = data.draw(st.sampled_from([None, rng.choice([False, True], n)]))

    def asked(rows: Int) -> Scope:
        return replace(
            scope,
            hidden=np.flatnonzero(np.isin(rows, hidden)),
            rows=None if passing is None else np.flatnonzero(passing[rows]),
        )

    query = now[rng.integers(n)]
    for one, other in (
        (layered.search(query, k, asked(rows)), whole.search(query, k, asked(row_of))),
        (_ranked(layered, query, asked(rows)), _ranked(whole, query, asked(row_of))),
    ):
        assert rows[one.positions].tolist() == row_of[other.positions].tolist()
        assert one.distances.tolist() == other.distances.tolist()
        assert one.n_candidates == other.n_candidates


def _ranked(index: Index, query: Float32, scope: Scope) -> Found:
    return index.rank(index.distances(query[None])[0], scope)
