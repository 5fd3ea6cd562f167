"""The page on a cross-validation: mean and standard deviation over folds, and every fold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..metrics import DEFINITIONS
from . import page
from .tables import cross_validation_tables, folds_table, mean_and_sd, per_cent, table_2_of_folds, table_3_of_folds


def cross_validation_page(summary: Mapping[str, Any]) -> str:
    """summary: of evaluate.cross_validation, with recipe and seed where they are known."""
    paper = (table_2_of_folds(summary), table_3_of_folds(summary))
    told = {name: DEFINITIONS[name] for name in (*_retrieval_metrics(summary), *(summary["classification"] or ()))}
    sections = [
        ("folds", "All folds", "".join(table.html() for table in cross_validation_tables(summary))),
        ("fold", "Every fold", folds_table(summary).html()),
        ("paper", "Beside the paper", "".join(table.html() for table in paper)),
        ("definitions", "Definitions", page.definitions(told)),
    ]
    return page.page(f"Cross-validation over {summary['n_folds']} folds", _intro(summary), sections)


def _retrieval_metrics(summary: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(next(iter(next(iter(summary["retrieval"].values())).values())))


def _intro(summary: Mapping[str, Any]) -> str:
    layer, gates = next(iter(summary["retrieval"].items()))
    values = [
        (f"mAP, {layer}, gate {gate}", mean_and_sd(gates[gate]["mAP"])) for gate in ("off", "hard") if gate in gates
    ]
    if summary["classification"]:
        values.append(("top1, %", mean_and_sd(summary["classification"]["top1"], per_cent)))
    values.append(("queries of all folds", str(sum(fold["n_queries"] for fold in summary["folds"]))))
    told = "Each fold is measured with an encoder trained on the other folds; no patient is on both sides."
    if "recipe" in summary:
        told += f" Recipe {summary['recipe']['name']}, {summary['recipe']['epochs']} epochs, seed {summary['seed']}."
    return page.paragraphs([told]) + page.tiles(values)
