"""What re-ranking is tuned by: the rankings of validation queries in the gallery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product, starmap
from typing import TypeVar

import numpy as np

from .index.exact import ExactIndex, from_features
from .metrics import average_precision
from .rerank import DEPTH, Aqe, KReciprocal, Pool, blended, squared_among
from .search import rank_all
from .types import Bool, Float32

ALPHAS = (0.0, 1.0, 3.0, 10.0)
EXPANDING_HITS = (1, 2, 3, 5, 10, 20, 50, 100)
K1, K2 = (10, 20, 40, 80), (1, 3, 6, 12)
SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
"""Tried beside leaving the ranking as it is. The papers take alpha 3 and n 50, k1 20, k2 6 and lambda 0.3."""

NO_EXPANSION, NO_REORDERING = Aqe(0, 0.0), KReciprocal(1, 1, 1.0)

QUERIES = 300
"""At most so many, evenly spread, are ranked: each takes about 0.2 s with all parameters."""


def fit_rerank(
    features: Float32, labels: Sequence[str], queries: Float32, query_labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """The parameters that give the validation queries the best mAP in the gallery: calibration["rerank"][layer].

    features: (n, dim) of the gallery; queries: (m, dim), of other patients. Returns {"aqe": {"n", "alpha", "gain"},
    "kreciprocal": {"k1", "k2", "lambda", "gain"}}; gain: of mAP above the ranking without. Where nothing gains, n is 0
    or lambda 1, which change no ranking. Of equal mAPs the smaller neighbourhood. Queries with nothing relevant do not
    count.
    """
    index, origin = from_features(features, list(labels), [f"{row:08d}" for row in range(len(features))])
    alike = np.asarray(labels, object)[origin][None, :] == np.asarray(query_labels, object)[:, None]
    asking = np.flatnonzero(alike.any(axis=1))
    asking = asking[np.unique(np.linspace(0, max(0, len(asking) - 1), min(QUERIES, len(asking))).astype(np.int64))]
    queries, alike = queries[asking], alike[asking]
    aqe, aqe_gain = _best(NO_EXPANSION, _expanding(index, queries, alike))
    kreciprocal, kreciprocal_gain = _best(NO_REORDERING, _reordering(index, queries, alike))
    return {
        "aqe": {"n": aqe.n, "alpha": aqe.alpha, "gain": aqe_gain},
        "kreciprocal": {
            "k1": kreciprocal.k1,
            "k2": kreciprocal.k2,
            "lambda": kreciprocal.share,
            "gain": kreciprocal_gain,
        },
    }


R = TypeVar("R", Aqe, KReciprocal)


def _best(without: R, tried: Mapping[R, float]) -> tuple[R, float]:
    """Of equal mAPs the one tried first; and what it gains."""
    best = max(tried, key=lambda one: round(tried[one], 6))
    return best, tried[best] - tried[without]


def _expanding(index: ExactIndex, queries: Float32, alike: Bool) -> dict[Aqe, float]:
    """mAP by parameters, those that change nothing first. alike: bool (queries, n), by position."""

    def mean_ap(aqe: Aqe) -> float:
        rankings = rank_all(index, queries, reranking=aqe)
        return _mean([_ap(row[found["off"].positions]) for row, found in zip(alike, rankings, strict=True)])

    return {aqe: mean_ap(aqe) for aqe in (NO_EXPANSION, *starmap(Aqe, product(EXPANDING_HITS, ALPHAS)))}


def _reordering(index: ExactIndex, queries: Float32, alike: Bool) -> dict[KReciprocal, float]:
    """The same; what is known of a pool serves all parameters."""
    tried: dict[KReciprocal, list[float]] = {NO_REORDERING: []}
    for row, found in zip(alike, rank_all(index, queries), strict=True):
        relevant, distances = row[found["off"].positions], found["off"].distances[:DEPTH]
        rows = index.features(found["off"].positions[:DEPTH])
        pool = Pool.around(squared_among(rows), distances, np.arange(len(rows)), max(K1))
        unit, no_penalties = float(distances.max()) ** 2 or 1.0, np.zeros(len(rows))
        tried[NO_REORDERING].append(_ap(relevant))
        weights = {k1: pool.weights(k1) for k1 in K1}
        jaccard = {(k1, k2): pool.jaccard(weights[k1], k2) for k1, k2 in product(K1, K2)}
        for (k1, k2), share in product(jaccard, SHARES):
            order = np.argsort(blended(jaccard[k1, k2], distances, no_penalties, unit, share), kind="stable")
            again = np.concatenate([relevant[:DEPTH][order], relevant[DEPTH:]])
            tried.setdefault(KReciprocal(k1, k2, share), []).append(_ap(again))
    return {how: _mean(values) for how, values in tried.items()}


def _ap(relevant: Bool) -> float:
    return average_precision(relevant, int(relevant.sum()))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
