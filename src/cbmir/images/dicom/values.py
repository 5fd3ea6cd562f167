"""Stored grey values to what they mean: padding, modality LUT, windows (PS3.3 C.7.5.1.1.2, C.11.1, C.11.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ...types import WINDOW_FUNCTIONS, Bool, Float32, ObjectKind, Window, WindowFunction
from .elements import functional_group, has, items_of, number_of, numbers_of, table_of, text_of, words_of
from .pixels import Stored
from .suv import read_suv

Array = npt.NDArray[Any]
OLD_GE_OUTSIDE_CT = -2000  # stored outside the field of view, without a Pixel Padding Value
HOUNSFIELD = frozenset(
    {"", "HU", "HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS", "HOUNSFIELD_UNIT", "HOUNDSFIELD UNIT"}
)
"""Rescale Types of CT that mean HU; the standard's term is HU (PS3.3 C.11.1.1.2), scanners write the others."""
NOT_LINEAR = frozenset({"LOG", "DISP"})
X_RAY = frozenset({"XA", "RF", "XRF", "DX", "CR", "MG", "PX", "IO"})


@dataclass(frozen=True)
class ModalityRule:
    """Stored values to meaning: by a table from `first` on, else slope and intercept. phrase: what comes out.

    factor: the part of the slope that is not the modality LUT's; windows of the header are to be multiplied with it.
    """

    phrase: str
    slope: float = 1.0
    intercept: float = 0.0
    first: int = 0
    table: Float32 | None = None
    white: float = 0.0
    factor: float = 1.0

    @property
    def is_identity(self) -> bool:
        return self.table is None and (self.slope, self.intercept) == (1.0, 0.0)

    def apply(self, stored: Array) -> Float32:
        if self.table is not None:
            index = np.clip(stored.astype(np.int64) - self.first, 0, len(self.table) - 1)
            return self.table[index]
        if stored.dtype.itemsize > 2 and not self.is_identity:  # float32 holds 24 bits
            return (stored * np.float64(self.slope) + self.intercept).astype(np.float32)
        pixels = stored.astype(np.float32)
        if not self.is_identity:
            pixels *= np.float32(self.slope)
            pixels += np.float32(self.intercept)
        return pixels

    def value_range(self, low: float, high: float) -> tuple[float, float]:
        """What stored values from low to high could become."""
        if self.table is not None:
            return 0.0, self.white
        ends = sorted((low * self.slope + self.intercept, high * self.slope + self.intercept))
        return ends[0], ends[1]


def modality_rule(dataset: Dataset, index: int, kind: ObjectKind, *, signed: bool) -> ModalityRule:
    """The modality LUT of one frame, or what stands for it in objects that are no pictures."""
    if kind == "dose grid":
        scaling = number_of(dataset, "DoseGridScaling") or 1.0
        gray = text_of(dataset, "DoseUnits").upper() in ("GY", "")
        return ModalityRule("dose in Gy" if gray else "relative dose", slope=scaling)
    if kind == "segmentation":
        return ModalityRule("stored values")
    if kind == "parametric map":
        return _real_world(dataset, index)
    if text_of(dataset, "PixelIntensityRelationship").upper() in NOT_LINEAR and _modality(dataset) in X_RAY:
        # the LUT leads back to X-ray intensities, which nobody looks at (C.8.7.1.1.2)
        return ModalityRule("stored values")
    return _table_rule(dataset, signed) or _rescale(dataset, index)


def _modality(dataset: Dataset) -> str:
    return text_of(dataset, "Modality").upper()


def _table_rule(dataset: Dataset, signed: bool) -> ModalityRule | None:
    items = items_of(dataset, "ModalityLUTSequence")
    found = _lut(items[0], signed) if items else None
    if found is None:
        return None
    first, table, bits = found
    white = max(2.0**bits - 1, float(table.max()))
    return ModalityRule("modality LUT", first=first, table=table.astype(np.float32), white=white)


def _lut(item: Dataset, signed: bool) -> tuple[int, Array, int] | None:
    """The value of the first entry, the table, and its stated depth in bits; None when it is no table."""
    descriptor = words_of(item, "LUTDescriptor", signed=signed)
    if len(descriptor) != 3:
        return None
    n_entries, first, bits = descriptor[0] & 0xFFFF or 65536, descriptor[1], descriptor[2]
    table = table_of(item, "LUTData", n_entries)
    return (first, table, min(max(bits, 1), 16)) if table.size >= 2 else None


def _rescale(dataset: Dataset, index: int) -> ModalityRule:
    """Slope and intercept; a slope of 0 would blank the image. PET goes on to SUV where it can."""
    group = functional_group(dataset, index, "PixelValueTransformationSequence", needed=True)
    slope = numbers_of(group, "RescaleSlope", default=1.0)[0] or 1.0
    intercept = numbers_of(group, "RescaleIntercept", default=0.0)[0]
    if _modality(dataset) == "PT":
        suv = read_suv(dataset)
        return ModalityRule(suv.phrase, slope=slope * suv.factor, intercept=intercept * suv.factor, factor=suv.factor)
    said = has(group, "RescaleSlope") or has(group, "RescaleIntercept")
    if said and _modality(dataset) == "CT" and text_of(group, "RescaleType").upper() in HOUNSFIELD:
        return ModalityRule("HU", slope=slope, intercept=intercept)
    identity = (slope, intercept) == (1.0, 0.0)
    return ModalityRule("stored values" if identity else "rescaled values", slope=slope, intercept=intercept)


