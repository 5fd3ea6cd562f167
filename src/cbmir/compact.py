"""Training the compact encoder (recipe `ours`): what it starts from, what it is fitted to, how it is closed.

1. Start: an encoder of this kind (its bodies; its heads are drawn anew where the classes differ), an ImageNet
   MobileNetV2 in ONNX, or nothing.
2. Fit each body, with a projection and heads of its own, by metric_learning.py. With `freeze`, not at all.
3. Close: on the pooled features of the training images as they are, fit the projection of all bodies together, and the
   heads (closing.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .closing import close
from .dataset import keep_back
from .encoder import NetworkEncoder, load_encoder
from .errors import BadManifest, UsageError
from .files import file_sha256
from .fitting import TrainingProgress, fit
from .metric_learning import UNKNOWN, MetricLearning, MetricSet
from .networks import build
from .networks.imagenet import start_from_onnx
from .packing import Packed
from .preprocess import Preprocessing
from .recipes import MetricRecipe
from .runtime import load_network
from .types import ImageRef, Int

LAYER = "main"


@dataclass(frozen=True)
class Labelled:
    """Packed images with what is known of each. part: `training`, `validation` or `left out`, for each image.

    classes: those the encoder will answer, in order.
    """

    packed: Packed
    refs: tuple[ImageRef, ...]
    classes: tuple[str, ...]
    part: tuple[str, ...]

    def rows(self, part: str) -> Int:
        return np.flatnonzero(np.array(self.part) == part)

    def own(self, part: str) -> tuple[Int, tuple[str, ...]]:
        """Rows and classes of the part's images whose class the encoder answers."""
        rows = [row for row in self.rows(part) if self.refs[row].label in self.classes]
        return np.array(rows, np.int64), tuple(self.refs[row].labels["class"] for row in rows)


def check_start(start: str | None, freeze: bool) -> None:
    """start: an encoder's name or directory, or a MobileNetV2 in ONNX. To be called before images are decoded.

    Raises UsageError where there is no such thing, for another kind of encoder, or where `freeze` has nothing to keep.
    """
    if start is None:
        if freeze:
            raise UsageError("--freeze keeps the body as it is: say with --from which encoder it is of.")
    elif _is_onnx(start):
        if not Path(start).is_file():
            raise UsageError(f"There is no {start}.")
    else:
        _encoder_of(start)


def _is_onnx(start: str) -> bool:
    return start.lower().endswith(".onnx")


def _encoder_of(start: str) -> NetworkEncoder:
    encoder = load_encoder(start)
    if not isinstance(encoder, NetworkEncoder) or encoder.architecture["kind"] != "mobile":
        raise UsageError(f"'{start}' is not an encoder of the recipe ours: it has another network.")
    return encoder


def preprocessing_of(recipe: MetricRecipe) -> Preprocessing:
    return Preprocessing(size=recipe.packed, crop=recipe.packed, channels="rgb")


def labelled_images(
    packed: Packed, refs: Sequence[ImageRef], n_extra: int, validation_fraction: float, seed: int
) -> Labelled:
    """refs: as they were packed, the last n_extra of them only to learn from.

    The validation part is drawn by patient from the others; extra images of its patients are left out.
    Raises BadManifest without two classes, UsageError with too few patients for a validation part.
    """
    images = tuple(
        replace(refs[row], patient=patient) for row, patient in zip(packed.rows, packed.patients, strict=True)
    )
    extra = np.array(packed.rows) >= len(refs) - n_extra
    own = [ref for ref, more in zip(images, extra, strict=True) if not more]
    classes = tuple(sorted({ref.label for ref in own if ref.label}))
    if len(classes) < 2:
        raise BadManifest("Training needs images of at least two classes.")
    part = np.full(len(images), "training", "<U10")
    part[~extra] = np.where(keep_back(own, validation_fraction, seed=seed), "validation", "training")
    held = {ref.patient for ref, where in zip(images, part, strict=True) if where == "validation" and ref.patient}
    part[[bool(more) and ref.patient in held for ref, more in zip(images, extra, strict=True)]] = "left out"
    return Labelled(packed, images, classes, tuple(part.tolist()))


