"""An image for eyes, at full resolution: as its file wants to be shown. What the network sees is preprocess.py's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .errors import UsageError
from .types import Bool, DecodedImage, Float32, UInt8, Window
from .windowing import (
    PERCENTILES,
    SUV,
    Rule,
    finished,
    rounded,
    rule_of_suv,
    rule_of_window,
    rules_of_header,
    rules_of_percentiles,
    unknown_pixels,
    window_is_valid,
)

NOTHING = "nothing to see"


def render(image: DecodedImage, window: tuple[float, float] | None = None) -> UInt8:
    """Grey levels (rows, columns), or RGB (rows, columns, 3), uint8.

    Grey: the VOI LUT, else the first window of the header, else the range of what is made for the eye, else SUV 0 to 10
    of a PET in SUVbw, else the percentiles 0.5 to 99.5 of the unpadded pixels; MONOCHROME1 inverted last, padding
    black, halves rounded up.
    window: (center, width) instead, with the function LINEAR; it means nothing for colour.
    Raises UsageError for a window narrower than 1. An image of which nothing can be seen is black.
    """
    return rendered(image, window)[0]


def rendered(image: DecodedImage, window: tuple[float, float] | None = None) -> tuple[UInt8, str]:
    """As render, and the rule that was used, in the words of preprocess.Preprocessed."""
    if window is not None and not window_is_valid(*window, "LINEAR"):
        raise UsageError(f"A window is at least 1 wide, not {window[1]:g}.")
    if image.is_colour:
        return image.pixels, "colour"
    padding = unknown_pixels(image)
    for rule in rules_for_eyes(image, padding, window):
        display: Float32 = np.nan_to_num(rule.show(image.pixels), copy=False)
        return rounded(finished(display, image, padding) * np.float32(255)), rule.name
    return np.zeros(image.pixels.shape, np.uint8), NOTHING


def rules_for_eyes(
    image: DecodedImage, padding: Bool | None, window: tuple[float, float] | None = None
) -> Iterator[Rule]:
    """Of a grey image, the preferred first; it is shown by that. None where nothing can be seen."""
    if window is not None:
        yield rule_of_window(Window(*window))
    yield from rules_of_header(image)
    if image.provenance.values == "SUVbw":
        yield rule_of_suv(*SUV)
    yield from rules_of_percentiles(image, padding, *PERCENTILES)
