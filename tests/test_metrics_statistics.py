"""Intervals, tests between methods, and smaller galleries: every number checkable by head or by a naive loop."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from cbmir import metrics

# --- bootstrap ---


def test_bootstrap_of_equal_values_is_that_value() -> None:
    assert metrics.bootstrap_ci(np.full(6, 0.25), np.array([0, 0, 1, 1, 2, 3]), draws=50) == [0.25, 0.25]


def test_bootstrap_draws_whole_patients() -> None:
    """Two patients, one all right and one all wrong: a draw is 0, 1 or the mean weighted by their queries."""
    draws = metrics.bootstrap_means(np.array([1.0, 1, 1, 0]), np.array([0, 0, 0, 1]), draws=200, seed=1)
    assert set(np.unique(draws)) == {0, 3 / 4, 1}


def test_bootstrap_is_repeatable_and_agrees_with_a_naive_loop() -> None:
    values = np.array([0.1, 0.9, 0.4, np.nan, 0.6])
    patients = np.array([0, 1, 1, 2, 3])
    draws = metrics.bootstrap_means(values, patients, draws=4, seed=3)
    assert draws.tolist() == metrics.bootstrap_means(values, patients, draws=4, seed=3).tolist()
    present = [0, 1, 3]  # patient 2 has no value
    drawn = np.random.default_rng(3).integers(3, size=(4, 3))
    naive = [np.mean(np.concatenate([values[patients == present[code]] for code in row])) for row in drawn]
    assert draws == pytest.approx(naive)


def test_the_macro_bootstrap_weighs_classes_equally() -> None:
    draws = metrics.bootstrap_means(
        np.array([1.0, 1, 1, 0]), np.zeros(4, dtype=int), classes=np.array([0, 0, 0, 1]), draws=3
    )
    assert draws.tolist() == [0.5, 0.5, 0.5]


def test_blocks_of_draws_cover_every_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.metrics.statistics.DRAW_BLOCK", 6)
    blocks = list(metrics.draw_patients(3, 5, seed=0))
    assert [len(block) for block in blocks] == [2, 2, 1]
    assert all((block.sum(axis=1) == 3).all() for block in blocks)


def test_no_value_gives_no_interval() -> None:
    assert metrics.bootstrap_ci(np.array([np.nan]), np.array([0])) is None


def test_a_table_of_metrics_is_drawn_as_each_metric_alone() -> None:
    generator = np.random.default_rng(5)
    first, second = generator.random(30), generator.random(30)
    third = np.where(generator.random(30) < 0.3, np.nan, first)
    patients, classes = generator.integers(0, 9, 30), generator.integers(0, 4, 30)
    table = {"first": first, "third": third, "second": second}
    together = metrics.bootstrap_table(table, patients, classes=classes, draws=50, seed=2)
    assert list(together) == list(table)
    for name, values in table.items():
        alone = metrics.bootstrap_means(values, patients, classes=classes, draws=50, seed=2)
        assert together[name].tolist() == alone.tolist()


def test_mean_and_sd_of_folds() -> None:
    assert metrics.mean_and_sd([1, 3]) == {"mean": 2, "sd": pytest.approx(math.sqrt(2))}
    assert metrics.mean_and_sd([2]) == {"mean": 2, "sd": 0}


# --- paired randomisation test ---

PATIENTS = np.array([0, 0, 1, 2])


def test_few_patients_are_tested_by_every_pattern_of_signs() -> None:
    """Patients' summed differences 2, 1 and 1: of 8 patterns only all plus and all minus reach 4."""
    told = metrics.paired_test(np.array([1.0, 1, 1, 1]), np.zeros(4), PATIENTS)
    assert told.p == 2 / 8
    assert told.difference == 1
    assert told.interval95 == [1, 1]
    assert (told.n_queries, told.n_patients) == (4, 3)


def test_the_unit_is_the_patient_not_the_query() -> None:
    """A hundred images of one patient are one observation: its sign alone can change nothing."""
    told = metrics.paired_test(np.ones(100), np.zeros(100), np.zeros(100, dtype=int))
    assert told.p == 1


def test_equal_methods_have_p_1_and_difference_0() -> None:
    values = np.array([0.1, 0.9, 0.5])
    told = metrics.paired_test(values, values, np.arange(3))
    assert (told.difference, told.p, told.interval95) == (0, 1, [0, 0])


def test_the_exact_test_agrees_with_a_naive_loop() -> None:
    generator = np.random.default_rng(0)
    first, second, patients = generator.random(12), generator.random(12), generator.integers(0, 6, 12)
    sums = [float((first - second)[patients == patient].sum()) for patient in np.unique(patients)]
    patterns = list(itertools.product((-1, 1), repeat=len(sums)))
    larger = [abs(np.dot(signs, sums)) >= abs(sum(sums)) - 1e-9 for signs in patterns]
    assert metrics.paired_test(first, second, patients).p == sum(larger) / len(patterns)


