"""PNG and JPEG through Pillow, TIFF through tifffile; 16-bit grey keeps its values."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, ImageOps

from ..errors import BadImage
from ..privacy import Pseudonyms
from ..types import DecodedImage, Provenance
from .limits import MAX_PIXEL_BYTES, check_size, guarded

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # its remarks are ours to make
EXIF_ORIENTATION = 0x0112
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I", "F")
BYTES_OF_MODE = {"1": 1, "L": 1, "P": 1, "LA": 2, "RGB": 3, "YCbCr": 3, "I": 4, "F": 4}
Array = npt.NDArray[Any]


def read_picture(data: bytes, pseudonyms: Pseudonyms) -> Iterator[DecodedImage]:
    """The image of a PNG or JPEG file: palettes are looked up, alpha is composited on black, the camera's
    orientation applied."""
    with guarded("corrupt", "The picture is truncated or damaged."):
        picture = _open(data)
        provenance = Provenance(format=picture.format or "PNG", decoder="pillow")
        pixels, white = _picture_pixels(_upright(picture))
        image = _image(pixels, (0.0, white), pseudonyms.image(sha256(data).digest(), 0), provenance)
    yield image


def _open(data: bytes) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    except Image.DecompressionBombError:
        raise BadImage("refused", "The picture has more pixels than are safe to decode.") from None
    check_size(picture.height, picture.width, 1, BYTES_OF_MODE.get(picture.mode, 4))
    return picture


def _upright(picture: Image.Image) -> Image.Image:
    if picture.getexif().get(EXIF_ORIENTATION, 1) == 1:
        return picture
    return ImageOps.exif_transpose(picture)


def _picture_pixels(picture: Image.Image) -> tuple[Array, float]:
    """Pixels, grey or RGB, and the value of white."""
    if picture.mode in DEEP_MODES:
        return np.asarray(picture).astype(np.float32), 65535.0
    if picture.mode == "1":
        picture = picture.convert("L")
    if picture.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = _on_black(picture.convert("RGBA"))
    if picture.mode not in ("L", "RGB"):
        picture = picture.convert("RGB")
    return np.asarray(picture), 255.0


def _on_black(picture: Image.Image) -> Image.Image:
    black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, picture).convert("RGB")


def _image(
    pixels: Array,
    value_range: tuple[float, float],
    image_id: str,
    provenance: Provenance,
    index: int = 0,
    inverted: bool = False,
) -> DecodedImage:
    """pixels: (rows, columns), or RGB uint8 (rows, columns, 3), which is grey when its channels are equal."""
    padding = None
    if pixels.ndim == 3 and _is_grey(pixels):
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
        frame_index=index,
        monochrome1=inverted,
        made_for_eye=value_range[1] - value_range[0] <= 255,
    )


def _is_grey(pixels: Array) -> bool:
    red, green, blue = (pixels[:, :, channel] for channel in range(3))
    return np.array_equal(red, green) and np.array_equal(green, blue)


def read_tiff(data: bytes, pseudonyms: Pseudonyms) -> Iterator[DecodedImage]:
    """One image per full-size page of a TIFF file; 8 or 16 bits, grey, palette or colour."""
    with guarded("corrupt", "The TIFF file is truncated or damaged."):
        pages = _pages(tifffile.TiffFile(io.BytesIO(data)))
    content = sha256(data).digest()
    n_failed = 0
    for index, page in enumerate(pages):
        try:
            with guarded("corrupt", "The TIFF file is truncated or damaged."):
                image = _tiff_page(page, pseudonyms.image(content, index), index)
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


def _pages(tiff: tifffile.TiffFile) -> list[Any]:
    """Pages at full size: thumbnails, reduced levels and masks (NewSubfileType) are no images of their own."""
    pages = [page.aspage() for page in tiff.pages]
    kept = [page for page in pages if not page.is_reduced and not page.is_mask]
    if not kept:
        raise BadImage("corrupt", "The TIFF file has no page.")
    for page in kept:
        check_size(page.imagelength, page.imagewidth, page.samplesperpixel, page.bitspersample // 8 or 1)
    if sum(page.size * page.dtype.itemsize for page in kept if page.dtype is not None) > MAX_PIXEL_BYTES:
        raise BadImage("refused", f"The pages would take more than {MAX_PIXEL_BYTES >> 20} MiB.")
    check_size(1, 1, 1, 1, len(kept))
    return kept


def _tiff_page(page: Any, image_id: str, index: int) -> DecodedImage:
    photometric = getattr(page.photometric, "name", "")
    if page.dtype is None or page.dtype.kind not in "buif" or page.ndim > 3 or page.imagedepth > 1:
        raise BadImage("unsupported", "The TIFF page is not a grey or colour picture that can be read.")
    pixels = page.asarray()
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    if photometric == "PALETTE" and page.colormap is not None:
        pixels = np.moveaxis(np.asarray(page.colormap)[:, pixels], 0, -1)
    elif pixels.ndim == 3 and page.planarconfig == 2:
        pixels = np.moveaxis(pixels, 0, -1)
    value_range = _value_range(pixels, page.bitspersample)
    if pixels.ndim == 3:
        pixels = _tiff_colour(pixels, photometric, value_range[1])
        value_range = (0.0, 255.0) if pixels.dtype == np.uint8 else value_range
    provenance = Provenance(format="TIFF", decoder="tifffile")
    return _image(pixels, value_range, image_id, provenance, index, inverted=photometric == "MINISWHITE")


def _value_range(pixels: Array, bits: int) -> tuple[float, float]:
    """What samples of so many bits can hold; of floats, 0 or 1 and what is there."""
    if pixels.dtype.kind == "f":
        known = pixels[np.isfinite(pixels)]
        return float(known.min(initial=0)), float(known.max(initial=1))
    if pixels.dtype.kind == "i":
        return float(np.iinfo(pixels.dtype).min), float(np.iinfo(pixels.dtype).max)
    deepest = pixels.dtype.itemsize * 8  # a palette's colours have 16 bits, whatever its indices have
    return 0.0, float(2 ** (deepest if pixels.ndim == 3 else min(bits, deepest)) - 1)


def _tiff_colour(pixels: Array, photometric: str, white: float) -> Array:
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
    scaled = colours.astype(np.float32) * np.float32(255 / white)
    rounded: Array = np.clip(scaled + np.float32(0.5), 0, 255).astype(np.uint8)
    return rounded
