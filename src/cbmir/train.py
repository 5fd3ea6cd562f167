"""Training, readable top to bottom: pack the images, fit the network, calibrate, save the encoder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .calibrate import fit as fit_calibration
from .classification import SIDE, TrainingSet, batches, centre_crop, fit_classifier
from .compact import check_start, labelled_images, preprocessing_of, train_compact
from .dataset import keep_back
from .encoder import Encoder, load_encoder, save_encoder
from .errors import BadManifest, UsageError
from .fitting import TrainingProgress
from .networks import build
from .packing import Packed, pack
from .preprocess import Preprocessing
from .privacy import Pseudonyms
from .recipes import PAPER_TRAINING_ERROR, DcnnRecipe, MetricRecipe, Recipe
from .rerank_fit import fit_rerank
from .types import Float32, ImageRef, Int, UInt8


@dataclass(frozen=True)
class TrainReport:
    """What a run did. log: one line of figures an epoch, empty where nothing but the last layers was fitted.

    failed: files that gave no image, with outcome and reason. paper_training_error: for the paper's network.
    """

    out: Path
    fingerprint: str
    n_training: int
    n_validation: int
    log: list[dict[str, float]]
    failed: tuple[dict[str, str], ...]
    paper_training_error: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "out": str(self.out)}


@dataclass(frozen=True)
class _Trained:
    """Weights and the other entries of an encoder, and the parts it is calibrated with."""

    tensors: Mapping[str, Tensor]
    entries: Mapping[str, Any]
    training: _Part
    validation: _Part | None
    failed: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class _Part:
    """images: uint8 (N, C, side, side), perhaps memory-mapped; rows: int64 (n,), of them; names: their classes."""

    images: UInt8
    rows: Int
    names: tuple[str, ...]


def train(
    refs: Sequence[ImageRef],
    recipe: Recipe,
    out: Path,
    *,
    pseudonyms: Pseudonyms,
    validation_fraction: float = 0.1,
    seed: int = 24,
    start: str | None = None,
    freeze: bool = False,
    extra: Sequence[ImageRef] = (),
    separate_fcl3: bool = True,
    width: int = 4096,
    device: str = "auto",
    workers: int | None = None,
    on_decode: Callable[[int, int], None] | None = None,
    on_progress: TrainingProgress | None = None,
) -> TrainReport:
    """Train a network on labelled images by a recipe and write the encoder to `out`.

    validation_fraction: part of the patients kept from training, to watch it and to calibrate with; 0 for none.
    For the compact network: start, freeze, see compact.py; extra: more images to learn from, with or without classes.
    For the paper's: separate_fcl3, width, see networks/dcnn.py; the paper's width is 4096.
    Raises BadManifest without two classes, UsageError when `out` already holds a finished encoder, or for what the
    recipe's network does not have.
    """
    if (out / "encoder.json").exists():
        raise UsageError(f"{out} already holds an encoder: choose another --out.")
    refs = [ref for ref in refs if ref.label]
    run_dir = out / "training"
    if isinstance(recipe, MetricRecipe):
        if not separate_fcl3:
            raise UsageError("--fcl3 is for the paper's network.")
        check_start(start, freeze)
        packed = pack(
            [*refs, *extra], preprocessing_of(recipe), pseudonyms, run_dir, workers=workers, on_progress=on_decode
        )
        labelled = labelled_images(packed, [*refs, *extra], len(extra), validation_fraction, seed)
        tensors, entries = train_compact(
            labelled, recipe, run_dir, start=start, freeze=freeze, seed=seed, device=device, on_progress=on_progress
        )
        parts = [labelled.own(part) for part in ("training", "validation")]
        training, validation = (_Part(packed.images, rows, names) for rows, names in parts)
        trained = _Trained(tensors, entries, training, validation if len(validation.rows) else None, packed.failed)
    elif not isinstance(recipe, DcnnRecipe):
        raise TypeError(f"there is no network for a {type(recipe).__name__}")
    elif start is not None or freeze or extra:
        raise UsageError("--from, --freeze and --extra are for the recipe ours.")
    else:
        packed = pack(refs, Preprocessing(crop=256), pseudonyms, run_dir, workers=workers, on_progress=on_decode)
        trained = _dcnn(
            refs, packed, recipe, run_dir, validation_fraction, seed, separate_fcl3, width, device, on_progress
        )
    calibration = _calibration(trained, run_dir / "calibrating")
    save_encoder(out, trained.tensors, calibration=calibration, **trained.entries)
    for leftover in (*run_dir.glob("images.*"), *run_dir.glob("packed.*"), *run_dir.rglob("checkpoint.*")):
        leftover.unlink()  # also the .new of a run that was killed while writing
    record = trained.entries["training"]
    return TrainReport(
        out,
        load_encoder(out).fingerprint,
        record["n_training"],
        record["n_validation"],
        record["log"],
        trained.failed,
        record.get("paper_training_error"),
    )


def _dcnn(
    refs: Sequence[ImageRef],
    packed: Packed,
    recipe: DcnnRecipe,
    run_dir: Path,
    validation_fraction: float,
    seed: int,
    separate_fcl3: bool,
    width: int,
    device: str,
    on_progress: TrainingProgress | None,
) -> _Trained:
    """The paper's network, section 3.1."""
    classes = tuple(sorted({ref.labels["class"] for ref in refs}))
    if len(classes) < 2:
        raise BadManifest("Training needs images of at least two classes.")
    training, validation = _parts(refs, packed, classes, validation_fraction, seed)
    architecture = {
        "kind": "dcnn",
        "side": SIDE,
        "channels": 1,
        "n_classes": len(classes),
        "mean": recipe.mean,
        "scale": recipe.scale,
        "dropout": recipe.dropout,
        "separate_fcl3": separate_fcl3,
        "width": width,
    }
    network = build(architecture)
    network.initialise(recipe.weights, recipe.biases, torch.Generator().manual_seed(seed))
    log = fit_classifier(
        network,
        training,
        validation,
        recipe,
        run_dir,
        seed=seed,
        data=json.dumps([packed.identity, architecture]),
        device=device,
        on_progress=on_progress,
    )
    entries: dict[str, Any] = {
        "architecture": architecture,
        "preprocessing": Preprocessing(),
        "classes": classes,
        "layers": {"FCL1": width, "FCL2": width, "FCL3": network.fcl3.out_features},
        "training": {
            "recipe": recipe.as_dict(),
            "seed": seed,
            "n_training": len(training),
            "n_validation": len(validation or ()),
            "log": log,
            "paper_training_error": PAPER_TRAINING_ERROR,
        },
    }
    tensors = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    parts = [None if part is None else _of_set(part, classes) for part in (training, validation)]
    assert parts[0] is not None
    return _Trained(tensors, entries, parts[0], parts[1], packed.failed)


