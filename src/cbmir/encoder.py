"""Encoder: preprocessing, network, class names, layer names and calibration, saved together in one directory.

    ENCODER/encoder.json          architecture, preprocessing, classes, layers, calibration, training record
    ENCODER/weights.safetensors   the weights, never a pickle

`default` is the one that comes with this package, in weights/, with its licence and MODEL_CARD.md. `pixels` is the
smallest encoder, a thumbnail: it needs no network and proves the contract. An encoder's fingerprint is a hash of all
that changes what it answers, and of the run time and precision it runs in; a gallery belongs to one fingerprint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .confidence import tempered
from .errors import BadEncoder, UsageError
from .files import file_sha256, write_json
from .networks import has_maps
from .preprocess import VERSION, Preprocessing
from .runtime import Arithmetic, NetworkFiles, Runtime, choose_arithmetic, load_arrays, open_runtime
from .types import Float32, UInt8

FORMAT = 1
DEFAULT = Path(__file__).parent / "weights" / "default"
"""The encoder that comes with this package."""
NAMES = ("default", "pixels")
"""Encoders that are known by name. A name is a str; a Path, or ./default, is a folder."""


@dataclass(frozen=True)
class Encoded:
    """features: float32 (n, dim) by layer name; posterior: float32 (n, K), sums to 1, or None without classes."""

    features: dict[str, Float32]
    posterior: Float32 | None


@dataclass(frozen=True)
class Maps:
    """A network's last feature maps, and what it makes its first layer of.

    values: float32 (n, C, h, w), above 0; the layer is weight @ (mean over places of values^p)^(1/p) + bias, divided by
    its length. p: (C,), of each channel; weight: (dim, C); bias: (dim,).
    """

    values: Float32
    p: Float32
    weight: Float32
    bias: Float32


class Encoder(Protocol):
    """What every encoder offers. layers: name to dim, the first is the default; calibration: fitted on validation.

    calibration: see calibrate.py. training: the record of how it was made.
    """

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def preprocessing(self) -> Preprocessing: ...
    @property
    def layers(self) -> Mapping[str, int]: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def calibration(self) -> Mapping[str, Any]: ...
    def encode(self, batch: UInt8) -> Encoded:
        """batch: uint8 (n, C, H, W) as `preprocess` makes it."""
        ...

    @property
    def has_maps(self) -> bool: ...
    def maps(self, batch: UInt8) -> Maps:
        """batch: as for `encode`, or the same pictures drawn several times as large.

        Raises BadEncoder unless it has maps.
        """
        ...


class PixelsEncoder:
    """A 24 x 24 grey thumbnail, its mean taken away: one layer, no classes. The floor every network has to beat."""

    name = "pixels"
    precision = "f32"
    layers: Mapping[str, int] = {"pixels": 24 * 24}  # a constant
    classes: tuple[str, ...] = ()
    calibration: Mapping[str, Any] = {}  # a constant
    has_maps = False

    def __init__(self, *, mask_burned_in: bool = False) -> None:
        self.preprocessing = Preprocessing(size=24, crop=24, regions_only=mask_burned_in)

    @property
    def fingerprint(self) -> str:
        return _digest({"kind": "pixels", "version": 1, "preprocessing": self.preprocessing.as_dict()})

    def encode(self, batch: UInt8) -> Encoded:
        thumbnails = batch.reshape(len(batch), self.layers["pixels"]).astype(np.float32) / 255
        return Encoded({"pixels": thumbnails - thumbnails.mean(axis=1, keepdims=True)}, None)

    def maps(self, batch: UInt8) -> Maps:
        raise no_maps(self)


@dataclass
class NetworkEncoder:
    """An encoder read from a directory. Its network is opened when it is first needed."""

    directory: Path
    architecture: Mapping[str, Any]
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    layers: Mapping[str, int]
    calibration: Mapping[str, Any]
    training: Mapping[str, Any]
    weights_sha256: str
    arithmetic: Arithmetic
    _opened: Runtime | None = field(default=None, repr=False)
    _mapping: tuple[Runtime, Float32, Float32, Float32] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def precision(self) -> str:
        return str(self.arithmetic)

    @property
    def digest(self) -> str:
        """Of all that changes what it answers, wherever it lies and whatever runs it."""
        return _digest(_content(self))

    @property
    def fingerprint(self) -> str:
        return _digest(_content(self) | {"precision": self.precision})

    def encode(self, batch: UInt8) -> Encoded:
        if self._opened is None:
            self._opened = open_runtime(self.files, self.arithmetic)
        *layers, log_probabilities = self._opened(batch)
        return Encoded(dict(zip(self.layers, layers, strict=True)), tempered(log_probabilities, self.calibration))

    @property
    def has_maps(self) -> bool:
        return has_maps(self.architecture)

    def maps(self, batch: UInt8) -> Maps:
        if not self.has_maps:
            raise no_maps(self)
        if self._mapping is None:
            p, weight, bias = load_arrays(self.files, ("p", "project.weight", "project.bias"))
            self._mapping = open_runtime(self.files, self.arithmetic, "maps"), _of_channels(p, weight), weight, bias
        runtime, power, weight, bias = self._mapping
        return Maps(runtime(batch)[0], power, weight, bias)

    @property
    def files(self) -> NetworkFiles:
        return NetworkFiles(self.architecture, self.directory / "weights.safetensors", self.weights_sha256)


def load_encoder(
    name_or_directory: str | Path, *, runtime: str = "auto", precision: str = "auto", mask_burned_in: bool = False
) -> Encoder:
    """`default`, `pixels`, or a directory made by `cbmir train`.

    Raises UsageError when it is missing, BadEncoder when it is damaged or there is nothing to run it.

    runtime: auto, torch or openvino; precision: auto, f32, bf16, or both as an encoder's own `precision` says them.
    mask_burned_in: it sees nothing outside the regions of ultrasound; another encoder, by its fingerprint.
    """
    if name_or_directory == "pixels":
        return PixelsEncoder(mask_burned_in=mask_burned_in)
    directory = encoder_folder(name_or_directory)
    try:
        saved = json.loads((directory / "encoder.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if directory == DEFAULT:
            raise BadEncoder("The encoder that comes with cbmir is not there: install cbmir again.") from error
        raise UsageError(
            f"there is no encoder at {directory}: give a directory made by `cbmir train`, {' or '.join(NAMES)}"
        ) from error
    except (OSError, ValueError) as error:
        raise BadEncoder(f"{directory / 'encoder.json'} cannot be read: restore it or train again") from error
    if saved.get("format") != FORMAT:
        raise BadEncoder(
            f"{directory} was written by another version of cbmir (format {saved.get('format')}, not {FORMAT})"
        )
    if not (directory / "weights.safetensors").is_file():
        raise BadEncoder(f"{directory} has no weights.safetensors: restore it or train again")
    try:
        return NetworkEncoder(
            directory=directory.resolve(),
            architecture=saved["architecture"],
            preprocessing=replace(_preprocessing(saved["preprocessing"], directory), regions_only=mask_burned_in),
            classes=tuple(saved["classes"]),
            layers=saved["layers"],
            calibration=saved["calibration"],
            training=saved["training"],
            weights_sha256=saved["weights_sha256"],
            arithmetic=choose_arithmetic(runtime, precision),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadEncoder(
            f"{directory / 'encoder.json'} lacks a part or has a wrong one: restore it or train again"
        ) from error


def encoder_folder(name_or_directory: str | Path) -> Path:
    """Where an encoder with a network lies: `default` with this package."""
    return DEFAULT if name_or_directory == "default" else Path(name_or_directory)


def lasting_name(name_or_directory: str) -> str:
    """How load_encoder finds it again from any folder, and the default one from another installation too."""
    return name_or_directory if name_or_directory in NAMES else str(Path(name_or_directory).resolve())


def _preprocessing(saved: Mapping[str, Any], directory: Path) -> Preprocessing:
    """Raises BadEncoder when the encoder saw images that were prepared in another way than this program does."""
    if saved["version"] != VERSION:
        raise BadEncoder(
            f"{directory} was trained on images of preprocessing version {saved['version']}, and this cbmir prepares "
            f"them by version {VERSION}: train it again"
        )
    return Preprocessing.from_dict(saved)


def save_encoder(
    directory: Path,
    tensors: Mapping[str, Any],
    *,
    architecture: Mapping[str, Any],
    preprocessing: Preprocessing,
    classes: tuple[str, ...],
    layers: Mapping[str, int],
    calibration: Mapping[str, Any],
    training: Mapping[str, Any],
) -> None:
    """Write an encoder. tensors: a state dict. encoder.json comes last: the encoder is whole or not there."""
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    new = directory / "weights.new"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, new)
    os.replace(new, directory / "weights.safetensors")
    saved = {
        "format": FORMAT,
        "architecture": dict(architecture),
        "preprocessing": preprocessing.as_dict(),
        "classes": list(classes),
        "layers": dict(layers),
        "calibration": dict(calibration),
        "weights_sha256": file_sha256(directory / "weights.safetensors"),
        "training": dict(training),
    }
    write_json(directory / "encoder.json", saved)


def _of_channels(p: Float32, weight: Float32) -> Float32:
    """The power of each body, for each of its channels."""
    return np.repeat(p.ravel(), weight.shape[1] // p.size)


def no_maps(encoder: Encoder) -> BadEncoder:
    """What is told of an encoder without maps."""
    return BadEncoder(
        f"The encoder {encoder.name} cannot say why images are similar: its features are not made of places of the "
        "picture one by one, as those of the recipe ours are."
    )


def _content(encoder: NetworkEncoder) -> dict[str, Any]:
    """All that changes what an encoder answers."""
    return {
        "format": FORMAT,
        "architecture": dict(encoder.architecture),
        "preprocessing": encoder.preprocessing.as_dict(),
        "classes": list(encoder.classes),
        "layers": dict(encoder.layers),
        "calibration": dict(encoder.calibration),
        "weights": encoder.weights_sha256,
    }


def _digest(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
