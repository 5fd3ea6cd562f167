"""A decoded image becomes the network's input: mask, window for features, resize, centre crop, 8 bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from .errors import BadImage
from .shrinking import blocks, shrunk
from .types import Bool, DecodedImage, Float32, Rectangle, UInt8
from .windowing import (
    PERCENTILES,
    SUV,
    Array,
    Rule,
    apply_window,
    finished,
    rounded,
    rule_of_suv,
    rules_of_header,
    rules_of_percentiles,
    rules_of_windows,
    unknown_pixels,
)

VERSION = 2
PERCENTILE_MODALITIES = frozenset({"MR", "PT", "NM"})
VOLUME_FORMATS = frozenset({"NIfTI", "NRRD"})
SCANNER_FORMATS = VOLUME_FORMATS | {"DICOM"}
"""Their values are a scanner's, unless they are made for the eye."""

CONSTANT = "The image is constant, or its values cannot be shown."


@dataclass(frozen=True)
class Preprocessing:
    """The recipe that travels with an encoder; its fingerprint covers it.

    size: the picture is resized to (size, size); crop: then the centre. aspect: stretched, the whole picture fills the
    square whatever its shape (paper section 3.1), or kept: as the body was, with black beside it.
    ct_windows: (center, width) in HU for lung, soft tissue and bone. suv: black and white of a PET in SUVbw.
    percentiles: black and white of MR, NM and other PET, among the unpadded pixels of the slice.
    regions_only: where an ultrasound picture says which parts of it are scan, the rest (names, dates, scales) is black.
    """

    version: int = VERSION
    size: int = 256
    crop: int = 224
    channels: Literal["grey", "rgb"] = "grey"
    ct_windows: tuple[tuple[float, float], ...] = ((-600.0, 1500.0), (40.0, 400.0), (400.0, 1800.0))
    percentiles: tuple[float, float] = PERCENTILES
    suv: tuple[float, float] = SUV
    aspect: Literal["stretched", "kept"] = "stretched"
    regions_only: bool = False

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ValueError(f"preprocessing version {self.version} is not known; this program knows {VERSION}")
        if not 1 <= self.crop <= self.size:
            raise ValueError(f"crop is between 1 and size {self.size}, not {self.crop}")
        if self.channels not in ("grey", "rgb"):
            raise ValueError(f"channels are grey or rgb, not {self.channels}")
        if len(self.ct_windows) != 3 or any(width < 1 for _, width in self.ct_windows):
            raise ValueError("there are three CT windows, each at least 1 HU wide")
        if self.aspect not in ("stretched", "kept"):
            raise ValueError(f"the aspect is stretched or kept, not {self.aspect}")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError("percentiles are two rising numbers between 0 and 100")
        if not self.suv[0] < self.suv[1]:
            raise ValueError("the SUV of black is below that of white")

    @property
    def n_channels(self) -> int:
        return 1 if self.channels == "grey" else 3

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """The inverse of as_dict, also after JSON has made lists of tuples."""
        known = dict(values)
        if "ct_windows" in known:
            known["ct_windows"] = tuple((float(c), float(w)) for c, w in known["ct_windows"])
        for pair in ("percentiles", "suv"):
            if pair in known:
                low, high = known[pair]
                known[pair] = (float(low), float(high))
        return cls(**known)


@dataclass(frozen=True)
class Preprocessed:
    """pixels: the network's input, uint8 (C, crop, crop), 0 is black. window: the rule that made grey levels of values:
    'ct lung, soft tissue, bone', 'suv 0-10', 'percentiles 0.5-99.5', 'voi lut', 'window LINEAR', 'value range',
    'extremes' or 'colour'.
    """

    pixels: UInt8
    window: str


def preprocess(image: DecodedImage, recipe: Preprocessing) -> Preprocessed:
    """The network's input; its C is 1 for grey, 3 for rgb.

    Raises BadImage (refused) when nothing can be seen: a constant image, one of padding or of no numbers, or one that
    is constant at the size of the recipe. Memory beyond the image's own stays below that of a 6144 x 6144 one.
    """
    image = shrunk(masked(image, recipe))
    planes, window = _colour_planes(image, recipe) if image.is_colour else _grey_planes(image, recipe)
    resized = np.stack([_resized(plane, image.pixel_aspect, recipe) for plane in planes])
    if resized.min() == resized.max() or all(plane.min() == plane.max() for plane in planes):
        raise BadImage("refused", CONSTANT)
    if len(resized) < recipe.n_channels:
        resized = np.repeat(resized, recipe.n_channels, axis=0)
    return Preprocessed(resized, window)


