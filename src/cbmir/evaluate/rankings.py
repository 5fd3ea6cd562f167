"""Every query ranked under every layer and gate through search.py, and each ranking measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import metrics
from ..index import NO_POSITIONS, Found
from ..index.exact import from_features
from ..metrics import Float
from ..search import rank_all
from ..types import Bool, Float32, Gate, Int, Record

KEPT_HITS = 10
"""First hits of every ranking that are remembered, for strips."""


@dataclass(frozen=True)
class EvaluationSide:
    """The gallery, or the queries, image by image.

    records: what is known of each, ids unique. features: layer -> float32 (n, dim).
    posterior: float32 (n, K) over the encoder's classes, None when it has none.
    """

    records: tuple[Record, ...]
    features: Mapping[str, Float32]
    posterior: Float32 | None = None

    def __post_init__(self) -> None:
        rows = [*self.features.values(), *([] if self.posterior is None else [self.posterior])]
        if any(len(array) != len(self.records) for array in rows):
            raise ValueError("features and posterior have one row per record")
        if len({record.id for record in self.records}) != len(self.records):
            raise ValueError("ids are unique on each side of an evaluation")

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class Judgement:
    """What is relevant to what, in codes: -1 where an image has no label.

    gallery, queries: int64 codes (n,) into `names`. n_relevant: int64 (queries,), relevant records of the gallery
    that a query may see. n_in_database: int64 (queries,), its class in gallery and queries together.
    hidden: per query, the rows of the gallery that it must not see (its own patient, itself).
    """

    names: tuple[str, ...]
    gallery: Int
    queries: Int
    n_relevant: Int
    n_in_database: Int
    hidden: tuple[Int, ...]


@dataclass(frozen=True)
class Measured:
    """The rankings of all queries under one layer and gate.

    values: metric -> float64 (queries,), NaN where nothing is relevant. curves: float64 (queries, 101).
    top_rows: int64 (queries, KEPT_HITS), rows of the gallery, -1 past the end; top_distances: float32.
    n_candidates: int64 (queries,), records the gate left to compare with.
    """

    values: Mapping[str, Float]
    curves: Float
    top_rows: Int
    top_distances: Float32
    n_candidates: Int


Rankings = Mapping[str, Mapping[Gate, Measured]]
"""Layer -> gate -> what was measured."""


def judge(gallery: EvaluationSide, queries: EvaluationSide, column: str = "class") -> Judgement:
    """Relevant: the same class; with another label column, the same class and the same value there."""
    keys = [[_key(record, column) for record in side.records] for side in (gallery, queries)]
    names = sorted({key for side in keys for key in side if key is not None})
    code = {name: number for number, name in enumerate(names)}
    of_gallery, of_queries = (np.array([-1 if key is None else code[key] for key in side], np.int64) for side in keys)
    hidden = tuple(_hidden(gallery, queries))
    per_code = np.bincount(of_gallery[of_gallery >= 0], minlength=len(names) + 1)
    own = np.array(
        [(of_gallery[rows] == wanted).sum() for rows, wanted in zip(hidden, of_queries, strict=True)], np.int64
    )
    in_queries = np.bincount(of_queries[of_queries >= 0], minlength=len(names) + 1)
    labelled = of_queries >= 0
    return Judgement(
        names=tuple(" ".join(part for part in name if part) for name in names),
        gallery=of_gallery,
        queries=of_queries,
        n_relevant=np.where(labelled, per_code[of_queries] - own, 0),
        n_in_database=np.where(labelled, per_code[of_queries] + in_queries[of_queries], 0),
        hidden=hidden,
    )


def _key(record: Record, column: str) -> tuple[str, str] | None:
    """(class, value), with an empty value when the class alone judges; None when the record tells nothing."""
    value = record.labels.get(column)
    if value is None:
        return None
    return (value, "") if column == "class" else (record.label or "", value)


def _hidden(gallery: EvaluationSide, queries: EvaluationSide) -> Iterator[Int]:
    """Per query the gallery rows of its own patient, and itself: search hides them, so does the measurement."""
    of_patient: dict[str, list[int]] = {}
    of_id = {record.id: row for row, record in enumerate(gallery.records)}
    for row, record in enumerate(gallery.records):
        if record.patient is not None:
            of_patient.setdefault(record.patient, []).append(row)
    for query in queries.records:
        rows = set(of_patient.get(query.patient, [])) if query.patient is not None else set()
        rows |= {of_id[query.id]} if query.id in of_id else set()
        yield np.array(sorted(rows), np.int64) if rows else NO_POSITIONS


def rank_and_measure(
    gallery: EvaluationSide,
    queries: EvaluationSide,
    judgement: Judgement,
    *,
    layers: Sequence[str],
    gates: Sequence[Gate],
    classes: Sequence[str] = (),
    taus: Mapping[str, float] | None = None,
) -> Rankings:
    """The whole ranking of every query, layer by layer: one layer's matrix in memory at a time."""
    groups, ids = [record.group for record in gallery.records], [record.id for record in gallery.records]
    measured: dict[str, Mapping[Gate, Measured]] = {}
    for layer in layers:
        index, origin = from_features(gallery.features[layer], groups, ids)
        place = np.empty(len(origin), np.int64)
        place[origin] = np.arange(len(origin))  # row of the gallery -> position in the index
        rankings = rank_all(
            index,
            queries.features[layer],
            gates=gates,
            posterior=queries.posterior,
            classes=classes,
            tau=(taus or {}).get(layer),
            hidden=[place[rows] for rows in judgement.hidden],
        )
        measured[layer] = _measure_layer(rankings, origin, judgement, gates)
    return measured


