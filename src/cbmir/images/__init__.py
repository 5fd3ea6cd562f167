"""Bytes -> DecodedImage, chosen by content (kinds.py): DICOM in dicom, PNG, JPEG, GIF, BMP, WebP and JPEG 2000 in
raster.py, TIFF in tiff.py, NIfTI and NRRD in volume.py; worker.py runs them."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..archives import GZIP, GZIP_MAGIC, inflate, is_archive, read_member
from ..errors import BadImage
from ..marks import is_dicom_file
from ..privacy import Pseudonyms
from ..types import DecodedImage, ImageRef
from .kinds import is_nifti, is_tar, kind_of
from .limits import MAX_FILE_BYTES

__all__ = ["decode", "read_file", "read_image", "read_ref"]

NESTED = "The file is an archive inside an archive, which is not opened."
NIFTI_2_HEADER = 540


def read_image(
    path: Path, pseudonyms: Pseudonyms, *, patient: str | None = None, modality: str | None = None
) -> list[DecodedImage]:
    """The images of one file: one per DICOM frame, TIFF page or slice of a volume, else one.

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


def read_ref(ref: ImageRef) -> bytes:
    """The bytes of a file, or of a member of a zip archive.

    Raises BadImage: refused when the source says so, or for an archive inside an archive (a gzipped NIfTI volume may
    be in one), and as read_file and archives.read_member do.
    """
    if ref.refused:
        raise BadImage("refused", ref.refused)
    if ref.member is None:
        return read_file(ref.path)
    data = read_member(ref.path, ref.member)
    if is_archive(data) or (data.startswith(GZIP_MAGIC) and not is_nifti(_first_inflated(data))):
        raise BadImage("refused", NESTED)
    return data


def _first_inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(GZIP).decompress(data[:65536], NIFTI_2_HEADER)
    except zlib.error:
        raise BadImage("corrupt", "The gzip stream is damaged.") from None


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises BadImage when it is missing, unreadable, no regular file, empty or above 2 GiB."""
    try:
        # a pipe would block until somebody writes into it, and some devices never end: neither is waited for
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise BadImage("refused", "A folder, a pipe, a socket or a device is no file, and is not read.")
            if status.st_size > MAX_FILE_BYTES:
                raise BadImage("refused", f"The file is larger than {MAX_FILE_BYTES >> 30} GiB.")
            data = file.read(status.st_size)
    except OSError as error:
        raise BadImage("corrupt", f"The file cannot be read: {error.strerror}.") from None
    except ValueError:  # a NUL in the path, say
        raise BadImage("corrupt", "The file cannot be read: its path is none.") from None
    if not data:
        raise BadImage("not_an_image", "The file is empty.")
    return data


def decode(
    data: bytes,
    pseudonyms: Pseudonyms,
    *,
    patient: str | None = None,
    modality: str | None = None,
    only: int | None = None,
) -> Iterator[DecodedImage]:
    """The images of one file's bytes, one after the other, so that a long cine never lies in memory whole.

    only: the frame_index of the one that is wanted; there is none when the file has no such frame.
    A gzip stream is inflated first, once; images and ids are those of what is inside.
    Raises BadImage; after some images with outcome `partial` when frames had to be left out.
    """
    notes: tuple[str, ...] = ()
    if data.startswith(GZIP_MAGIC) and not is_dicom_file(data):
        data, notes = _inflated(data), ("inflated from gzip",)
    pseudonym = pseudonyms.of("patient", patient) if patient else None
    for image in _by_content(data, pseudonyms, only):
        if pseudonym or modality or notes:
            image = replace(
                image,
                patient=pseudonym or image.patient,
                modality=modality or image.modality,
                provenance=replace(image.provenance, notes=(*image.provenance.notes, *notes)),
            )
        yield image


def _inflated(data: bytes) -> bytes:
    content = inflate(data, GZIP)
    if not content:
        raise BadImage("not_an_image", "The gzip file is empty inside.")
    if is_archive(content) or content.startswith(GZIP_MAGIC) or is_tar(content):
        raise BadImage("refused", NESTED)
    return content


def _by_content(data: bytes, pseudonyms: Pseudonyms, only: int | None) -> Iterator[DecodedImage]:
    """Readers are imported when first needed."""
    match kind_of(data):
        case "picture":
            from .raster import read_picture

            return read_picture(data, pseudonyms, only)
        case "jpeg 2000":
            from .raster import read_codestream

            return read_codestream(data, pseudonyms)
        case "tiff":
            from .tiff import read_tiff

            return read_tiff(data, pseudonyms, only)
        case "nifti" | "nrrd" as kind:
            from .volume import read_volume

            return read_volume(data, kind, pseudonyms, only)
        case "dicom":
            from .dicom import read_dicom

            return read_dicom(data, pseudonyms, only)
