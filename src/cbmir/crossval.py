"""k-fold cross-validation by patient: train on all folds but one, measure on that one, for each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .dataset import folds, with_patients
from .encoder import load_encoder
from .errors import UsageError
from .evaluate import cross_validation, evaluate_split
from .files import write_json
from .privacy import load_pseudonyms
from .recipes import Recipe
from .report import write_cross_validation_report, write_report
from .types import ImageRef

if TYPE_CHECKING:
    from .fitting import TrainingProgress


def cross_validate(
    refs: Sequence[ImageRef],
    recipe: Recipe,
    out: Path,
    *,
    n_folds: int,
    only: int | None = None,
    seed: int = 24,
    validation_fraction: float = 0.0,
    apart: tuple[str, str] | None = None,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_training: TrainingProgress | None = None,
) -> Path:
    """Train and measure n_folds encoders, no patient on both sides; returns the report, out/report.html.

    out/fold-1 and so on hold the encoders and their reports, out/cross_validation.json the summary. The folds are those
    of a manifest's `fold` column where every image has one, else drawn by patient. A fold that is finished is kept: a
    killed run goes on at the next. only: the one fold to run, from 1; no summary is written then, its own report is
    returned. validation_fraction: part of each fold's patients kept from training, to fit the soft gate.
    Raises UsageError for fewer than two folds, or an `out` that holds folds of something else.
    """
    if n_folds < 2:
        raise UsageError(f"A cross-validation has at least two folds, not {n_folds}.")
    if only is not None and only > n_folds:
        raise UsageError(f"There is no fold {only} of {n_folds}.")
    numbers = _folds(refs, n_folds, seed, workers)
    _claim(out, refs, numbers, [recipe.as_dict(), seed, validation_fraction, apart])
    job = _Job(recipe, seed, validation_fraction, apart, workers, on_progress, on_training)
    measured: list[dict[str, Any]] = []
    for number in range(n_folds) if only is None else [only - 1]:
        sides = ["test" if fold == number else "train" for fold in numbers]
        parts = [replace(ref, split=side) for ref, side in zip(refs, sides, strict=True)]
        measured.append(job.fold(parts, out / f"fold-{number + 1}"))
    if only is not None:
        return out / f"fold-{only}" / "report" / "report.html"
    summary = cross_validation(measured) | {"recipe": recipe.as_dict(), "seed": seed}
    write_json(out / "cross_validation.json", summary)
    return write_cross_validation_report(summary, out)


def _folds(refs: Sequence[ImageRef], n_folds: int, seed: int, workers: int | None) -> list[int]:
    """The fold of each image, from 0."""
    told = [ref.fold for ref in refs]
    if all(fold is not None for fold in told):
        numbers = [fold for fold in told if fold is not None]
        if set(numbers) != set(range(n_folds)):
            raise UsageError(f"The manifest's column fold numbers {len(set(numbers))} folds, not {n_folds}.")
        return numbers
    drawn: list[int] = folds(with_patients(refs, load_pseudonyms(), workers), n_folds, seed=seed).tolist()
    return drawn


def _claim(out: Path, refs: Sequence[ImageRef], numbers: Sequence[int], settings: Any) -> None:
    """Write down what `out` is for; raises UsageError when it is for something else."""
    images = [
        [ref.shown, sorted(ref.labels.items()), ref.patient, fold] for ref, fold in zip(refs, numbers, strict=True)
    ]
    identity = sha256(json.dumps([images, settings]).encode()).hexdigest()
    claim = out / "claim.json"
    if claim.is_file():
        if json.loads(claim.read_text(encoding="utf-8"))["identity"] != identity:
            raise UsageError(f"{out} holds folds of other data, recipe or seed: choose another --out.")
        return
    if any(out.glob("fold-*")):
        raise UsageError(f"{out} holds folds that do not say what they are of: choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    write_json(claim, {"identity": identity, "settings": settings})


@dataclass(frozen=True)
class _Job:
    """What is the same for every fold."""

    recipe: Recipe
    seed: int
    validation_fraction: float
    apart: tuple[str, str] | None
    workers: int | None
    on_progress: Callable[[int, int], None] | None
    on_training: TrainingProgress | None

    def fold(self, refs: Sequence[ImageRef], out: Path) -> dict[str, Any]:
        """The document metrics.json of one fold."""
        from .train import train

        done = out / "report" / "metrics.json"
        if done.is_file():
            kept: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
            return kept
        pseudonyms = load_pseudonyms()
        if not (out / "encoder" / "encoder.json").is_file():
            train(
                [ref for ref in refs if ref.split == "train"],
                self.recipe,
                out / "encoder",
                pseudonyms=pseudonyms,
                validation_fraction=self.validation_fraction,
                seed=self.seed,
                workers=self.workers,
                on_decode=self.on_progress,
                on_progress=self.on_training,
            )
        evaluation = evaluate_split(
            refs,
            load_encoder(out / "encoder"),
            pseudonyms,
            apart=self.apart,
            workers=self.workers,
            on_progress=self.on_progress,
        )
        write_report(
            evaluation.metrics,
            out / "report",
            examples=evaluation.examples,
            samples=evaluation.samples,
            pictures=evaluation.pictures,
        )
        return evaluation.metrics
