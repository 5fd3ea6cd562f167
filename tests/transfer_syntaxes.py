"""The pixels of a DICOM dataset in any transfer syntax we can write, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, RLELossless

Frame = npt.NDArray[Any]


@dataclass(frozen=True)
class Encoding:
    """A transfer syntax. encode: (frame, bits stored) -> codestream; None where the dataset or pydicom does it.

    exact: decodes to what was encoded. deepest: most bits stored.
    """

    uid: str
    encode: Callable[[Frame, int], bytes] | None = None
    exact: bool = True
    deepest: int = 16


def _bit_pattern(frame: Frame, bits: int) -> Frame:
    """Signed values as the unsigned ones with the same bits: JPEG and JPEG-LS know no sign."""
    if frame.dtype.kind == "u":
        return frame
    return frame.view(frame.dtype.str.replace("i", "u")) & (2**bits - 1)


def _jpeg(frame: Frame, bits: int) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(frame, level=90, bitspersample=bits))


def _jpeg_lossless(frame: Frame, bits: int) -> bytes:
    return bytes(imagecodecs.ljpeg_encode(_bit_pattern(frame, bits), bitspersample=bits))


def _jpeg_ls(frame: Frame, bits: int, near: int = 0) -> bytes:
    return bytes(imagecodecs.jpegls_encode(_bit_pattern(frame, bits), level=near))


def _jpeg_2000(frame: Frame, bits: int) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k", reversible=True, bitspersample=bits))


def _jpeg_2000_lossy(frame: Frame, bits: int) -> bytes:
    """level: the wished signal-to-noise ratio in dB."""
    return bytes(imagecodecs.jpeg2k_encode(frame, level=60, codecformat="j2k", reversible=False, bitspersample=bits))


def _ht_jpeg_2000(frame: Frame, bits: int) -> bytes:
    return bytes(imagecodecs.htj2k_encode(frame, reversible=True))


ENCODINGS: Mapping[str, Encoding] = {
    "little endian": Encoding("1.2.840.10008.1.2.1"),
    "implicit little endian": Encoding("1.2.840.10008.1.2"),
    "big endian": Encoding("1.2.840.10008.1.2.2"),
    "deflated": Encoding("1.2.840.10008.1.2.1.99"),
    "RLE": Encoding("1.2.840.10008.1.2.5"),
    "JPEG baseline": Encoding("1.2.840.10008.1.2.4.50", _jpeg, exact=False, deepest=8),
    "JPEG extended": Encoding("1.2.840.10008.1.2.4.51", _jpeg, exact=False, deepest=12),
    "JPEG lossless": Encoding("1.2.840.10008.1.2.4.57", _jpeg_lossless),
    "JPEG lossless SV1": Encoding("1.2.840.10008.1.2.4.70", _jpeg_lossless),
    "JPEG-LS": Encoding("1.2.840.10008.1.2.4.80", _jpeg_ls),
    "JPEG-LS near-lossless": Encoding("1.2.840.10008.1.2.4.81", lambda f, b: _jpeg_ls(f, b, near=2), exact=False),
    "JPEG 2000 lossless": Encoding("1.2.840.10008.1.2.4.90", _jpeg_2000),
    "JPEG 2000": Encoding("1.2.840.10008.1.2.4.91", _jpeg_2000_lossy, exact=False),
    "HTJ2K lossless": Encoding("1.2.840.10008.1.2.4.201", _ht_jpeg_2000),
}


def encode(dataset: Dataset, name: str) -> Dataset:
    """The dataset, native little endian with one frame, changed into a transfer syntax of ENCODINGS; saved with
    enforce_file_format, pydicom does what is left (byte order of the header, deflation)."""
    encoding = ENCODINGS[name]
    uid = UID(encoding.uid)
    if uid == RLELossless:
        # gdcm, which pydicom would take, aborts the process on frames of odd sizes
        dataset.compress(RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    elif encoding.encode is not None:
        stream = encoding.encode(dataset.pixel_array, dataset.BitsStored)
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    elif not uid.is_little_endian and dataset.BitsAllocated == 16:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = uid
    return dataset
