"""Evaluation on a handful of points on a line, where every ranking is known by eye."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cbmir import metrics
from cbmir.encoder import PixelsEncoder
from cbmir.errors import BadManifest, CbmirError, UsageError
from cbmir.evaluate import (
    Bootstrap,
    EvaluationSide,
    Parts,
    cross_validation,
    efficiency,
    evaluate_features,
    evaluate_split,
    gallery_size_curve,
    gates_of,
)
from cbmir.evaluate.examples import choose_examples, choose_samples
from cbmir.evaluate.rankings import judge, patients_of, rank_and_measure
from cbmir.privacy import Pseudonyms
from cbmir.report.tables import metrics_table
from cbmir.sources import manifest
from cbmir.types import Record
from toys import ToyEncoder

FEW = Bootstrap(draws=20)
CLASSES = ("brain", "liver")


def side(
    *rows: tuple[str, str | None, float], posterior: list[list[float]] | None = None, **same: Any
) -> EvaluationSide:
    """(id, class, place on the line) each; the patient is the id unless `patients` says otherwise."""
    patients = same.pop("patients", [row[0] for row in rows])
    records = tuple(
        Record(id=name, patient=patient, labels={"class": label} if label else {}, **same)
        for (name, label, _), patient in zip(rows, patients, strict=True)
    )
    features = np.array([[place] for _, _, place in rows], np.float32)
    opinion = None if posterior is None else np.array(posterior, np.float32)
    return EvaluationSide(records, {"line": features}, opinion)


GALLERY = side(("g1", "brain", 0), ("g2", "liver", 1), ("g3", "brain", 2), ("g4", "liver", 3))
QUERIES = side(("q1", "brain", 0.1), ("q2", "liver", 2.9), posterior=[[0.9, 0.1], [0.6, 0.4]])
"""q1 ranks g1 g2 g3 g4 and is predicted rightly; q2 ranks g4 g3 g2 g1 and is taken for a brain."""


def evaluated(**options: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"classes": CLASSES, "gates": ("off", "hard"), "bootstrap": FEW} | options
    return evaluate_features(GALLERY, QUERIES, **settings)


# --- retrieval ---


def test_without_gate_every_query_ranks_the_whole_gallery() -> None:
    off = evaluated()["retrieval"]["line"]["off"]
    assert off["mAP"] == pytest.approx((1 / 1 + 2 / 3) / 2)  # both queries: relevant at ranks 1 and 3
    assert off["P@1"] == 1
    assert off["P@10"] == pytest.approx(2 / 10)
    assert off["recall@10"] == 1


def test_a_hard_gate_makes_ap_one_or_zero_so_map_is_the_share_classified_rightly() -> None:
    result = evaluated()
    assert result["retrieval"]["line"]["hard"]["mAP"] == result["classification"]["top1"] == 1 / 2


def test_the_seed_compatible_reading_divides_by_gallery_and_queries_together() -> None:
    hard = evaluated()["retrieval"]["line"]["hard"]
    assert hard["mAP_seed_compatible"] == pytest.approx((2 / 3 + 0) / 2)  # 2 of each class in the gallery, 1 asks


def test_top3_and_soft_gates_go_through_search() -> None:
    result = evaluated(gates=("top3", "soft"), taus={"line": 0.0})["retrieval"]["line"]
    assert result["top3"]["mAP"] == result["soft"]["mAP"] == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_a_soft_gate_pulls_the_likely_class_forward() -> None:
    soft = evaluated(gates=("soft",), taus={"line": 10.0})["retrieval"]["line"]["soft"]
    assert soft["mAP"] == pytest.approx((1 + (1 / 3 + 2 / 4) / 2) / 2)  # q2: both brains before both livers


def test_equal_distances_are_ranked_by_id() -> None:
    gallery = side(("b", "liver", 1), ("a", "brain", 1))
    result = evaluate_features(gallery, side(("q", "liver", 1)), bootstrap=FEW)
    assert result["retrieval"]["line"]["off"]["mAP"] == 1 / 2


def test_the_macro_mean_weighs_classes_equally() -> None:
    queries = side(("q1", "brain", 0.1), ("q2", "brain", 0.1), ("q3", "liver", -9))
    off = evaluate_features(GALLERY, queries, bootstrap=FEW)["retrieval"]["line"]["off"]
    brain, liver = (1 / 1 + 2 / 3) / 2, (1 / 2 + 2 / 4) / 2
    assert off["mAP"] == pytest.approx((2 * brain + liver) / 3)
    assert off["mAP_macro"] == pytest.approx((brain + liver) / 2)


def test_the_pr_curve_is_the_mean_over_queries() -> None:
    curve = evaluated()["retrieval"]["line"]["off"]["pr_curve"]
    assert len(curve["recall"]) == len(curve["precision"]) == 101
    assert (curve["precision"][0], curve["precision"][100]) == (1, pytest.approx(2 / 3))


def test_a_query_does_not_see_its_own_patient_nor_itself() -> None:
    gallery = side(("g1", "brain", 0), ("g2", "brain", 1), ("g3", "liver", 2), patients=["p", "other", "other"])
    queries = side(("q", "brain", 0), ("g2", "brain", 1), patients=["p", None])
    judgement = judge(gallery, queries)
    assert [rows.tolist() for rows in judgement.hidden] == [[0], [1]]
    assert judgement.n_relevant.tolist() == [1, 1]
    rankings = rank_and_measure(gallery, queries, judgement, layers=["line"], gates=["off"])
    assert rankings["line"]["off"].top_rows[:, :3].tolist() == [[1, 2, -1], [0, 2, -1]]


def test_a_query_with_nothing_relevant_is_counted_and_left_out_of_the_means() -> None:
    queries = side(("q1", "brain", 0.1), ("q2", "knee", 0.1), ("q3", None, 0.1))
    result = evaluate_features(GALLERY, queries, bootstrap=FEW)
    assert result["retrieval"]["line"]["off"]["mAP"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    counted = (result["n_queries"], result["n_queries_without_relevant"], result["n_queries_without_label"])
    assert counted == (3, 1, 1)
    assert result["per_class"]["knee"]["retrieval"]["line"]["off"]["mAP"] is None


def test_another_label_column_judges_inside_the_class() -> None:
    def found(name: str, label: str, finding: str | None, place: float) -> tuple[Record, list[float]]:
        labels = {"class": label} | ({"finding": finding} if finding else {})
        return Record(id=name, labels=labels), [place]

    def make(*rows: tuple[Record, list[float]]) -> EvaluationSide:
        return EvaluationSide(tuple(row[0] for row in rows), {"line": np.array([row[1] for row in rows], np.float32)})

    gallery = make(found("g1", "lungs", "normal", 1), found("g2", "brain", "normal", 2), found("g3", "brain", None, 3))
    queries = make(found("q1", "brain", "normal", 0), found("q2", "brain", None, 0))
    result = evaluate_features(gallery, queries, relevant="finding", bootstrap=FEW)
    assert result["retrieval"]["line"]["off"]["mAP"] == 1 / 2  # only g2, at rank 2
    assert result["n_queries_without_label"] == 1
    with pytest.raises(UsageError, match="no query has a value in the column view"):
        evaluate_features(gallery, queries, relevant="view", bootstrap=FEW)


# --- graded relevance ---


def images(*rows: tuple[str, dict[str, str], str | None, float]) -> EvaluationSide:
    """(id, labels, modality, place on the line) each."""
    records = tuple(Record(id=name, labels=labels, modality=modality) for name, labels, modality, _ in rows)
    return EvaluationSide(records, {"line": np.array([[place] for *_, place in rows], np.float32)})


def off_figures(gallery: EvaluationSide, queries: EvaluationSide, relevant: str = "class") -> dict[str, Any]:
    result = evaluate_features(gallery, queries, relevant=relevant, bootstrap=FEW)
    figures: dict[str, Any] = result["retrieval"]["line"]["off"]
    return figures


BRAIN = {"class": "brain"}


def test_class_and_modality_stand_above_class_alone() -> None:
    gallery = images(("g1", BRAIN, "CT", 1), ("g2", BRAIN, "MR", 2), ("g3", {"class": "liver"}, "MR", 3))
    figures = off_figures(gallery, images(("q", BRAIN, "MR", 0)))
    discount = 1 / np.log2(3)
    assert figures["nDCG@10"] == 1  # by class alone both brains are as good
    assert figures["nDCG@10_graded"] == pytest.approx((1 + 2 * discount) / (2 + discount))


def test_a_query_of_unknown_modality_is_judged_by_class_alone() -> None:
    gallery = images(("g1", BRAIN, None, 1), ("g2", BRAIN, "MR", 2))
    assert off_figures(gallery, images(("q", BRAIN, None, 0)))["nDCG@10_graded"] == 1


def test_class_and_finding_stand_above_class_alone_and_only_they_are_relevant() -> None:
    def brain(finding: str) -> dict[str, str]:
        return BRAIN | {"finding": finding}

    gallery = images(
        ("g1", {"class": "liver", "finding": "glioma"}, "MR", 1),  # the finding in another organ is another thing
        ("g2", brain("normal"), "MR", 2),
        ("g3", brain("glioma"), "CT", 3),
        ("g4", BRAIN, "MR", 4),  # no finding told: never relevant, still a brain
    )
    figures = off_figures(gallery, images(("q", brain("glioma"), "MR", 0)), relevant="finding")
    assert figures["mAP"] == 1 / 3
    gains, ideal = [0, 1, 2, 1], [2, 1, 1, 0]
    discount = 1 / np.log2(np.arange(2, 6))
    assert figures["nDCG@10_graded"] == pytest.approx(np.dot(gains, discount) / np.dot(ideal, discount))
    assert figures["bpref"] == pytest.approx(1 - 1 / 1)  # of g1 and g2 the first counts; g4 is not judged


def test_an_encoder_that_maps_every_brain_to_one_point_has_no_map_inside_the_organ() -> None:
    names = [("a", "normal"), ("b", "glioma"), ("c", "normal"), ("d", "glioma")]
    gallery = images(*((name, BRAIN | {"finding": finding}, "MR", 0) for name, finding in names))
    query = images(("q", BRAIN | {"finding": "glioma"}, "MR", 0))
    assert off_figures(gallery, query)["mAP"] == 1
    assert off_figures(gallery, query, relevant="finding")["mAP"] == (1 / 2 + 2 / 4) / 2  # ties: by id


# --- every metric, every mean, every interval ---


def test_every_metric_is_told_over_queries_and_over_classes_each_with_an_interval() -> None:
    figures = evaluated()["retrieval"]["line"]["off"]
    for name in metrics.METRICS:
        assert name in figures
        assert figures["macro"].keys() == figures["macro_ci95"].keys() == set(metrics.METRICS)
        low, high = figures["ci95"][name] or (None, None)
        assert low is None or low - 1e-9 <= figures[name] <= high + 1e-9
    assert figures["ci95"]["mAP"] == figures["mAP_ci95"]
    assert figures["macro"]["mAP"] == figures["mAP_macro"]
    assert figures["GMAP"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert figures["pr_11"]["recall"] == pytest.approx(np.linspace(0, 1, 11))
    assert figures["pr_11"]["precision"] == figures["pr_curve"]["precision"][::10]


def test_a_metric_that_drops_queries_says_how_many_are_left() -> None:
    figures = evaluated()["retrieval"]["line"]["off"]  # R is 2
    measured = figures["n_queries_measured"]
    assert (measured["mAP"], measured["mAP@5/skip"]) == (2, 0)
    assert figures["mAP@5/skip"] is None


def test_every_modality_and_every_value_of_the_column_that_judges_is_told_apart() -> None:
    gallery = images(("g1", BRAIN | {"finding": "normal"}, "MR", 1), ("g2", BRAIN | {"finding": "glioma"}, "CT", 2))
    queries = images(("q1", BRAIN | {"finding": "normal"}, "MR", 0), ("q2", BRAIN | {"finding": "glioma"}, "CT", 0))
    result = evaluate_features(gallery, queries, relevant="finding", bootstrap=FEW)
    told = {name: value["retrieval"]["line"]["off"]["mAP"] for name, value in result["per_value"].items()}
    assert told == {"normal": 1, "glioma": 1 / 2}
    by_modality = result["per_modality"]["CT"]["retrieval"]["line"]["off"]
    assert (by_modality["mAP"], by_modality["mAP_ci95"]) == (1 / 2, [1 / 2, 1 / 2])
    assert evaluated()["per_value"] == {}


def test_the_window_of_anmrr_comes_from_the_largest_class_of_all_queries() -> None:
    gallery = side(("g1", "liver", 1), ("g2", "liver", 2), ("g3", "brain", 3), ("g4", "liver", 4), ("g5", "liver", 5))
    figures = off_figures(gallery, side(("q1", "brain", 0), ("q2", "liver", 9)))
    brain = (3 - 1) / (1.25 * 4 - 1)  # GTM is 4, so K = min(4, 8)
    liver = ((1 + 2 + 4 + 5) / 4 - 2.5) / (1.25 * 8 - 2.5)
    assert figures["ANMRR"] == pytest.approx((brain + liver) / 2)


def test_bpref_counts_the_others_that_the_query_may_see() -> None:
    """One liver stands above three brains; a second one is of the query's own patient and hidden: N is 1."""
    places = (("g1", "liver", 1), ("g2", "brain", 2), ("g3", "brain", 3), ("g4", "brain", 4), ("g5", "liver", 5))
    gallery = side(*places, patients=["a", "b", "c", "d", "p"])
    queries = side(("q", "brain", 0), patients=["p"])
    assert judge(gallery, queries).n_not_relevant.tolist() == [1]
    assert off_figures(gallery, queries)["bpref"] == 0


