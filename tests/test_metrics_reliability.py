"""Do probabilities come true? By head, then against naive loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbmir import metrics

TOLD = np.array([0.2, 0.2, 0.9, 0.9])
CAME = np.array([False, True, True, True])


def test_ece_is_the_mean_gap_of_the_bins_by_their_share() -> None:
    """0.2 came true half of the time, 0.9 always: (0.3 + 0.1) / 2."""
    assert metrics.ece(TOLD, CAME) == pytest.approx(0.2)
    assert metrics.ece(TOLD, CAME, binning="width") == pytest.approx(0.2)


def test_the_bins_say_share_probability_and_truth() -> None:
    assert metrics.reliability(TOLD, CAME) == [
        metrics.Bin(0.5, pytest.approx(0.2), 0.5), metrics.Bin(0.5, pytest.approx(0.9), 1.0),
    ]  # fmt: skip


def test_equal_probabilities_are_never_parted() -> None:
    assert len(metrics.reliability(np.full(100, 0.7), np.arange(100) < 70)) == 1
    assert metrics.ece(np.full(100, 0.7), np.arange(100) < 70) == pytest.approx(0)


def test_bins_of_equal_mass_hold_equally_many() -> None:
    bins = metrics.reliability(np.linspace(0, 0.1, 150), np.zeros(150, bool))
    assert [one.share for one in bins] == [pytest.approx(1 / 15)] * 15
    assert len(metrics.reliability(np.linspace(0, 0.1, 150), np.zeros(150, bool), binning="width")) == 2


def test_a_certain_prediction_is_in_the_last_bin_of_equal_width() -> None:
    bins = metrics.reliability(np.array([0.95, 1.0]), np.ones(2, bool), binning="width")
    assert [(one.share, one.told) for one in bins] == [(1.0, pytest.approx(0.975))]


def test_brier_is_the_mean_squared_error() -> None:
    assert metrics.brier(TOLD, CAME) == pytest.approx((0.04 + 0.64 + 0.01 + 0.01) / 4)
    assert metrics.brier(TOLD, CAME, np.array([1.0, 0, 0, 0])) == pytest.approx(0.04)


def test_nothing_has_no_value() -> None:
    nothing, none = np.empty(0), np.empty(0, bool)
    assert math.isnan(metrics.ece(nothing, none))
    assert math.isnan(metrics.brier(nothing, none))
    assert math.isnan(metrics.auroc(nothing, TOLD))


def test_auroc_counts_pairs_in_the_right_order() -> None:
    assert metrics.auroc(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1
    assert metrics.auroc(np.array([1.0, 3.0]), np.array([2.0, 3.0])) == pytest.approx((1 + 0 + 1 + 0.5) / 4)


PROBABILITIES = st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.integers(0, 3)), min_size=1, max_size=60)


@given(PROBABILITIES)
def test_ece_of_equal_width_is_that_of_a_naive_loop(rows: list[tuple[int, bool, int]]) -> None:
    if not sum(weight for _, _, weight in rows):
        return
    gap = 0.0
    for place in range(15):
        here = [(t / 20, c, w) for t, c, w in rows if min(int(t / 20 * 15), 14) == place]
        gap += abs(sum(w * (t - c) for t, c, w in here))
    told, came, weights = (np.array(column) for column in zip(*rows, strict=True))
    found = metrics.ece(told / 20, came, weights.astype(float), binning="width")
    assert found == pytest.approx(gap / weights.sum())


@given(PROBABILITIES)
def test_a_weight_counts_as_so_many_copies(rows: list[tuple[int, bool, int]]) -> None:
    copies = [(told, came) for told, came, weight in rows for _ in range(weight)]
    if not copies:
        return
    told, came, weights = (np.array(column) for column in zip(*rows, strict=True))
    many_told, many_came = (np.array(column) for column in zip(*copies, strict=True))
    assert metrics.ece(told / 20, came, weights.astype(float)) == pytest.approx(metrics.ece(many_told / 20, many_came))
    assert metrics.brier(told / 20, came, weights) == pytest.approx(metrics.brier(many_told / 20, many_came))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_auroc_is_that_of_a_naive_loop(negatives: list[int], positives: list[int]) -> None:
    pairs = [(p > n) + 0.5 * (p == n) for n in negatives for p in positives]
    found = metrics.auroc(np.array(negatives, float), np.array(positives, float))
    assert found == pytest.approx(sum(pairs) / len(pairs))
