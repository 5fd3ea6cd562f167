"""Metrics on rankings small enough to check by head, then against naive loops."""

from __future__ import annotations

import math
from typing import get_args

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


@pytest.mark.parametrize(("denominator", "divisor"), [("R", 5), ("min(R,k)", 4), ("k", 4), ("hits", 2), ("skip", 4)])
def test_ap_at_k_differs_by_its_named_denominator_only(denominator: metrics.Denominator, divisor: int) -> None:
    ranking = ranked(YES, NO, NO, YES, YES)
    value = metrics.average_precision_at(ranking, 5, 4, denominator=denominator)
    assert value == pytest.approx((1 / 1 + 2 / 4) / divisor)


@pytest.mark.parametrize(("denominator", "divisor"), [("R", 2), ("min(R,k)", 2), ("k", 5), ("hits", 1)])
def test_where_fewer_than_k_are_relevant_the_denominators_part(denominator: metrics.Denominator, divisor: int) -> None:
    value = metrics.average_precision_at(ranked(YES, NO, NO, NO, NO, YES), 2, 5, denominator=denominator)
    assert value == 1 / divisor


def test_skip_has_no_value_where_fewer_than_k_are_relevant() -> None:
    assert math.isnan(metrics.average_precision_at(ranked(YES, YES), 2, 5, denominator="skip"))


def test_no_hit_in_the_first_k_is_zero_under_every_denominator() -> None:
    for denominator in get_args(metrics.Denominator):
        assert metrics.average_precision_at(ranked(NO, NO, YES), 2, 2, denominator=denominator) == 0


def test_the_names_of_map_at_k_say_the_denominator() -> None:
    hits = np.array([7, 1, 7, 1, 1, 1, 1, 7])  # R = 7, of which the gate left three
    values, _ = metrics.measure(hits, 7, n_relevant=7, n_in_database=10)
    total = 1 / 1 + 2 / 3
    assert values["mAP@5"] == values["mAP@5/k"] == values["mAP@5/skip"] == pytest.approx(total / 5)
    assert values["mAP@5/R"] == pytest.approx(total / 7)
    assert values["mAP@5/hits"] == pytest.approx(total / 2)
    assert values["mAP@10"] == values["mAP@10/R"] == pytest.approx((total + 3 / 8) / 7)
    assert values["mAP@10/k"] == pytest.approx((total + 3 / 8) / 10)
    assert values["mAP/hits"] == pytest.approx((total + 3 / 8) / 3)
    assert math.isnan(values["mAP@10/skip"])


def test_map_at_r_looks_at_the_first_r_hits_alone() -> None:
    assert metrics.average_precision_at_r(ranked(YES, NO, YES), 2) == 1 / 2
    assert metrics.average_precision_at_r(ranked(NO, YES, YES), 2) == (1 / 2) / 2


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


def test_modified_precision_lets_a_rare_class_reach_one() -> None:
    ranking = ranked(YES, YES, NO, NO, NO)
    assert metrics.modified_precision_at(ranking, 2, 5) == 1
    assert metrics.modified_precision_at(ranking, 9, 5) == metrics.precision_at(ranking, 9, 5) == 2 / 5


def test_r_precision_is_precision_and_recall_at_r() -> None:
    ranking = ranked(YES, NO, YES, YES)
    assert metrics.r_precision(ranking, 3) == metrics.precision_at(ranking, 3, 3) == metrics.recall_at(ranking, 3, 3)
    assert metrics.r_precision(ranked(YES), 4) == 1 / 4  # the gate left one hit; the others count as wrong


def test_a_hit_is_any_relevant_in_the_first_k() -> None:
    ranking = ranked(NO, NO, YES)
    assert [metrics.hit_at(ranking, 1, k) for k in (1, 2, 3, 10)] == [0, 0, 1, 1]
    assert metrics.hit_at(ranked(), 1, 5) == 0


def test_the_reciprocal_rank_is_of_the_first_relevant_hit() -> None:
    assert metrics.reciprocal_rank(ranked(NO, NO, YES, YES), 2) == 1 / 3
    assert metrics.reciprocal_rank(ranked(NO, NO), 2) == metrics.reciprocal_rank(ranked(), 2) == 0