def test_the_report_has_a_row_for_every_metric() -> None:
    table = metrics_table(evaluated())
    assert [row[0] for row in table.rows] == [*metrics.METRICS, "GMAP"]
    assert table.header == ("Metric", "gate off", "over classes, gate off", "gate hard", "over classes, gate hard")
    precision_at_1 = next(row for row in table.rows if row[0] == "P@1")
    assert precision_at_1[1:3] == ("1.000 [1.000, 1.000]", "1.000 [1.000, 1.000]")


# --- how the gallery's size matters ---


def crowd(n: int, seed: int, prefix: str) -> EvaluationSide:
    """Brains near 0, livers near 1, two images a patient."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(CLASSES, n)
    places = (labels == "liver") + generator.normal(scale=0.8, size=n)
    rows = [
        (f"{prefix}{row:03d}", str(label), float(place))
        for row, (label, place) in enumerate(zip(labels, places, strict=True))
    ]
    return side(*rows, patients=[f"{prefix}{row // 2}" for row in range(n)])


def test_the_curve_ends_at_what_the_whole_gallery_gives() -> None:
    gallery, queries = crowd(60, 0, "g"), crowd(10, 1, "q")
    curve = gallery_size_curve(gallery, queries, "line", parts=Parts((20, 60), draws=3), bootstrap=FEW)
    small, whole = curve["sizes"]
    off = evaluate_features(gallery, queries, bootstrap=FEW)["retrieval"]["line"]["off"]
    for name in ("mAP", "P@1", "P@10"):
        assert whole[name]["mean"] == pytest.approx(off[name])
        assert whole[name]["sd"] == pytest.approx(0, abs=1e-12)
    assert (whole["n_gallery"], whole["n_patients"]) == (60, 30)
    assert (small["n_gallery"], small["n_patients"]) == (20, 10)
    assert small["mAP"]["sd"] > 0
    assert small["mAP_ci95"][0] <= small["mAP"]["mean"] <= small["mAP_ci95"][1]


def test_a_part_of_the_gallery_measures_as_if_it_had_been_searched_alone() -> None:
    gallery, queries = crowd(40, 2, "g"), crowd(6, 3, "q")
    curve = gallery_size_curve(gallery, queries, "line", parts=Parts((10,), draws=1, seed=5), bootstrap=FEW)
    (kept,) = metrics.smaller_galleries(np.arange(40) // 2, [10], draws=1, seed=5)
    rows = np.flatnonzero(kept)
    part = EvaluationSide(tuple(gallery.records[row] for row in rows), {"line": gallery.features["line"][rows]})
    alone = evaluate_features(part, queries, bootstrap=FEW)["retrieval"]["line"]["off"]
    assert curve["sizes"][0]["mAP"]["mean"] == pytest.approx(alone["mAP"])


def test_the_curve_counts_queries_that_a_small_gallery_leaves_without_anything_relevant() -> None:
    gallery = side(("g1", "brain", 0), ("g2", "liver", 1))
    curve = gallery_size_curve(gallery, QUERIES, "line", parts=Parts((1, 2), draws=4), bootstrap=FEW)
    assert [size["n_queries_without_relevant"] for size in curve["sizes"]] == [1, 0]
    json.dumps(curve, allow_nan=False)


def test_the_curve_hides_the_querys_own_patient_and_gates_like_the_search() -> None:
    gallery = side(("g1", "brain", 0), ("g2", "brain", 1), ("g3", "liver", 2), patients=["p", "r", "s"])
    queries = side(("q", "brain", 0), patients=["p"], posterior=[[0.9, 0.1]])
    curve = gallery_size_curve(
        gallery, queries, "line", gate="hard", classes=CLASSES, parts=Parts((3,), draws=1), bootstrap=FEW
    )
    assert curve["sizes"][0]["mAP"]["mean"] == 1  # g2 alone is there to find, and is found first


def test_sizes_check_themselves() -> None:
    with pytest.raises(UsageError, match="sizes of at least 1"):
        Parts(())
    with pytest.raises(UsageError, match="at least 1 draw"):
        Parts((5,), draws=0)


def test_two_layers_can_be_tested_against_each_other() -> None:
    gallery, queries = crowd(60, 0, "g"), crowd(24, 1, "q")
    noise = np.random.default_rng(9).normal(size=(60 + 24, 1)).astype(np.float32)
    both = [
        EvaluationSide(side_.records, {"line": side_.features["line"], "noise": part})
        for side_, part in ((gallery, noise[:60]), (queries, noise[60:]))
    ]
    rankings = rank_and_measure(*both, judge(*both), layers=["line", "noise"], gates=["off"])
    values = {layer: gates["off"].values["mAP"] for layer, gates in rankings.items()}
    (told,) = metrics.compare(values, patients_of(queries))
    assert told.n_patients == 12
    assert told.difference == pytest.approx(values["line"].mean() - values["noise"].mean())
    assert told.p < 0.05


# --- classification, parts ---


def test_classification_counts_labels_in_rows() -> None:
    result = evaluated()["classification"]
    assert result["confusion"] == [[1, 0], [1, 0]]
    assert result["macro_precision"] == pytest.approx((1 / 2 + 0) / 2)
    assert result["macro_recall"] == pytest.approx((1 + 0) / 2)
    assert set(result["ci95"]) == set(result["tested_100_times"]) >= {"top1", "F1"}


def test_an_encoder_without_classes_has_no_classification() -> None:
    result = evaluate_features(GALLERY, side(("q", "brain", 0)), bootstrap=FEW)
    assert result["classification"] is None


def test_a_label_the_encoder_does_not_know_is_counted_and_left_out_of_the_confusion() -> None:
    queries = side(("q1", "brain", 0), ("q2", "knee", 0), posterior=[[0.9, 0.1], [0.9, 0.1]])
    result = evaluate_features(GALLERY, queries, classes=CLASSES, bootstrap=FEW)["classification"]
    assert (result["top1"], result["n_images"], result["n_label_unknown_to_encoder"]) == (1, 1, 1)


def test_every_class_and_source_is_told_apart() -> None:
    gallery = side(("g1", "brain", 0), ("g2", "liver", 1), source="archive")
    queries = side(("q1", "brain", 0), ("q2", "liver", 0), source="ward", posterior=[[1, 0], [1, 0]])
    result = evaluate_features(gallery, queries, classes=CLASSES, bootstrap=FEW)
    liver = result["per_class"]["liver"]
    assert (liver["n_queries"], liver["n_gallery"], liver["precision"], liver["recall"]) == (1, 1, 0, 0)
    assert liver["retrieval"]["line"]["off"]["mAP"] == 1 / 2
    ward = result["per_source"]["ward"]
    assert (ward["n_queries"], ward["n_gallery"], ward["top1"]) == (2, 0, 1 / 2)
    assert ward["retrieval"]["line"]["off"]["mAP"] == pytest.approx((1 + 1 / 2) / 2)


def test_queries_of_one_value_can_be_set_apart_from_the_rest() -> None:
    result = evaluated(apart=("class", "liver"))["apart"]
    assert (result["column"], result["value"]) == ("class", "liver")
    assert (result["apart"]["n_queries"], result["rest"]["n_queries"]) == (1, 1)
    assert result["apart"]["retrieval"]["line"]["hard"]["mAP"] == 0
    assert result["rest"]["retrieval"]["line"]["hard"]["mAP"] == 1
    assert result["rest"]["classification"]["top1"] == 1
    with pytest.raises(UsageError, match="no query has class=knee"):
        evaluated(apart=("class", "knee"))


def test_the_document_is_strict_json_with_a_definition_of_every_metric() -> None:
    result = evaluated()
    json.dumps(result, allow_nan=False)
    figures = result["retrieval"]["line"]["off"]
    bare = {name.removesuffix("_ci95") for name in figures}
    assert bare <= set(result["definitions"])
    contract = "mAP mAP_ci95 mAP_macro mAP@10 P@1 P@10 recall@10 nDCG@10 MMV@5 pr_curve"
    assert set(contract.split()) <= set(figures)


def test_intervals_are_repeatable() -> None:
    assert evaluated() == evaluated()


def test_sides_check_themselves() -> None:
    with pytest.raises(ValueError, match="unique"):
        side(("a", None, 0), ("a", None, 1))
    with pytest.raises(ValueError, match="one row per record"):
        EvaluationSide((Record(id="a"),), {"line": np.zeros((2, 1), np.float32)})


def test_a_hard_gate_computes_only_the_distances_of_one_class() -> None:
    told = efficiency(GALLERY, QUERIES, layers=["line"], gates=["off", "hard"], classes=CLASSES)["line"]
    assert told["off"]["distances_per_query"] == 4
    assert told["hard"]["distances_per_query"] == 2
    assert told["hard"]["ms_per_query"] > 0


# --- examples and samples ---


def test_examples_show_the_query_where_a_gate_does_most_and_one_taken_wrongly() -> None:
    records = tuple(
        Record(id=record.id, labels=record.labels, predicted="brain", probability=0.9) for record in QUERIES.records
    )
    queries = EvaluationSide(records, QUERIES.features, QUERIES.posterior)
    judgement = judge(GALLERY, queries)
    rankings = rank_and_measure(GALLERY, queries, judgement, layers=["line"], gates=["off", "hard"], classes=CLASSES)
    right, wrong = choose_examples(GALLERY, queries, rankings)
    assert (right.query.id, wrong.query.id) == ("q1", "q2")
    assert [ranking.gate for ranking in right.rankings] == ["hard", "off"]
    assert [hit.id for hit in right.rankings[0]] == ["g1", "g3"]
    assert [hit.id for hit in wrong.rankings[1]] == ["g4", "g3", "g2", "g1"]


def test_samples_take_one_of_each_class_and_turn_over_kinds_of_the_most_varied() -> None:
    records = [
        Record(id=name, labels={"class": label}, modality=modality)
        for name, label, modality in (
            ("1", "brain", "MR"), ("2", "brain", "MR"), ("3", "brain", "CT"), ("4", "eye", "OP"),
        )
    ]  # fmt: skip
    samples = choose_samples(records, n_classes=1, n_images=3)
    assert [record.id for record in samples.one_each] == ["1", "4"]
    assert [(name, [record.id for record in some]) for name, some in samples.varied] == [("brain", ["1", "3", "2"])]


# --- folds ---


def test_cross_validation_gives_mean_and_standard_deviation_over_folds() -> None:
    def fold(value: float) -> dict[str, Any]:
        document = evaluated()
        document["retrieval"]["line"]["off"]["mAP"] = value
        document["classification"]["top1"] = value
        return document

    summary = cross_validation([fold(0.5), fold(0.7)])
    assert summary["n_folds"] == 2
    assert summary["retrieval"]["line"]["off"]["mAP"] == {"mean": pytest.approx(0.6), "sd": pytest.approx(0.02**0.5)}
    assert summary["classification"]["top1"]["mean"] == pytest.approx(0.6)
    assert [told["fold"] for told in summary["folds"]] == [1, 2]
    assert summary["folds"][0] == {
        "fold": 1, "n_gallery": 4, "n_queries": 2, "top1": 0.5, "mAP": {"line": {"off": 0.5, "hard": 0.5}}
    }  # fmt: skip
    with pytest.raises(UsageError, match="at least one fold"):
        cross_validation([])


# --- files in, document out ---


def write_images(folder: Path, rows: list[tuple[str, str, str, str, int | None]]) -> Path:
    """A manifest of (name, class, patient, split, grey); grey None writes a file that is no image."""
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "class", "patient", "split", "source"])
        for number, (name, label, patient, split, grey) in enumerate(rows):
            writer.writerow([name, label, patient, split, "toys"])
            if grey is None:
                (folder / name).write_bytes(b"not an image")
                continue
            pixels = np.full((8, 8), grey, np.uint8)
            pixels[0, number % 8] ^= 1  # no two files alike, and none constant
            Image.fromarray(pixels).save(folder / name)
    return folder / "manifest.csv"


TOYS = [
    ("a.png", "bright", "1", "train", 200),
    ("b.png", "bright", "2", "train", 240),
    ("c.png", "dark", "3", "train", 20),
    ("d.png", "dark", "4", "train", 60),
    ("broken.png", "dark", "9", "train", None),
    ("q.png", "bright", "5", "test", 190),
    ("r.png", "dark", "6", "test", 40),
]


def test_a_split_is_evaluated_from_files_to_document_and_pictures(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    refs = manifest(write_images(tmp_path, TOYS))
    steps: list[tuple[int, int]] = []
    evaluation = evaluate_split(
        refs,
        ToyEncoder(),
        pseudonyms,
        bootstrap=FEW,
        workers=0,
        apart=("source", "toys"),
        on_progress=lambda done, total: steps.append((done, total)),
    )
    document = evaluation.metrics
    json.dumps(document, allow_nan=False)
    assert (document["n_gallery"], document["n_queries"]) == (4, 2)
    assert document["encoder"] == "toy-0001"
    assert document["gates"] == ["off", "hard", "top3"]
    assert document["retrieval"]["mean"]["off"]["P@1"] == 1
    assert document["efficiency"]["mean"]["hard"]["distances_per_query"] == 2
    assert document["outcomes"]["decoded"] == 6
    (failure,) = document["failed"]
    assert failure["path"].endswith(".png")
    assert "broken" not in failure["path"]  # a file name may name a patient: only its handle is told
    assert steps[-1] == (7, 7)
    shown = {hit.id for example in evaluation.examples for ranking in example.rankings for hit in ranking}
    assert shown
    assert shown <= set(evaluation.pictures)


def test_layers_are_told_in_the_encoders_order_once_each(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    refs = manifest(write_images(tmp_path, TOYS))
    asked = ["corner", "mean", "corner"]
    document = evaluate_split(refs, ToyEncoder(), pseudonyms, bootstrap=FEW, workers=0, layers=asked).metrics
    assert document["layers"] == list(document["retrieval"]) == ["mean", "corner"]


def test_what_cannot_be_evaluated_is_said_before_the_work(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    refs = manifest(write_images(tmp_path, TOYS))
    with pytest.raises(BadManifest, match="split"):
        evaluate_split([ref for ref in refs if ref.split == "train"], ToyEncoder(), pseudonyms)
    with pytest.raises(UsageError, match="no layer fcl9; its layers are mean, corner"):
        evaluate_split(refs, ToyEncoder(), pseudonyms, layers=["fcl9"])
    with pytest.raises(UsageError, match="gate soft"):
        evaluate_split(refs, ToyEncoder(), pseudonyms, gates=["soft"])
    with pytest.raises(UsageError, match="column finding"):
        evaluate_split(refs, ToyEncoder(), pseudonyms, relevant="finding")
    with pytest.raises(UsageError, match="no query has view=axial"):
        evaluate_split(refs, ToyEncoder(), pseudonyms, apart=("view", "axial"))
    with pytest.raises(UsageError, match=r"re-ranking by aqe needs parameters .* none for layer mean"):
        evaluate_split(refs, ToyEncoder(), pseudonyms, rerank="aqe")


def test_rankings_are_re_ranked_as_the_calibration_says(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    encoder = ToyEncoder()
    encoder.calibration = {"rerank": {"mean": {"aqe": {"n": 2, "alpha": 0.0, "gain": 0.1}}}}
    refs = manifest(write_images(tmp_path, TOYS))
    document = evaluate_split(
        refs, encoder, pseudonyms, bootstrap=FEW, workers=0, layers=["mean"], rerank="aqe"
    ).metrics
    assert document["rerank"] == "aqe"
    assert document["efficiency"]["mean"]["hard"]["distances_per_query"] == 2
    plain = evaluate_split(refs, encoder, pseudonyms, bootstrap=FEW, workers=0, layers=["mean"]).metrics
    assert plain["rerank"] == "none"


def test_a_side_without_a_readable_image_is_an_error(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    rows = [row for row in TOYS if row[3] == "test" or row[4] is None]
    with pytest.raises(CbmirError, match="no image of split train"):
        evaluate_split(manifest(write_images(tmp_path, rows)), ToyEncoder(), pseudonyms, workers=0)


def test_the_gates_follow_from_the_encoder() -> None:
    assert gates_of(PixelsEncoder()) == ("off",)
    encoder = ToyEncoder()
    assert gates_of(encoder) == ("off", "hard", "top3")
    encoder.calibration = {"soft_gate_tau": {"mean": 1.0, "corner": 1.0}}
    assert gates_of(encoder) == ("off", "hard", "top3", "soft")


def test_organ24_pixels_come_close_to_what_was_measured_elsewhere(organ24: Path, pseudonyms: Pseudonyms) -> None:
    """A twentieth of the real images, spread over all classes: the pixels encoder stays far above chance."""
    refs = manifest(organ24 / "manifest.csv")[::20]
    document = evaluate_split(refs, PixelsEncoder(), pseudonyms, bootstrap=FEW, workers=1).metrics
    off = document["retrieval"]["pixels"]["off"]
    assert document["n_classes"] == 24
    assert off["mAP"] > 0.2
    assert off["P@1"] > 0.4
