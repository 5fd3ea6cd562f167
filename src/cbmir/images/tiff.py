"""TIFF through tifffile: every full-size page is an image; whole-slide images are refused by name.

tifffile paints black what a file leaves out (sparse tiles), so what is not there is looked for first.
"""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from typing import Any

import numpy as np
import tifffile

from ..errors import BadImage
from ..privacy import Pseudonyms
from ..types import DecodedImage, Provenance
from .codestream import END_OF_IMAGE
from .limits import MAX_FRAMES, MAX_PIXEL_BYTES, check_size, guarded
from .pixels import Array, aspect_of, picture
from .raster import ON_ITS_SIDE, turned

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # its remarks are ours to make
DAMAGED = "The TIFF file is truncated or damaged."
SLIDES = {
    "svs": "Aperio SVS",
    "ndpi": "Hamamatsu NDPI",
    "scn": "Leica SCN",
    "bif": "Ventana BIF",
    "philips": "Philips TIFF",
    "qpi": "PerkinElmer QPI",
    "avs": "Argos AVS",
}
SLIDE_PIXELS = 2**26  # a tiled pyramid from 8192 x 8192 on is no picture anybody searches whole
JPEG_IN_TIFF = 7
BYTE_CODECS = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})  # none, LZW, zlib, PackBits, ...: not those of pictures
ORIENTATION, LUMA, REFERENCE = 274, 529, 532
USUAL_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
SMALLEST_OFFSET = 8


def read_tiff(data: bytes, pseudonyms: Pseudonyms, only: int | None = None) -> Iterator[DecodedImage]:
    """One image per full-size page of a TIFF file; 8 or 16 bits or floats, grey, palette or colour. only: that of the
    page of this index alone.

    Raises BadImage; after some images with outcome `partial` when other pages could not be decoded.
    """
    with guarded("corrupt", DAMAGED):
        tiff = tifffile.TiffFile(io.BytesIO(data))
        pages = _pages(tiff)
        cut_off = _ends_early(tiff, data)
    content = sha256(data).digest()
    n_failed = 0
    for index, page in enumerate(pages):
        if only not in (None, index):
            continue
        try:
            with guarded("corrupt", DAMAGED):
                _refuse_gaps(page, data)
                image = _page(page, pseudonyms.image(content, index), index)
        except BadImage as error:
            if len(pages) == 1:
                raise
            n_failed, failure = n_failed + 1, error
            continue
        yield image
    if n_failed == len(pages):
        raise failure
    if n_failed:
        raise BadImage("partial", f"{n_failed} of {len(pages)} pages could not be decoded: {failure.reason}")
    if cut_off:
        raise BadImage("partial", f"The file is cut after {len(pages)} pages: more are promised.")


def _ends_early(tiff: tifffile.TiffFile, data: bytes) -> bool:
    """Whether the last page that could be read says that another follows; tifffile only logs it."""
    form, last = tiff.tiff, tiff.pages[-1].offset
    (n_tags,) = struct.unpack_from(form.tagnoformat, data, last)
    (following,) = struct.unpack_from(form.offsetformat, data, last + form.tagnosize + n_tags * form.tagsize)
    return bool(following != 0) and len(tiff.pages) <= MAX_FRAMES


def _pages(tiff: tifffile.TiffFile) -> list[Any]:
    """Pages at full size: thumbnails, reduced levels and masks (NewSubfileType) are no images of their own."""
    pages = [page.aspage() for page in islice(tiff.pages, MAX_FRAMES + 1)]
    _refuse_slides(tiff, pages)
    kept = [page for page in pages if not page.is_reduced and not page.is_mask]
    if not kept:
        raise BadImage("corrupt", "The TIFF file has no page.")
    for page in kept:
        bytes_each = page.bitspersample // 8 or 1
        check_size(page.imagelength, page.imagewidth, page.samplesperpixel, bytes_each)
        if page.is_tiled:  # a tile may claim to be larger than its picture
            check_size(page.tilelength, page.tilewidth, page.samplesperpixel, bytes_each)
    check_size(1, 1, 1, 1, len(kept))
    if sum(page.size * page.dtype.itemsize for page in kept if page.dtype is not None) > MAX_PIXEL_BYTES:
        raise BadImage("refused", f"The pages would take more than {MAX_PIXEL_BYTES >> 20} MiB.")
    return kept


def _refuse_slides(tiff: tifffile.TiffFile, pages: list[Any]) -> None:
    """Raises BadImage (refused) for the scanners' formats, and for any tiled pyramid of giant size."""
    name = next((name for flag, name in SLIDES.items() if getattr(tiff, f"is_{flag}", False)), None)
    has_levels = len(pages) > 1 or any(page.subifds for page in pages)
    if any(page.is_tiled and page.imagelength * page.imagewidth >= SLIDE_PIXELS and has_levels for page in pages):
        name = name or "a tiled pyramid"
    if name:
        raise BadImage("refused", f"The file is a whole-slide image ({name}), which is not indexed: save its regions.")


def _refuse_gaps(page: Any, data: bytes) -> None:
    """Raises BadImage (corrupt) when strips or tiles are missing or lie outside the file."""
    offsets, counts = list(page.dataoffsets), list(page.databytecounts)
    n_segments = int(np.prod(page.chunked)) if page.chunked else 1
    if page.compression == 1 and len(offsets) == 1 == n_segments:
        counts = [max(1, *counts)] if counts else [1]  # which old writers leave out
    if not len(offsets) == len(counts) >= n_segments:
        raise BadImage("corrupt", DAMAGED)
    for offset, count in zip(offsets, counts, strict=True):
        if offset < SMALLEST_OFFSET or count < 1 or offset + count > len(data):
            raise BadImage("corrupt", DAMAGED)
        if page.compression == JPEG_IN_TIFF and END_OF_IMAGE not in data[offset + count - 16 : offset + count]:
            raise BadImage("corrupt", DAMAGED)


