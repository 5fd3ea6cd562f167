"""Compressed frames to arrays through imagecodecs: measured fastest for all but run lengths, and exact.

It also reads what pydicom's plugins refuse: JPEG XL, and 12-bit JPEG with the unusual start-of-scan of NEMA's WG04 set.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from ..errors import BadImage
from .codestream import ARITHMETIC, END_OF_IMAGE, Codestream, Format, mended, with_filler

Array = npt.NDArray[Any]
DAMAGED = "The compressed picture is truncated or damaged."
MOST_ZEROS = 8  # before the end marker of a JPEG-LS stream
LUMA = np.array([0.299, 0.587, 0.114])
FORMATS: frozenset[Format] = frozenset({"jpeg", "jpeg lossless", "jpeg-ls", "jpeg 2000", "htj2k", "jpeg xl"})


def decode_checked(stream: bytes, header: Codestream, *, from_ybr: bool = False) -> Array:
    """decode_stream, and BadImage (corrupt) where a decoder made up for what is missing.

    For a picture decoded by other means (raster.py: Pillow) `refuse_filled(stream, header, pixels, decode)` is the
    check alone. header: of parse_codestream(stream).
    """
    stream, header = mended(stream, header)
    pixels = decode_stream(stream, header, from_ybr=from_ybr)
    refuse_filled(stream, header, pixels, lambda longer: decode_stream(longer, header, from_ybr=from_ybr))
    return pixels


def refuse_filled(
    stream: bytes, header: Codestream, pixels: Array, decode: Callable[[bytes], Array], *, always: bool = False
) -> None:
    """Raises BadImage (corrupt) when a JPEG's data ends before its picture does, though the stream is closed properly.

    decode: what made `pixels` of the stream. pixels: (rows, columns[, samples]), not yet turned, nor of another colour
    model than the stream's, but for YCbCr to RGB. Decoders paint what is missing grey without a word. Where the last
    pixel has that grey, or the gap can be elsewhere (several scans, restart markers), the stream is decoded once more
    with other bytes at the end of its data: a whole picture does not change. always: do that in any case, for a decoder
    that paints otherwise.
    Not seen: a closed stream that lacks less than its last coded unit (lossless: about a row), and bytes lost within a
    scan when the decoder, out of step, makes as many blocks of the others.
    JPEG-LS and JPEG 2000 decoders refuse such streams; arithmetic coding leaves out zeros at its end.
    """
    if header.format not in ("jpeg", "jpeg lossless") or header.sof >= ARITHMETIC:
        return
    if not (always or header.staged or header.unended or _ends_grey(pixels, header.precision)):
        return
    try:
        same = np.array_equal(decode(with_filler(stream)), pixels)
    except MemoryError:
        raise
    except Exception:  # of the decoder, which takes the bytes for something else
        same = False
    if not same:
        raise BadImage("corrupt", DAMAGED)


def _ends_grey(pixels: Array, precision: int) -> bool:
    """Has the pixel decoded last the middle grey? Colour may be one step beside it, and its neighbour's be mixed in."""
    last, middle = pixels[-1, -1].astype(np.float64), 1 << (precision - 1)
    if last.shape == (3,):
        return bool(abs(last @ LUMA - middle) <= 2)
    return bool((np.abs(last - middle) <= (last.ndim > 0)).all())


def decode_stream(stream: bytes, header: Codestream, *, from_ybr: bool = False) -> Array:
    """(rows, columns) or (rows, columns, samples), in the components of the stream.

    Only JPEG 2000 undoes its own colour transform; from_ybr: a JPEG's components are YCbCr and become RGB.
    Nothing is checked here: decode_checked does. The stream and its header have been `mended`, and the header compared
    with what is expected: sizes are believed here. Raises whatever the codec raises.
    """
    match header.format:
        case "jpeg" | "jpeg lossless":
            return _decode_jpeg(stream, header, from_ybr)
        case "jpeg-ls":
            return _decode_jpeg_ls(stream)
        case "jpeg 2000":
            return np.asarray(imagecodecs.jpeg2k_decode(stream, numthreads=1))
        case "htj2k":
            return np.asarray(imagecodecs.htj2k_decode(stream))
        case "jpeg xl":
            return np.asarray(imagecodecs.jpegxl_decode(stream, numthreads=1))
        case _:
            raise ValueError("not a format of this module")


def _decode_jpeg_ls(stream: bytes) -> Array:
    """CharLS refuses a zero byte between the data and the end marker, which NEMA's WG04 sample MR1 has
    (team-charls/charls, issues 365 and 437); without it such streams are read exactly."""
    data, end, _ = stream.rpartition(END_OF_IMAGE)
    n_zeros = min(len(data) - len(data.rstrip(b"\0")), MOST_ZEROS)
    for n_left_out in range(n_zeros):  # one by one, for data may end in a zero too
        with suppress(imagecodecs.JpeglsError):
            return np.asarray(imagecodecs.jpegls_decode(data[: len(data) - n_left_out] + end))
    return np.asarray(imagecodecs.jpegls_decode(data[: len(data) - n_zeros] + end))


def _decode_jpeg(stream: bytes, header: Codestream, from_ybr: bool) -> Array:
    if header.samples == 1:
        return np.asarray(imagecodecs.jpeg_decode(stream))
    if header.samples == 4:
        return np.asarray(imagecodecs.jpeg_decode(stream, colorspace="CMYK", outcolorspace="CMYK"))
    return np.asarray(imagecodecs.jpeg_decode(stream, colorspace="YCBCR" if from_ybr else "RGB", outcolorspace="RGB"))