def train_compact(
    labelled: Labelled,
    recipe: MetricRecipe,
    run_dir: Path,
    *,
    start: str | None = None,
    freeze: bool = False,
    seed: int = 24,
    device: str = "auto",
    on_progress: TrainingProgress | None = None,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights, in half precision as they are kept, and the entries of the encoder but its calibration.

    start, freeze: as check_start has let them pass.
    """
    modalities = tuple(sorted({ref.modality for ref in labelled.refs if ref.modality})) or ("OT",)
    architecture = {
        "kind": "mobile",
        "side": recipe.packed,
        "channels": 3,
        "n_classes": len(labelled.classes),
        "n_modalities": len(modalities),
        "dim": recipe.dim,
    }
    started = _Start.of(start)
    training, names = _metric_set(labelled, labelled.rows("training"), modalities)
    log: list[dict[str, float]] = []
    alone = started.as_it_is(architecture, seed) if freeze else []
    for number, own in enumerate(() if freeze else recipe.bodies):
        body = started.body(architecture, number, seed)
        log += fit(
            body,
            MetricLearning(training, own, seed + number),
            own,
            run_dir / f"body-{number + 1}",
            seed=seed + number,
            data=json.dumps([labelled.packed.identity, architecture, started.told]),
            device=device,
            on_progress=on_progress,
        )
        body.fold()
        alone.append(body)
    architecture["bodies"] = len(alone)
    network = build(architecture)
    network.take_bodies(alone)
    close(network, training, recipe, seed)
    entries: dict[str, Any] = {
        "architecture": architecture,
        "preprocessing": preprocessing_of(recipe),
        "classes": labelled.classes,
        "layers": {LAYER: recipe.dim},
        "training": {
            "recipe": recipe.as_dict(),
            "seed": seed,
            "start": started.told,
            "freeze": freeze,
            "n_training": len(training),
            "n_validation": len(labelled.rows("validation")),
            "n_left_out": len(labelled.rows("left out")),
            "modalities": modalities,
            "findings": names,
            "log": log,
        },
    }
    return {name: tensor.detach().cpu().half() for name, tensor in network.state_dict().items()}, entries


@dataclass(frozen=True)
class _Start:
    """What bodies start from. told: it, by hash; encoder: None for an ONNX file, or for nothing."""

    told: dict[str, str] | None
    onnx: Path | None = None
    encoder: NetworkEncoder | None = None

    @classmethod
    def of(cls, start: str | None) -> _Start:
        if start is None:
            return cls(None)
        if _is_onnx(start):
            return cls({"onnx_sha256": file_sha256(Path(start))}, onnx=Path(start))
        encoder = _encoder_of(start)
        return cls({"encoder": encoder.name, "weights_sha256": encoder.weights_sha256}, encoder=encoder)

    def as_it_is(self, architecture: Mapping[str, Any], seed: int) -> list[Any]:
        """Every body there is."""
        n_bodies = 1 if self.encoder is None else self.encoder.architecture["bodies"]
        return [self.body(architecture, number, seed) for number in range(n_bodies)]

    def body(self, architecture: Mapping[str, Any], number: int, seed: int) -> Any:
        """A network of one body, before its first step; from an encoder of fewer bodies its last one once more."""
        generator = torch.Generator().manual_seed(seed + number)
        if self.told is None:
            network = build({**architecture, "norm": True})
            network.initialise(generator)
            return network
        network = build(architecture)
        network.initialise_heads(generator)
        if self.onnx is not None:
            start_from_onnx(network, self.onnx)
        if self.encoder is not None:
            network.start_from(load_network(self.encoder.files), number)
        return network


def _metric_set(labelled: Labelled, rows: Int, modalities: Sequence[str]) -> tuple[MetricSet, list[str]]:
    """The numbers of classes, groups, findings, modalities and sources, and the names of the findings."""
    refs = [labelled.refs[row] for row in rows]
    groups = [*labelled.classes, *sorted({ref.label for ref in refs if ref.label} - set(labelled.classes))]
    fine = [_finding(ref) for ref in refs]
    findings = sorted({name for name in fine if name})
    sources = sorted({ref.source or "" for ref in refs})
    of = _numbers
    found = MetricSet(
        images=labelled.packed.images,
        rows=rows,
        classes=of([ref.label for ref in refs], labelled.classes),
        groups=of([ref.label for ref in refs], groups),
        findings=of(fine, findings),
        modalities=of([ref.modality for ref in refs], modalities),
        sources=of([ref.source or "" for ref in refs], sources),
    )
    return found, findings


def _finding(ref: ImageRef) -> str | None:
    """Class and finding; the same word in two classes is not the same thing."""
    finding = ref.labels.get("finding")
    return f"{ref.label}: {finding}" if ref.label and finding else None


def _numbers(names: Sequence[str | None], known: Sequence[str]) -> Int:
    number = {name: i for i, name in enumerate(known)}
    return np.array([UNKNOWN if name is None else number.get(name, UNKNOWN) for name in names], np.int64)