def _of_set(part: TrainingSet, classes: Sequence[str]) -> _Part:
    rows = np.arange(len(part)) if part.rows is None else part.rows
    return _Part(part.images, rows, tuple(classes[label] for label in part.labels))


def _parts(
    refs: Sequence[ImageRef], packed: Packed, classes: tuple[str, ...], validation_fraction: float, seed: int
) -> tuple[TrainingSet, TrainingSet | None]:
    """Training and validation part, no patient on both sides."""
    labels = np.array([classes.index(refs[row].labels["class"]) for row in packed.rows], np.int64)
    everything = TrainingSet(packed.images, labels)
    if validation_fraction == 0:
        return everything, None
    images = [replace(refs[row], patient=patient) for row, patient in zip(packed.rows, packed.patients, strict=True)]
    kept = keep_back(images, validation_fraction, seed=seed)
    return everything.part(np.flatnonzero(~kept)), everything.part(np.flatnonzero(kept))


def _calibration(trained: _Trained, folder: Path) -> dict[str, Any]:
    """Everything of calibrate.py, fitted with the encoder as it will be used; empty without a validation part."""
    if trained.validation is None:
        return {}
    save_encoder(folder, trained.tensors, calibration={}, **trained.entries)
    encoder = load_encoder(folder)
    gallery, _ = _encode(encoder, trained.training)
    queries, posterior = _encode(encoder, trained.validation)
    shutil.rmtree(folder)
    names = trained.training.names, trained.validation.names
    fitted = fit_calibration(gallery, names[0], queries, names[1], posterior, encoder.classes)
    rerank = {layer: fit_rerank(gallery[layer], names[0], queries[layer], names[1]) for layer in encoder.layers}
    return fitted | {"rerank": rerank}


def _encode(encoder: Encoder, part: _Part) -> tuple[dict[str, Float32], Float32]:
    found = [encoder.encode(_seen(part.images[rows], encoder)) for rows in batches(part.rows, 64)]
    posteriors = [batch.posterior for batch in found if batch.posterior is not None]
    features = {layer: np.concatenate([batch.features[layer] for batch in found]) for layer in encoder.layers}
    return features, np.concatenate(posteriors)


def _seen(images: UInt8, encoder: Encoder) -> UInt8:
    """The centre, where images were packed larger than the network sees them."""
    return images if images.shape[-1] == encoder.preprocessing.crop else centre_crop(images)
