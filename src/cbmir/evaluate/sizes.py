"""The gallery-size curve: the same queries in random parts of the gallery, from rankings made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import metrics
from ..errors import UsageError
from ..types import Bool, Gate, Int
from .rankings import EvaluationSide, Judgement, judge, patients_of, rank_layer
from .summary import THOUSAND_DRAWS, Bootstrap

SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Sizes when none are named, as shares of the gallery."""


@dataclass(frozen=True)
class Parts:
    """Random parts of a gallery by whole patients. sizes: images asked for, rising. draws: parts of each size."""

    sizes: tuple[int, ...]
    draws: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1 or self.draws < 1:
            raise UsageError("a curve over gallery sizes needs sizes of at least 1 image, and at least 1 draw")


def gallery_size_curve(
    gallery: EvaluationSide,
    queries: EvaluationSide,
    layer: str,
    *,
    gate: Gate = "off",
    classes: Sequence[str] = (),
    taus: Mapping[str, float] | None = None,
    relevant: str = "class",
    parts: Parts | None = None,
    bootstrap: Bootstrap = THOUSAND_DRAWS,
) -> dict[str, Any]:
    """mAP, P@1 and P@10 as the gallery grows; one ranking per query, no distance is computed twice.

    Returns {"layer", "gate", "relevant", "draws", "seed", "sizes": [{"n_gallery", "n_patients" (means over draws),
    "n_queries_without_relevant" (mean over draws), "mAP", "P@1", "P@10": {"mean", "sd"} over draws or None,
    "mAP_ci95" over patients of the queries, all draws together}]}. The last size is the whole gallery
    where the sizes reach it, and is then what `evaluate` reports.
    """
    parts = parts or Parts(tuple(max(1, round(share * len(gallery))) for share in SHARES))
    judgement = judge(gallery, queries, relevant)
    owners = patients_of(gallery)
    kept = metrics.smaller_galleries(owners, parts.sizes, parts.draws, parts.seed)
    in_part = _relevant_in_parts(judgement, kept)
    table = np.full((3, len(queries), len(kept)), np.nan)
    tau = (taus or {}).get(layer)
    rankings = rank_layer(gallery, queries, judgement, layer, gates=[gate], classes=classes, tau=tau)
    for query, found in enumerate(rankings):
        order = found[gate].positions
        alike = judgement.gallery[order] == judgement.queries[query]
        table[:, query] = metrics.measure_parts(alike, kept[:, order], in_part[query])
    measured = dict(zip(("mAP", "P@1", "P@10"), table, strict=True))
    owners_of_queries = patients_of(queries)
    told = []
    for number in range(len(parts.sizes)):
        rows = slice(number * parts.draws, (number + 1) * parts.draws)
        size = {name: values[:, rows] for name, values in measured.items()}
        told.append(_one_size(kept[rows], owners, size, judgement.queries >= 0, owners_of_queries, bootstrap))
    about = {"layer": layer, "gate": gate, "relevant": relevant, "draws": parts.draws, "seed": parts.seed}
    return about | {"sizes": told}


def _relevant_in_parts(judgement: Judgement, kept: Bool) -> Int:
    """R of every query in every part, without what is hidden from the query: int64 (queries, parts)."""
    counts = np.zeros((len(judgement.names) + 1, len(kept)), np.int64)  # the last row is of code -1: nothing
    for code in range(len(judgement.names)):
        counts[code] = kept[:, judgement.gallery == code].sum(axis=1)
    found = counts[judgement.queries]
    for query, rows in enumerate(judgement.hidden):
        own = rows[judgement.gallery[rows] == judgement.queries[query]]
        if judgement.queries[query] >= 0 and len(own):
            found[query] -= kept[:, own].sum(axis=1)
    return found


def _one_size(
    kept: Bool,
    owners: Int,
    measured: Mapping[str, metrics.Float],
    labelled: Bool,
    patients: Int,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """kept: bool (draws, gallery). measured: metric -> float64 (queries, draws)."""
    without = np.isnan(measured["mAP"][labelled]).sum(axis=0)
    told: dict[str, Any] = {
        "n_gallery": float(kept.sum(axis=1).mean()),
        "n_patients": float(np.mean([len(np.unique(owners[row])) for row in kept])),
        "n_queries_without_relevant": float(without.mean()),
    }
    for name, values in measured.items():
        means = [found for column in values.T if (found := metrics.mean(column)) is not None]
        told[name] = metrics.mean_and_sd(means) if means else None
    values = measured["mAP"]
    owner = np.repeat(patients, values.shape[1])
    ci95 = metrics.bootstrap_ci(values.ravel(), owner, draws=bootstrap.draws, seed=bootstrap.seed)
    return told | {"mAP_ci95": ci95}
