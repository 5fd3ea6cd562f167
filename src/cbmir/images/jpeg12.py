"""A decoding plugin for pydicom: JPEG Extended with 12 bits, which its other plugins refuse, through imagecodecs.

The streams of NEMA's WG04 set also have an unusual start-of-scan that libjpeg rejects; imagecodecs reads both.
"""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np

JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
DECODER_DEPENDENCIES = {JPEG_EXTENDED: ("numpy", "imagecodecs")}


def is_available(uid: str) -> bool:
    """Part of pydicom's plugin protocol."""
    return uid == JPEG_EXTENDED


def decode_frame(source: bytes, runner: Any) -> bytes:
    """One frame as little-endian bytes; lossy overshoot is cut to what Bits Stored can hold."""
    pixels = np.asarray(imagecodecs.jpeg_decode(source))
    if pixels.dtype.itemsize == 2:
        runner.set_option("bits_allocated", 16)
        pixels = np.minimum(pixels, 2**runner.bits_stored - 1)
    return pixels.tobytes()
