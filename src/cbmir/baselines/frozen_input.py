"""What a foreign network wants to see, from the preprocessing file that lies beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import UsageError
from ..preprocess import Preprocessing
from ..types import Float32, UInt8

Channels = Literal["rgb", "bgr", "grey"]
Layout = Literal["NCHW", "NHWC"]
SMALLEST_UNCROPPED = 384
"""ConvNeXt's processor crops pictures that are smaller, by its crop_pct."""
ONNX_KEYS = {"file", "side", "crop", "channels", "layout", "scale", "mean", "std", "output"}


@dataclass(frozen=True)
class FrozenInput:
    """The picture is resized to (side, side), its centre (crop, crop) taken; then (x scale - mean) / std a channel.

    x is 0 ... 255. The resizing is cbmir's own, in `preprocess`: bilinear with antialiasing, the whole picture in the
    square. Most models were trained on bicubic ones whose shorter side filled the square and whose rest was cut off;
    here nothing of the body is cut off that is not cut for all methods alike.
    """

    side: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1 / 255
    channels: Channels = "rgb"
    layout: Layout = "NCHW"

    def __post_init__(self) -> None:
        """Raises UsageError for a value that cannot be."""
        n = 1 if self.channels == "grey" else 3
        for what, fits in (
            ("channels are rgb, bgr or grey", self.channels in ("rgb", "bgr", "grey")),
            ("the layout is NCHW or NHWC", self.layout in ("NCHW", "NHWC")),
            ("crop is between 1 and side", 1 <= self.crop <= self.side <= 2048),
            (f"mean and std are {n} numbers each", len(self.mean) == len(self.std) == n),
            ("std and scale are above 0", min(*self.std, self.scale) > 0),
        ):
            if not fits:
                raise UsageError(f"The preprocessing of the frozen model is wrong: {what}.")

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(size=self.side, crop=self.crop, channels="grey" if self.channels == "grey" else "rgb")

    def __call__(self, images: UInt8) -> Float32:
        """uint8 (n, C, crop, crop), RGB or grey, to float32 in the model's layout."""
        if self.channels == "bgr":
            images = images[:, ::-1]
        shape = (1, -1, 1, 1)
        mean, std = (np.array(values, np.float32).reshape(shape) for values in (self.mean, self.std))
        values = (images * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(values if self.layout == "NCHW" else values.transpose(0, 2, 3, 1))


def from_onnx_json(saved: Mapping[str, Any]) -> FrozenInput:
    """The JSON beside an ONNX file; frozen.py has its keys. Raises UsageError for one that is missing or unknown."""
    if unknown := sorted(set(saved) - ONNX_KEYS):
        raise UsageError(
            f"The preprocessing of an ONNX file has no '{unknown[0]}'; it has {', '.join(sorted(ONNX_KEYS))}."
        )
    try:
        return FrozenInput(
            side=int(saved["side"]),
            crop=int(saved.get("crop", saved["side"])),
            mean=tuple(float(value) for value in saved["mean"]),
            std=tuple(float(value) for value in saved["std"]),
            scale=float(saved["scale"]),
            channels=saved.get("channels", "rgb"),
            layout=saved.get("layout", "NCHW"),
        )
    except KeyError as error:
        raise UsageError(f"The preprocessing of the ONNX file lacks '{error.args[0]}'.") from None
    except (TypeError, ValueError):
        raise UsageError("The preprocessing of the ONNX file has something else where a number belongs.") from None


def from_preprocessor_config(saved: Mapping[str, Any]) -> FrozenInput:
    """`preprocessor_config.json` of a `transformers` model. Raises UsageError where it cannot be followed."""
    if not saved.get("do_resize", True):
        raise UsageError("The model's preprocessor_config.json does not say to what size images are resized.")
    try:
        side, crop = _sides(saved)
        scale = float(saved.get("rescale_factor", 1 / 255)) if saved.get("do_rescale", True) else 1.0
        normalised = saved.get("do_normalize", True)
        mean = tuple(float(value) for value in saved["image_mean"]) if normalised else (0.0,) * 3
        std = tuple(float(value) for value in saved["image_std"]) if normalised else (1.0,) * 3
    except (KeyError, TypeError, ValueError):
        raise UsageError("The model's preprocessor_config.json lacks size, image_mean or image_std.") from None
    return FrozenInput(side, crop, mean, std, scale)


def _sides(saved: Mapping[str, Any]) -> tuple[int, int]:
    """(side, crop): of the resized square, and of its centre."""
    side = _square(saved["size"])
    part = saved.get("crop_pct")
    if part is not None and side < SMALLEST_UNCROPPED:  # ConvNeXt and ResNet: the size is that of the crop
        return int(side / float(part)), side
    return side, _square(saved["crop_size"]) if saved.get("do_center_crop") else side


def _square(size: Any) -> int:
    """224, {"shortest_edge": 224}, or {"height": 224, "width": 224}."""
    if isinstance(size, Mapping):
        if "shortest_edge" in size:
            return int(size["shortest_edge"])
        if size["height"] != size["width"]:
            raise ValueError("not a square")
        return int(size["height"])
    return int(size)
