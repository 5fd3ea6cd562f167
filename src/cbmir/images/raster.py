"""PNG and JPEG 2000 through imagecodecs, JPEG, GIF, BMP and WebP through Pillow; 16-bit grey keeps its values.

Headers are read first (by Pillow, or codestream.py), so that sizes are checked before pixels are decoded. Pillow lets
two kinds of damage pass: PNG files with too few rows (black) and JPEG files with less data than their picture needs
(grey); imagecodecs refuses the former, `_refuse_damaged` finds the latter.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from hashlib import sha256

import imagecodecs
import numpy as np
from PIL import Image, ImageOps

from ..errors import BadImage
from ..privacy import Pseudonyms
from ..types import DecodedImage, Provenance
from .codecs import decode_checked, refuse_filled
from .codestream import Codestream, parse_codestream
from .limits import check_size, guarded
from .pixels import Array, aspect_of, is_grey, picture

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
NAMES = {
    "WEBP": "WebP",
    "MPO": "JPEG",
    "jpeg": "JPEG",
    "jpeg lossless": "JPEG",
    "jpeg-ls": "JPEG-LS",
    "jpeg 2000": "JPEG 2000",
    "htj2k": "JPEG 2000",
}
EXIF_ORIENTATION = 0x0112
ON_ITS_SIDE = (5, 6, 7, 8)
BYTES_OF_MODE = {"1": 1, "L": 1, "P": 1, "LA": 2, "RGB": 3, "YCbCr": 3, "I;16": 2, "I;16B": 2, "I": 4, "F": 4}
JPEG = b"\xff\xd8\xff"
DAMAGED = "The picture is truncated or damaged."


def read_picture(data: bytes, pseudonyms: Pseudonyms, only: int | None = None) -> Iterator[DecodedImage]:
    """The image of a PNG, JPEG or BMP file, or every frame of a GIF or WebP file; only: that of this index alone.

    Palettes are looked up, alpha is composited on black, the camera's orientation applied.
    Raises BadImage; after some images with outcome `partial` when a later frame is damaged.
    """
    header = parse_codestream(data) if data.startswith(JPEG) else None
    if header is not None and (header.format != "jpeg" or header.precision != 8):
        yield _codestream(data, header, pseudonyms)
        return
    with guarded("corrupt", DAMAGED):
        opened = _open(data)
        content = sha256(data).digest()
        n_frames = _n_frames(opened)
    for index in range(n_frames) if only is None else range(n_frames)[only : only + 1]:
        try:
            with guarded("corrupt", DAMAGED):
                opened.seek(index)
                image = _frame(data, opened, header, pseudonyms.image(content, index), index)
        except BadImage as error:
            if index == 0:
                raise
            left_out = f"{n_frames - index} of {n_frames} frames were left out"
            raise BadImage("partial", f"{left_out}: {error.reason}") from error
        yield image


def _open(data: bytes) -> Image.Image:
    try:
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise BadImage("refused", "The picture has more pixels than are safe to decode.") from None
    check_size(opened.height, opened.width, 1, BYTES_OF_MODE.get(opened.mode, 4))
    return opened


def _n_frames(opened: Image.Image) -> int:
    """Of GIF and WebP files, all; counting them decodes nothing, and the product is bounded."""
    n_frames = int(getattr(opened, "n_frames", 1)) if opened.format in ("GIF", "WEBP") else 1
    check_size(opened.height, opened.width, 1, BYTES_OF_MODE.get(opened.mode, 4), n_frames)
    return n_frames


def _frame(data: bytes, opened: Image.Image, header: Codestream | None, image_id: str, index: int) -> DecodedImage:
    """header: of a JPEG, as far as it could be read."""
    aspect = _aspect(opened)
    if opened.getexif().get(EXIF_ORIENTATION) in ON_ITS_SIDE:
        aspect = 1 / aspect
    if opened.format == "PNG":
        pixels, white = _png_pixels(data, opened)
    else:
        if opened.format in ("JPEG", "MPO"):
            _refuse_damaged(data, opened, header or Codestream("jpeg", precision=8, staged=True))  # nothing is known
        pixels, white = _pixels(_upright(opened)), 255.0
    decoder = "imagecodecs" if opened.format == "PNG" else "pillow"
    provenance = Provenance(format=NAMES.get(opened.format or "", opened.format or ""), decoder=decoder)
    return picture(pixels, (0.0, white), image_id, provenance, frame_index=index, aspect=aspect)


def _aspect(opened: Image.Image) -> float:
    """From JFIF's densities, PNG's pHYs or BMP's pixels per metre."""
    info = opened.info
    return aspect_of(*(info.get("jfif_density") or info.get("dpi") or info.get("aspect") or (1, 1)))