def seen_box(image: DecodedImage, recipe: Preprocessing) -> tuple[float, float, float, float]:
    """left, top, right, bottom of what the network's input shows, in pixels of the picture as `display.render` draws
    it. Reaches outside where black was put beside the picture.
    """
    down, across = blocks(image.pixels.shape[:2])
    rows, columns = (-(-side // n) for side, n in zip(image.pixels.shape[:2], (down, across), strict=True))
    if recipe.aspect == "stretched":
        left, top, right, bottom = _crop_box(rows, columns, recipe)
    else:
        inner_rows, inner_columns = _kept_shape(rows, columns, image.pixel_aspect * down / across, recipe)
        begin = (recipe.size - recipe.crop) // 2
        edges = (recipe.size - inner_columns) // 2, (recipe.size - inner_rows) // 2
        left, top = ((begin - edge) for edge in edges)
        right, bottom = left + recipe.crop, top + recipe.crop
        left, right = left * columns / inner_columns, right * columns / inner_columns
        top, bottom = top * rows / inner_rows, bottom * rows / inner_rows
    return left * across, top * down, right * across, bottom * down


def part_of(image: DecodedImage, region: Rectangle) -> DecodedImage:
    """What lies inside a region, as an image of its own: where a window is found in its values, in those of the part.

    Raises BadImage (refused) when the region is empty or reaches outside.
    """
    left, top, right, bottom = region
    rows, columns = image.pixels.shape[:2]
    if not (0 <= left < right <= columns and 0 <= top < bottom <= rows):
        raise BadImage("refused", f"The region is not a part of the picture, which is {columns} wide and {rows} high.")
    inside = slice(top, bottom), slice(left, right)
    return replace(
        image,
        pixels=image.pixels[inside],
        padding=None if image.padding is None else image.padding[inside],
        regions=tuple((a - left, b - top, c - left, d - top) for a, b, c, d in image.regions),
    )


def window_for_features(image: DecodedImage, recipe: Preprocessing) -> tuple[Float32, str]:
    """Display values of a grey image and the rule that made them: float32 in [0, 1], (rows, columns), or
    (rows, columns, 3) for CT when the recipe is rgb (one window per channel: lung, soft tissue, bone).

    MONOCHROME1 is inverted last, then padding is painted black (PS3.3 C.7.6.3.1.2, C.7.5.1.1.2).
    Raises BadImage (refused) when no rule shows more than one grey level.
    """
    padding = unknown_pixels(image)
    for rule in _rules(image, padding, recipe):
        display = rule.show(image.pixels)
        visible = display if padding is None else display[~padding]
        if visible.size and visible.min() < visible.max():  # never so where one is no number
            return finished(display, image, padding), rule.name
    raise BadImage("refused", CONSTANT)


def _rules(image: DecodedImage, padding: Bool | None, recipe: Preprocessing) -> Iterator[Rule]:
    """Ways to show a grey image, the preferred first; the caller takes the first that is not constant."""
    of_scanner = image.provenance.format in SCANNER_FORMATS and not image.made_for_eye
    if image.modality == "CT" and of_scanner and _is_in_hu(image):
        yield Rule("ct lung, soft tissue, bone", lambda pixels: _ct(pixels, recipe))
    if image.provenance.values == "SUVbw":
        yield rule_of_suv(*recipe.suv)
    if image.provenance.format in VOLUME_FORMATS:
        yield from rules_of_windows(image)  # of the whole volume: its slices stay comparable
    if image.modality in PERCENTILE_MODALITIES and of_scanner:
        yield from rules_of_percentiles(image, padding, *recipe.percentiles)
    yield from rules_of_header(image)
    yield from rules_of_percentiles(image, padding, *recipe.percentiles)


def _is_in_hu(image: DecodedImage) -> bool:
    """What is known of a CT slice: DICOM says it (a perfusion map is no HU), volumes hold HU where a manifest says CT,
    for they have no word for it."""
    return image.provenance.values == "HU" or image.provenance.format in VOLUME_FORMATS


def _ct(pixels: Array, recipe: Preprocessing) -> Float32:
    """grey: mean of the three windows, a monotone piecewise-linear curve that keeps contrast in each of them;
    rgb: one window per channel, (rows, columns, 3)."""
    windows = [apply_window(pixels, center, width) for center, width in recipe.ct_windows]
    if recipe.channels == "rgb":
        return np.stack(windows, axis=-1)
    total = windows[0]
    for window in windows[1:]:
        total += window
    total /= len(windows)
    return total


def masked(image: DecodedImage, recipe: Preprocessing) -> DecodedImage:
    """Without what lies outside the regions of an ultrasound picture, where they are known and unwanted."""
    if not (recipe.regions_only and image.regions):
        return image
    outside = np.ones(image.pixels.shape[:2], dtype=bool)
    for left, top, right, bottom in image.regions:
        outside[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = False
    if image.is_colour:
        return replace(image, pixels=np.where(outside[:, :, None], np.uint8(0), image.pixels))
    return replace(image, padding=outside if image.padding is None else outside | image.padding)


def _colour_planes(image: DecodedImage, recipe: Preprocessing) -> tuple[list[Array], str]:
    """The three channels, or for grey the luma of ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B."""
    if recipe.channels == "rgb":
        return [image.pixels[:, :, channel] for channel in range(3)], "colour"
    return [np.asarray(Image.fromarray(np.ascontiguousarray(image.pixels)).convert("L"))], "colour"


def _grey_planes(image: DecodedImage, recipe: Preprocessing) -> tuple[list[Array], str]:
    display, window = window_for_features(image, recipe)
    return [display] if display.ndim == 2 else [display[:, :, channel] for channel in range(3)], window


def _resized(plane: Array, pixel_aspect: float, recipe: Preprocessing) -> UInt8:
    """(rows, columns) uint8, or float32 in [0, 1], to the centre (crop, crop) of (size, size), uint8.

    Bilinear with antialiasing (Pillow widens the triangle when it shrinks), in float32.
    """
    values = plane.astype(np.float32) if plane.dtype == np.uint8 else plane * np.float32(255)
    picture = Image.fromarray(values)
    resized = _stretched(picture, recipe) if recipe.aspect == "stretched" else _kept(picture, pixel_aspect, recipe)
    return rounded(resized)


def _stretched(picture: Image.Image, recipe: Preprocessing) -> Float32:
    """Only the crop is computed: its box in pixels of the source gives the same values as resizing everything."""
    box = _crop_box(picture.height, picture.width, recipe)
    return np.asarray(picture.resize((recipe.crop, recipe.crop), Image.Resampling.BILINEAR, box=box))


def _crop_box(rows: int, columns: int, recipe: Preprocessing) -> tuple[float, float, float, float]:
    """left, top, right, bottom of the crop in pixels of a picture that is stretched to (size, size)."""
    offset = (recipe.size - recipe.crop) // 2
    begin, end = offset / recipe.size, (offset + recipe.crop) / recipe.size
    return columns * begin, rows * begin, columns * end, rows * end


def _kept_shape(rows: int, columns: int, pixel_aspect: float, recipe: Preprocessing) -> tuple[int, int]:
    """What a picture is resized to so that its body has its own shape and the longer side fills `size`."""
    height, width = rows * pixel_aspect, float(columns)
    scale = recipe.size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _kept(picture: Image.Image, pixel_aspect: float, recipe: Preprocessing) -> Float32:
    """The longer side of the body fills the square, the shorter one is centred on black."""
    rows, columns = _kept_shape(picture.height, picture.width, pixel_aspect, recipe)
    square = np.zeros((recipe.size, recipe.size), dtype=np.float32)
    top, left = (recipe.size - rows) // 2, (recipe.size - columns) // 2
    square[top : top + rows, left : left + columns] = np.asarray(
        picture.resize((columns, rows), Image.Resampling.BILINEAR)
    )
    offset = (recipe.size - recipe.crop) // 2
    return square[offset : offset + recipe.crop, offset : offset + recipe.crop]
