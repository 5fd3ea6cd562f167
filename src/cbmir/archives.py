"""Zip archives and compressed streams: what is in them, and its bytes, within limits that no archive can talk away.

One level only: an archive inside an archive is not opened. Nothing is ever written to disk. Method, size and place of
a member are those of the central directory; the bytes are checked against its size and checksum.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from .errors import BadImage

MAX_INFLATED_BYTES = 2**30
FREE_BYTES = 2**26  # whatever the ratio: a black picture shrinks 1000 times and is still one
MAX_RATIO = 100
MAX_MEMBERS = 100_000
MAX_DIRECTORY_BYTES = 2**26
PIECE_BYTES, CHUNK_BYTES = 2**16, 2**20

GZIP_MAGIC = b"\x1f\x8b"
ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
GZIP, RAW_DEFLATE, ZLIB = 31, -15, 15  # wbits of zlib

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., lengths of the name and of the extra field
_ENCRYPTED = 0x1
_DRIVE = re.compile(r"[A-Za-z]:")
_TOO_MUCH = "The compressed data would grow beyond what is safe."
_DAMAGED = "The compressed data is truncated or damaged."
_DAMAGED_ZIP = "The zip archive is truncated or damaged."


def allowed_bytes(compressed: int) -> int:
    """How many bytes so many compressed ones may become: 64 MiB + 100 times as many, at most 1 GiB."""
    return min(MAX_INFLATED_BYTES, FREE_BYTES + MAX_RATIO * compressed)


def inflate(data: bytes, wbits: int) -> bytes:
    """The content of a zlib stream. wbits: GZIP (all its members), RAW_DEFLATE or ZLIB.

    What follows the stream is ignored (DICOM pads to an even length). Raises BadImage: refused when the content is
    larger than allowed_bytes, corrupt when the stream is damaged or ends too early.
    """
    allowed = allowed_bytes(len(data))
    content = io.BytesIO()  # whose getvalue does not copy
    for chunk in _chunks(data, wbits):
        if content.tell() + len(chunk) > allowed:
            raise BadImage("refused", _TOO_MUCH)
        content.write(chunk)
    return content.getvalue()


def _chunks(data: bytes, wbits: int) -> Iterator[bytes]:
    """The content bit by bit; input goes in by pieces too, for zlib copies what it has not used yet."""
    position = 0
    while True:
        stream = zlib.decompressobj(wbits)
        while not stream.eof:
            piece = stream.unconsumed_tail
            if not piece:
                piece = data[position : position + PIECE_BYTES]
                position += len(piece)
            try:
                chunk = stream.decompress(piece, CHUNK_BYTES)
            except zlib.error:
                raise BadImage("corrupt", _DAMAGED) from None
            if not chunk and not piece and not stream.eof:
                raise BadImage("corrupt", _DAMAGED)
            yield chunk
        position -= len(stream.unused_data)
        if wbits != GZIP or not data.startswith(GZIP_MAGIC, position):
            return


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a zip archive. name: with / between folders; refused: why it is not to be read, one sentence
    without its name."""

    name: str
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a member lies, as the central directory has it. deflated: else stored as it is."""

    offset: int
    compressed: int
    size: int
    checksum: int
    deflated: bool


@dataclass(frozen=True, slots=True)
class _Directory:
    members: tuple[Member, ...]
    places: Mapping[str, _Place]


def members(path: Path) -> tuple[Member, ...]:
    """The files of a zip archive, sorted folder by folder; folders, hidden files and __MACOSX are left out.

    Raises BadImage for the archive as a whole: corrupt when it is damaged or no zip archive, refused when it has more
    than 100,000 members or all of them would grow beyond 64 MiB + 100 times the archive.
    """
    return _directory_of(path).members


def read_member(path: Path, name: str) -> bytes:
    """The bytes of one member, checked against its size and checksum.

    Raises BadImage: refused for what `members` refuses, or when it grows beyond allowed_bytes; corrupt when it is
    missing, damaged, or not as large as the archive says; not_an_image when it is empty.
    """
    directory = _directory_of(path)
    place = directory.places.get(name)
    if place is None:
        found = [member.refused for member in directory.members if member.name == name and member.refused]
        raise BadImage("refused", found[0]) if found else BadImage("corrupt", "The zip archive has no such member now.")
    data = _stored_bytes(path, place)
    if place.deflated:
        data = inflate(data, RAW_DEFLATE)
    if len(data) != place.size or zlib.crc32(data) != place.checksum:
        raise BadImage("corrupt", "The member of the zip archive is damaged: its size or checksum is wrong.")
    if not data:
        raise BadImage("not_an_image", "The file is empty.")
    return data


def is_archive(data: bytes) -> bool:
    """Whether the bytes begin as those of a zip archive do."""
    return data.startswith(ZIP_MAGICS)


def count_files(data: bytes) -> int:
    """How many files the bytes of a zip archive hold. Raises BadImage (corrupt) when it is damaged."""
    return sum(not _is_left_out(info) for info in _infos(io.BytesIO(data)))


def _stored_bytes(path: Path, place: _Place) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(place.offset)
            header = file.read(_LOCAL_HEADER.size)
            if not header.startswith(b"PK\x03\x04") or len(header) < _LOCAL_HEADER.size:
                raise BadImage("corrupt", _DAMAGED_ZIP)
            _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            file.seek(name_length + extra_length, os.SEEK_CUR)
            data = file.read(place.compressed)
    except OSError as error:
        raise BadImage("corrupt", f"The zip archive cannot be read: {error.strerror}.") from None
    except (OverflowError, ValueError):  # no place in a file at all
        raise BadImage("corrupt", _DAMAGED_ZIP) from None
    if len(data) < place.compressed:
        raise BadImage("corrupt", _DAMAGED_ZIP)
    return data


def _directory_of(path: Path) -> _Directory:
    try:
        status = path.stat()
    except OSError as error:
        raise BadImage("corrupt", f"The zip archive cannot be read: {error.strerror}.") from None
    except ValueError:  # a NUL in the path, say
        raise BadImage("corrupt", "The zip archive cannot be read: its path is none.") from None
    return _read_directory(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=2)  # so that reading every member of a large archive reads its directory once
def _read_directory(path: Path, size: int, mtime_ns: int) -> _Directory:
    try:
        with path.open("rb", buffering=0) as file:
            infos = _infos(file)
    except OSError as error:
        raise BadImage("corrupt", f"The zip archive cannot be read: {error.strerror}.") from None
    if len(infos) > MAX_MEMBERS:
        raise BadImage("refused", f"The zip archive has more than {MAX_MEMBERS} members.")
    if sum(info.file_size for info in infos) > FREE_BYTES + MAX_RATIO * size:
        raise BadImage("refused", "The members of the zip archive would grow beyond what is safe.")
    files = [info for info in infos if not _is_left_out(info)]
    times = Counter(map(_name, files))
    found = {_name(info): (_refusal(info, times[_name(info)]), info) for info in files}
    ordered = sorted(found, key=lambda name: name.split("/"))
    return _Directory(
        members=tuple(Member(name, found[name][0]) for name in ordered),
        places=MappingProxyType({name: _place(info) for name, (refused, info) in found.items() if not refused}),
    )


class _Guarded(io.BufferedReader):
    """A file for zipfile, which reads the whole central directory at once and makes an object of every entry in it,
    however many the end of the archive promises."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise BadImage("refused", "The directory of the zip archive is too large.")
        data = super().read(size)
        if data.count(b"PK\x01\x02") > MAX_MEMBERS:
            raise BadImage("refused", f"The zip archive has more than {MAX_MEMBERS} members.")
        return data


