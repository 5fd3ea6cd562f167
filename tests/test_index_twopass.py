"""The eight-bit copy rules out only rows that are none of the best: a search answers the same with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir.index import Scope, exact
from cbmir.index.exact import ExactIndex, from_features
from cbmir.index.parts import parts_of
from cbmir.index.twopass import LEVELS, MAX_DIM, SMALLEST_STEP, coarse_of, coded, multiply
from cbmir.types import Float32


@pytest.fixture(autouse=True)
def _small_searches_use_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_COARSE_PAYS", 0)
    monkeypatch.setattr(exact, "_RULED_OUT", 0.0)


def test_a_row_is_its_code_times_its_scale_around_the_mean() -> None:
    rows = np.array([[254, 0], [-254, 2]], np.float32)
    codes, scales, terms = coded(rows, np.zeros(2, np.float32))
    assert codes.tolist() == [[127, 0], [-127, 1]]
    assert scales.tolist() == pytest.approx([2, 2])
    assert terms[0].tolist() == [254**2, 254**2 + 4]
    assert terms[1].tolist() == pytest.approx([0, 0], abs=1e-6)


def test_the_norm_of_the_rounding_error_is_never_told_too_small() -> None:
    rows = np.random.default_rng(0).standard_normal((200, 33)).astype(np.float32)
    coarse = coarse_of(rows)
    error = rows - coarse.mean.astype(np.float64) - coarse.scales[:, None].astype(np.float64) * coarse.codes
    assert (np.linalg.norm(error, axis=1) <= coarse.terms[1]).all()


@pytest.mark.parametrize("dim", [1, 7, 64, 100, 4096, MAX_DIM])
def test_products_of_codes_are_exact(dim: int) -> None:
    """To the nearest float32 of the whole number, also the largest one."""
    codes = np.random.default_rng(0).integers(-LEVELS, LEVELS + 1, (3, dim)).astype(np.int8)
    codes[0] = LEVELS
    codes.flags.writeable = False
    out = np.empty(3, np.float32)
    for code in codes:
        multiply(codes, code, out)
        assert out.tolist() == (codes.astype(np.int64) @ code.astype(np.int64)).astype(np.float32).tolist()


MAKERS = {
    "normal": lambda rng, n, dim: rng.standard_normal((n, dim)),
    "whole numbers, so ties": lambda rng, n, dim: rng.integers(0, 3, (n, dim)),
    "after a ReLU": lambda rng, n, dim: np.maximum(rng.standard_normal((n, dim)), 0),
    "few rows many times": lambda rng, n, dim: rng.standard_normal((3, dim))[rng.integers(0, 3, n)],
    "all the same": lambda rng, n, dim: np.full((n, dim), rng.standard_normal()),
    "huge and tiny": lambda rng, n, dim: rng.standard_normal((n, dim)) * 10.0 ** rng.integers(-20, 18, (n, 1)),
    "squares that float32 hardly holds": lambda rng, n, dim: rng.standard_normal((n, dim)) * 3e-23,
    "smaller than float32 can say": lambda rng, n, dim: rng.standard_normal((n, dim)) * 1e-42,
    "as large as float32 can say": lambda rng, n, dim: rng.choice([-1, 1], (n, dim)) * 1.8e19 / np.sqrt(dim),
    "far from the origin": lambda rng, n, dim: 30_000 + rng.standard_normal((n, dim)),
    "one far away": lambda rng, n, dim: rng.standard_normal((n, dim)) * np.where(np.arange(n) == 0, 1e6, 1)[:, None],
}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_with_and_without_it_a_search_answers_the_same(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    n, dim, k = (data.draw(st.integers(1, top)) for top in (400, 70, 30))
    rows = MAKERS[data.draw(st.sampled_from(sorted(MAKERS)))](rng, n, dim).astype(np.float32)
    index, _ = from_features(rows, [f"g{i}" for i in rng.integers(0, 5, n)], [f"{i:04}" for i in rng.permutation(n)])
    query = {"a row": rows[0], "zero": rows[0] * 0, "another": rows[0] * np.float32(0.3) + rows[-1] * np.float32(0.3)}[
        data.draw(st.sampled_from(["a row", "zero", "another"]))
    ]
    scope = Scope(
        groups=data.draw(st.sampled_from([None, ("g1", "g3")])),
        penalties=data.draw(st.sampled_from([{}, {"g1": 2.0, "g3": 0.5}])),
        hidden=rng.integers(0, n, rng.integers(0, 5)),
        rows=data.draw(st.sampled_from([None, np.flatnonzero(rng.random(n) < 0.5)])),
        farthest=data.draw(st.booleans()),
    )
    assert_same(index, query, k, scope)


def assert_same(index: ExactIndex, query: Float32, k: int, scope: Scope) -> None:
    without = index.search(query, k, scope)
    found = replace(index, coarse=coarse_of(index.rows)).search(query, k, scope)
    assert found.positions.tolist() == without.positions.tolist()
    assert found.distances.tolist() == without.distances.tolist()
    assert found.keys.tolist() == without.keys.tolist()
    assert found.n_candidates == without.n_candidates


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_key_lies_within_its_bounds(data: st.DataObject) -> None:
    """Also for the queries that make the most of rounding: along the error of a row, and along a code."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    n, dim = data.draw(st.integers(2, 60)), data.draw(st.integers(2, 300))
    makers = (
        "normal", "after a ReLU", "huge and tiny", "far from the origin", "one far away",
        "squares that float32 hardly holds",
    )  # fmt: skip
    rows = MAKERS[data.draw(st.sampled_from(makers))](rng, n, dim).astype(np.float32)
    index, _ = from_features(rows, ["a"] * n, [f"{i:03}" for i in range(n)])
    coarse = coarse_of(index.rows)
    error = index.rows[0] - coarse.mean - coarse.scales[0] * coarse.codes[0].astype(np.float32)
    along = np.sign(coarse.codes[0]) * 0.4
    along[0] = LEVELS  # so the others are rounded to 0: all of them is error
    size = np.abs(rows).max()
    queries = {"a row": index.rows[0] * 0.9, "error": coarse.mean + error * 50, "code": coarse.mean + along * size / 50}
    query = queries[data.draw(st.sampled_from(sorted(queries)))].astype(np.float32)
    bounds = coarse.bounds(query, parts_of(index.groups, Scope()))
    step = np.abs(query.astype(np.float64) - coarse.mean).max() / LEVELS
    unit = 2 * (step if step > SMALLEST_STEP else 1.0)
    lower, upper = bounds.lower * unit, (bounds.lower + bounds.width(np.arange(n))) * unit
    keys = ((index.rows.astype(np.float64) - query) ** 2).sum(axis=1)
    assert (lower <= keys).all()
    assert (keys <= upper).all()
