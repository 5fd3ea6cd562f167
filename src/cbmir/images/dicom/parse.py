"""Bytes to a dataset and the place of its pixels, within limits: nothing of the pixels is copied or decoded here.

The header is read by pydicom up to the pixel element; that one is taken apart here, by the lengths of its items, so
that a stream with a delimiter's bytes inside it is read whole and a cut file keeps what it has.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from ...archives import RAW_DEFLATE, ZLIB, inflate
from ...errors import BadImage
from ...marks import ITEM, SEQUENCE_END, UNDEFINED, is_dicom_file
from ..codestream import starts_image
from ..limits import guarded
from .elements import has, text_of
from .nested import count_nested

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
GE_BIG_PIXELS, PAPYRUS = "1.2.840.113619.5.2", "1.2.840.10008.1.20"  # implicit little endian headers, both

PIXEL_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
MAX_ELEMENTS = 200_000
MAX_NESTED = 1_000_000  # in sequences; an element takes about 350 bytes once read
RECURSION_LIMIT = 3000
MAX_FRAGMENTS = 200_000
MAX_ITEMS = 500_000  # 5000 frames with 30 functional groups are 150 000; an item takes about 1.5 KiB once read

NOTHING = "The file is neither DICOM nor a picture of a known format."
DAMAGED_HEADER = "The DICOM header is damaged."


@dataclass(frozen=True)
class Fragment:
    """One item of encapsulated pixels: where its item begins behind the offset table, and its bytes."""

    offset: int
    data: memoryview


@dataclass(frozen=True)
class PixelElement:
    """The pixels as they lie in the file.

    data: as many bytes as there are. stated: how many the element says there are; None when encapsulated.
    fragments: of encapsulated pixels, without the table of offsets. whole: did the last item end in the file.
    """

    keyword: str
    vr: str
    data: memoryview
    stated: int | None
    offsets: tuple[int, ...] = ()
    fragments: tuple[Fragment, ...] = ()
    whole: bool = True

    @property
    def encapsulated(self) -> bool:
        return self.stated is None


@dataclass(frozen=True)
class Parsed:
    """transfer_syntax: as the file says, "" when it does not. cut: an element reaches beyond the end of the file."""

    dataset: Dataset
    pixels: PixelElement | None
    transfer_syntax: str
    implicit: bool
    little: bool
    cut: bool
    notes: tuple[str, ...] = ()


def parse_file(data: bytes) -> Parsed:
    """The header of a file. Raises BadImage: not_an_image when it is not DICOM, corrupt, refused.

    Without the DICM mark only a whole image is believed (the caller looks for its attributes).
    """
    if is_dicom_file(data):
        with guarded("corrupt", DAMAGED_HEADER):
            return _parse_from(data, 132, ())
    if data[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08"):
        raise BadImage("not_an_image", NOTHING)
    with guarded("not_an_image", NOTHING):
        parsed = _parse_from(data, 0, ("read without the DICOM file header",))
    if parsed.pixels is None or not all(has(parsed.dataset, name) for name in ("Rows", "Columns", "BitsAllocated")):
        raise BadImage("not_an_image", "The file looks like DICOM without a file header and holds no image.")
    return parsed


def _parse_from(data: bytes, start: int, notes: tuple[str, ...]) -> Parsed:
    file = io.BytesIO(data)
    file.seek(start)
    meta = _read_group(file, 2, implicit=False)
    stated = text_of(meta, "TransferSyntaxUID").strip("\0 ")
    if stated == DEFLATED:
        data = _inflated(data[file.tell() :])
        file = io.BytesIO(data)
    _read_group(file, 0, implicit=True)
    implicit, little = _encoding(stated, data[file.tell() : file.tell() + 6])
    watch = _Watch(data, file, little=little)
    with _deep():
        dataset = read_dataset(file, implicit, little, stop_when=watch.stop)
    found = dataset.original_encoding
    pixels = _pixel_element(data, file.tell(), bool(found[0]), little) if watch.at_pixels else None
    return Parsed(dataset, pixels, stated, bool(found[0]), little, watch.cut, notes)


@contextmanager
def _deep() -> Iterator[None]:
    """Room for sequences in sequences, a few hundred deep: pydicom reads them by recursion."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, RECURSION_LIMIT))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _inflated(data: bytes) -> bytes:
    """Some writers put a zlib header before the raw stream the standard wants (PS3.5 A.5)."""
    try:
        return inflate(data, RAW_DEFLATE)
    except BadImage as error:
        if error.outcome != "corrupt" or data[:1] != b"\x78":
            raise
        return inflate(data, ZLIB)


def _read_group(file: io.BytesIO, group: int, *, implicit: bool) -> Dataset:
    """The elements of one group at the current position; none when it begins with another."""
    at = file.tell()
    first = int.from_bytes(file.read(2), "little")
    file.seek(at)
    if first != group:
        return Dataset()
    return read_dataset(file, implicit, True, stop_when=lambda tag, vr, length: tag >> 16 != group)