def test_recall_is_set_recall_not_hit_rate() -> None:
    assert metrics.recall_at(ranked(YES, NO, YES, YES), 5, 3) == 2 / 5


def test_ndcg_discounts_by_rank_and_divides_by_the_ideal() -> None:
    gain = 1 / math.log2(2) + 1 / math.log2(4)
    ideal = 1 / math.log2(2) + 1 / math.log2(3)
    assert metrics.ndcg_at(ranked(YES, NO, YES), 2, 10) == pytest.approx(gain / ideal)
    assert metrics.ndcg_at(ranked(YES, YES, NO), 2, 10) == pytest.approx(1)


def test_graded_ndcg_wants_the_higher_grade_first() -> None:
    best, worst = (2 + 1 / math.log2(3)), (1 + 2 / math.log2(3))
    assert metrics.graded_ndcg_at(np.array([2, 1]), (1, 1), 10) == 1
    assert metrics.graded_ndcg_at(np.array([1, 2]), (1, 1), 10) == pytest.approx(worst / best)


def test_graded_ndcg_compares_with_the_best_there_is_to_find() -> None:
    found, ideal = 1 + 1 / math.log2(3), 2 + 2 / math.log2(3)
    assert metrics.graded_ndcg_at(np.array([1, 1, 2]), (5, 3), 2) == pytest.approx(found / ideal)


def test_exponential_gain_is_the_form_of_burges() -> None:
    best, worst = 3 + 1 / math.log2(3), 1 + 3 / math.log2(3)
    assert metrics.graded_ndcg_at(np.array([1, 2]), (1, 1), 2, gain="exponential") == pytest.approx(worst / best)


def test_ndcg_of_one_grade_is_the_binary_one() -> None:
    ranking = ranked(NO, YES, YES, NO)
    assert metrics.graded_ndcg_at(ranking, (3,), 3) == metrics.ndcg_at(ranking, 3, 3)


def test_without_grades_every_relevant_hit_has_grade_1() -> None:
    values, _ = metrics.measure(np.array([1, 7, 7]), 7, n_relevant=2, n_in_database=3)
    assert values["nDCG@10_graded"] == values["nDCG@10"]


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


def test_the_full_curve_has_a_point_at_each_relevant_hit() -> None:
    recall, precision = metrics.precision_recall_points(ranked(YES, NO, YES), 4)
    assert recall.tolist() == [1 / 4, 2 / 4]
    assert precision.tolist() == [1, 2 / 3]
    assert [len(axis) for axis in metrics.precision_recall_points(ranked(NO), 0)] == [0, 0]


def test_the_eleven_point_curve_is_every_tenth_point_of_the_hundred() -> None:
    ranking = ranked(YES, NO, NO, YES, NO, YES)
    eleven = metrics.pr_curve(ranking, 3, metrics.ELEVEN_LEVELS)
    assert eleven.tolist() == metrics.pr_curve(ranking, 3)[::10].tolist() == [1.0] * 4 + [0.5] * 7
    values, _ = metrics.measure(np.where(ranking, 1, 0), 1, 3, 3)
    assert values["mAP_11pt"] == pytest.approx((4 * 1 + 7 * 0.5) / 11)


# --- ANMRR and bpref ---


def test_anmrr_is_0_for_a_perfect_ranking_and_1_when_nothing_is_found_in_time() -> None:
    assert metrics.nmrr(ranked(YES, YES, NO), 2, largest=2) == 0
    assert metrics.nmrr(ranked(NO, NO, NO, NO, YES, YES), 2, largest=2) == 1  # K = min(8, 4) = 4
    assert metrics.nmrr(ranked(), 2, largest=2) == 1


def test_anmrr_lets_a_late_hit_count_as_rank_1_25_k() -> None:
    """MPEG-7 by hand: R = 2, GTM = 3, K = min(8, 6) = 6; ranks 2 and 7, the latter counts 7.5."""
    ranking = ranked(NO, YES, NO, NO, NO, NO, YES)
    assert metrics.nmrr(ranking, 2, largest=3) == pytest.approx(((2 + 7.5) / 2 - 1.5) / (7.5 - 1.5))


