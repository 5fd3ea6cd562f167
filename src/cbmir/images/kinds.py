"""What kind of file some bytes are, by their magic, never by a suffix."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Literal

from ..archives import count_files, is_archive
from ..errors import BadImage
from ..marks import is_dicom_file
from .codestream import JP2_BOX, START_OF_CODESTREAM

Kind = Literal["dicom", "picture", "jpeg 2000", "tiff", "nifti", "nrrd"]

PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes; two letters alone are no magic
JPEG_2000 = (JP2_BOX + b"\r\n\x87\n", START_OF_CODESTREAM)
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NRRD = re.compile(rb"NRRD000\d\r?\n")
NIFTI_MAGICS = (b"n+1\0", b"ni1\0", b"n+2\0", b"ni2\0")

UNSUPPORTED: Mapping[bytes, str] = {
    b"%PDF": "PDF file",
    b"\x89HDF\r\n\x1a\n": "HDF5 file",
    b"CDF\x01": "NetCDF or MINC file",
    b"CDF\x02": "NetCDF or MINC file",
    b"# vtk DataFile": "VTK file",
    b"MATRIX7": "ECAT file",
    b"SIMPLE  =": "FITS file",
    b"8BPS": "Photoshop file",
    b"v/1\x01": "OpenEXR file",
    b"II\xbc\x01": "JPEG XR file",
    b"\xff\x0a": "JPEG XL file",
    b"\0\0\0\x0cJXL ": "JPEG XL file",
    b"\x8aMNG\r\n\x1a\n": "MNG file",
    b"{\\rtf": "RTF document",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "Microsoft Office file",
    b"7z\xbc\xaf\x27\x1c": "7z archive",
    b"Rar!\x1a\x07": "RAR archive",
    b"\xfd7zXZ\0": "xz archive",
    b"BZh": "bzip2 archive",
    b"(\xb5/\xfd": "Zstandard archive",
}
META_IMAGE = re.compile(rb"\s*(ObjectType|NDims)\s*=")
NETPBM = re.compile(rb"P[1-7]\s")

VIDEOS: Mapping[bytes, str] = {
    b"\x1aE\xdf\xa3": "Matroska",
    b"\0\0\x01\xba": "MPEG",
    b"\0\0\x01\xb3": "MPEG",
    b"0&\xb2u\x8ef\xcf\x11": "Windows Media",
    b"FLV\x01": "Flash",
    b"OggS": "Ogg",
}
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide")
STILLS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")
TS_PACKETS = ((0, 188), (4, 192))  # first sync byte, length of a packet: MPEG transport stream, and that of Blu-ray


def kind_of(data: bytes) -> Kind:
    """Which reader a file is for. DICOM also when nothing else fits: a file without DICOM's preamble has no magic.

    DICOM comes first, since its preamble may be that of a TIFF file (PS3.10 7.1).
    Raises BadImage for what is known and not read: unsupported, or refused for a video.
    """
    if is_dicom_file(data):
        return "dicom"
    if data.startswith(PICTURES) or _riff(data) == b"WEBP" or _is_bmp(data):
        return "picture"
    if data.startswith(JPEG_2000):
        return "jpeg 2000"
    if data.startswith(TIFF):
        return "tiff"
    if NRRD.match(data):
        return "nrrd"
    if is_nifti(data):
        return "nifti"
    _refuse_videos(data)
    _refuse_others(data)
    return "dicom"


def is_nifti(data: bytes) -> bool:
    """Whether the first 348 or 540 bytes are a NIfTI-1 or NIfTI-2 header."""
    return data[344:348] in NIFTI_MAGICS[:2] or data[4:8] in NIFTI_MAGICS[2:]


def is_tar(data: bytes) -> bool:
    return data[257:262] == b"ustar"


def _is_bmp(data: bytes) -> bool:
    return data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in BMP_HEADERS


def _riff(data: bytes) -> bytes:
    return data[8:12] if data.startswith(b"RIFF") else b""


def _refuse_videos(data: bytes) -> None:
    name = next((name for magic, name in VIDEOS.items() if data.startswith(magic)), None)
    if _riff(data) == b"AVI ":
        name = "AVI"
    elif data[4:8] in MP4_BOXES and data[8:12] not in STILLS:
        name = "MP4 or QuickTime"
    elif any(_is_transport_stream(data, first, length) for first, length in TS_PACKETS):
        name = "MPEG"
    if name:
        raise BadImage("refused", f"The file is a video ({name}), which is not indexed: save the frames of interest.")


def _is_transport_stream(data: bytes, first: int, length: int) -> bool:
    sync = data[first : first + 5 * length : length]
    return len(sync) == 5 and sync == b"G" * 5


def _refuse_others(data: bytes) -> None:
    if is_archive(data):
        _refuse_archive(data)
    name = next((name for magic, name in UNSUPPORTED.items() if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        name = "HEIF or AVIF file"
    elif META_IMAGE.match(data[:256]):
        name = "MetaImage file"
    elif NETPBM.match(data):
        name = "netpbm file"
    elif is_tar(data):
        name = "tar archive"
    elif _is_analyze(data):
        name = "header of an Analyze image"
    if name:
        raise BadImage("unsupported", f"The file is a {name}, which is not read.")


def _refuse_archive(data: bytes) -> None:
    """A zip archive that came here was not opened as a source."""
    if not count_files(data):
        raise BadImage("not_an_image", "The zip archive holds no files.")
    raise BadImage(
        "unsupported",
        "The file is a zip archive, which is opened when it is a source or in a folder, and its name ends in .zip.",
    )


def _is_analyze(data: bytes) -> bool:
    """Analyze 7.5: the size of the header, 348, at the start, and the letter r of `regular` at 38."""
    if len(data) < 348 or data[38:39] != b"r":
        return False
    return 348 in struct.unpack("<I", data[:4]) + struct.unpack(">I", data[:4])
