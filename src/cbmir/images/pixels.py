"""What the readers of pictures that are no DICOM share: an array becomes a DecodedImage."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..types import DecodedImage, Provenance

Array = npt.NDArray[Any]
MAX_ASPECT = 10.0
ROUNDED_ASPECT = 0.02  # resolutions are rounded to whole dots: less than this apart, they are the same


def picture(
    pixels: Array,
    value_range: tuple[float, float],
    image_id: str,
    provenance: Provenance,
    *,
    frame_index: int = 0,
    inverted: bool = False,
    aspect: float = 1.0,
) -> DecodedImage:
    """pixels: (rows, columns), or RGB uint8 (rows, columns, 3), which is grey when its channels are equal."""
    padding = None
    if pixels.ndim == 3 and is_grey(pixels):
        pixels = pixels[:, :, 0]
    if pixels.ndim == 2:
        pixels = pixels.astype(np.float32, copy=False)
        unknown = ~np.isfinite(pixels)
        padding = unknown if unknown.any() else None
    return DecodedImage(
        pixels=pixels,
        value_range=value_range,
        padding=padding,
        id=image_id,
        provenance=provenance,
        frame_index=frame_index,
        monochrome1=inverted,
        made_for_eye=value_range[1] - value_range[0] <= 255,
        pixel_aspect=aspect,
    )


def is_grey(pixels: Array) -> bool:
    red, green, blue = (pixels[:, :, channel] for channel in range(3))
    return np.array_equal(red, green) and np.array_equal(green, blue)


def aspect_of(across: Any, down: Any) -> float:
    """Height of a pixel over its width, of so many dots per unit across and down; 1 where they make no sense."""
    try:
        aspect = float(across) / float(down)
    except (TypeError, ValueError, ArithmeticError):
        return 1.0
    believable = 1 / MAX_ASPECT < aspect < MAX_ASPECT and abs(aspect - 1) >= ROUNDED_ASPECT
    return aspect if believable else 1.0