def _infos(file: io.FileIO | io.BytesIO) -> list[zipfile.ZipInfo]:
    try:
        with _Guarded(file) as guarded, zipfile.ZipFile(guarded) as archive:
            return archive.infolist()
    except BadImage:
        raise
    except Exception:  # BadZipFile, and what falls out of a directory that was tampered with
        raise BadImage("corrupt", _DAMAGED_ZIP) from None


def _name(info: zipfile.ZipInfo) -> str:
    """The member's name with /: archives of .NET before 4.6.1 have a backslash between the folders."""
    return info.filename.replace("\\", "/")


def _is_left_out(info: zipfile.ZipInfo) -> bool:
    *folders, name = _name(info).split("/")
    hidden = any(part == "__MACOSX" or (part.startswith(".") and part.strip(".")) for part in (*folders, name))
    return hidden or not name


def _refusal(info: zipfile.ZipInfo, times: int) -> str | None:
    """Why a member is not read. Nothing is written to disk, but names become paths in what people do with them."""
    name = info.orig_filename.replace("\\", "/")
    if name.startswith("/") or _DRIVE.match(name) or "\0" in name or ".." in name.split("/"):
        return "The name of the member leads out of the zip archive."
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "The member of the zip archive is a link or no ordinary file."
    if info.flag_bits & _ENCRYPTED:
        return "The member of the zip archive is encrypted."
    if times > 1:
        return "The zip archive has several members of this name."
    return _refusal_of_size(info)


def _refusal_of_size(info: zipfile.ZipInfo) -> str | None:
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    if not deflated and info.compress_type != zipfile.ZIP_STORED:
        return "The member of the zip archive is compressed by a method that is not read; deflate is."
    if not deflated and info.compress_size != info.file_size:
        return "The member of the zip archive has two sizes."
    if max(info.file_size, info.compress_size) > allowed_bytes(info.compress_size):
        return "The member of the zip archive would grow beyond what is safe."
    return None


def _place(info: zipfile.ZipInfo) -> _Place:
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    return _Place(info.header_offset, info.compress_size, info.file_size, info.CRC, deflated)