def _real_world(dataset: Dataset, index: int) -> ModalityRule:
    """Real World Value Mapping (C.7.6.16.2.11); the first one of a frame."""
    group = functional_group(dataset, index, "RealWorldValueMappingSequence", needed=True)
    if group is dataset:
        items = items_of(dataset, "RealWorldValueMappingSequence")
        group = items[0] if items else dataset
    slope = number_of(group, "RealWorldValueSlope") or 1.0
    return ModalityRule("real world values", slope=slope, intercept=number_of(group, "RealWorldValueIntercept") or 0.0)


def stored_range(stored: Stored) -> tuple[float, float]:
    """The lowest and the highest value the encoding holds; of floats, that there are."""
    if stored.pixels.dtype.kind == "f":
        known = stored.pixels[np.isfinite(stored.pixels)]
        return float(known.min(initial=0)), float(known.max(initial=1))
    if stored.signed:
        return -(2.0 ** (stored.bits - 1)), 2.0 ** (stored.bits - 1) - 1
    return 0.0, 2.0**stored.bits - 1


def padding_of(stored: Stored, dataset: Dataset) -> Bool | None:
    """Where stored values mean nothing: Pixel Padding Value .. Range Limit, not a number, or not in a cut file."""
    pixels = stored.pixels
    if pixels.dtype.kind == "f":
        mask: Bool = ~np.isfinite(pixels) | _padded_floats(pixels, dataset)
    else:
        mask = _padded(pixels, dataset, stored.signed)
    if stored.missing is not None:
        mask = mask | stored.missing
    return mask if mask.any() else None


def _padded(pixels: Array, dataset: Dataset, signed: bool) -> Bool:
    value, limit = (
        words_of(dataset, name, signed=signed)[:1] for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")
    )
    if not value:
        if not signed or _modality(dataset) != "CT":
            return np.zeros(pixels.shape, dtype=np.bool_)
        value = [OLD_GE_OUTSIDE_CT]
    low, high = sorted((value + limit) if limit else (value * 2))
    return pixels == low if low == high else (pixels >= low) & (pixels <= high)


def _padded_floats(pixels: Array, dataset: Dataset) -> Bool:
    """Float or Double Float Pixel Padding Value and Range Limit (C.7.6.24, C.7.6.25)."""
    kind = "Float" if pixels.dtype.itemsize == 4 else "DoubleFloat"
    value, limit = (number_of(dataset, f"{kind}PixelPadding{name}") for name in ("Value", "RangeLimit"))
    if value is None:
        return np.zeros(pixels.shape, dtype=np.bool_)
    low, high = sorted(pixels.dtype.type(part) for part in (value, value if limit is None else limit))
    padded: Bool = (pixels >= low) & (pixels <= high)
    return padded


def windows_of(dataset: Dataset, index: int, factor: float = 1.0) -> tuple[Window, ...]:
    """The window candidates of one frame. factor: what the modality values were multiplied with beyond the rescale."""
    group = functional_group(dataset, index, "FrameVOILUTSequence", needed=True)
    centers = numbers_of(group, "WindowCenter", default=0.0)
    widths = numbers_of(group, "WindowWidth", default=0.0)  # without a width it is no window
    said = text_of(group, "VOILUTFunction").upper()
    function: WindowFunction = next((known for known in WINDOW_FUNCTIONS if known == said), "LINEAR")
    windows = (Window(c, w, function) for c, w in zip(centers, widths, strict=False) if w > 0)
    return tuple(windows) if factor == 1 else tuple(_scaled(window, factor) for window in windows)


def _scaled(window: Window, factor: float) -> Window:
    """The same window in another unit. LINEAR counts whole steps of its own unit (half a step less, one step narrower),
    which LINEAR_EXACT does not (C.11.2.1.2.1 and C.11.2.1.3.2).
    """
    center, width, function = window.center, window.width, window.function
    if function == "LINEAR" and width > 1:
        center, width, function = center - 0.5, width - 1, "LINEAR_EXACT"
    return Window(center * factor, width * factor, function)


def voi_lut_of(dataset: Dataset, index: int, *, signed: bool) -> tuple[float, Float32] | None:
    """The first VOI LUT as (first mapped value, table in [0, 1]) (C.11.2.1.1). signed: can values be below 0?"""
    group = functional_group(dataset, index, "FrameVOILUTSequence", needed=True)
    items = items_of(group, "VOILUTSequence") or items_of(dataset, "VOILUTSequence")
    found = _lut(items[0], signed) if items else None
    if found is None:
        return None
    first, table, bits = found
    white = max(2.0**bits - 1, float(table.max()))
    return float(first), (table / np.float32(white)).astype(np.float32)


def is_inverted(dataset: Dataset) -> bool:
    """Low values are white (C.7.6.3.1.2, C.11.6.1.2). MONOCHROME1 with INVERSE says the same thing twice."""
    inverse = text_of(dataset, "PresentationLUTShape").upper() == "INVERSE"
    return inverse or text_of(dataset, "PhotometricInterpretation").upper() == "MONOCHROME1"
