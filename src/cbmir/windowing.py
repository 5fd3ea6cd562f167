"""From modality values to display values: windows, tables, percentiles. What `preprocess` and `display` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .errors import BadImage
from .types import Bool, DecodedImage, Float32, UInt8, Window, WindowFunction

Array = npt.NDArray[Any]

PERCENTILES = (0.5, 99.5)
SUV = (0.0, 10.0)
"""Black and white: of the unpadded pixels, and of a PET in SUVbw."""


class Rule(NamedTuple):
    """A name for people, and what makes float32 display values in [0, 1] of modality values (rows, columns).

    window: the same as a window, where it is one.
    """

    name: str
    show: Callable[[Array], Float32]
    window: Window | None = None


def apply_window(pixels: Array, center: float, width: float, function: WindowFunction = "LINEAR") -> Float32:
    """Map modality values to display range.

    pixels: (rows, columns), after the modality LUT; CT in HU. center, width: same unit as pixels.
    Returns float32 in [0, 1]; 0 is black in MONOCHROME2.
    Raises BadImage (refused) when width is below 1 (LINEAR) or not above 0 (the others).
    Source: DICOM PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT).
    """
    if not window_is_valid(center, width, function):
        raise BadImage("refused", f"A window of width {width:g} is not valid for function {function}.")
    if function == "SIGMOID":
        # exp(88) is the last that float32 holds; beyond it the curve is 0 or 1 anyway.
        exponent = np.clip(-4 * (pixels - np.float32(center)) / np.float32(width), -80, 80)
        sigmoid: Float32 = (1 / (1 + np.exp(exponent))).astype(np.float32)
        return sigmoid
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
        if width == 0:
            return (pixels > center).astype(np.float32)
    return ramp(pixels, center - width / 2, center + width / 2)


def window_is_valid(center: float, width: float, function: WindowFunction) -> bool:
    finite = np.isfinite(center) and np.isfinite(width)
    return bool(finite and (width >= 1 if function == "LINEAR" else width > 0))


def ramp(pixels: Array, black: float, white: float) -> Float32:
    """A straight line from black (0) to white (1), flat outside. What float32 cannot tell apart becomes NaN."""
    with np.errstate(all="ignore"):
        display: Float32 = np.subtract(pixels, np.float32(black), dtype=np.float32)
        display *= np.float32(1 / (white - black))
    np.clip(display, 0, 1, out=display)
    return display


def look_up_voi(pixels: Array, first: float, table: Float32) -> Float32:
    """VOI LUT: below the first mapped value the first entry, beyond the last the last (PS3.3 C.11.2.1.1).

    What is no number, which has no place in the table, gets the first entry.
    """
    positions = np.clip(np.nan_to_num(np.rint(pixels - first)), 0, len(table) - 1).astype(np.intp)
    display: Float32 = table[positions]
    return display


def rules_of_header(image: DecodedImage) -> Iterator[Rule]:
    """The VOI LUT of the header, then its windows that are valid, then the range of what was made to be looked at."""
    if image.voi_lut is not None:
        first, table = image.voi_lut
        yield Rule("voi lut", lambda pixels: look_up_voi(pixels, first, table))
    yield from rules_of_windows(image)
    if image.made_for_eye:
        black, white = image.value_range
        yield rule_of_ramp("value range", black, max(white, black + 1))


def rules_of_windows(image: DecodedImage) -> Iterator[Rule]:
    for window in image.windows:
        if window_is_valid(window.center, window.width, window.function):
            yield rule_of_window(window)


def rule_of_window(window: Window) -> Rule:
    def show(pixels: Array) -> Float32:
        return apply_window(pixels, window.center, window.width, window.function)

    return Rule(f"window {window.function}", show, window)


def rule_of_ramp(name: str, black: float, white: float) -> Rule:
    window = Window((black + white) / 2, white - black, "LINEAR_EXACT")
    return Rule(name, lambda pixels: ramp(pixels, black, white), window)


def rule_of_suv(black: float, white: float) -> Rule:
    return rule_of_ramp(f"suv {black:g}-{white:g}", black, white)


def rules_of_percentiles(image: DecodedImage, padding: Bool | None, low: float, high: float) -> Iterator[Rule]:
    """Between two percentiles of the unpadded pixels; where these coincide, between the extremes."""
    known = image.pixels.ravel() if padding is None else image.pixels[~padding]
    if not known.size:
        return
    for name, ends in ((f"percentiles {low:g}-{high:g}", (low, high)), ("extremes", (0.0, 100.0))):
        black, white = nearest_ranks(known, *ends)
        if white > black:
            yield rule_of_ramp(name, black, white)


def nearest_ranks(values: Array, low: float, high: float) -> tuple[float, float]:
    """Two percentiles without interpolation: two partial sorts are five times faster than numpy.percentile."""
    last = values.size - 1
    ranks = [round(low / 100 * last), round(high / 100 * last)]
    ordered = np.partition(values, ranks)
    return float(ordered[ranks[0]]), float(ordered[ranks[1]])


def unknown_pixels(image: DecodedImage) -> Bool | None:
    """Padding, and what is not a number: pixels that count for nothing. None when there is none."""
    if image.is_colour:
        return image.padding
    with np.errstate(all="ignore"):
        if np.isfinite(image.pixels.sum()):  # one number is not finite when any is not
            return image.padding
    unknown: Bool = ~np.isfinite(image.pixels)
    return unknown if image.padding is None else unknown | image.padding


def finished(display: Float32, image: DecodedImage, padding: Bool | None) -> Float32:
    """MONOCHROME1 is inverted last, then padding is painted black (PS3.3 C.7.6.3.1.2, C.7.5.1.1.2). May write into
    display.
    """
    if image.monochrome1:
        display = 1 - display
    if padding is not None:
        display[padding] = 0
    return display


def rounded(values: Float32) -> UInt8:
    """0 to 255 as uint8, half up."""
    whole: UInt8 = np.clip(values + np.float32(0.5), 0, 255).astype(np.uint8)
    return whole
