"""How far the probabilities can be believed that an encoder tells, and how many queries it flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from .. import metrics
from ..confidence import farthest_usual, scores, unlikeness
from ..metrics import Float
from ..types import Bool
from .rankings import EvaluationSide, Judgement, Measured, Rankings


def calibration(
    queries: EvaluationSide,
    judgement: Judgement,
    rankings: Rankings,
    classes: Sequence[str],
    fitted: Mapping[str, Any],
    *,
    reranked: bool = False,
) -> dict[str, Any]:
    """{"posterior": BELIEF or None, "score": {LAYER: BELIEF}, "in_distribution": {LAYER: FLAGS}}

    BELIEF: {"ECE", "ECE_width", "Brier", "n", "reliability": [{"share", "told", "true"}]}. FLAGS: {"flagged",
    "threshold", "n"}. fitted: the encoder's calibration.
    Score and flag are those of rankings without a gate, of layers that have a calibration; reranked: what comes first
    there need not be nearest, and nothing is told of flags.
    """
    off = {layer: gates["off"] for layer, gates in rankings.items() if "off" in gates}
    return {
        "posterior": _of_posterior(queries, classes),
        "score": {
            layer: belief
            for layer, measured in off.items()
            if (belief := _of_score(judgement, measured, fitted, layer)) is not None
        },
        "in_distribution": {
            layer: flags
            for layer, measured in off.items()
            if not reranked and (flags := _flags(measured, fitted, layer)) is not None
        },
    }


def _of_posterior(queries: EvaluationSide, classes: Sequence[str]) -> dict[str, Any] | None:
    """Of the likeliest class; queries of another class, or none, do not count."""
    if queries.posterior is None:
        return None
    code = {name: number for number, name in enumerate(classes)}
    truth = np.array([code.get(record.label or "", -1) for record in queries.records], np.int64)
    told, known = queries.posterior.astype(np.float64), truth >= 0
    return _belief(told.max(axis=1)[known], (told.argmax(axis=1) == truth)[known]) if known.any() else None


def _of_score(judgement: Judgement, measured: Measured, fitted: Mapping[str, Any], layer: str) -> dict[str, Any] | None:
    """Of the first hits; every query with a class weighs the same."""
    told = scores(measured.top_distances, fitted, layer)
    if told is None:
        return None
    there = (measured.top_rows >= 0) & (judgement.coarse.queries >= 0)[:, None]
    if not there.any():
        return None
    true = judgement.coarse.gallery[measured.top_rows] == judgement.coarse.queries[:, None]
    weights = there / np.maximum(there.sum(axis=1, keepdims=True), 1)
    return _belief(told.astype(np.float64)[there], true[there], weights[there])


def _flags(measured: Measured, fitted: Mapping[str, Any], layer: str) -> dict[str, Any] | None:
    limit = farthest_usual(fitted, layer)
    if limit is None:
        return None
    lines = zip(measured.top_distances, measured.top_rows, strict=True)
    values = np.array([unlikeness(distances[rows >= 0]) for distances, rows in lines])
    known = values[~np.isnan(values)]
    flagged = float((known > limit).mean()) if len(known) else None
    return {"flagged": flagged, "threshold": limit, "n": len(known)}


def _belief(probabilities: Float, true: Bool, weights: Float | None = None) -> dict[str, Any]:
    return {
        "ECE": metrics.ece(probabilities, true, weights),
        "ECE_width": metrics.ece(probabilities, true, weights, binning="width"),
        "Brier": metrics.brier(probabilities, true, weights),
        "n": len(true),
        "reliability": [asdict(one) for one in metrics.reliability(probabilities, true, weights)],
    }
