"""Rankings under any distance, through the shipped index and gates, and what they measure; folds pooled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .. import metrics
from ..distances import Distance, distances
from ..evaluate.rankings import KEPT_HITS, EvaluationSide, Judgement, Measured, rank_layer
from ..index import Found
from ..index.exact import from_features
from ..metrics import Float
from ..search import scope_of
from ..types import Float32, Gate, Int

BLOCK_DISTANCES = 4_000_000
"""Distances held at once: 16 MB."""

ByGate = dict[Gate, Measured]


@dataclass(frozen=True)
class Asked:
    """How one layer is ranked. classes: of the posterior, for the hard gate; () without."""

    layer: str
    distance: Distance
    gates: tuple[Gate, ...]
    classes: tuple[str, ...] = ()


def rank(
    gallery: EvaluationSide, queries: EvaluationSide, judgement: Judgement, asked: Asked
) -> Iterator[dict[Gate, Found]]:
    """Per query a whole ranking under each gate; `positions` are rows of the gallery, ties go by id."""
    if asked.distance == "euclidean":
        return rank_layer(gallery, queries, judgement, asked.layer, gates=asked.gates, classes=asked.classes)
    return _rank_by(gallery, queries, judgement, asked)


def _rank_by(
    gallery: EvaluationSide, queries: EvaluationSide, judgement: Judgement, asked: Asked
) -> Iterator[dict[Gate, Found]]:
    """The index orders the rows and knows the gates; only the distances are not its own."""
    groups, ids = [record.group for record in gallery.records], [record.id for record in gallery.records]
    index, origin = from_features(gallery.features[asked.layer], groups, ids)
    place = np.empty(len(origin), np.int64)
    place[origin] = np.arange(len(origin))  # row of the gallery -> position in the index
    features: Float32 = queries.features[asked.layer]
    step = max(1, BLOCK_DISTANCES // max(1, len(gallery)))
    for start in range(0, len(queries), step):
        block = distances(features[start : start + step], index.rows, asked.distance)
        for query, row in enumerate(block, start):
            opinion = None if queries.posterior is None else queries.posterior[query]
            found = {}
            for gate in asked.gates:
                scope = scope_of(gate, index.groups, opinion, asked.classes, None, place[judgement.hidden[query]])
                ranked = index.rank(row, scope)
                found[gate] = replace(ranked, positions=origin[ranked.positions])
            yield found


def measure(
    rankings: Iterator[dict[Gate, Found]], judgements: Mapping[str, Judgement], gates: Sequence[Gate]
) -> dict[str, ByGate]:
    """Every metric of every query, under each judgement (column -> judgement) and gate, from rankings made once."""
    rows: dict[tuple[str, Gate], list[dict[str, float]]] = {(c, g): [] for c in judgements for g in gates}
    curves: dict[tuple[str, Gate], list[Float]] = {key: [] for key in rows}
    hits: dict[Gate, list[Found]] = {gate: [] for gate in gates}
    for query, found_by_gate in enumerate(rankings):
        for gate, found in found_by_gate.items():
            hits[gate].append(_first(found))
            for column, judgement in judgements.items():
                values, curve = _of_query(judgement, query, found)
                rows[column, gate].append(values)
                curves[column, gate].append(curve)
    return {
        column: {gate: _measured(rows[column, gate], curves[column, gate], hits[gate]) for gate in gates}
        for column in judgements
    }


def _of_query(judgement: Judgement, query: int, found: Found) -> tuple[dict[str, float], Float]:
    return metrics.measure(
        judgement.gallery[found.positions],
        int(judgement.queries[query]),
        int(judgement.n_relevant[query]),
        int(judgement.n_in_database[query]),
        judged=judgement.judged(query, found.positions[:KEPT_HITS]),
    )


def _first(found: Found) -> Found:
    return replace(found, distances=found.distances[:KEPT_HITS], positions=found.positions[:KEPT_HITS])


def _measured(rows: list[dict[str, float]], curves: list[Float], hits: list[Found]) -> Measured:
    top_rows = np.full((len(rows), KEPT_HITS), -1, np.int64)
    top_distances = np.zeros((len(rows), KEPT_HITS), np.float32)
    for query, found in enumerate(hits):
        top_rows[query, : len(found)] = found.positions
        top_distances[query, : len(found)] = found.distances
    values = {name: np.array([row[name] for row in rows], np.float64) for name in metrics.METRICS}
    candidates = np.array([found.n_candidates for found in hits], np.int64)
    return Measured(values, np.array(curves).reshape(len(rows), -1), top_rows, top_distances, candidates)


# --- folds together ---


def pooled(parts: Sequence[Measured]) -> Measured:
    """The queries of all folds one after the other."""
    return Measured(
        {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values},
        np.concatenate([part.curves for part in parts]),
        np.concatenate([part.top_rows for part in parts]),
        np.concatenate([part.top_distances for part in parts]),
        np.concatenate([part.n_candidates for part in parts]),
    )


def pooled_judgement(parts: Sequence[Judgement]) -> Judgement:
    """For means and counts over the queries of all folds: one code for one class in every fold.

    What belongs to the gallery of one fold (its codes, what is hidden, grades) is the first fold's.
    """
    names = sorted({name for part in parts for name in part.names})
    code = {name: place for place, name in enumerate(names)}

    def recoded(part: Judgement) -> Int:
        table = np.array([*(code[name] for name in part.names), -1], np.int64)
        return np.asarray(table[part.queries], np.int64)  # -1 takes the last

    return replace(
        parts[0],
        names=tuple(names),
        queries=np.concatenate([recoded(part) for part in parts]),
        n_relevant=np.concatenate([part.n_relevant for part in parts]),
        n_not_relevant=np.concatenate([part.n_not_relevant for part in parts]),
        n_in_database=np.concatenate([part.n_in_database for part in parts]),
        hidden=tuple(rows for part in parts for rows in part.hidden),
    )


def pooled_posterior(
    posteriors: Sequence[Float32 | None], classes: Sequence[tuple[str, ...]]
) -> tuple[Float32 | None, tuple[str, ...]]:
    """Over the classes of all folds; a class that a fold does not know has probability 0 there."""
    if any(posterior is None for posterior in posteriors):
        return None, ()
    every = tuple(sorted({name for known in classes for name in known}))
    rows = []
    for posterior, known in zip(posteriors, classes, strict=True):
        if posterior is not None:
            wide = np.zeros((len(posterior), len(every)), np.float32)
            wide[:, [every.index(name) for name in known]] = posterior
            rows.append(wide)
    return np.concatenate(rows), every
