"""What is fitted on the validation part and travels with the encoder (docs/decisions/0014-calibration.md).

    fit(gallery, gallery_labels, queries, query_labels, posterior, classes) -> calibration

    {"temperature": {"temperature", "n", "nll": [before, after], "ECE": [before, after]},
     "soft_gate_tau": {LAYER: tau},
     "score": {LAYER: {"slope", "intercept", "n_queries"}},
     "in_distribution": {LAYER: {"threshold", "share", "n_queries"}}}

confidence.py applies it. Without classes there are neither temperature nor tau.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .confidence import NEIGHBOURS, logistic, softened, unlikeness
from .index import Float64
from .index.exact import from_features
from .metrics import average_precision, ece
from .search import rank_all
from .types import Bool, Float32, Int

TAU_GRID = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2)
"""tau tried, in units of the median distance between a query and the gallery."""

TEMPERATURES = (0.25, 100.0)
"""T is looked for between these: where a validation part without an error would have it 0."""

DEEPEST, FIRST, DEEPER = 1000, 50, 25
"""Of a validation ranking the first 50 ranks count, and 25 more down to rank 1000, ever farther apart."""

USUAL = 0.95
"""Part of the validation queries that the gallery is taken to be like."""


def fit(
    gallery: Mapping[str, Float32],
    gallery_labels: Sequence[str],
    queries: Mapping[str, Float32],
    query_labels: Sequence[str],
    posterior: Float32 | None,
    classes: Sequence[str],
) -> dict[str, Any]:
    """The calibration of an encoder. gallery, queries: layer -> float32 (n, dim), of other patients each.

    posterior: float32 (queries, K) over `classes`, as the network says it, None without classes.
    Raises ValueError without a query.
    """
    if not len(query_labels):
        raise ValueError("a calibration is fitted on at least one query")
    fitted: dict[str, Any] = {}
    if posterior is not None:
        fitted["temperature"] = fit_temperature(posterior, query_labels, classes)
        posterior = softened(_logarithms(posterior), fitted["temperature"]["temperature"])
        fitted["soft_gate_tau"] = {
            layer: fit_soft_gate_tau(rows, gallery_labels, queries[layer], query_labels, posterior, classes)
            for layer, rows in gallery.items()
        }
    score, in_distribution = {}, {}
    for layer, rows in gallery.items():
        hits = list(_hits(rows, gallery_labels, queries[layer], query_labels))
        score[layer] = fit_score([(distances, relevant) for distances, relevant in hits if len(distances)])
        usual = fit_in_distribution([distances for distances, _ in hits])
        if usual is not None:
            in_distribution[layer] = usual
    return fitted | {"score": score, "in_distribution": in_distribution}


def _logarithms(posterior: Float32) -> Float32:
    return np.log(np.maximum(posterior, np.finfo(np.float32).tiny))


def _hits(
    rows: Float32, labels: Sequence[str], queries: Float32, query_labels: Sequence[str]
) -> Iterator[tuple[Float32, Bool]]:
    """Distances and relevance of the first hits of every query, nearest first."""
    index, origin = from_features(rows, list(labels), [f"{row:08d}" for row in range(len(rows))])
    names = np.asarray(labels, object)[origin]
    for found, label in zip(rank_all(index, queries), query_labels, strict=True):
        first = found["off"].at(slice(DEEPEST))
        yield first.distances, names[first.positions] == label


def fit_temperature(posterior: Float32, labels: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """T of softmax(log p / T) with the least mean of -log p(label) (Guo et al. 2017), over queries of known class.

    -log p is convex in 1 / T, so three points tell on which side the least lies. Without such a query T is 1.
    """
    code = {name: number for number, name in enumerate(classes)}
    known = np.flatnonzero([label in code for label in labels])
    told = _logarithms(posterior[known])
    wanted = np.array([code[labels[row]] for row in known.tolist()], np.int64)

    def nll(inverse: float) -> float:
        chosen = softened(told, 1 / inverse)[np.arange(len(wanted)), wanted]
        return float(-_logarithms(chosen).mean(dtype=np.float64))

    temperature = 1 / _least(nll, 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]) if len(known) else 1.0
    after = softened(told, temperature)
    return {
        "temperature": temperature,
        "n": len(known),
        "nll": [nll(1.0), nll(1 / temperature)] if len(known) else None,
        "ECE": [_ece(np.exp(told), wanted), _ece(after, wanted)] if len(known) else None,
    }


def _least(of: Callable[[float], float], low: float, high: float) -> float:
    """Where a convex function is least, to a ten thousandth."""
    while high - low > 1e-4 * low:
        third = (high - low) / 3
        if of(low + third) <= of(high - third):
            high -= third
        else:
            low += third
    return (low + high) / 2


def _ece(posterior: Float32, wanted: Int) -> float:
    return ece(posterior.max(axis=1).astype(np.float64), posterior.argmax(axis=1) == wanted)


def fit_score(hits: Sequence[tuple[Float32, Bool]]) -> dict[str, Any]:
    """Slope (at least 0) and intercept of the probability that a hit is relevant, 1 / (1 + exp(slope d - intercept)).

    hits: per query the distances (nearest first) and relevance of its first rows; every query weighs the same. Targets
    are Platt's (1999), so that a probability of 0 or 1 is never said of what a few queries have shown.
    """
    chosen = [(distances[ranks], relevant[ranks]) for distances, relevant in hits for ranks in [_ranks(len(distances))]]
    distance = np.concatenate([part for part, _ in chosen]).astype(np.float64)
    relevant = np.concatenate([part for _, part in chosen])
    weight = np.concatenate([np.full(len(part), 1 / len(part)) for part, _ in chosen])
    n_relevant = float(weight @ relevant)
    n_other = float(weight.sum()) - n_relevant
    target = np.where(relevant, (n_relevant + 1) / (n_relevant + 2), 1 / (n_other + 2))
    slope, intercept = _logistic(distance, target, weight)
    return {"slope": slope, "intercept": intercept, "n_queries": len(hits)}


def _ranks(n: int) -> Int:
    """Which ranks count of a ranking of so many rows, from 0."""
    deeper = np.geomspace(FIRST, max(n, FIRST + 1) - 1, DEEPER).astype(np.int64)
    every = np.unique(np.concatenate([np.arange(FIRST), deeper]))
    return every[every < n]


def _logistic(x: Float64, target: Float64, weight: Float64) -> tuple[float, float]:
    """Newton's steps for the least cross-entropy; where relevance would rise with distance, a constant."""
    middle, unit = float(np.average(x, weights=weight)), float(x.std()) or 1.0
    z = (x - middle) / unit
    share = float(np.average(target, weights=weight))
    slope, intercept = 0.0, float(np.log(share / (1 - share)))
    columns = np.stack([-z, np.ones_like(z)])
    for _ in range(100):
        p = logistic(z, slope, intercept).astype(np.float64)
        gradient = columns @ (weight * (target - p))
        curvature = (columns * (weight * p * (1 - p))) @ columns.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))  # far from the least a whole step goes too far
        slope, intercept = slope + float(step[0]), intercept + float(step[1])
        if np.abs(step).max() < 1e-9:
            break
    if slope <= 0:
        return 0.0, float(np.log(share / (1 - share)))
    return slope / unit, intercept + slope * middle / unit


