"""The files that a DICOMDIR names, confined to its folder.

Only the Referenced File IDs are read, wherever they stand: the offsets that link the records, which may lie or go
round in circles, are not followed, and memory does not grow with the records. Source: DICOM PS3.3 F, PS3.10 8.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import BadManifest
from ..marks import ITEM, SEQUENCE_END, TRAILING_PADDING, UNDEFINED, Order, in_order, is_dicom_file
from ..types import ImageRef
from .names import shown_of

MAX_BYTES = 2**28
SOP_CLASS = b"1.2.840.10008.1.3.10"  # Media Storage Directory Storage
LONGEST_ID = 8 * 16 + 7  # eight components of sixteen characters (PS3.10 8.2)


class _Encoding(NamedTuple):
    """How a transfer syntax writes the Directory Record Sequence (0004,1220) and a Referenced File ID (0004,1500)."""

    sequence: re.Pattern[bytes]
    file_id: re.Pattern[bytes]
    order: Order


ENCODINGS = (
    _Encoding(
        re.compile(rb"\x04\x00\x20\x12SQ\0\0(.{4})", re.DOTALL),
        re.compile(rb"\x04\x00\x00\x15CS(..)", re.DOTALL),
        "little",
    ),
    _Encoding(
        re.compile(rb"\x00\x04\x12\x20SQ\0\0(.{4})", re.DOTALL),
        re.compile(rb"\x00\x04\x15\x00CS(..)", re.DOTALL),
        "big",
    ),
    _Encoding(
        re.compile(rb"\x04\x00\x20\x12(.{4})", re.DOTALL),
        re.compile(rb"\x04\x00\x00\x15(.{4})", re.DOTALL),
        "little",
    ),
)


def is_dicomdir(path: Path) -> bool:
    """Whether the file header says so; the name does not matter. A file that cannot be read is none."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError:
        return False
    return is_dicom_file(head) and SOP_CLASS in head


def dicomdir(path: Path) -> Iterator[ImageRef]:
    """The files a DICOMDIR names, in its order, each once; shown relative to its folder.

    A file that would lie outside that folder, by its name or through a link, is refused; one that is missing stands
    for itself: whoever reads it reports why. Names are also found in other case (CDs copied to a disk).
    Raises BadManifest when the DICOMDIR cannot be read, is cut off or names no files.
    """
    path = path.resolve()
    data = _read(path)
    encoding, found = _sequence(data)
    if encoding.file_id.search(data, found.end()) is None:
        raise BadManifest("The DICOMDIR names no files.")
    return _refs(path, encoding, data, found.end())


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadManifest(f"The DICOMDIR cannot be read: {error.strerror}.") from None
    if len(data) > MAX_BYTES:
        raise BadManifest(f"The DICOMDIR is larger than {MAX_BYTES >> 20} MiB.")
    return data


def _sequence(data: bytes) -> tuple[_Encoding, re.Match[bytes]]:
    """The encoding and the head of the sequence of records, which must end inside the file."""
    for encoding in ENCODINGS:
        found = encoding.sequence.search(data)
        if found is None:
            continue
        length = int.from_bytes(found[1], encoding.order)
        ends = _is_closed(data, encoding.order) if length == UNDEFINED else found.end() + length <= len(data)
        if not ends:
            raise BadManifest("The DICOMDIR is cut off: copy it again.")
        return encoding, found
    raise BadManifest("The DICOMDIR is damaged: it has no directory records.")


def _is_closed(data: bytes, order: Order) -> bool:
    """Whether a sequence of undefined length ends behind its last record, with nothing after it but padding."""
    item, end, padding = (in_order(mark, order) for mark in (ITEM, SEQUENCE_END, TRAILING_PADDING))
    n_bytes = len(data.rstrip(b"\0"))
    at = data.find(end, max(data.rfind(item), 0))
    while at >= 0:
        if n_bytes <= at + 8 or data.startswith(padding, at + 8):
            return True
        at = data.find(end, at + 4)  # this was that of a sequence inside the record
    return False


def _refs(path: Path, encoding: _Encoding, data: bytes, start: int) -> Iterator[ImageRef]:
    seen = set()
    folder = _Folder(path.parent)
    for found in encoding.file_id.finditer(data, start):
        length = int.from_bytes(found[1], encoding.order)
        value = data[found.end() : found.end() + min(length, LONGEST_ID + 1)]
        name = value.decode("utf-8", "backslashreplace").rstrip(" \0")
        if name and name not in seen:
            seen.add(name)
            yield _ref(path, folder, name, too_long=length > LONGEST_ID)


def _ref(path: Path, folder: _Folder, name: str, *, too_long: bool) -> ImageRef:
    parts = re.split(r"[\\/]", name)
    if too_long or any(part in ("", ".", "..") or ":" in part or "\0" in part for part in parts):
        return _refused(path, name)
    found = folder.find(parts)
    if not Path(os.path.realpath(found)).is_relative_to(path.parent):
        return _refused(path, name)
    return ImageRef(found, shown_of(found.relative_to(path.parent)))


def _refused(path: Path, name: str) -> ImageRef:
    """Stands for a file that is not looked at, as if it were a member of the DICOMDIR."""
    sentence = "The DICOMDIR names a file outside its folder, or by a name that is none."
    return ImageRef(path, f"{path.name}/{name}", member=name, refused=sentence)


class _Folder:
    """Finds files below root whatever the case of their names; the listing of a folder is kept."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[Path, dict[str, str]] = {}

    def find(self, parts: list[str]) -> Path:
        """The file, or where it would be."""
        exact = self._root.joinpath(*parts)
        if os.path.lexists(exact):
            return exact
        found = self._root
        for part in parts:
            found = found / self._listing(found).get(part.casefold(), part)
        return found

    def _listing(self, folder: Path) -> dict[str, str]:
        if folder not in self._names:
            inside = Path(os.path.realpath(folder)).is_relative_to(self._root)
            try:
                names = sorted(os.listdir(folder)) if inside else []
            except OSError:
                names = []
            self._names[folder] = {name.casefold(): name for name in names}
        return self._names[folder]
