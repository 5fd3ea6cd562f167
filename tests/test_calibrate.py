"""What is fitted on validation, on features of one number, and against what is known to be true."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from cbmir.calibrate import fit, fit_in_distribution, fit_score, fit_soft_gate_tau, fit_temperature
from cbmir.confidence import scores, softened, unlikeness

# One feature; the query at 0.5 is an eye, but a brain at 0.4 lies nearer than the eye at 1.
GALLERY = np.array([[0.4], [1.0], [5.0]], np.float32)
LABELS = ["brain", "eye", "knee"]
CLASSES = ("brain", "eye", "knee")
QUERY = np.array([[0.5]], np.float32)


def test_a_right_posterior_turns_the_gate_on() -> None:
    sure = np.array([[0.005, 0.99, 0.005]], np.float32)
    assert fit_soft_gate_tau(GALLERY, LABELS, QUERY, ["eye"], sure, CLASSES) > 0


def test_a_wrong_posterior_leaves_it_off() -> None:
    wrong = np.array([[0.005, 0.99, 0.005]], np.float32)
    assert fit_soft_gate_tau(GALLERY, LABELS, QUERY, ["brain"], wrong, CLASSES) == 0


def test_queries_with_nothing_relevant_decide_nothing() -> None:
    uniform = np.full((1, 3), 1 / 3, np.float32)
    assert fit_soft_gate_tau(GALLERY, LABELS, QUERY, ["hand"], uniform, CLASSES) == 0


# --- temperature ---


def drawn(n: int, temperature: float) -> tuple[np.ndarray, list[str]]:
    """Posteriors that are told `temperature` times too surely, and labels that come as often as they should."""
    rng = np.random.default_rng(0)
    true = softened(rng.normal(0, 2, (n, 3)).astype(np.float32), 1.0)
    labels = [CLASSES[rng.choice(3, p=row / row.sum())] for row in true.astype(np.float64)]
    return softened(np.log(true), 1 / temperature), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_was_told_too_surely(temperature: float) -> None:
    told, labels = drawn(4000, temperature)
    fitted = fit_temperature(told, labels, CLASSES)
    assert fitted["temperature"] == pytest.approx(temperature, rel=0.07)
    assert fitted["nll"][1] <= fitted["nll"][0]
    assert fitted["ECE"][1] < 0.03
    if temperature == 3:
        assert fitted["ECE"][0] > 0.1


def test_the_temperature_is_that_of_the_least_nll_of_a_fine_grid() -> None:
    told, labels = drawn(300, 2.0)
    wanted = [CLASSES.index(label) for label in labels]
    grid = np.linspace(1, 4, 601)
    nll = [-np.log(softened(np.log(told), float(t))[np.arange(300), wanted]).mean(dtype=np.float64) for t in grid]
    assert fit_temperature(told, labels, CLASSES)["temperature"] == pytest.approx(grid[np.argmin(nll)], abs=0.02)


def test_a_faultless_validation_part_does_not_make_the_posterior_certain() -> None:
    told = np.array([[0.8, 0.1, 0.1]] * 5, np.float32)
    assert fit_temperature(told, ["brain"] * 5, CLASSES)["temperature"] == pytest.approx(0.25, rel=1e-3)


def test_queries_of_unknown_classes_do_not_count() -> None:
    told = np.array([[0.8, 0.1, 0.1]], np.float32)
    assert fit_temperature(told, ["hand"], CLASSES) == {"temperature": 1.0, "n": 0, "nll": None, "ECE": None}


# --- score ---


def told(fitted: dict[str, Any], *distances: float) -> list[float]:
    found = scores(np.array(distances, np.float32), {"score": {"line": fitted}}, "line")
    assert found is not None
    return [float(value) for value in found]


def test_the_score_is_the_logistic_curve_the_hits_were_drawn_from() -> None:
    """Relevant with the probability 1 / (1 + exp(4 d - 6)): one half at 1.5."""
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(400):
        distances = np.sort(rng.uniform(0, 3, 60)).astype(np.float32)
        hits.append((distances, rng.random(60) < 1 / (1 + np.exp(4 * distances - 6))))
    fitted = fit_score(hits)
    assert (fitted["slope"], fitted["intercept"]) == (pytest.approx(4, rel=0.05), pytest.approx(6, rel=0.05))
    assert told(fitted, 0.5, 1.5, 2.5) == pytest.approx([1 / (1 + np.exp(-4)), 0.5, 1 / (1 + np.exp(4))], abs=0.02)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e4])
def test_the_score_does_not_depend_on_the_unit_of_the_features(unit: float) -> None:
    distances = np.array([0.1, 0.2, 0.3, 0.4, 0.9, 1.5], np.float32)
    relevant = np.array([True, True, True, False, True, False])
    here = fit_score([(distances * np.float32(unit), relevant)])
    assert told(here, *(distances * unit).tolist()) == pytest.approx(
        told(fit_score([(distances, relevant)]), *distances), abs=1e-4
    )


def test_the_score_never_rises_with_the_distance() -> None:
    distances = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    fitted = fit_score([(distances, np.array([False, False, True, True]))])
    assert fitted["slope"] == 0
    assert told(fitted, 0.0, 9.0) == [pytest.approx(1 / 2)] * 2


def test_what_few_queries_have_shown_is_not_certain() -> None:
    """Platt's targets: one query whose hits are all relevant makes (1 + 1) / (1 + 2)."""
    distances = np.array([0.1, 0.2], np.float32)
    assert told(fit_score([(distances, np.array([True, True]))]), 0.1) == [pytest.approx(2 / 3)]


