"""Bytes -> DecodedImage, chosen by content. DICOM in dicom.py, PNG, JPEG and TIFF in raster.py; worker.py runs them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..errors import BadImage
from ..privacy import Pseudonyms
from ..types import DecodedImage
from .limits import MAX_FILE_BYTES

__all__ = ["decode", "read_file", "read_image"]

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
UNSUPPORTED = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"%PDF": "PDF",
}


def read_image(
    path: Path, pseudonyms: Pseudonyms, *, patient: str | None = None, modality: str | None = None
) -> list[DecodedImage]:
    """The images of one file: one per DICOM frame, per TIFF page, else one.

    patient, modality: what a manifest says, wins over the file. The patient becomes a pseudonym in any case.
    Raises BadImage when the file gives no image; frames that cannot be decoded are left out when others can.
    """
    images: list[DecodedImage] = []
    try:
        images.extend(decode(read_file(path), pseudonyms, patient=patient, modality=modality))
    except BadImage as error:
        if error.outcome != "partial":
            raise
    return images


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises BadImage when it is missing, unreadable, empty or larger than 2 GiB."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadImage("corrupt", f"The file cannot be read: {error.strerror}.") from None
    if not data:
        raise BadImage("not_an_image", "The file is empty.")
    if len(data) > MAX_FILE_BYTES:
        raise BadImage("refused", f"The file is larger than {MAX_FILE_BYTES >> 30} GiB.")
    return data


def decode(
    data: bytes, pseudonyms: Pseudonyms, *, patient: str | None = None, modality: str | None = None
) -> Iterator[DecodedImage]:
    """The images of one file's bytes, one after the other, so that a long cine never lies in memory whole.

    Raises BadImage; after some images with outcome `partial` when frames had to be left out.
    """
    pseudonym = pseudonyms.of("patient", patient) if patient else None
    for image in _by_content(data, pseudonyms):
        if pseudonym or modality:
            image = replace(image, patient=pseudonym or image.patient, modality=modality or image.modality)
        yield image


def _by_content(data: bytes, pseudonyms: Pseudonyms) -> Iterator[DecodedImage]:
    """By magic bytes, never by suffix. DICOM first: its preamble may be that of a TIFF file (PS3.10 7.1).

    Readers are imported when first needed.
    """
    if data[128:132] != b"DICM":
        if data.startswith((PNG, JPEG)):
            from .raster import read_picture

            return read_picture(data, pseudonyms)
        if data.startswith(TIFF):
            from .raster import read_tiff

            return read_tiff(data, pseudonyms)
        for magic, name in UNSUPPORTED.items():
            if data.startswith(magic):
                raise BadImage("unsupported", f"The file is a {name} file, which is not read.")
    from .dicom import read_dicom

    return read_dicom(data, pseudonyms)