def _page(page: Any, image_id: str, index: int) -> DecodedImage:
    photometric = getattr(page.photometric, "name", "")
    if page.dtype is None or page.dtype.kind not in "buif" or page.ndim > 3 or page.imagedepth > 1:
        raise BadImage("unsupported", "The TIFF page is not a grey or colour picture that can be read.")
    if photometric == "YCBCR" and page.compression in BYTE_CODECS and page.is_subsampled:
        raise BadImage("unsupported", "The TIFF page has colours at half its size, which are not read; save it as RGB.")
    pixels = page.asarray(maxworkers=1)
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    if photometric == "PALETTE" and page.colormap is not None:
        pixels = np.moveaxis(np.asarray(page.colormap)[:, pixels], 0, -1)
    elif pixels.ndim == 3 and page.planarconfig == 2:
        pixels = np.moveaxis(pixels, 0, -1)
    value_range = _value_range(pixels, page.bitspersample)
    if pixels.ndim == 3:
        white = value_range[1]
        pixels = _colours(pixels, photometric, white)
        value_range = (0.0, 255.0) if pixels.dtype == np.uint8 else value_range
        if photometric == "YCBCR" and page.compression in BYTE_CODECS:
            pixels = _rgb(pixels, page, white)
    orientation = _number(page, ORIENTATION)
    aspect = _aspect(page)
    return picture(
        turned(pixels, orientation),
        value_range,
        image_id,
        Provenance(format="TIFF", decoder="tifffile"),
        frame_index=index,
        inverted=photometric == "MINISWHITE",
        aspect=1 / aspect if orientation in ON_ITS_SIDE else aspect,
    )


def _number(page: Any, code: int) -> int:
    """A tag that is one whole number; 0 when it is not there, or no such number."""
    tag = page.tags.get(code)
    return tag.value if tag is not None and isinstance(tag.value, int) else 0


def _fractions(page: Any, code: int, usual: tuple[float, ...]) -> Array:
    """A tag of fractions, which tifffile gives as numerators and denominators in turn; the usual ones without it."""
    tag = page.tags.get(code)
    if tag is None or np.size(tag.value) != 2 * len(usual):
        return np.array(usual)
    pairs = np.array(tag.value, dtype=float).reshape(-1, 2)
    with np.errstate(all="ignore"):
        found = pairs[:, 0] / pairs[:, 1]
    return found if np.isfinite(found).all() else np.array(usual)


def _rgb(pixels: Array, page: Any, white: float) -> Array:
    """RGB uint8 of YCbCr uint8, which had samples up to `white`. Source: TIFF 6.0, section 21."""
    red, green, blue = _fractions(page, LUMA, USUAL_LUMA)
    middle = (white + 1) // 2
    reference = _fractions(page, REFERENCE, (0, white, middle, white, middle, white)) * (255 / white)
    if min(red, green, blue) <= 0 or (reference[1::2] <= reference[::2]).any():
        raise BadImage("corrupt", DAMAGED)
    zero, ranges = reference[::2].round(), np.maximum((reference[1::2] - reference[::2]).round(), 1)
    luma, to_blue, to_red = np.moveaxis((pixels - zero) * ((255, 127, 127) / ranges), -1, 0)
    reds, blues = luma + to_red * (2 - 2 * red), luma + to_blue * (2 - 2 * blue)
    colours = np.stack([reds, (luma - blue * blues - red * reds) / green, blues], axis=-1)
    shown: Array = np.clip(colours + 0.5, 0, 255).astype(np.uint8)
    return shown


def _aspect(page: Any) -> float:
    """From XResolution and YResolution, pixels per unit, each a fraction."""
    x, y = (page.tags.get(code) for code in (282, 283))
    if x is None or y is None:
        return 1.0
    (x_over, x_under), (y_over, y_under) = x.value, y.value
    return aspect_of(x_over * y_under, y_over * x_under)


def _value_range(pixels: Array, bits: int) -> tuple[float, float]:
    """What samples of so many bits can hold; of floats, 0 or 1 and what is there."""
    if pixels.dtype.kind == "f":
        known = pixels[np.isfinite(pixels)]
        return float(known.min(initial=0)), float(known.max(initial=1))
    if pixels.dtype.kind == "i":
        return float(np.iinfo(pixels.dtype).min), float(np.iinfo(pixels.dtype).max)
    deepest = pixels.dtype.itemsize * 8  # a palette's colours have 16 bits, whatever its indices have
    return 0.0, float(2 ** (deepest if pixels.ndim == 3 else min(bits, deepest)) - 1)


def _colours(pixels: Array, photometric: str, white: float) -> Array:
    """RGB uint8 of (rows, columns, samples); a second sample beside grey is alpha and is dropped."""
    n_samples = pixels.shape[2]
    if n_samples < 3:
        return pixels[:, :, 0]
    if photometric not in ("RGB", "YCBCR", "PALETTE") or n_samples > 4:
        raise BadImage("unsupported", "The TIFF page has colours that are not read; save it as RGB.")
    colours = np.ascontiguousarray(pixels[:, :, :3])
    if colours.dtype.kind == "u":
        # The top 8 bits; some palettes hold 8 bits in 16.
        shift = 0 if photometric == "PALETTE" and colours.max() <= 255 else int(white).bit_length() - 8
        return (colours >> max(shift, 0)).astype(np.uint8)
    with np.errstate(invalid="ignore"):
        scaled = np.nan_to_num(colours.astype(np.float32) * np.float32(255 / white))
    rounded: Array = np.clip(scaled + np.float32(0.5), 0, 255).astype(np.uint8)
    return rounded
