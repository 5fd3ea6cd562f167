"""k-fold cross-validation by patient: train on all folds but one, measure on that one, for each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .dataset import folds, patients_of
from .encoder import load_encoder
from .errors import UsageError
from .evaluate import cross_validation, evaluate_split
from .privacy import load_pseudonyms
from .recipes import Recipe
from .report import cross_validation_tables, write_report
from .types import ImageRef

if TYPE_CHECKING:
    from .fitting import Progress as TrainingProgress


def cross_validate(
    refs: Sequence[ImageRef],
    recipe: Recipe,
    out: Path,
    *,
    n_folds: int,
    only: int | None = None,
    seed: int = 24,
    apart: tuple[str, str] | None = None,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_training: TrainingProgress | None = None,
) -> dict[str, Any]:
    """Train and measure n_folds encoders, no patient on both sides, and write out/cross_validation.{json,md}.

    only: the one fold to run, from 1. A fold that is finished is kept: a killed run goes on at the next. out/fold-1
    and so on hold the encoders and reports.
    Returns the summary of evaluate.cross_validation. Raises UsageError for fewer than two folds.
    """
    if n_folds < 2:
        raise UsageError(f"A cross-validation has at least two folds, not {n_folds}.")
    if only is not None and only > n_folds:
        raise UsageError(f"There is no fold {only} of {n_folds}.")
    patients = patients_of(refs, load_pseudonyms(), workers)
    known = [replace(ref, patient=ref.patient or patient) for ref, patient in zip(refs, patients, strict=True)]
    numbers = folds(known, n_folds, seed=seed)
    measured: list[dict[str, Any]] = []
    for number in range(n_folds) if only is None else [only - 1]:
        sides = ["test" if fold == number else "train" for fold in numbers]
        parts = [replace(ref, split=side) for ref, side in zip(known, sides, strict=True)]
        measured.append(
            _one_fold(parts, recipe, out / f"fold-{number + 1}", seed, apart, workers, on_progress, on_training)
        )
    summary = cross_validation(measured) | {"recipe": recipe.as_dict(), "seed": seed}
    (out / "cross_validation.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    tables = "\n".join(table.markdown() for table in cross_validation_tables(summary))
    (out / "cross_validation.md").write_text(tables, encoding="utf-8")
    return summary


def _one_fold(
    refs: Sequence[ImageRef],
    recipe: Recipe,
    out: Path,
    seed: int,
    apart: tuple[str, str] | None,
    workers: int | None,
    on_progress: Callable[[int, int], None] | None,
    on_training: TrainingProgress | None,
) -> dict[str, Any]:
    """The document metrics.json of one fold."""
    from .train import train

    done = out / "report" / "metrics.json"
    if done.is_file():
        kept: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return kept
    pseudonyms = load_pseudonyms()
    if not (out / "encoder" / "encoder.json").is_file():
        training = [ref for ref in refs if ref.split == "train"]
        train(
            training,
            recipe,
            out / "encoder",
            pseudonyms=pseudonyms,
            validation_fraction=0.0,
            seed=seed,
            workers=workers,
            on_decode=on_progress,
            on_progress=on_training,
        )
    encoder = load_encoder(out / "encoder")
    evaluation = evaluate_split(refs, encoder, pseudonyms, apart=apart, workers=workers, on_progress=on_progress)
    write_report(evaluation.metrics, out / "report", examples=evaluation.examples, pictures=evaluation.pictures)
    return evaluation.metrics
