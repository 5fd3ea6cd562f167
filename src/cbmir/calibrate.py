"""What is fitted on the validation part and travels with the encoder: tau of the soft gate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .index.exact import from_features
from .metrics import average_precision
from .search import rank_all
from .types import Float32

TAU_GRID = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2)
"""tau tried, in units of the median distance between a query and the gallery."""


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
