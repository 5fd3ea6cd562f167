"""From measured rankings to the document metrics.json: means, intervals, per class, per source, apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import metrics
from ..errors import UsageError
from ..rerank import Reranking
from ..types import Bool, Gate, Int
from .rankings import (
    EvaluationSide,
    Judgement,
    Measured,
    Rankings,
    column_of,
    judge,
    matching,
    patients_of,
    rank_and_measure,
)

KEY_FIGURES = ("mAP", "P@1", "P@10", "R-precision", "nDCG@10_graded")
"""Of each layer and gate for every class, source and modality, and under a second label column."""

WITH_INTERVAL = ("mAP", "mAP_seed_compatible", "P@1", "P@10")

OVER_FOLDS = (
    "mAP", "mAP_macro", "mAP_seed_compatible", "mAP@10", "P@1", "P@10", "nDCG@10", "MMV@5", "R-precision",
    "nDCG@10_graded", "ANMRR", "bpref",
)  # fmt: skip
"""What a cross-validation tells of each layer and gate."""

TESTED_TIMES = 100
"""The paper tested 100 times; here that is 100 bootstrap draws of patients."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn. draws: at least 1."""

    draws: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise UsageError("an interval needs at least 1 bootstrap draw")


THOUSAND_DRAWS = Bootstrap()


def evaluate_features(
    gallery: EvaluationSide,
    queries: EvaluationSide,
    *,
    classes: Sequence[str] = (),
    layers: Sequence[str] | None = None,
    gates: Sequence[Gate] = ("off",),
    relevant: str = "class",
    taus: Mapping[str, float] | None = None,
    rerankings: Mapping[str, Reranking] | None = None,
    apart: tuple[str, str] | None = None,
    bootstrap: Bootstrap = THOUSAND_DRAWS,
) -> dict[str, Any]:
    """The numbers of metrics.json that features, posteriors and labels give; see docs/architecture.md, Contract.

    classes: of the encoder, () without. taus: layer -> tau of the soft gate. rerankings: layer -> what its rankings
    are made better by. apart: (column, value).
    Raises UsageError when no query has a value in the column `relevant`, or none has the value of `apart`.
    """
    judgement = judge(gallery, queries, relevant)
    chosen = tuple(layers or gallery.features)
    rankings = rank_and_measure(
        gallery,
        queries,
        judgement,
        layers=chosen,
        gates=gates,
        classes=classes,
        taus=taus,
        rerankings=rerankings,
    )
    return summarise(
        gallery, queries, judgement, rankings, classes=classes, relevant=relevant, apart=apart, bootstrap=bootstrap
    )


