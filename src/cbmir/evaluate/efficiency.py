"""The paper's claim of efficiency: how many distances a query costs and how long it takes, gated and not."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from ..index import Index
from ..index.exact import from_features
from ..rerank import Reranking
from ..search import search
from ..types import Gate, Int
from .rankings import EvaluationSide

TIMED_QUERIES = 50


def efficiency(
    gallery: EvaluationSide,
    queries: EvaluationSide,
    *,
    layers: Sequence[str],
    gates: Sequence[Gate],
    classes: Sequence[str] = (),
    taus: Mapping[str, float] | None = None,
    rerankings: Mapping[str, Reranking] | None = None,
    k: int = 10,
    seed: int = 0,
) -> dict[str, dict[Gate, dict[str, float]]]:
    """Per layer and gate: distances computed a query (mean) and milliseconds a query (median), one by one.

    Over up to TIMED_QUERIES queries drawn by `seed`; features are ready, so only the search is timed.
    """
    drawn = np.random.default_rng(seed).permutation(len(queries))[:TIMED_QUERIES]
    groups, ids = [record.group for record in gallery.records], [record.id for record in gallery.records]
    told: dict[str, dict[Gate, dict[str, float]]] = {}
    for layer in layers:
        index, _ = from_features(gallery.features[layer], groups, ids)
        tau, reranking = (taus or {}).get(layer), (rerankings or {}).get(layer)
        told[layer] = {gate: _time(index, queries, drawn, layer, gate, classes, tau, reranking, k) for gate in gates}
    return told


def _time(
    index: Index,
    queries: EvaluationSide,
    drawn: Int,
    layer: str,
    gate: Gate,
    classes: Sequence[str],
    tau: float | None,
    reranking: Reranking | None,
    k: int,
) -> dict[str, float]:
    distances, seconds = [], []
    for row in drawn:
        posterior = None if queries.posterior is None else queries.posterior[row]
        query = queries.features[layer][row]
        start = time.perf_counter()
        found = search(index, query, k=k, gate=gate, posterior=posterior, classes=classes, tau=tau, reranking=reranking)
        seconds.append(time.perf_counter() - start)
        distances.append(found.n_candidates)
    return {
        "distances_per_query": float(np.mean(distances)),
        "ms_per_query": float(np.median(seconds) * 1000),
        "n_queries": len(drawn),
    }