def _upright(opened: Image.Image) -> Image.Image:
    if opened.getexif().get(EXIF_ORIENTATION, 1) == 1:
        return opened
    return ImageOps.exif_transpose(opened)


def _pixels(opened: Image.Image) -> Array:
    """uint8, grey (rows, columns) or RGB."""
    shown = opened.convert("L") if opened.mode == "1" else opened
    if shown.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in shown.info:
        return _on_black(np.asarray(shown.convert("RGBA")), 255)
    return np.asarray(shown if shown.mode in ("L", "RGB") else shown.convert("RGB"))


def _png_pixels(data: bytes, opened: Image.Image) -> tuple[Array, float]:
    """Pixels, grey of 8 or 16 bits or RGB uint8, and the value of white."""
    pixels = imagecodecs.png_decode(data)  # (rows, columns[, 1 to 4]), palettes looked up
    if pixels.shape[:2] != (opened.height, opened.width):
        raise BadImage("corrupt", DAMAGED)
    white = int(np.iinfo(pixels.dtype).max)
    if pixels.ndim == 3:
        pixels = _on_black(pixels, white) if pixels.shape[2] in (2, 4) else pixels
        pixels = pixels[:, :, 0] if pixels.shape[2] < 3 or is_grey(pixels) else (pixels >> 8 * (pixels.itemsize - 1))
    upright = turned(pixels, opened.getexif().get(EXIF_ORIENTATION, 1))
    return (upright.astype(np.uint8), 255.0) if upright.ndim == 3 else (upright, float(white))


def _on_black(pixels: Array, white: int) -> Array:
    """Colours, or grey, in front of black: each times its alpha, which is the last channel."""
    opacity = pixels[:, :, -1:].astype(np.uint32)
    if (opacity == white).all():
        return pixels[:, :, :-1]
    shown: Array = ((pixels[:, :, :-1] * opacity + white // 2) // white).astype(pixels.dtype)
    return shown


def turned(pixels: Array, orientation: int) -> Array:
    """As Exif and TIFF say the camera was held (tag 0x0112): mirrored at an axis, turned, or both."""
    if orientation in ON_ITS_SIDE:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _refuse_damaged(data: bytes, opened: Image.Image, header: Codestream) -> None:
    """Raises BadImage (corrupt) when a JPEG has less in it than its picture, though its file may be closed properly.

    Pixels are compared before they are turned or change their colour model, so that the grey of what is missing shows.
    """
    if not (header.whole or header.unended):
        raise BadImage("corrupt", DAMAGED)
    refuse_filled(data, header, np.asarray(opened), _decoded)


def _decoded(data: bytes) -> Array:
    return np.asarray(Image.open(io.BytesIO(data), formats=FORMATS))


def read_codestream(data: bytes, pseudonyms: Pseudonyms) -> Iterator[DecodedImage]:
    """The image of a JPEG 2000 file or codestream, or of a JPEG or JPEG-LS file that is lossless or deeper than 8 bits;
    grey keeps its values, up to 16 bits."""
    yield _codestream(data, parse_codestream(data), pseudonyms)


def _codestream(data: bytes, header: Codestream | None, pseudonyms: Pseudonyms) -> DecodedImage:
    with guarded("corrupt", DAMAGED):
        if header is None or not (header.whole or header.unended):
            raise BadImage("corrupt", DAMAGED)
        # JPEG 2000 decoders hold 32 bits per sample whatever its depth.
        check_size(header.rows, header.columns, header.samples, 4 if "2000" in NAMES[header.format] else 2)
        if header.precision > 16:
            raise BadImage("unsupported", "The picture has more than 16 bits per sample.")
        pixels = decode_checked(data, header, from_ybr=header.colour == "YBR")
        return _codestream_image(pixels, header, pseudonyms.image(sha256(data).digest(), 0))


def _codestream_image(pixels: Array, header: Codestream, image_id: str) -> DecodedImage:
    provenance = Provenance(format=NAMES[header.format], decoder="imagecodecs")
    black = -(2 ** (header.precision - 1)) if header.signed else 0
    white = black + 2**header.precision - 1
    if pixels.ndim == 3 and not header.signed:
        pixels = _on_black(pixels, white) if pixels.shape[2] in (2, 4) else pixels
    if pixels.ndim == 3 and (pixels.shape[2] < 3 or is_grey(pixels)):
        pixels = pixels[:, :, 0]
    if pixels.ndim == 3:
        shift = header.precision - 8
        deep = pixels[:, :, :3].astype(np.int32) - black
        pixels = (deep >> shift if shift > 0 else deep * 255 // (white - black)).astype(np.uint8)
        black, white = 0, 255
    return picture(pixels, (float(black), float(white)), image_id, provenance)
