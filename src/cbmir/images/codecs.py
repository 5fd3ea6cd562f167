"""Compressed frames to arrays through imagecodecs: measured fastest for all but run lengths, and exact.

It also reads what pydicom's plugins refuse: JPEG XL, and 12-bit JPEG with the unusual start-of-scan of NEMA's WG04 set.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from .codestream import Codestream, Format, with_lines

FORMATS: frozenset[Format] = frozenset({"jpeg", "jpeg lossless", "jpeg-ls", "jpeg 2000", "htj2k", "jpeg xl"})


def decode_stream(stream: bytes, header: Codestream, *, from_ybr: bool = False) -> npt.NDArray[Any]:
    """(rows, columns) or (rows, columns, samples), in the components of the stream.

    Only JPEG 2000 undoes its own colour transform; from_ybr: a JPEG's components are YCbCr and become RGB.
    Raises whatever the codec raises. The header has been compared with what is expected: sizes are believed here.
    """
    match header.format:
        case "jpeg" | "jpeg lossless":
            return _decode_jpeg(stream, header, from_ybr)
        case "jpeg-ls":
            return np.asarray(imagecodecs.jpegls_decode(stream))
        case "jpeg 2000":
            return np.asarray(imagecodecs.jpeg2k_decode(stream, numthreads=1))
        case "htj2k":
            return np.asarray(imagecodecs.htj2k_decode(stream))
        case "jpeg xl":
            return np.asarray(imagecodecs.jpegxl_decode(stream, numthreads=1))
        case _:
            raise ValueError("not a format of this module")


def _decode_jpeg(stream: bytes, header: Codestream, from_ybr: bool) -> npt.NDArray[Any]:
    """The frame header's own number of lines may be 0; libjpeg wants it there."""
    with suppress(IndexError):  # rubbish before the start: the codec may still find its way
        stream = with_lines(stream, header.rows)
    if header.samples == 1:
        return np.asarray(imagecodecs.jpeg_decode(stream))
    if header.samples == 4:
        return np.asarray(imagecodecs.jpeg_decode(stream, colorspace="CMYK", outcolorspace="CMYK"))
    return np.asarray(imagecodecs.jpeg_decode(stream, colorspace="YCBCR" if from_ybr else "RGB", outcolorspace="RGB"))
