"""Every query ranked under every layer and gate through search.py, and each ranking measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .. import metrics
from ..distances import Distance, distances
from ..index import NO_POSITIONS, Found
from ..index.exact import from_features
from ..metrics import Float
from ..rerank import Reranking
from ..search import rank_all
from ..types import Bool, Float32, Gate, Int, Record

Key = tuple[str, str]
"""What two images must share to be alike: (class, "") or (class, value)."""

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
class Alike:
    """One way of being alike, in codes: int64 (n,), -1 where an image tells nothing.

    n_alike: int64 (queries,), records of the gallery with the query's code that it may see.
    """

    names: tuple[Key, ...]
    gallery: Int
    queries: Int
    n_alike: Int

    def of(self, query: int, rows: Int) -> Bool:
        """Which rows of the gallery are alike to the query: bool (rows,)."""
        wanted = int(self.queries[query])
        alike: Bool = self.gallery[rows] == wanted
        return alike & (wanted >= 0)


@dataclass(frozen=True)
class Judgement:
    """What is relevant to what, in codes: -1 where an image has no label.

    gallery, queries: int64 codes (n,) into `names`. n_relevant: int64 (queries,), relevant records of the gallery
    that a query may see. n_not_relevant: int64 (queries,), the labelled others that it may see. n_in_database: int64
    (queries,), its class in gallery and queries together. hidden: per query, the rows of the gallery that it must
    not see (its own patient, itself). coarse, fine: what grades 1 and 2 compare.
    """

    names: tuple[str, ...]
    gallery: Int
    queries: Int
    n_relevant: Int
    n_not_relevant: Int
    n_in_database: Int
    hidden: tuple[Int, ...]
    coarse: Alike
    fine: Alike

    def judged(self, query: int, first_hits: Int) -> metrics.Judged:
        """Grades of the first hits (rows of the gallery), and what there is to find.

        Grade 2: fine and so coarse; 1: coarse alone; 0: neither.
        """
        fine, coarse = self.fine.of(query, first_hits), self.coarse.of(query, first_hits)
        n_fine, n_coarse = int(self.fine.n_alike[query]), int(self.coarse.n_alike[query])
        return metrics.Judged(
            grades=np.where(fine, 2, np.where(coarse, 1, 0)),
            available=(max(n_coarse - n_fine, 0), n_fine),
            n_not_relevant=int(self.n_not_relevant[query]),
            largest=int(self.n_relevant.max()),
        )


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
    """Relevant: the same class; with another label column, the same class and the same value there.

    Graded: class and modality above class alone; with another label column, class and value above class alone.
    """
    hidden = tuple(_hidden(gallery, queries))
    by_class = _alike(gallery, queries, hidden, _class_of)
    by_value = by_class if column == "class" else _alike(gallery, queries, hidden, lambda record: _key(record, column))
    fine = _alike(gallery, queries, hidden, _class_and_modality) if column == "class" else by_value
    labelled = by_value.queries >= 0
    visible = (by_value.gallery >= 0).sum() - _count_hidden(hidden, lambda rows, _: by_value.gallery[rows] >= 0)
    in_queries = np.bincount(by_value.queries[labelled], minlength=len(by_value.names) + 1)
    in_gallery = np.bincount(by_value.gallery[by_value.gallery >= 0], minlength=len(by_value.names) + 1)
    in_database = (in_gallery + in_queries)[by_value.queries]
    return Judgement(
        names=tuple(" ".join(part for part in name if part) for name in by_value.names),
        gallery=by_value.gallery,
        queries=by_value.queries,
        n_relevant=by_value.n_alike,
        n_not_relevant=np.where(labelled, visible - by_value.n_alike, 0),
        n_in_database=np.where(labelled, in_database, 0),
        hidden=hidden,
        coarse=by_class,
        fine=fine,
    )


def _alike(
    gallery: EvaluationSide, queries: EvaluationSide, hidden: Sequence[Int], key_of: Callable[[Record], Key | None]
) -> Alike:
    keys = [[key_of(record) for record in side.records] for side in (gallery, queries)]
    names = sorted({key for side in keys for key in side if key is not None})
    code = {name: number for number, name in enumerate(names)}
    of_gallery, of_queries = (np.array([-1 if key is None else code[key] for key in side], np.int64) for side in keys)
    per_code = np.bincount(of_gallery[of_gallery >= 0], minlength=len(names) + 1)
    own = _count_hidden(hidden, lambda rows, query: of_gallery[rows] == of_queries[query])
    n_alike = np.where(of_queries >= 0, per_code[of_queries] - own, 0)
    return Alike(tuple(names), of_gallery, of_queries, n_alike)


def _count_hidden(hidden: Sequence[Int], counted: Callable[[Int, int], Bool]) -> Int:
    """How many of the rows hidden from each query count: int64 (queries,)."""
    return np.array([counted(rows, query).sum() for query, rows in enumerate(hidden)], np.int64)


def _class_of(record: Record) -> Key | None:
    return None if record.label is None else (record.label, "")


def _class_and_modality(record: Record) -> Key | None:
    return None if record.label is None or record.modality is None else (record.label, record.modality)


def _key(record: Record, column: str) -> Key | None:
    """(class, value), None when the record has no value."""
    value = record.labels.get(column)
    return None if value is None else (record.label or "", value)


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
    rerankings: Mapping[str, Reranking] | None = None,
) -> Rankings:
    """The whole ranking of every query, layer by layer: one layer's matrix in memory at a time.

    taus, rerankings: by layer.
    """
    measured: dict[str, Mapping[Gate, Measured]] = {}
    for layer in layers:
        rankings = rank_layer(
            gallery,
            queries,
            judgement,
            layer,
            gates=gates,
            classes=classes,
            tau=(taus or {}).get(layer),
            reranking=(rerankings or {}).get(layer),
        )
        measured[layer] = measure(rankings, {"class": judgement}, gates)["class"]
    return measured


def rank_layer(
    gallery: EvaluationSide,
    queries: EvaluationSide,
    judgement: Judgement,
    layer: str,
    *,
    gates: Sequence[Gate],
    classes: Sequence[str] = (),
    tau: float | None = None,
    distance: Distance = "euclidean",
    reranking: Reranking | None = None,
) -> Iterator[dict[Gate, Found]]:
    """Per query a whole ranking under each gate; `positions` are rows of the gallery, ties go by id."""
    groups, ids = [record.group for record in gallery.records], [record.id for record in gallery.records]
    index, origin = from_features(gallery.features[layer], groups, ids)
    place = np.empty(len(origin), np.int64)
    place[origin] = np.arange(len(origin))  # row of the gallery -> position in the index
    rankings = rank_all(
        index,
        queries.features[layer],
        gates=gates,
        posterior=queries.posterior,
        classes=classes,
        tau=tau,
        hidden=[place[rows] for rows in judgement.hidden],
        distances=None if distance == "euclidean" else lambda block: distances(block, index.rows, distance),
        reranking=reranking,
    )
    for by_gate in rankings:
        yield {gate: replace(found, positions=origin[found.positions]) for gate, found in by_gate.items()}


def measure(
    rankings: Iterator[dict[Gate, Found]], judgements: Mapping[str, Judgement], gates: Sequence[Gate]
) -> dict[str, dict[Gate, Measured]]:
    """Every metric of every query, under each judgement (by name) and gate, from rankings made once."""
    tables = {name: {gate: _Table(judgement) for gate in gates} for name, judgement in judgements.items()}
    for query, found_by_gate in enumerate(rankings):
        for gate, found in found_by_gate.items():
            for by_gate in tables.values():
                by_gate[gate].put(query, found)
    return {name: {gate: table.finished() for gate, table in by_gate.items()} for name, by_gate in tables.items()}


class _Table:
    """Measurements under one judgement and gate while they come in, query by query."""

    def __init__(self, judgement: Judgement) -> None:
        self.judgement, n_queries = judgement, len(judgement.queries)
        self.values: list[dict[str, float]] = [{}] * n_queries
        self.curves = np.full((n_queries, len(metrics.RECALL_LEVELS)), np.nan)
        self.top_rows = np.full((n_queries, KEPT_HITS), -1, np.int64)
        self.top_distances = np.zeros((n_queries, KEPT_HITS), np.float32)
        self.n_candidates = np.zeros(n_queries, np.int64)

    def put(self, query: int, found: Found) -> None:
        judgement = self.judgement
        self.values[query], self.curves[query] = metrics.measure(
            judgement.gallery[found.positions],
            int(judgement.queries[query]),
            int(judgement.n_relevant[query]),
            int(judgement.n_in_database[query]),
            judged=judgement.judged(query, found.positions[:KEPT_HITS]),
        )
        n_kept = min(KEPT_HITS, len(found))
        self.top_rows[query, :n_kept] = found.positions[:n_kept]
        self.top_distances[query, :n_kept] = found.distances[:n_kept]
        self.n_candidates[query] = found.n_candidates

    def finished(self) -> Measured:
        values = {name: np.array([row[name] for row in self.values]) for name in metrics.METRICS if self.values}
        return Measured(values, self.curves, self.top_rows, self.top_distances, self.n_candidates)


def patients_of(side: EvaluationSide) -> Int:
    """A code from 0 for the patient of every image: int64 (n,). An image of an unknown patient counts as its own."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(record.owner, len(known)) for record in side.records], np.int64)


def matching(side: EvaluationSide, column: str, value: str) -> Bool:
    """Which images have that value: bool (n,). column: source, modality, or a label column."""
    return np.array([column_of(record, column) == value for record in side.records], bool)


def column_of(record: Record, column: str) -> str | None:
    return {"source": record.source, "modality": record.modality}.get(column, record.labels.get(column))
