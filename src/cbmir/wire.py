"""An image as a browser takes it: whole numbers of 8 or 16 bits, and what makes values and grey levels of them.

A viewer that computes value = number * slope + intercept, applies the window (display.rules_for_eyes; PS3.3
C.11.2.1.2), inverts MONOCHROME1 last and paints padding black draws what display.render draws, within a grey level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .display import NOTHING, rules_for_eyes
from .types import Bool, DecodedImage, Float32
from .windowing import Rule, rules_of_windows, unknown_pixels

Float = npt.NDArray[np.float64]

LOWEST, HIGHEST = -(2**15), 2**15 - 1
PADDING = LOWEST
"""The number of a pixel that means nothing, where there are any."""
MOST_SORTED = 2**22
"""Of more pixels no common step is looked for: to sort them takes a second."""


@dataclass(frozen=True)
class Wire:
    """octets: little endian, row by row, of a colour picture the three channels of a pixel side by side.

    value = number * slope + intercept, which is wrong by `error` at most, 0 where values fit exactly. windows: of the
    header, in its order. window: center and width of what is shown at first: with the function of the same one in
    windows, else LINEAR_EXACT; None for colour. voi_lut: values are those after the file's table, 0 ... 65535.
    rule: as display.rendered tells it.
    """

    octets: bytes
    rows: int
    columns: int
    channels: Literal[1, 3]
    dtype: Literal["int16", "uint8"]
    slope: float = 1.0
    intercept: float = 0.0
    error: float = 0.0
    padding: int | None = None
    windows: tuple[tuple[float, float, str], ...] = ()
    window: tuple[float, float] | None = None
    voi_lut: bool = False
    rule: str = "colour"


def on_the_wire(image: DecodedImage) -> Wire:
    """The image with all of its values, whatever is shown at first."""
    rows, columns = image.pixels.shape[:2]
    if image.is_colour:
        return Wire(image.pixels.tobytes(), rows, columns, 3, "uint8")
    unknown = unknown_pixels(image)
    rule = next(rules_for_eyes(image, unknown), None)
    has_table = rule is not None and rule.window is None
    values = _through_table(rule, image.pixels) if has_table and rule is not None else image.pixels
    numbers, slope, intercept, error = _numbered(values, unknown)
    windows = () if has_table else tuple((w.center, w.width, str(w.function)) for w in _windows(image))
    return Wire(
        octets=numbers.tobytes(),
        rows=rows,
        columns=columns,
        channels=1,
        dtype="int16",
        slope=slope,
        intercept=intercept,
        error=error,
        padding=None if unknown is None else PADDING,
        windows=windows,
        window=_first_window(rule, image, intercept),
        voi_lut=has_table,
        rule=NOTHING if rule is None else rule.name,
    )


def _through_table(rule: Rule, pixels: Float32) -> Float32:
    """P-values of 16 bits: what a window would say of the values before does not hold after them."""
    values: Float32 = np.rint(rule.show(pixels) * np.float32(65535))
    return values


def _windows(image: DecodedImage) -> list[Any]:
    return [rule.window for rule in rules_of_windows(image)]


def _first_window(rule: Rule | None, image: DecodedImage, only_value: float) -> tuple[float, float]:
    """Where nothing can be seen, one under which the only value is black; before MONOCHROME1 is inverted, white."""
    if rule is None:
        return (only_value - 1, 1.0) if image.monochrome1 else (only_value + 1, 1.0)
    if rule.window is None:
        return 65535 / 2, 65535.0
    return rule.window.center, rule.window.width


def _numbered(values: Float32, unknown: Bool | None) -> tuple[npt.NDArray[np.int16], float, float, float]:
    """int16 (rows, columns), slope, intercept, error."""
    known = values.ravel() if unknown is None else values[~unknown]
    lowest = LOWEST if unknown is None else LOWEST + 1
    slope, intercept = _scale(known, lowest, HIGHEST - lowest)
    exact = values.astype(np.float64)
    if unknown is not None:
        exact[unknown] = intercept
    numbers = np.clip(np.rint((exact - intercept) / slope), lowest, HIGHEST)
    error = float(np.abs(numbers * slope + intercept - exact).max())
    if unknown is not None:
        numbers[unknown] = PADDING
    return numbers.astype("<i2"), slope, intercept, error


def _scale(known: Float32, lowest: int, n_steps: int) -> tuple[float, float]:
    """Slope and intercept under which all values are numbers from `lowest` on, of which there are n_steps + 1."""
    least, greatest = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    if least == greatest:
        return 1.0, least
    if greatest - least <= n_steps and bool((known == np.rint(known)).all()):
        return 1.0, 0.0 if lowest <= least and greatest <= HIGHEST else least - lowest
    slope = _step(known, least, greatest, n_steps) or (greatest - least) / n_steps
    return slope, least - lowest * slope


def _step(known: Float32, least: float, greatest: float, most: int) -> float | None:
    """Of which all values are multiples, from the least on: what a scanner stored whole and scaled. None where there is
    none, or more than fit.
    """
    if known.size > MOST_SORTED:
        return None
    different: Float = np.unique(known).astype(np.float64)
    n_steps = np.rint((greatest - least) / np.diff(different).min())
    if n_steps > most:
        return None
    step = float((greatest - least) / n_steps)
    places = (different - least) / step
    return step if np.abs(places - np.rint(places)).max() < 0.01 else None
