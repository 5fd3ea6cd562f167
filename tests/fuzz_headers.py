"""Header values that a mutated DICOM file may have, and files made with them."""

from __future__ import annotations

import io
import struct
from typing import Any

import pydicom
from hypothesis import strategies as st
from numpy.random import Generator
from pydicom.dataset import Dataset

VALUES: dict[str, tuple[Any, ...]] = {
    "Rows": (0, 1, 7, 63, 65, 1000, 65535),
    "Columns": (0, 1, 7, 63, 65, 1000, 65535),
    "NumberOfFrames": ("0", "-1", "2", "1000", "5001", "2147483647", "99999999999", "1A", "", "1.5", "1e3"),
    "BitsAllocated": (0, 1, 8, 12, 16, 24, 32, 64, 65535),
    "BitsStored": (0, 1, 7, 8, 12, 15, 16, 32, 65535),
    "HighBit": (0, 7, 11, 15, 31, 65535),
    "PixelRepresentation": (0, 1, 2, 65535),
    "SamplesPerPixel": (0, 1, 2, 3, 4, 255, 65535),
    "PlanarConfiguration": (0, 1, 2, 65535),
    "PhotometricInterpretation": (
        "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT",
        "YBR_PARTIAL_420", "HSV", "CMYK", "", "XYZZY", "MONOCHROME2\\RGB",
    ),
    "RescaleSlope": ("0", "-1", "1e308", "1e-320", "NaN", "inf", "", "1,5", "x", "1\\2"),
    "RescaleIntercept": ("0", "-1024", "1e308", "NaN", "-inf", "", "1,5", "x"),
    "WindowWidth": ("0", "-1", "0.5", "1", "1e308", "NaN", "", "x", "400\\0\\-1"),
    "WindowCenter": ("0", "1e308", "NaN", "", "x", "40\\400"),
    "VOILUTFunction": ("LINEAR", "LINEAR_EXACT", "SIGMOID", "", "XYZZY"),
    "PixelPaddingValue": (0, 1, 65535),
    "PixelSpacing": ("0\\0", "-1\\1", "1", "1e9\\1e-9", "NaN\\NaN", "x\\y", ""),
    "PixelAspectRatio": ("1\\0", "0\\1", "2147483647\\1", "x", ""),
    "ImageOrientationPatient": ("1\\0\\0\\0\\1\\0", "0\\0\\0\\0\\0\\0", "NaN\\NaN\\NaN\\NaN\\NaN\\NaN", "1\\0", ""),
    "ImagePositionPatient": ("0\\0\\0", "1e308\\1e308\\1e308", "x\\y\\z", ""),
    "Modality": ("CT", "MR", "PT", "NM", "US", "SEG", "RTDOSE", "", "XYZZY"),
    "SOPClassUID": ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.1.3.10", "", "x"),
    "SOPInstanceUID": ("", "../../etc", "1" * 500, "1.2\0", "1.2.840"),
    "StudyDate": ("00000000", "20391231", "1.1.1970", "", "99999999"),
    "PatientAge": ("999Y", "-01Y", "045", "", "XYZ"),
    "SpecificCharacterSet": ("ISO 2022 IR 87", "GB18030", "ISO_IR 999", "\\ISO 2022 IR 149", "x", ""),
    "LossyImageCompression": ("00", "01", ""),
    "Units": ("BQML", "GML", "CNTS", ""),
}  # fmt: skip
"""What header values are changed to: the ends of each range, what real scanners wrote, and nonsense."""

SYNTAXES = (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.100", "1.2.3", "",
)  # fmt: skip


def header_strategy() -> st.SearchStrategy[dict[str, Any]]:
    """Up to four header fields with any value of VALUES, or any text or number at all."""
    wild = st.one_of(st.text(max_size=70), st.integers(0, 65535), st.floats().map(str))
    numbers = [keyword for keyword, values in VALUES.items() if isinstance(values[0], int)]
    fields = st.sampled_from(sorted(VALUES)).flatmap(
        lambda keyword: st.tuples(
            st.just(keyword),
            st.one_of(st.sampled_from(VALUES[keyword]), st.integers(0, 65535) if keyword in numbers else wild.map(str)),
        )
    )
    return st.lists(fields, min_size=1, max_size=4).map(dict)