def _measure_layer(
    rankings: Iterator[dict[Gate, Found]], origin: Int, judgement: Judgement, gates: Sequence[Gate]
) -> dict[Gate, Measured]:
    codes = judgement.gallery[origin]
    tables = {gate: _Table(len(judgement.queries)) for gate in gates}
    for query, found_by_gate in enumerate(rankings):
        wanted, n_relevant = int(judgement.queries[query]), int(judgement.n_relevant[query])
        for gate, found in found_by_gate.items():
            hits = codes[found.positions]
            measured = metrics.measure(hits, wanted, n_relevant, int(judgement.n_in_database[query]))
            tables[gate].put(query, found, origin, *measured)
    return {gate: table.finished() for gate, table in tables.items()}


class _Table:
    """Measurements of one layer and gate while they come in, query by query."""

    def __init__(self, n_queries: int) -> None:
        self.values: list[dict[str, float]] = [{}] * n_queries
        self.curves = np.full((n_queries, len(metrics.RECALL_LEVELS)), np.nan)
        self.top_rows = np.full((n_queries, KEPT_HITS), -1, np.int64)
        self.top_distances = np.zeros((n_queries, KEPT_HITS), np.float32)
        self.n_candidates = np.zeros(n_queries, np.int64)

    def put(self, query: int, found: Found, origin: Int, values: dict[str, float], curve: Float) -> None:
        self.values[query] = values
        self.curves[query] = curve
        n_kept = min(KEPT_HITS, len(found))
        self.top_rows[query, :n_kept] = origin[found.positions[:n_kept]]
        self.top_distances[query, :n_kept] = found.distances[:n_kept]
        self.n_candidates[query] = found.n_candidates

    def finished(self) -> Measured:
        names: Any = self.values[0] if self.values else ()
        values = {name: np.array([row[name] for row in self.values]) for name in names}
        return Measured(values, self.curves, self.top_rows, self.top_distances, self.n_candidates)


def matching(side: EvaluationSide, column: str, value: str) -> Bool:
    """Which images have that value: bool (n,). column: source, modality, or a label column."""
    return np.array([column_of(record, column) == value for record in side.records], bool)


def column_of(record: Record, column: str) -> str | None:
    return {"source": record.source, "modality": record.modality}.get(column, record.labels.get(column))
