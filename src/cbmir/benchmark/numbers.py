"""From rankings to the document benchmark.json: folds pooled, intervals over patients, tests between methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import metrics
from ..baselines import Method
from ..errors import BadManifest, UsageError
from ..evaluate import Bootstrap, EvaluationSide
from ..evaluate.rankings import Measured, judge, patients_of
from ..evaluate.summary import KEY_FIGURES, summarise
from ..types import Gate, Int, Record
from .cache import Features
from .measuring import pooled, pooled_judgement, pooled_posterior
from .protocols import Plan


@dataclass(frozen=True)
class Row:
    """One method and layer, all folds: what the tables tell, and the AP of every query for the tests."""

    told: dict[str, Any]
    precise: metrics.Float


class Study:
    """What is the same for every method. sides, judgements (column -> judgement): per fold; together: of all folds.

    columns: `class`, and the finer one if any. Raises BadManifest for a gallery of one class, UsageError where no query
    has a value in a column.
    """

    def __init__(self, records: Sequence[Record], plan: Plan, columns: tuple[str, ...], bootstrap: Bootstrap) -> None:
        def side(rows: Int) -> EvaluationSide:
            return EvaluationSide(tuple(records[row] for row in rows), {})

        self.plan, self.columns, self.bootstrap = plan, columns, bootstrap
        self.sides = [(side(fold.gallery), side(fold.queries)) for fold in plan.folds]
        self.judgements = [{column: judge(*sides, column) for column in columns} for sides in self.sides]
        self.together = {column: pooled_judgement([j[column] for j in self.judgements]) for column in columns}
        self.gallery = side(np.unique(np.concatenate([fold.gallery for fold in plan.folds])))
        self.queries = side(np.concatenate([fold.queries for fold in plan.folds]))
        self._check()

    def _check(self) -> None:
        n_classes = len({record.label for record in self.gallery.records} - {None})
        if n_classes < 2:
            raise BadManifest(
                f"The gallery has {n_classes} class{'' if n_classes == 1 else 'es'}: every ranking of one class is "
                "perfect, so a benchmark needs at least two."
            )
        for column, judgement in self.together.items():
            if not (judgement.queries >= 0).any():
                raise UsageError(f"No query has a value in the column {column}: name another, or label the queries.")

    def with_features(self, place: int, layer: str, features: Features) -> tuple[EvaluationSide, EvaluationSide]:
        """Gallery and queries of a fold."""
        gallery, queries = self.sides[place]
        return (
            EvaluationSide(gallery.records, {layer: features.gallery[layer]}),
            EvaluationSide(queries.records, {layer: features.queries[layer]}, features.posterior),
        )

    def row(
        self,
        method: Method,
        layer: str,
        found: Sequence[Features],
        measured: Sequence[Mapping[str, Mapping[Gate, Measured]]],
        gates: tuple[Gate, ...],
    ) -> Row:
        posterior, classes = pooled_posterior([f.posterior for f in found], [f.classes for f in found])
        queries = EvaluationSide(self.queries.records, {}, posterior)
        by_gate = {gate: pooled([part["class"][gate] for part in measured]) for gate in gates}
        numbers = summarise(
            self.gallery,
            queries,
            self.together["class"],
            {layer: by_gate},
            classes=classes,
            relevant="class",
            apart=None,
            bootstrap=self.bootstrap,
        )
        dim = found[0].gallery[layer].shape[1]
        told = {
            "title": title(method.name, layer),
            "method": method.name,
            "layer": layer,
            "distance": method.distance,
            "dim": dim,
            "bytes_per_image": bytes_per_image(dim, method.distance),
            "seconds_to_fit": float(np.mean([f.seconds_to_fit for f in found])),
            "ms_per_query": float(np.mean([f.ms_per_query for f in found])),
            "gates": list(gates),
            "retrieval": numbers["retrieval"][layer],
            "classification": numbers["classification"],
            **{key: _of_layer(numbers[key], layer) for key in ("per_class", "per_source", "per_modality")},
            "finer": self._finer(measured, gates),
            "folds": self._folds(measured, found, gates),
        }
        return Row(told, by_gate["off"].values["mAP"])

    def _finer(
        self, measured: Sequence[Mapping[str, Mapping[Gate, Measured]]], gates: tuple[Gate, ...]
    ) -> dict[str, Any] | None:
        """Key figures under the second column; None where there is none."""
        if len(self.columns) == 1:
            return None
        column = self.columns[1]
        codes, patients = self.together[column].queries, patients_of(self.queries)
        labelled = codes >= 0
        told: dict[str, Any] = {}
        for gate in gates:
            values = pooled([part[column][gate] for part in measured]).values
            table = {name: values[name][labelled] for name in KEY_FIGURES}
            told[gate] = {name: metrics.mean(of_queries) for name, of_queries in table.items()}
            told[gate]["mAP_ci95"] = self._interval(table["mAP"], patients[labelled])
            told[gate]["mAP_macro"] = metrics.macro_mean(table["mAP"], codes[labelled])
            told[gate]["n_queries_measured"] = int((~np.isnan(table["mAP"])).sum())
        return told

    def _interval(self, values: metrics.Float, patients: Int) -> list[float] | None:
        return metrics.bootstrap_ci(values, patients, draws=self.bootstrap.draws, seed=self.bootstrap.seed)

    def _folds(
        self,
        measured: Sequence[Mapping[str, Mapping[Gate, Measured]]],
        found: Sequence[Features],
        gates: tuple[Gate, ...],
    ) -> list[dict[str, Any]]:
        """What every fold gave alone; only where there are several."""
        if len(measured) == 1:
            return []
        return [
            self._fold(place, part["class"], features, gates)
            for place, (part, features) in enumerate(zip(measured, found, strict=True))
        ]

    def _fold(self, place: int, part: Mapping[Gate, Measured], features: Features, gates: Sequence[Gate]) -> Any:
        gallery, queries = self.sides[place]
        return {
            "fold": self.plan.folds[place].name,
            "n_gallery": len(gallery),
            "n_queries": len(queries),
            "mAP": {gate: metrics.mean(part[gate].values["mAP"]) for gate in gates},
            "P@1": {gate: metrics.mean(part[gate].values["P@1"]) for gate in gates},
            "top1": _top1(queries, features),
            "seconds_to_fit": features.seconds_to_fit,
        }

    def document(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What is told of all methods together; the rest of benchmark.json is of the run."""
        together = self.together["class"]
        labelled = together.queries >= 0
        records = [*{record.id: record for side in (self.gallery, self.queries) for record in side.records}.values()]
        best = max(range(len(rows)), key=lambda row: rows[row].told["retrieval"]["off"]["mAP"] or 0.0)
        return {
            "methods": [row.told for row in rows],
            "best": rows[best].told["title"],
            "tests": self._tests(rows, best),
            "protocol": self.plan.as_dict(),
            "bootstrap": {"draws": self.bootstrap.draws, "seed": self.bootstrap.seed, "unit": "patient"},
            "finer": self.columns[1] if len(self.columns) > 1 else None,
            "n_images": len(records),
            "n_gallery": len(self.gallery),
            "n_queries": len(self.queries),
            "n_patients": len(np.unique(patients_of(self.queries))),
            "n_classes": len({record.label for record in records} - {None}),
            "modalities": sorted({record.modality or "" for record in records} - {""}),
            "n_queries_without_label": int((~labelled).sum()),
            "n_queries_without_relevant": int((labelled & (together.n_relevant == 0)).sum()),
            "definitions": dict(metrics.DEFINITIONS),
        }

    def _tests(self, rows: Sequence[Row], best: int) -> list[dict[str, Any]]:
        """The best method against every other, on the same queries; p corrected for their number."""
        named = {row.told["title"]: row.precise for row in rows}
        winner = rows[best].told["title"]
        pairs = [(winner, name) for name in named if name != winner]
        found = metrics.compare(named, patients_of(self.queries), pairs=pairs, seed=self.bootstrap.seed)
        return [pair.as_dict() for pair in found]


def title(method: str, layer: str) -> str:
    """Method and layer, as a row of a table is called."""
    return method if layer.lower() in method.lower() else f"{method} {layer}"


def bytes_per_image(dim: int, distance: str) -> int:
    """Of its features in an index: float32, or one bit a value under the Hamming distance."""
    return -(-dim // 8) if distance == "hamming" else 4 * dim


def _of_layer(groups: Mapping[str, Any], layer: str) -> dict[str, Any]:
    return {name: told | {"retrieval": told["retrieval"][layer]} for name, told in groups.items()}


def _top1(queries: EvaluationSide, features: Features) -> float | None:
    if features.posterior is None:
        return None
    predicted = [features.classes[code] for code in features.posterior.argmax(axis=1)]
    known = [
        record.label == name
        for record, name in zip(queries.records, predicted, strict=True)
        if record.label in features.classes
    ]
    return float(np.mean(known)) if known else None