BASE: dict[str, Any] = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7",
    "SOPInstanceUID": "1.2.3",
    "Modality": "OT",
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "Rows": 8,
    "Columns": 8,
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 0,
}


def plain_dicom(fields: dict[str, Any], pixels: bytes = bytes(range(128))) -> bytes:
    """An explicit little endian file of 8 x 8 pixels, with these fields whatever they hold: numbers as US, or text."""
    elements = {pydicom.tag.Tag(keyword): value for keyword, value in (BASE | fields).items()}
    body = b"".join(_element(tag, elements[tag]) for tag in sorted(elements))
    syntax = _text(0x00020010, b"UI", "1.2.840.10008.1.2.1")
    return bytes(128) + b"DICM" + syntax + body + struct.pack("<HH2s2xI", 0x7FE0, 0x10, b"OW", len(pixels)) + pixels


def _element(tag: int, value: Any) -> bytes:
    if isinstance(value, int):
        return struct.pack("<HH2sHH", tag >> 16, tag & 0xFFFF, b"US", 2, value)
    return _text(tag, pydicom.datadict.dictionary_VR(tag).encode()[:2], value)


def _text(tag: int, vr: bytes, text: str) -> bytes:
    value = text.encode("utf-8", "replace")
    value += b" " * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def change(dataset: Dataset, rng: Generator) -> None:
    keyword = (*VALUES, "TransferSyntaxUID", "PixelData")[rng.integers(len(VALUES) + 2)]
    if keyword == "TransferSyntaxUID":
        dataset.file_meta.TransferSyntaxUID = SYNTAXES[rng.integers(len(SYNTAXES))]
    elif keyword == "PixelData" and "PixelData" in dataset:
        kept = int(rng.integers(0, len(dataset.PixelData) + 1))
        dataset.PixelData = dataset.PixelData[:kept] + bytes(kept % 2)
    elif keyword in VALUES:
        set_value(dataset, keyword, VALUES[keyword][rng.integers(len(VALUES[keyword]))])


def with_less_pixels(dataset: Dataset, rng: Generator) -> bytes:
    pixels = dataset.PixelData
    if dataset.file_meta.TransferSyntaxUID.is_compressed and "PixelData" in dataset:
        n_frames = int(dataset.get("NumberOfFrames") or 1)
        frames = list(pydicom.encaps.generate_frames(pixels, number_of_frames=n_frames))
        kept = int(rng.integers(1, len(frames[-1])))
        dataset.PixelData = pydicom.encaps.encapsulate([*frames[:-1], frames[-1][:kept]])
    else:
        dataset.PixelData = pixels[: int(rng.integers(0, len(pixels) // 2)) * 2]
    return written(dataset)


def set_value(dataset: Dataset, keyword: str, value: Any) -> None:
    """As it is, even where pydicom would rather not: text as bytes, so that it is not parsed on the way."""
    if isinstance(value, int):
        setattr(dataset, keyword, value)
        return
    text = value.encode("utf-8", "replace")
    tag = pydicom.tag.Tag(keyword)
    vr = pydicom.datadict.dictionary_VR(tag)
    dataset[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(text), text + bytes(len(text) % 2), 0, False, True)


def written(dataset: Dataset) -> bytes:
    """In the encoding it had, whatever its transfer syntax says now."""
    file = io.BytesIO()
    implicit, little = dataset.original_encoding
    file.write(b"\0" * 128 + b"DICM")
    pydicom.filewriter.write_file_meta_info(file, dataset.file_meta, enforce_standard=False)
    body = pydicom.filebase.DicomBytesIO()
    body.is_little_endian, body.is_implicit_VR = little is not False, bool(implicit)
    pydicom.filewriter.write_dataset(body, dataset)
    return file.getvalue() + body.getvalue()
