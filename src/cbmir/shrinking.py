"""Pictures far larger than any encoder looks at are averaged down first, so that memory stays bounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .types import Bool, DecodedImage
from .windowing import Array, unknown_pixels

LONGEST_SIDE = 6144
"""Mammograms (4096 x 5625 and below) and chest radiographs stay as they are."""


def shrunk(image: DecodedImage) -> DecodedImage:
    """The image itself, or, with a side above LONGEST_SIDE, the means of whole numbers of pixels along that side.

    Padding and what is no number does not count in a mean; where there is nothing else, the mean is padding. Regions
    are not kept.
    """
    down, across = blocks(image.pixels.shape[:2])
    if (down, across) == (1, 1):
        return image
    pixels, empty = _means(image.pixels, unknown_pixels(image), down, across)
    return replace(image, pixels=pixels, padding=empty, regions=(), pixel_aspect=image.pixel_aspect * down / across)


def blocks(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many pixels of a picture of this shape `shrunk` makes one of: down, across."""
    down, across = (-(-side // LONGEST_SIDE) for side in shape)
    return down, across


def _means(pixels: Array, padding: Bool | None, down: int, across: int) -> tuple[Array, Bool | None]:
    """Means of blocks of down x across pixels (those at the end may be smaller), one row of blocks at a time, and
    which blocks hold nothing (None without padding)."""
    rows, columns = pixels.shape[:2]
    starts = np.arange(0, columns, across)
    means = np.empty((-(-rows // down), len(starts), *pixels.shape[2:]), dtype=pixels.dtype)
    empty = None if padding is None else np.zeros(means.shape[:2], dtype=bool)
    for row in range(len(means)):
        band = slice(row * down, row * down + down)
        values = pixels[band].astype(np.float32)
        known = np.ones(values.shape[:2], dtype=bool) if padding is None else ~padding[band]
        if padding is not None:
            values[~known] = 0
        counts = np.add.reduceat(known.sum(axis=0, dtype=np.float32), starts)
        sums = np.add.reduceat(values.sum(axis=0), starts, axis=0)
        divisor = np.maximum(counts, 1).reshape(-1, *(1,) * (sums.ndim - 1))
        mean = sums / divisor
        means[row] = mean if pixels.dtype == np.float32 else np.rint(mean)
        if empty is not None:
            empty[row] = counts == 0
    return means, empty if empty is not None and empty.any() else None
