"""Tiny DICOM files, made as a test needs them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def make_dicom(pixels: Any, *, bits_stored: int | None = None, frames: bool = False, **elements: Any) -> Dataset:
    """A dataset that can be saved, holding pixels (integer): (rows, columns), (rows, columns, 3) for colour,
    or with frames=True (n, rows, columns).

    elements: by DICOM keyword; they win over what follows from pixels.
    """
    array = np.asarray(pixels)
    shape = array.shape[1:] if frames else array.shape
    samples = shape[2] if len(shape) == 3 else 1
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = SECONDARY_CAPTURE
    dataset.SOPInstanceUID = generate_uid()
    dataset.Modality = "OT"
    dataset.Rows, dataset.Columns = shape[:2]
    dataset.SamplesPerPixel = samples
    dataset.PhotometricInterpretation = "MONOCHROME2" if samples == 1 else "RGB"
    if samples > 1:
        dataset.PlanarConfiguration = 0
    if frames:
        dataset.NumberOfFrames = len(array)
    dataset.BitsAllocated = array.dtype.itemsize * 8
    dataset.BitsStored = bits_stored or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(array.dtype.kind == "i")
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if array.dtype.itemsize == 1 else "OW"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def dicom_bytes(dataset: Dataset) -> bytes:
    """The file's bytes. Transfer syntaxes that pydicom does not know are written as explicit little endian."""
    file = io.BytesIO()
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_private and syntax.is_transfer_syntax:
        dataset.save_as(file, enforce_file_format=True)
    else:
        dataset.preamble = b"\0" * 128
        dataset.save_as(file, implicit_vr=False, little_endian=True, force_encoding=True)
    return file.getvalue()


def encapsulated(pixels: Any, transfer_syntax: str, streams: list[bytes], **elements: Any) -> Dataset:
    """A dataset whose pixels are compressed streams, one for each frame; described as make_dicom describes `pixels`."""
    data = encapsulate(streams, has_bot=elements.pop("has_bot", True))
    dataset = make_dicom(pixels, **{"PixelData": data, **elements})
    dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    dataset["PixelData"].VR = "OB"
    return dataset


def save_dicom(path: Path, dataset: Dataset) -> Path:
    path.write_bytes(dicom_bytes(dataset))
    return path


def sequence_item(**elements: Any) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item