def test_parted_hits_give_a_finite_score() -> None:
    distances = np.array([0.1, 0.2, 0.8, 0.9], np.float32)
    near, far = told(fit_score([(distances, distances < 0.5)] * 50), 0.15, 0.85)
    assert 0.9 < near < 1
    assert 0 < far < 0.1


def test_every_query_weighs_the_same() -> None:
    """A query with a thousand hits does not drown one with two."""
    short = (np.array([0.5, 0.5], np.float32), np.array([False, False]))
    long = (np.full(1000, 0.5, np.float32), np.ones(1000, bool))
    assert told(fit_score([short, long]), 0.5) == [pytest.approx(0.5, abs=1e-3)]


# --- in distribution ---


def test_unlikeness_is_the_mean_of_the_five_smallest_distances() -> None:
    assert unlikeness(np.array([1, 2, 3, 4, 5, 100], np.float32)) == 3
    assert np.isnan(unlikeness(np.array([1, 2, 3, 4], np.float32)))


def test_one_of_twenty_validation_queries_is_beyond_the_threshold() -> None:
    fitted = fit_in_distribution([np.full(5, place, np.float32) for place in range(21)])
    assert fitted is not None
    assert fitted["threshold"] == 19
    assert fit_in_distribution([np.ones(4, np.float32)]) is None


# --- all together ---


def pair(n: int, seed: int) -> tuple[dict[str, np.ndarray], list[str]]:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 3, n)
    rows = (np.eye(3)[numbers] * 4 + rng.normal(0, 0.5, (n, 3))).astype(np.float32)
    return {"main": rows, "other": rows * 100}, [CLASSES[number] for number in numbers]


def test_fit_gives_all_parts_of_every_layer_as_plain_json() -> None:
    (gallery, labels), (queries, query_labels) = pair(200, 0), pair(60, 1)
    posterior = softened(queries["main"], 1.0)
    fitted = fit(gallery, labels, queries, query_labels, posterior, CLASSES)
    assert json.loads(json.dumps(fitted)) == fitted
    assert fitted.keys() == {"temperature", "soft_gate_tau", "score", "in_distribution"}
    for part in ("soft_gate_tau", "score", "in_distribution"):
        assert fitted[part].keys() == {"main", "other"}
    near, far = scores(np.array([0.5, 5.0], np.float32), fitted, "main")  # type: ignore[misc]
    assert near > 0.9
    assert far < 0.2
    beyond = [unlikeness(np.sort(np.linalg.norm(gallery["main"] - row, axis=1))) for row in queries["main"]]
    assert np.mean(np.array(beyond) > fitted["in_distribution"]["main"]["threshold"]) == pytest.approx(0.05, abs=0.02)


def test_an_encoder_without_classes_has_scores_and_flags_all_the_same() -> None:
    (gallery, labels), (queries, query_labels) = pair(200, 0), pair(60, 1)
    assert fit(gallery, labels, queries, query_labels, None, ()).keys() == {"score", "in_distribution"}


def test_a_gallery_of_four_images_tells_nothing_of_what_belongs() -> None:
    (gallery, labels), (queries, query_labels) = pair(4, 0), pair(6, 1)
    fitted = fit(gallery, labels, queries, query_labels, None, ())
    assert fitted["in_distribution"] == {}
    with pytest.raises(ValueError, match="at least one query"):
        fit(gallery, labels, {}, [], None, ())
