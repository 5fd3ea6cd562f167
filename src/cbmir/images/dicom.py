"""DICOM through pydicom and its plugins: frames as modality values, with what is needed to show them.

The order of operations is the standard's: decode, palette, padding mask on stored values, modality LUT; window
candidates are collected, not applied; MONOCHROME1 is flagged, not inverted (preprocess.py does both).
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, get_decoder
from pydicom.pixels.decoders import JPEGExtended12BitDecoder
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import UID

from ..errors import BadImage
from ..privacy import WHITE_LIST, Kind, Pseudonyms, white_listed
from ..types import Bool, DecodedImage, Float32, Provenance, Window
from .elements import functional_group, numbers_of, text_of, value_of
from .limits import check_size, guarded

Array = npt.NDArray[Any]

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its messages quote header values: patients first
JPEGExtended12BitDecoder.add_plugin("imagecodecs", ("cbmir.images.jpeg12", "decode_frame"))

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
PLUGINS: Mapping[str, tuple[str, ...]] = {
    "1.2.840.10008.1.2.5": ("pylibjpeg", "pydicom"),
    "1.2.840.10008.1.2.4.50": ("pylibjpeg", "gdcm", "pillow"),
    "1.2.840.10008.1.2.4.51": ("imagecodecs", "pylibjpeg", "gdcm"),
    "1.2.840.10008.1.2.4.57": ("pylibjpeg", "gdcm"),
    "1.2.840.10008.1.2.4.70": ("pylibjpeg", "gdcm"),
    "1.2.840.10008.1.2.4.80": ("pyjpegls", "gdcm"),
    "1.2.840.10008.1.2.4.81": ("pyjpegls", "gdcm"),
    "1.2.840.10008.1.2.4.90": ("pylibjpeg", "gdcm", "pillow"),
    "1.2.840.10008.1.2.4.91": ("pylibjpeg", "gdcm", "pillow"),
    "1.2.840.10008.1.2.4.201": ("pylibjpeg",),
    "1.2.840.10008.1.2.4.202": ("pylibjpeg",),
    "1.2.840.10008.1.2.4.203": ("pylibjpeg",),
}
"""Per transfer syntax, the fastest plugin measured first, then those that read what it refuses."""

ENDS_WITH_MARKER = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81))
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"

NOT_PICTURES: Mapping[str, str] = {"SEG": "segmentation", "RTDOSE": "dose grid"}
NOT_PICTURE_CLASSES: Mapping[str, str] = {
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "segmentation",
    "1.2.840.10008.5.1.4.1.1.481.2": "dose grid",
    "1.2.840.10008.5.1.4.1.1.30": "parametric map",
}
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
NAMES = ("PatientName", "PatientID", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName")
FUNCTIONS: Mapping[str, Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]] = {
    "LINEAR": "LINEAR",
    "LINEAR_EXACT": "LINEAR_EXACT",
    "SIGMOID": "SIGMOID",
}
OLD_GE_OUTSIDE_CT = -2000  # stored outside the field of view, without a Pixel Padding Value
DAMAGED = "The pixel data is truncated or damaged."


@dataclass(frozen=True)
class _File:
    """What all frames of one file share."""

    dataset: Dataset
    transfer_syntax: str
    n_frames: int
    uid_or_content: str | bytes
    attributes: Mapping[str, str]
    patient: str | None
    study: str | None
    series: str | None
    notes: tuple[str, ...]


def read_dicom(data: bytes, pseudonyms: Pseudonyms) -> Iterator[DecodedImage]:
    """The frames of a DICOM file, one image each.

    Raises BadImage; after some images with outcome `partial` when other frames could not be decoded.
    """
    with guarded("corrupt", "The DICOM header is damaged."), pydicom.config.disable_value_validation():
        file = _open(data, pseudonyms)
    failures: list[BadImage] = []
    for index in range(file.n_frames):
        try:
            with guarded("corrupt", DAMAGED):
                image = _frame(file, index, pseudonyms)
        except BadImage as error:
            failures.append(error)
            if index == 0 and file.n_frames == 1:
                raise
            continue
        yield image
    if len(failures) == file.n_frames:
        raise failures[0]
    if failures:
        reason = f"{len(failures)} of {file.n_frames} frames could not be decoded: {failures[0].reason}"
        raise BadImage("partial", reason)


def _open(data: bytes, pseudonyms: Pseudonyms) -> _File:
    """The header, read and found to be of an image that may be decoded."""
    dataset, notes = _parse(data)
    _refuse_other_objects(dataset)
    transfer_syntax = _transfer_syntax(dataset, notes)
    n_frames = _mend(dataset, transfer_syntax, notes)
    attributes = _attributes(dataset)
    uid = text_of(dataset, "SOPInstanceUID")
    return _File(
        dataset=dataset,
        transfer_syntax=transfer_syntax,
        n_frames=n_frames,
        uid_or_content=uid or hashlib.sha256(data).digest(),
        attributes=attributes,
        patient=_pseudonym(pseudonyms, "patient", dataset, "PatientID"),
        study=_pseudonym(pseudonyms, "study", dataset, "StudyInstanceUID"),
        series=_pseudonym(pseudonyms, "series", dataset, "SeriesInstanceUID"),
        notes=tuple(notes),
    )


def _parse(data: bytes) -> tuple[Dataset, list[str]]:
    """The dataset and notes on what was mended. Without the DICM mark only a plausible image is believed."""
    if data[128:132] == b"DICM":
        return pydicom.dcmread(io.BytesIO(data)), []
    if data[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08"):
        raise BadImage("not_an_image", "The file is neither DICOM nor a picture of a known format.")
    with guarded("not_an_image", "The file is neither DICOM nor a picture of a known format."):
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    needed = ("Rows", "Columns", "BitsAllocated", "PixelData")
    if not all(keyword in dataset for keyword in needed):
        raise BadImage("not_an_image", "The file looks like DICOM without a file header and holds no image.")
    return dataset, ["read without the DICOM file header"]


def _refuse_other_objects(dataset: Dataset) -> None:
    if not any(keyword in dataset for keyword in PIXEL_KEYWORDS):
        raise BadImage("not_an_image", "The DICOM object holds no pixels.")
    modality, sop_class = str(dataset.get("Modality", "")), str(dataset.get("SOPClassUID", ""))
    kind = NOT_PICTURE_CLASSES.get(sop_class) or NOT_PICTURES.get(modality)
    if kind:
        raise BadImage("not_an_image", f"The DICOM object is a {kind}, not a picture to index.")


def _transfer_syntax(dataset: Dataset, notes: list[str]) -> str:
    """As the file says, else as it was parsed; pydicom's decoders read it from the file meta."""
    meta = getattr(dataset, "file_meta", None)
    stated = str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""
    if not stated:
        implicit, little = dataset.original_encoding
        stated = (IMPLICIT if implicit else EXPLICIT) if little else BIG_ENDIAN
        dataset.file_meta = meta if meta is not None else pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = UID(stated)
        notes.append("transfer syntax guessed from the encoding")
    return stated