def test_the_window_of_anmrr_grows_with_the_largest_ground_truth_up_to_4_r() -> None:
    late = ranked(*[NO] * 4, YES)
    assert metrics.nmrr(late, 1, largest=1) == 1  # K = 2
    assert metrics.nmrr(ranked(NO, NO, NO, YES), 1, largest=9) == pytest.approx((4 - 1) / (5 - 1))  # K = 4
    assert metrics.nmrr(late, 1, largest=9) == 1


def test_bpref_is_the_share_of_pairs_in_the_right_order() -> None:
    assert metrics.bpref(ranked(YES, NO, YES, NO), 2, 2) == ((1 - 0 / 2) + (1 - 1 / 2)) / 2
    assert metrics.bpref(ranked(YES, YES, NO), 2, 1) == 1
    assert metrics.bpref(ranked(NO, YES), 1, 1) == 0


def test_bpref_follows_the_corrected_trec_eval() -> None:
    """The example of trec_eval's note of 2005: six relevant and four not; one of the four comes first, then four."""
    ranking = ranked(NO, YES, YES, YES, YES)
    assert metrics.bpref(ranking, 6, 4) == pytest.approx((4 * 3 / 4 + 2 * 0) / 6) == 1 / 2


def test_bpref_passes_over_a_hit_without_label_where_ap_counts_it_as_wrong() -> None:
    hits = np.array([-1, 7, 1])
    values, _ = metrics.measure(hits, 7, n_relevant=1, n_in_database=1)
    assert (values["bpref"], values["mAP"]) == (1, 1 / 2)


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


def test_the_geometric_mean_takes_a_query_without_a_hit_as_one_in_a_hundred_thousand() -> None:
    assert metrics.geometric_mean(np.array([0.4, 0.9, np.nan])) == pytest.approx(0.6)
    assert metrics.geometric_mean(np.array([0.0, 1.0])) == pytest.approx(1e-5**0.5)
    assert metrics.geometric_mean(np.array([np.nan])) is None


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


def naive_nmrr(relevant: list[bool], n_relevant: int, largest: int) -> float:
    window = min(4 * n_relevant, 2 * largest)
    ranks: list[float] = [rank for rank, alike in enumerate(relevant, start=1) if alike]
    ranks += [math.inf] * (n_relevant - len(ranks))
    mean_rank = sum(rank if rank <= window else 1.25 * window for rank in ranks) / n_relevant
    return (mean_rank - 0.5 - n_relevant / 2) / (1.25 * window - 0.5 - n_relevant / 2)


@pytest.mark.parametrize("seed", range(20))
def test_random_rankings_agree_with_naive_anmrr_and_map_at_r(seed: int) -> None:
    generator = np.random.default_rng(seed)
    relevant = generator.random(generator.integers(1, 60)) < generator.random()
    n_relevant = int(relevant.sum()) + int(generator.integers(0, 3)) or 1
    largest = n_relevant + int(generator.integers(0, 30))
    expected = naive_nmrr(relevant.tolist(), n_relevant, largest)
    assert metrics.nmrr(relevant, n_relevant, largest) == pytest.approx(expected)
    at_r = naive_average_precision(relevant[:n_relevant].tolist(), n_relevant)
    assert metrics.average_precision_at_r(relevant, n_relevant) == pytest.approx(at_r)


@pytest.mark.parametrize("seed", range(20))
def test_random_rankings_agree_with_naive_loops(seed: int) -> None:
    generator = np.random.default_rng(seed)
    relevant = generator.random(generator.integers(1, 60)) < generator.random()
    n_relevant = int(relevant.sum()) + int(generator.integers(0, 3)) or 1
    expected = naive_average_precision(relevant.tolist(), n_relevant)
    assert metrics.average_precision(relevant, n_relevant) == pytest.approx(expected)
    assert metrics.pr_curve(relevant, n_relevant) == pytest.approx(naive_curve(relevant.tolist(), n_relevant))


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
    assert tuple(values) == metrics.METRICS
    assert set(values) <= set(metrics.DEFINITIONS)
    assert all("Ties by id; no value where R is 0." in metrics.DEFINITIONS[name] for name in values)
    assert set(metrics.classification(np.eye(2))) <= set(metrics.DEFINITIONS)
