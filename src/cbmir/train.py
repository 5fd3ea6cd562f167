"""Training, readable top to bottom: pack the images, fit the network, calibrate, save the encoder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .calibrate import fit_soft_gate_tau
from .dataset import split
from .encoder import Encoder, load_encoder, save_encoder
from .errors import BadManifest, UsageError
from .fitting import SIDE, TrainingProgress, TrainingSet, batches, centre_crop, fit
from .networks import build
from .packing import Packed, pack
from .preprocess import Preprocessing
from .privacy import Pseudonyms
from .recipes import PAPER_TRAINING_ERROR, Recipe
from .types import Float32, ImageRef


@dataclass(frozen=True)
class TrainReport:
    """What a run did. log: one line of figures an epoch; failed: files that gave no image, with outcome and reason."""

    out: Path
    fingerprint: str
    n_training: int
    n_validation: int
    log: list[dict[str, float]]
    failed: tuple[dict[str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "out": str(self.out)}


def train(
    refs: Sequence[ImageRef],
    recipe: Recipe,
    out: Path,
    *,
    pseudonyms: Pseudonyms,
    validation_fraction: float = 0.1,
    seed: int = 24,
    separate_fcl3: bool = True,
    width: int = 4096,
    device: str = "auto",
    workers: int | None = None,
    on_decode: Callable[[int, int], None] | None = None,
    on_progress: TrainingProgress | None = None,
) -> TrainReport:
    """Train the paper's network on labelled images and write the encoder to `out`.

    validation_fraction: part of the patients kept from training, to watch it and to fit the soft gate; 0 for none.
    separate_fcl3, width: see networks/dcnn.py; the paper's width is 4096.
    Raises BadManifest without two classes, UsageError when `out` already holds a finished encoder.
    """
    if (out / "encoder.json").exists():
        raise UsageError(f"{out} already holds an encoder: choose another --out.")
    refs = [ref for ref in refs if ref.label]
    classes = tuple(sorted({ref.labels["class"] for ref in refs}))
    if len(classes) < 2:
        raise BadManifest("Training needs images of at least two classes.")
    run_dir = out / "training"
    packed = pack(refs, Preprocessing(crop=256), pseudonyms, run_dir, workers=workers, on_progress=on_decode)
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
    log = fit(
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
    saved: dict[str, Any] = {
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
    calibration = _calibration(tensors, saved, training, validation, run_dir / "calibrating")
    save_encoder(out, tensors, calibration=calibration, **saved)
    for leftover in (*run_dir.glob("images.*"), *run_dir.glob("packed.*"), *run_dir.glob("checkpoint.*")):
        leftover.unlink()  # also the .new of a run that was killed while writing
    encoder = load_encoder(out)
    return TrainReport(out, encoder.fingerprint, len(training), len(validation or ()), log, packed.failed)


def _parts(
    refs: Sequence[ImageRef], packed: Packed, classes: tuple[str, ...], validation_fraction: float, seed: int
) -> tuple[TrainingSet, TrainingSet | None]:
    """Training and validation part, no patient on both sides."""
    labels = np.array([classes.index(refs[row].labels["class"]) for row in packed.rows], np.int64)
    everything = TrainingSet(packed.images, labels)
    if validation_fraction == 0:
        return everything, None
    images = [replace(refs[row], patient=patient) for row, patient in zip(packed.rows, packed.patients, strict=True)]
    sides = np.array(split(images, test_fraction=validation_fraction, seed=seed))
    rows = [np.flatnonzero(sides == side) for side in ("train", "test")]
    training, validation = (everything.part(part) for part in rows)
    if not len(training) or not len(validation):
        raise UsageError("Too few patients for a validation part: use --validation 0, or more images.")
    return training, validation


def _calibration(
    tensors: dict[str, Tensor],
    saved: dict[str, Any],
    training: TrainingSet,
    validation: TrainingSet | None,
    folder: Path,
) -> dict[str, Any]:
    """tau of the soft gate for every layer, fitted with the encoder as it will be used; empty without validation."""
    if validation is None:
        return {}
    save_encoder(folder, tensors, calibration={}, **saved)
    encoder = load_encoder(folder)
    classes: tuple[str, ...] = saved["classes"]
    gallery, _ = _encode(encoder, training)
    queries, posterior = _encode(encoder, validation)
    shutil.rmtree(folder)
    names = [[classes[label] for label in part.labels] for part in (training, validation)]
    return {
        "soft_gate_tau": {
            layer: fit_soft_gate_tau(gallery[layer], names[0], queries[layer], names[1], posterior, classes)
            for layer in encoder.layers
        }
    }


def _encode(encoder: Encoder, part: TrainingSet) -> tuple[dict[str, Float32], Float32]:
    encoded = [encoder.encode(centre_crop(part[rows].images)) for rows in batches(np.arange(len(part)), 64)]
    posteriors = [batch.posterior for batch in encoded if batch.posterior is not None]
    features = {layer: np.concatenate([batch.features[layer] for batch in encoded]) for layer in encoder.layers}
    return features, np.concatenate(posteriors)