def _mend(dataset: Dataset, transfer_syntax: str, notes: list[str]) -> int:
    """Make the image attributes usable where their meaning is clear, check their size; the number of frames."""
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        if not isinstance(dataset.get(keyword), int):
            raise BadImage("corrupt", f"The DICOM header does not say {keyword}.")
    if not dataset.get("SamplesPerPixel"):
        dataset.SamplesPerPixel = 1
        notes.append("SamplesPerPixel missing, taken as 1")
    if not dataset.get("PhotometricInterpretation"):
        dataset.PhotometricInterpretation = "MONOCHROME2" if dataset.SamplesPerPixel == 1 else "RGB"
        notes.append(f"PhotometricInterpretation missing, taken as {dataset.PhotometricInterpretation}")
    if dataset.get("PixelRepresentation") is None and "PixelData" in dataset:
        dataset.PixelRepresentation = 0
        notes.append("PixelRepresentation missing, taken as unsigned")
    bytes_each = (dataset.BitsAllocated + 7) // 8
    frame_bytes = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * bytes_each
    n_frames = _n_frames(dataset, transfer_syntax, frame_bytes, notes)
    check_size(dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, bytes_each, n_frames)
    return n_frames


def _n_frames(dataset: Dataset, transfer_syntax: str, frame_bytes: int, notes: list[str]) -> int:
    try:
        return int(dataset.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        encapsulated = UID(transfer_syntax).is_encapsulated
        counted = 1 if encapsulated or not frame_bytes else len(dataset.PixelData) // frame_bytes
        dataset.NumberOfFrames = max(counted, 1)
        notes.append("NumberOfFrames is not a number, frames counted by length")
        return max(counted, 1)


def _attributes(dataset: Dataset) -> dict[str, str]:
    values = {keyword: text_of(dataset, keyword) for keyword in WHITE_LIST}
    sop_class = UID(values["SOPClassUID"])
    values["SOPClassUID"] = "" if sop_class.name == sop_class else sop_class.name
    return white_listed(values, [text_of(dataset, name) for name in NAMES])


def _pseudonym(pseudonyms: Pseudonyms, kind: Kind, dataset: Dataset, keyword: str) -> str | None:
    text = text_of(dataset, keyword)
    return pseudonyms.of(kind, text) if text else None


def _frame(file: _File, index: int, pseudonyms: Pseudonyms) -> DecodedImage:
    """One frame as an image."""
    stored, decoder = _decode(file, index)
    dataset = file.dataset
    colour = dataset.PhotometricInterpretation == "PALETTE COLOR" or stored.ndim == 3
    shared: dict[str, Any] = {
        "id": pseudonyms.image(file.uid_or_content, index),
        "provenance": Provenance("DICOM", file.transfer_syntax, decoder, file.notes),
        "frame_index": index,
        "modality": file.attributes.get("modality"),
        "patient": file.patient,
        "study": file.study,
        "series": file.series,
        "attributes": file.attributes,
    }
    if colour:
        return DecodedImage(pixels=_rgb(stored, dataset), value_range=(0.0, 255.0), **shared)
    pixels, value_range = _modality_values(stored, dataset, index)
    return DecodedImage(
        pixels=pixels,
        value_range=value_range,
        padding=_padding(stored, dataset),
        windows=_windows(dataset, index),
        voi_lut=_voi_lut(dataset),
        monochrome1=_is_inverted(dataset),
        made_for_eye=_bits_stored(dataset) <= 8,
        **shared,
    )


def _decode(file: _File, index: int) -> tuple[Array, str]:
    """Stored values (rows, columns), or RGB (rows, columns, 3), and the name of the plugin that decoded."""
    try:
        decoder = get_decoder(UID(file.transfer_syntax))
    except NotImplementedError:
        raise BadImage("unsupported", f"Transfer syntax {_syntax_name(file)} is not read.") from None
    if not decoder.is_encapsulated:
        return decoder.as_array(file.dataset, index=index, raw=False)[0], "pydicom"
    _check_complete(file, index)
    available = decoder.available_plugins
    for plugin in PLUGINS.get(file.transfer_syntax, available):
        if plugin not in available:
            continue
        try:
            with guarded("corrupt", DAMAGED):
                return decoder.as_array(file.dataset, index=index, raw=False, decoding_plugin=plugin)[0], plugin
        except BadImage:
            continue  # the next plugin may read it
    if not available:
        raise BadImage("unsupported", f"No decoder for {_syntax_name(file)} is installed.")
    raise BadImage("corrupt", DAMAGED)


def _check_complete(file: _File, index: int) -> None:
    """Some decoders fill what a cut JPEG lacks with grey: without its end marker it is not given to them.

    The marker cannot occur in a scan, where 0xFF is followed by a stuffed 0 (ISO 10918-1 B.1.1.5, ISO 14495-1 A.1).
    """
    if file.transfer_syntax not in ENDS_WITH_MARKER:
        return
    stream = get_frame(file.dataset.PixelData, index, number_of_frames=file.n_frames)
    if stream.rfind(END_OF_IMAGE) < stream.rfind(START_OF_SCAN):
        raise BadImage("corrupt", DAMAGED)


def _syntax_name(file: _File) -> str:
    """The dictionary's name, never text of the file."""
    uid = UID(file.transfer_syntax)
    return "of an unknown kind" if uid.name == uid else uid.name


def _rgb(stored: Array, dataset: Dataset) -> Array:
    """RGB uint8. Palettes are looked up (PS3.3 C.7.6.3.1.5); deeper colour keeps its top 8 bits."""
    bits = _bits_stored(dataset)
    if stored.ndim == 2:
        stored = apply_color_lut(stored, dataset)[..., :3]
        # Some palettes are declared 16 bits deep and hold 8.
        bits = 16 if stored.dtype.itemsize == 2 and stored.max(initial=0) > 255 else 8
    if bits > 8:
        stored = stored >> (bits - 8)
    return np.ascontiguousarray(stored, dtype=np.uint8)


def _bits_stored(dataset: Dataset) -> int:
    return int(dataset.get("BitsStored") or dataset.BitsAllocated)


def _modality_values(stored: Array, dataset: Dataset, index: int) -> tuple[Float32, tuple[float, float]]:
    """Modality values float32 and the range they could have (PS3.3 C.11.1)."""
    if stored.dtype.kind == "f":
        pixels = stored.astype(np.float32)
        known = pixels[np.isfinite(pixels)]
        return pixels, (float(known.min(initial=0)), float(known.max(initial=1)))
    tables = value_of(dataset, "ModalityLUTSequence")
    if tables:
        white = 2.0 ** int(tables[0].LUTDescriptor[2]) - 1
        return apply_modality_lut(stored, dataset).astype(np.float32), (0.0, white)
    group = functional_group(dataset, index, "PixelValueTransformationSequence")
    slope = numbers_of(group, "RescaleSlope", default=1.0)[0] or 1.0  # 0 would blank the image
    intercept = numbers_of(group, "RescaleIntercept", default=0.0)[0]
    pixels = stored.astype(np.float32)
    if (slope, intercept) != (1.0, 0.0):
        pixels *= np.float32(slope)
        pixels += np.float32(intercept)
    low, high = _stored_range(dataset)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return pixels, (ends[0], ends[1])


def _stored_range(dataset: Dataset) -> tuple[int, int]:
    bits = _bits_stored(dataset)
    if dataset.get("PixelRepresentation") == 1:
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def _padding(stored: Array, dataset: Dataset) -> Bool | None:
    """Where stored values mean nothing: Pixel Padding Value .. Range Limit (PS3.3 C.7.5.1.1.2), or not a number."""
    if stored.dtype.kind == "f":
        mask: Bool = ~np.isfinite(stored)
        return mask if mask.any() else None
    value, limit = value_of(dataset, "PixelPaddingValue"), value_of(dataset, "PixelPaddingRangeLimit")
    if not isinstance(value, int):
        if dataset.get("Modality") != "CT" or dataset.get("PixelRepresentation") != 1:
            return None
        value = OLD_GE_OUTSIDE_CT
    low, high = sorted((value, limit)) if isinstance(limit, int) else (value, value)
    mask = stored == low if low == high else (stored >= low) & (stored <= high)
    return mask if mask.any() else None


def _windows(dataset: Dataset, index: int) -> tuple[Window, ...]:
    group = functional_group(dataset, index, "FrameVOILUTSequence")
    centers = numbers_of(group, "WindowCenter", default=0.0)
    widths = numbers_of(group, "WindowWidth", default=0.0)  # without a width it is no window
    function = FUNCTIONS.get(text_of(group, "VOILUTFunction"), "LINEAR")
    return tuple(Window(c, w, function) for c, w in zip(centers, widths, strict=False) if w > 0)


def _voi_lut(dataset: Dataset) -> tuple[float, Float32] | None:
    """The first VOI LUT as (first mapped value, table in [0, 1]) (PS3.3 C.11.2.1.1)."""
    items = value_of(dataset, "VOILUTSequence")
    if not items or "LUTDescriptor" not in items[0] or "LUTData" not in items[0]:
        return None
    n_entries, first, bits = (int(part) for part in items[0].LUTDescriptor)
    data = items[0].LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, dtype="u1" if len(data) == n_entries else "<u2")
    table = np.asarray(data, dtype=np.float32)[: n_entries or 65536]
    if table.size < 2:
        return None
    white = max(float(2 ** min(bits, 16) - 1), float(table.max()))
    return float(first), (table / np.float32(white)).astype(np.float32)


def _is_inverted(dataset: Dataset) -> bool:
    """Low values are white (PS3.3 C.7.6.3.1.2, C.11.6.1.2). MONOCHROME1 with INVERSE says the same thing twice."""
    inverse = text_of(dataset, "PresentationLUTShape") == "INVERSE"
    return inverse or text_of(dataset, "PhotometricInterpretation") == "MONOCHROME1"