def test_many_patients_are_tested_by_random_signs_and_p_is_never_0() -> None:
    generator = np.random.default_rng(1)
    second = generator.random(60)
    told = metrics.paired_test(second + 0.5, second, np.arange(60), draws=999)
    assert told.p == 1 / 1000
    assert told == metrics.paired_test(second + 0.5, second, np.arange(60), draws=999)  # repeatable


def test_random_signs_come_near_the_exact_p() -> None:
    generator = np.random.default_rng(2)
    first, second, patients = generator.random(11), generator.random(11), np.arange(11)
    exact = metrics.paired_test(first, second, patients, draws=2**11).p
    drawn = metrics.paired_test(first, second, patients, draws=2**11 - 1).p
    assert exact is not None
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 2**11))


def test_under_the_null_hypothesis_p_is_small_as_often_as_it_says() -> None:
    """200 comparisons of methods that do not differ: p <= 0.05 in about 10; more than 20 has probability 0.002."""
    generator = np.random.default_rng(3)
    trials = [generator.normal(size=(2, 10)) for _ in range(200)]
    small = [metrics.paired_test(*pair, np.arange(10), draws=1024, bootstrap_draws=2).p <= 0.05 for pair in trials]
    assert sum(small) <= 20


def test_a_query_without_a_value_under_either_method_is_left_out_of_the_pair_and_counted() -> None:
    told = metrics.paired_test(np.array([1, np.nan, 1]), np.array([0, 0, np.nan]), np.arange(3))
    assert (told.n_queries, told.n_patients, told.difference) == (1, 1, 1)
    nothing = metrics.paired_test(np.array([np.nan]), np.array([1.0]), np.array([0]))
    assert (nothing.n_queries, nothing.p, nothing.difference, nothing.interval95) == (0, None, None, None)


def test_the_macro_difference_weighs_classes_equally() -> None:
    first, classes = np.array([1.0, 1, 1, 0]), np.array([0, 0, 0, 1])
    told = metrics.paired_test(first, np.zeros(4), np.arange(4), classes=classes)
    assert told.difference == pytest.approx((1 + 0) / 2)


# --- correction for many ---


def test_holm_multiplies_the_smallest_p_most_and_never_falls() -> None:
    assert metrics.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])  # 0.01 x 3, 0.03 x 2, 0.04 x 1 -> 0.06
    assert metrics.holm([0.5, 0.9]) == [1, 1]
    assert metrics.holm([]) == []


def test_every_pair_is_compared_and_corrected_together() -> None:
    generator = np.random.default_rng(4)
    base = generator.random(8)
    methods = {"good": base + 0.5, "bad": base, "same": base.copy()}
    told = metrics.compare(methods, np.arange(8))
    assert [(pair.first, pair.second) for pair in told] == [("good", "bad"), ("good", "same"), ("bad", "same")]
    assert [pair.p for pair in told] == [2 / 256, 2 / 256, 1]
    assert [pair.p_holm for pair in told] == [3 * 2 / 256, 3 * 2 / 256, 1]
    assert told[0].as_dict()["p_holm"] == 3 * 2 / 256


def test_named_pairs_alone_are_corrected_for_their_number_and_one_without_values_is_not_counted() -> None:
    base = np.zeros(8)
    methods = {"ours": base + 1, "theirs": base, "broken": np.full(8, np.nan)}
    told = metrics.compare(methods, np.arange(8), pairs=[("ours", "theirs"), ("ours", "broken")])
    assert [(pair.p, pair.p_holm) for pair in told] == [(2 / 256, 2 / 256), (None, None)]


# --- smaller galleries ---


def test_a_smaller_gallery_holds_whole_patients_until_it_is_large_enough() -> None:
    patients = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    parts = metrics.smaller_galleries(patients, [1, 4, 8], draws=20, seed=0).reshape(3, 20, 8)
    for part in parts.reshape(-1, 8):
        assert all(len(set(part[patients == patient])) == 1 for patient in range(4))
    for size, draws in zip((1, 4, 8), parts, strict=True):
        assert all(size <= part.sum() < size + 3 for part in draws)  # 3 images is the most a patient has
    assert parts[2].all()
    assert (parts[0] <= parts[1]).all()  # the parts of a draw lie inside each other
    assert len({tuple(part) for part in parts[1]}) > 1


def test_a_part_is_measured_without_ranking_again_as_if_it_had_been_ranked_alone() -> None:
    generator = np.random.default_rng(6)
    relevant = generator.random(80) < 0.2
    kept = generator.random((12, 80)) < 0.4
    n_relevant = (kept & relevant).sum(axis=1) + 1  # one that the gate hid
    told = metrics.measure_parts(relevant, kept, n_relevant)
    for part, of_part, total in zip(kept, told.T, n_relevant.tolist(), strict=True):
        alone = relevant[part]
        naive = [metrics.average_precision(alone, total), *(metrics.precision_at(alone, total, k) for k in (1, 10))]
        assert of_part == pytest.approx(naive)


def test_a_part_without_anything_relevant_has_no_value() -> None:
    told = metrics.measure_parts(np.array([True, False]), np.array([[False, True]]), np.array([0]))
    assert np.isnan(told).all()
