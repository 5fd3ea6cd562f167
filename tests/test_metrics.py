"""Metrics on rankings small enough to check by head, then against naive loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cbmir import metrics

NO, YES = False, True


def ranked(*relevant: bool) -> np.ndarray:
    return np.array(relevant, dtype=bool)


# --- average precision ---


def test_ap_sums_precision_at_each_relevant_rank_and_divides_by_all_relevant() -> None:
    assert metrics.average_precision(ranked(YES, NO, YES), 2) == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_a_relevant_record_that_is_absent_counts_zero() -> None:
    assert metrics.average_precision(ranked(YES, NO, YES), 4) == pytest.approx((1 / 1 + 2 / 3) / 4)


def test_ap_of_a_perfect_ranking_is_one_and_of_an_empty_one_zero() -> None:
    assert metrics.average_precision(ranked(YES, YES, NO), 2) == 1
    assert metrics.average_precision(ranked(), 2) == 0


@pytest.mark.parametrize(("denominator", "divisor"), [("R", 5), ("min(R,k)", 4), ("k", 4), ("hits", 2)])
def test_ap_at_k_differs_by_its_named_denominator_only(denominator: metrics.Denominator, divisor: int) -> None:
    ranking = ranked(YES, NO, NO, YES, YES)
    value = metrics.average_precision_at(ranking, 5, 4, denominator=denominator)
    assert value == pytest.approx((1 / 1 + 2 / 4) / divisor)


def test_map_at_10_divides_by_the_smaller_of_r_and_10() -> None:
    values, _ = metrics.measure(np.array([7, 7, 1, 1]), 7, n_relevant=2, n_in_database=3)
    assert values["mAP@10"] == 1  # both of R = 2 in front: divided by 2, not by 10


def test_the_seed_compatible_reading_divides_by_the_whole_class_in_the_data_base() -> None:
    values, _ = metrics.measure(np.full(210, 7), 7, n_relevant=210, n_in_database=300)
    assert values["mAP"] == 1
    assert values["mAP_seed_compatible"] == pytest.approx(210 / 300)


# --- precision, recall, nDCG, vote ---


def test_precision_divides_by_k_even_when_the_gate_leaves_fewer() -> None:
    assert metrics.precision_at(ranked(YES, NO, YES, NO), 2, 4) == 2 / 4
    assert metrics.precision_at(ranked(YES, YES), 2, 10) == 2 / 10


def test_recall_is_set_recall_not_hit_rate() -> None:
    assert metrics.recall_at(ranked(YES, NO, YES, YES), 5, 3) == 2 / 5


def test_ndcg_discounts_by_rank_and_divides_by_the_ideal() -> None:
    gain = 1 / math.log2(2) + 1 / math.log2(4)
    ideal = 1 / math.log2(2) + 1 / math.log2(3)
    assert metrics.ndcg_at(ranked(YES, NO, YES), 2, 10) == pytest.approx(gain / ideal)
    assert metrics.ndcg_at(ranked(YES, YES, NO), 2, 10) == pytest.approx(1)


def test_the_majority_of_the_first_k_wins_and_a_tie_goes_to_the_nearest() -> None:
    assert metrics.majority_vote(np.array([2, 5, 5, 2, 5]), 5) == 5
    assert metrics.majority_vote(np.array([2, 5, 5, 2, 9]), 5) == 2
    assert metrics.majority_vote(np.array([5, 2, 9]), 5) == 5


def test_a_hit_without_a_label_has_no_vote() -> None:
    assert metrics.majority_vote(np.array([-1, -1, 4]), 5) == 4
    assert metrics.majority_vote(np.array([-1]), 5) == -1


# --- PR curve ---


def test_pr_curve_takes_the_highest_precision_at_that_recall_or_more() -> None:
    curve = metrics.pr_curve(ranked(NO, YES, YES), 2)  # precision 1/2 at recall 1/2, 2/3 at recall 1
    assert len(curve) == 101
    assert curve == pytest.approx(np.full(101, 2 / 3))


def test_pr_curve_starts_at_the_best_precision_and_ends_at_the_last_relevant_hit() -> None:
    curve = metrics.pr_curve(ranked(YES, NO, YES), 2)
    assert curve[0] == curve[50] == 1
    assert curve[51] == curve[100] == pytest.approx(2 / 3)


def test_pr_curve_is_zero_at_a_recall_never_reached() -> None:
    curve = metrics.pr_curve(ranked(YES, NO), 2)
    assert curve[50] == 1
    assert curve[51] == curve[100] == 0
    assert not metrics.pr_curve(ranked(), 3).any()


# --- nothing relevant ---


def test_a_query_with_nothing_relevant_has_no_value_and_is_left_out_of_the_mean() -> None:
    values, curve = metrics.measure(np.array([1, 2]), 7, n_relevant=0, n_in_database=1)
    assert all(math.isnan(value) for value in values.values())
    assert np.isnan(curve).all()
    assert metrics.mean(np.array([1.0, np.nan, 0.0])) == 1 / 2
    assert metrics.mean(np.array([np.nan])) is None


def test_macro_mean_gives_every_class_the_same_weight() -> None:
    values = np.array([1, 1, 1, 0.5, np.nan])
    assert metrics.macro_mean(values, np.array([0, 0, 0, 1, 2])) == (1 + 0.5) / 2


# --- naive double-check ---


def naive_average_precision(relevant: list[bool], n_relevant: int) -> float:
    total = 0.0
    for rank in range(1, len(relevant) + 1):
        if relevant[rank - 1]:
            total += sum(relevant[:rank]) / rank
    return total / n_relevant


def naive_curve(relevant: list[bool], n_relevant: int) -> list[float]:
    points = [(sum(relevant[:rank]) / n_relevant, sum(relevant[:rank]) / rank) for rank in range(1, len(relevant) + 1)]
    return [
        max((precision for recall, precision in points if recall >= level - 1e-9 and recall > 0), default=0.0)
        for level in [step / 100 for step in range(101)]
    ]


@pytest.mark.parametrize("seed", range(20))
def test_random_rankings_agree_with_naive_loops(seed: int) -> None:
    generator = np.random.default_rng(seed)
    relevant = generator.random(generator.integers(1, 60)) < generator.random()
    n_relevant = int(relevant.sum()) + int(generator.integers(0, 3)) or 1
    expected = naive_average_precision(relevant.tolist(), n_relevant)
    assert metrics.average_precision(relevant, n_relevant) == pytest.approx(expected)
    assert metrics.pr_curve(relevant, n_relevant) == pytest.approx(naive_curve(relevant.tolist(), n_relevant))


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
    monkeypatch.setattr(metrics, "DRAW_BLOCK", 6)
    blocks = list(metrics.draw_patients(3, 5, seed=0))
    assert [len(block) for block in blocks] == [2, 2, 1]
    assert all((block.sum(axis=1) == 3).all() for block in blocks)


def test_no_value_gives_no_interval() -> None:
    assert metrics.bootstrap_ci(np.array([np.nan]), np.array([0])) is None


# --- classification ---


def test_classification_follows_equations_6_to_9_with_the_slip_of_7_mended() -> None:
    confusion = np.array([[3.0, 1, 0], [0, 2, 0], [0, 0, 4]])
    result = metrics.classification(confusion)
    precision, recall = (3 / 3 + 2 / 3 + 4 / 4) / 3, (3 / 4 + 2 / 2 + 4 / 4) / 3
    assert result["top1"] == pytest.approx(9 / 10)
    assert result["macro_precision"] == pytest.approx(precision)
    assert result["macro_recall"] == pytest.approx(recall)
    assert result["F1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert result["accuracy_eq8"] == pytest.approx((9 / 10 + 9 / 10 + 10 / 10) / 3)


def test_the_papers_accuracy_is_its_mean_diagonal_and_equation_8_would_say_more() -> None:
    """Table 1 with 90 test images a class: 98.9, 96.7 and 98.9 on the diagonal, 100 elsewhere."""
    confusion = np.eye(24) * 90
    for row, column, wrong in ((1, 14, 1), (2, 7, 3), (11, 21, 1)):
        confusion[row, row] -= wrong
        confusion[row, column] += wrong
    result = metrics.classification(confusion)
    assert result["macro_recall"] == pytest.approx(0.9977, abs=5e-5)
    assert result["accuracy_eq8"] == pytest.approx(0.9998, abs=5e-5)


def test_a_class_never_predicted_has_precision_zero_and_a_class_without_images_is_left_out() -> None:
    result = metrics.classification(np.array([[2.0, 0, 0], [1, 0, 0], [0, 0, 0]]))
    assert result["macro_precision"] == pytest.approx((2 / 3 + 0) / 2)
    assert result["macro_recall"] == pytest.approx((1 + 0) / 2)
    assert metrics.classification(np.zeros((2, 2)))["top1"] == 0


def test_confusion_has_labels_in_rows_and_predictions_in_columns() -> None:
    assert metrics.confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist() == [[1, 1], [0, 1]]


def test_bootstrap_of_classification_keeps_a_perfect_classifier_perfect() -> None:
    truth = np.array([0, 1, 1])
    draws = metrics.bootstrap_classification(truth, truth, 2, np.array([0, 1, 2]), draws=10)
    assert draws["top1"].tolist() == [1] * 10


def test_every_metric_of_a_query_has_a_definition() -> None:
    values, _ = metrics.measure(np.array([1]), 1, 1, 1)
    assert set(values) <= set(metrics.DEFINITIONS)
    assert set(metrics.classification(np.eye(2))) <= set(metrics.DEFINITIONS)


def test_mean_and_sd_of_folds() -> None:
    assert metrics.mean_and_sd([1, 3]) == {"mean": 2, "sd": pytest.approx(math.sqrt(2))}
    assert metrics.mean_and_sd([2]) == {"mean": 2, "sd": 0}