def summarise(
    gallery: EvaluationSide,
    queries: EvaluationSide,
    judgement: Judgement,
    rankings: Rankings,
    *,
    classes: Sequence[str],
    relevant: str,
    apart: tuple[str, str] | None,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """See evaluate_features; from rankings already measured."""
    if not (judgement.queries >= 0).any():
        raise UsageError(f"no query has a value in the column {relevant}: name another, or label the queries")
    study = _Study(gallery, queries, judgement, rankings, tuple(classes), bootstrap)
    everything = np.ones(len(queries), bool)
    labelled = judgement.queries >= 0
    return {
        "retrieval": study.retrieval(everything),
        "classification": study.classification(everything, tested=True),
        "per_class": study.per_column("class"),
        "per_source": study.per_column("source"),
        "per_modality": study.per_column("modality"),
        "per_value": {} if relevant == "class" else study.per_column(relevant),
        "apart": None if apart is None else study.apart(*apart),
        "n_queries": len(queries),
        "n_gallery": len(gallery),
        "n_patients": {"gallery": _n_patients(gallery), "queries": _n_patients(queries)},
        "n_queries_without_label": int((~labelled).sum()),
        "n_queries_without_relevant": int((labelled & (judgement.n_relevant == 0)).sum()),
        "n_classes": len({record.label for record in (*gallery.records, *queries.records)} - {None}),
        "modalities": sorted({record.modality or "" for record in (*gallery.records, *queries.records)} - {""}),
        "relevant": relevant,
        "layers": list(rankings),
        "gates": list(next(iter(rankings.values()))),
        "bootstrap": {"draws": bootstrap.draws, "seed": bootstrap.seed, "unit": "patient"},
        "definitions": dict(metrics.DEFINITIONS),
    }


def _curves(curves: metrics.Float) -> dict[str, Any]:
    """Mean precision at each recall level over the queries that have a curve; 0 when none has."""
    known = curves[~np.isnan(curves[:, 0])]
    precision = known.mean(axis=0) if len(known) else np.zeros(len(metrics.RECALL_LEVELS))
    full = {
        "recall": [round(float(level), 2) for level in metrics.RECALL_LEVELS],
        "precision": [float(value) for value in precision],
    }
    return {"pr_curve": full, "pr_11": {name: values[::10] for name, values in full.items()}}


def _n_patients(side: EvaluationSide) -> int:
    """See patients_of."""
    return len(np.unique(patients_of(side)))


class _Study:
    """All that was measured, to be told for any part of the queries (bool (queries,))."""

    def __init__(
        self,
        gallery: EvaluationSide,
        queries: EvaluationSide,
        judgement: Judgement,
        rankings: Rankings,
        classes: tuple[str, ...],
        bootstrap: Bootstrap,
    ) -> None:
        self.gallery, self.queries, self.judgement, self.rankings = gallery, queries, judgement, rankings
        self.classes, self.bootstrap = classes, bootstrap
        self.patients = patients_of(queries)
        code = {name: number for number, name in enumerate(classes)}
        self.truth = np.array([code.get(record.label or "", -1) for record in queries.records], np.int64)
        self.predicted = None if queries.posterior is None else queries.posterior.argmax(axis=1)

    def retrieval(self, part: Bool) -> dict[str, dict[Gate, dict[str, Any]]]:
        return {
            layer: {gate: self._all_figures(measured, part) for gate, measured in gates.items()}
            for layer, gates in self.rankings.items()
        }

    def _all_figures(self, measured: Measured, part: Bool) -> dict[str, Any]:
        """Every metric with its mean over queries and over classes, each with an interval over patients."""
        table = {name: values[part] for name, values in measured.values.items()}
        codes = self.judgement.queries[part]
        figures: dict[str, Any] = {name: metrics.mean(values) for name, values in table.items()}
        ci95 = self._intervals(table | {"GMAP": metrics.logarithms(table["mAP"])}, part)
        ci95["GMAP"] = None if ci95["GMAP"] is None else [float(np.exp(end)) for end in ci95["GMAP"]]
        macro = {name: metrics.macro_mean(values, codes) for name, values in table.items()}
        macro_ci95 = self._intervals(table, part, codes)
        figures |= {f"{name}_ci95": ci95[name] for name in WITH_INTERVAL}
        figures |= {"mAP_macro": macro["mAP"], "mAP_macro_ci95": macro_ci95["mAP"]}
        figures |= {"GMAP": metrics.geometric_mean(table["mAP"]), "ci95": ci95}
        figures |= {"macro": macro, "macro_ci95": macro_ci95}
        figures["n_queries_measured"] = {name: int((~np.isnan(values)).sum()) for name, values in table.items()}
        return figures | _curves(measured.curves[part])

    def _intervals(
        self, table: Mapping[str, metrics.Float], part: Bool, codes: Int | None = None
    ) -> dict[str, list[float] | None]:
        drawn = metrics.bootstrap_table(
            table, self.patients[part], classes=codes, draws=self.bootstrap.draws, seed=self.bootstrap.seed
        )
        return {name: metrics.interval(draws) for name, draws in drawn.items()}

    def key_figures(self, part: Bool) -> dict[str, dict[Gate, dict[str, Any]]]:
        return {
            layer: {gate: self._key_figures(measured, part) for gate, measured in gates.items()}
            for layer, gates in self.rankings.items()
        }

    def _key_figures(self, measured: Measured, part: Bool) -> dict[str, Any]:
        figures: dict[str, Any] = {name: metrics.mean(measured.values[name][part]) for name in KEY_FIGURES}
        ci95 = self._intervals({"mAP": measured.values["mAP"][part]}, part)
        return figures | {"mAP_ci95": ci95["mAP"]}

    def classification(self, part: Bool, *, tested: bool = False) -> dict[str, Any] | None:
        """None without classes. Queries whose label is no class of the encoder are left out and counted."""
        if self.predicted is None:
            return None
        known = part & (self.truth >= 0)
        truth, predicted, n_classes = self.truth[known], self.predicted[known], len(self.classes)
        confusion = metrics.confusion_matrix(truth, predicted, n_classes)
        result: dict[str, Any] = dict(metrics.classification(confusion))
        result["n_images"] = len(truth)
        result["n_label_unknown_to_encoder"] = int((part & (self.truth < 0)).sum())
        if len(truth):
            draws = metrics.bootstrap_classification(
                truth,
                predicted,
                n_classes,
                self.patients[known],
                draws=self.bootstrap.draws,
                seed=self.bootstrap.seed,
            )
            result["ci95"] = {name: metrics.interval(values) for name, values in draws.items()}
            if tested:
                result["tested_100_times"] = self._tested(truth, predicted, known)
        return result | {"classes": list(self.classes), "confusion": confusion.astype(int).tolist()}

    def _tested(self, truth: Int, predicted: Int, known: Bool) -> dict[str, dict[str, float]]:
        draws = metrics.bootstrap_classification(
            truth,
            predicted,
            len(self.classes),
            self.patients[known],
            draws=TESTED_TIMES,
            seed=self.bootstrap.seed + 1,
        )
        return {name: metrics.mean_and_sd(values) for name, values in draws.items()}

    def per_column(self, column: str) -> dict[str, dict[str, Any]]:
        """Key figures of the queries of each value of a column; of each class also precision and recall."""
        values = {column_of(record, column) for record in self.queries.records} - {None}
        return {value: self._one_value(column, value) for value in sorted(map(str, values))}

    def _one_value(self, column: str, value: str) -> dict[str, Any]:
        part = matching(self.queries, column, value)
        told: dict[str, Any] = {
            "n_queries": int(part.sum()),
            "n_patients": len(np.unique(self.patients[part])),
            "n_gallery": int(matching(self.gallery, column, value).sum()),
            "retrieval": self.key_figures(part),
        }
        if self.predicted is None:
            return told
        known = self.truth >= 0
        if column == "class" and value in self.classes:
            code = self.classes.index(value)
            right = int((known & part & (self.predicted == code)).sum())
            called = int((known & (self.predicted == code)).sum())
            return told | {"precision": right / called if called else 0.0, "recall": right / told["n_queries"]}
        right = int((known & part & (self.predicted == self.truth)).sum())
        return told | {"top1": right / int((known & part).sum()) if (known & part).any() else None}

    def apart(self, column: str, value: str) -> dict[str, Any]:
        """The key figures, with intervals, of the queries of one value and of the rest; one gallery for both."""
        part = matching(self.queries, column, value)
        if not part.any():
            raise UsageError(f"no query has {column}={value}: nothing can be told apart")
        told = {"column": column, "value": value}
        return told | {"apart": self._brief(part), "rest": self._brief(~part)}

    def _brief(self, part: Bool) -> dict[str, Any]:
        """As the whole document, without curves and confusion."""
        full = self.retrieval(part)
        classification = self.classification(part)
        for gates in full.values():
            for figures in gates.values():
                del figures["pr_curve"], figures["pr_11"]
        if classification is not None:
            del classification["confusion"], classification["classes"]
        return {"n_queries": int(part.sum()), "retrieval": full, "classification": classification}


def cross_validation(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over folds (documents as metrics.json) of every key figure.

    Returns {"n_folds", "classification": {metric: {"mean", "sd"}} or None, "retrieval": {layer: {gate: {metric:
    {"mean", "sd"}}}}, "folds": [{"fold" from 1, "n_gallery", "n_queries", "top1", "mAP": {layer: {gate off or hard:
    value}}}]}. Layers and gates are those of the first fold; a value missing in a fold is left out.
    """
    if not folds:
        raise UsageError("a cross-validation has at least one fold")
    classified = [fold["classification"] for fold in folds if fold["classification"]]
    names = ("top1", "macro_precision", "macro_recall", "F1", "accuracy_eq8")

    def over_folds(layer: str, gate: str, name: str) -> dict[str, float] | None:
        values = [fold["retrieval"][layer][gate].get(name) for fold in folds]
        known = [value for value in values if value is not None]
        return metrics.mean_and_sd(known) if known else None

    return {
        "n_folds": len(folds),
        "classification": {name: metrics.mean_and_sd([fold[name] for fold in classified]) for name in names}
        if classified
        else None,
        "retrieval": {
            layer: {gate: {name: over_folds(layer, gate, name) for name in OVER_FOLDS} for gate in gates}
            for layer, gates in folds[0]["retrieval"].items()
        },
        "folds": [_one_fold(number, fold) for number, fold in enumerate(folds, start=1)],
    }


def _one_fold(number: int, fold: Mapping[str, Any]) -> dict[str, Any]:
    """What a cross-validation tells of each fold."""
    return {
        "fold": number,
        "n_gallery": fold["n_gallery"],
        "n_queries": fold["n_queries"],
        "top1": fold["classification"]["top1"] if fold["classification"] else None,
        "mAP": {
            layer: {gate: gates[gate]["mAP"] for gate in ("off", "hard") if gate in gates}
            for layer, gates in fold["retrieval"].items()
        },
    }