def _encoding(stated: str, start: bytes) -> tuple[bool, bool]:
    """(implicit, little endian): as stated, else by the look of the first element."""
    if stated in (IMPLICIT, GE_BIG_PIXELS, PAPYRUS):
        return True, True
    if stated:
        return False, stated != BIG_ENDIAN
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return not explicit, not explicit or int.from_bytes(start[:2], "little") < 1024


class _Watch:
    """Told of every element before its value is read: stops at the pixels, and before there is too much."""

    def __init__(self, data: bytes, file: io.BytesIO, *, little: bool) -> None:
        self.data, self.file, self.little = data, file, little
        self.n_items, self.n_nested = 0, 0
        self.n_elements, self.at_pixels, self.cut = 0, False, False

    def stop(self, tag: int, vr: str | None, length: int) -> bool:
        self.n_elements += 1
        if self.n_elements > MAX_ELEMENTS:
            raise BadImage("refused", f"The DICOM header has more than {MAX_ELEMENTS} elements.")
        if tag in PIXEL_KEYWORDS:
            self.at_pixels = True
            return True
        at = self.file.tell()
        end = len(self.data) if length == UNDEFINED else at + length
        self.cut = end > len(self.data)
        if vr in (None, "SQ", "UN") and len(self.data) > 8 * MAX_ITEMS:  # of 8 bytes at least
            self.count_nested(at, None if length == UNDEFINED else end)
        return False

    def count_nested(self, at: int, end: int | None) -> None:
        nested = count_nested(self.data, at, end, little=self.little)
        self.n_items, self.n_nested = self.n_items + nested[0], self.n_nested + nested[1]
        if self.n_items > MAX_ITEMS:
            raise BadImage("refused", f"The DICOM header has more than {MAX_ITEMS} items.")
        if self.n_nested > MAX_NESTED:
            raise BadImage("refused", f"The sequences of the DICOM header have more than {MAX_NESTED} elements.")


def _pixel_element(data: bytes, at: int, implicit: bool, little: bool) -> PixelElement:
    """The element that begins at `at`, whatever is left of it."""
    order: Any = "little" if little else "big"
    tag = int.from_bytes(data[at : at + 2], order) << 16 | int.from_bytes(data[at + 2 : at + 4], order)
    vr = data[at + 4 : at + 6]
    if implicit or not (vr.isalpha() and vr.isupper()):
        vr, start, length = b"OW", at + 8, data[at + 4 : at + 8]
    elif vr in (b"SS", b"US"):
        start, length = at + 8, data[at + 6 : at + 8]
    else:
        start, length = at + 12, data[at + 8 : at + 12]
    n_bytes, keyword = int.from_bytes(length, order), PIXEL_KEYWORDS[tag]
    view = memoryview(data)
    if n_bytes == UNDEFINED or data[start : start + 4] == ITEM:
        end = len(data) if n_bytes == UNDEFINED else start + n_bytes
        return _encapsulated(keyword, vr.decode(), view[start:end])
    return PixelElement(keyword, vr.decode(), view[start : start + n_bytes], n_bytes)


def _encapsulated(keyword: str, vr: str, view: memoryview) -> PixelElement:
    """The items one after the other, by their lengths (PS3.5 A.4); the first holds the offsets of the frames."""
    items: list[tuple[int, memoryview]] = []
    at, whole = 0, False
    while at + 8 <= len(view):
        tag, length = bytes(view[at : at + 4]), int.from_bytes(view[at + 4 : at + 8], "little")
        if tag != ITEM:
            whole = tag == SEQUENCE_END
            break
        items.append((at, view[at + 8 : at + 8 + length]))
        if len(items) > MAX_FRAGMENTS:
            raise BadImage("refused", f"The compressed pixels are in more than {MAX_FRAGMENTS} pieces.")
        at += 8 + length
    whole = whole or at == len(view)
    if not items:
        return PixelElement(keyword, vr, view, None, whole=False)
    if _begins_frame(items[0][1]):  # the table is left out, which must not be
        rest, table, first = items, memoryview(b""), 0
    else:
        (_, table), *rest = items
        first = 8 + len(table)
    offsets = tuple(memoryview(bytes(table[: len(table) // 4 * 4])).cast("I"))
    fragments = tuple(Fragment(offset - first, part) for offset, part in rest)
    return PixelElement(keyword, vr, view, None, offsets, fragments, whole)


def _begins_frame(item: memoryview) -> bool:
    """Is the first item a compressed image? Offsets begin with 0, run lengths with their number of segments and 64."""
    start = bytes(item[:64])
    n_segments, offset = int.from_bytes(start[:4], "little"), int.from_bytes(start[4:8], "little")
    return starts_image(start) or (len(start) == 64 and 1 <= n_segments <= 15 and offset == 64)


def known_name(uid: str) -> str | None:
    """The dictionary's name of a UID; never text of the file."""
    name = UID(uid).name
    return None if name == uid else name