def fit_in_distribution(distances: Sequence[Float32]) -> dict[str, Any] | None:
    """The unlikeness that 95 of 100 validation queries do not exceed; None where the gallery has too few rows."""
    measured = np.array([unlikeness(of_query) for of_query in distances])
    if np.isnan(measured).any():
        return None
    threshold = float(np.quantile(measured, USUAL, method="higher"))
    return {"threshold": threshold, "share": 1 - USUAL, "neighbours": NEIGHBOURS, "n_queries": len(measured)}


def fit_soft_gate_tau(
    features: Float32,
    labels: Sequence[str],
    queries: Float32,
    query_labels: Sequence[str],
    posterior: Float32,
    classes: Sequence[str],
) -> float:
    """tau (in units of distance) that gives the validation queries the best mAP in the gallery; 0 leaves the gate off.

    features: (n, dim) of the gallery; queries: (m, dim); posterior: (m, K) over classes. Of equal mAPs the smaller tau.
    """
    index, origin = from_features(features, list(labels), [f"{row:08d}" for row in range(len(features))])
    unit = float(np.median([index.distances(queries[row : row + 1])[0] for row in range(0, len(queries), 8)]))
    relevant = np.asarray(labels, object)[origin][None, :] == np.asarray(query_labels, object)[:, None]

    def mean_ap(tau: float) -> float:
        rankings = rank_all(index, queries, gates=("soft",), posterior=posterior, classes=classes, tau=tau)
        precisions = [
            average_precision(row[found["soft"].positions], int(row.sum()))
            for row, found in zip(relevant, rankings, strict=True)
            if row.any()
        ]
        return float(np.mean(precisions)) if precisions else 0.0

    return max((factor * unit for factor in TAU_GRID), key=lambda tau: (round(mean_ap(tau), 6), -tau))
