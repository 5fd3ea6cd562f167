"""How far an encoder's probabilities can be believed, on points on a line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cbmir.evaluate import EvaluationSide
from cbmir.evaluate.calibration import calibration
from cbmir.evaluate.rankings import judge, rank_and_measure
from cbmir.figures import reliability_figure
from cbmir.report.tables import calibration_table
from cbmir.types import Record

CLASSES = ("brain", "liver")
FITTED = {
    "score": {"line": {"slope": 1.0, "intercept": 2.0, "n_queries": 9}},
    "in_distribution": {"line": {"threshold": 3.0, "share": 0.05, "neighbours": 5, "n_queries": 9}},
}


def side(prefix: str, places: list[float], labels: list[str | None], told: list[float] | None = None) -> EvaluationSide:
    """told: the probability of a brain."""
    records = tuple(
        Record(f"{prefix}{row}", patient=f"{prefix}{row}", labels={"class": label} if label else {})
        for row, label in enumerate(labels)
    )
    posterior = None if told is None else np.array([[p, 1 - p] for p in told], np.float32)
    return EvaluationSide(records, {"line": np.array(places, np.float32)[:, None]}, posterior)


GALLERY = side("g", [0, 1, 2, 3, 4, 5], ["brain"] * 3 + ["liver"] * 3)


def told(queries: EvaluationSide, fitted: Any = FITTED, **options: Any) -> dict[str, Any]:
    judgement = judge(GALLERY, queries)
    rankings = rank_and_measure(GALLERY, queries, judgement, layers=["line"], gates=["off"])
    return calibration(queries, judgement, rankings, CLASSES, fitted, **options)


def test_the_posterior_is_judged_by_its_likeliest_class() -> None:
    """0.8 comes true, 0.6 (a liver) does not; a query of another class, or none, does not count."""
    queries = side("q", [0, 0, 0, 0], ["brain", "brain", "hand", None], [0.8, 0.4, 0.9, 0.9])
    found = told(queries)["posterior"]
    assert found["n"] == 2
    assert found["ECE"] == pytest.approx((0.2 + 0.6) / 2)
    assert found["Brier"] == pytest.approx((0.04 + 0.36) / 2)
    assert [(one["share"], one["true"]) for one in found["reliability"]] == [(0.5, 0.0), (0.5, 1.0)]


def test_the_score_is_judged_by_the_first_hits_of_every_query() -> None:
    queries = side("q", [1, 4], ["brain", None])
    found = told(queries)["score"]["line"]
    scores = [1 / (1 + np.exp(distance - 2)) for distance in (0, 1, 1, 2, 3, 4)]
    assert found["n"] == 6
    outcomes = [1, 1, 1, 0, 0, 0]
    assert found["Brier"] == pytest.approx(np.mean([(s - o) ** 2 for s, o in zip(scores, outcomes, strict=True)]))


def test_the_share_of_flagged_queries_is_told() -> None:
    """Of 2 the five nearest are 1.2 away, of 20 they are 17."""
    queries = side("q", [2, 20, 2, 2], ["brain"] * 4)
    assert told(queries)["in_distribution"] == {"line": {"flagged": 0.25, "threshold": 3.0, "n": 4}}
    assert told(queries, reranked=True)["in_distribution"] == {}


def test_an_encoder_without_these_parts_has_nothing_to_judge() -> None:
    nothing = {"posterior": None, "score": {}, "in_distribution": {}}
    assert told(side("q", [2], ["brain"]), {"soft_gate_tau": {"line": 1.0}}) == nothing
    assert told(side("q", [2], [None], [0.5]))["posterior"] is None
    assert told(side("q", [2], [None]))["score"] == {}


def test_the_table_and_the_figure_tell_it() -> None:
    found = told(side("q", [2, 20], ["brain", "liver"], [0.8, 0.4]))
    table = calibration_table({"calibration": found})
    assert [row[0] for row in table.rows] == ["posterior, likeliest class", "score, line, first 10 hits"]
    assert table.rows[0][1] == "0.300"
    assert "50.00 % by line" in table.note
    figure = reliability_figure({"posterior": found["posterior"]["reliability"]}, "told and true")
    (axes,) = figure.axes
    assert list(axes.lines[1].get_ydata()) == [1.0, 1.0]
    assert list(axes.lines[1].get_xdata()) == [pytest.approx(0.6), pytest.approx(0.8)]
