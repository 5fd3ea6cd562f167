"""Values of DICOM elements, read kindly: what breaks the standard counts as absent and never stops an image."""

from __future__ import annotations

from collections.abc import MutableSequence
from functools import cache
from math import isfinite, isnan, nan
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from ...errors import BadImage


@cache
def _tag(keyword: str) -> BaseTag:
    """Asking a Dataset by number is several times faster than by keyword."""
    return Tag(tag_for_keyword(keyword))


def has(dataset: Dataset, keyword: str) -> bool:
    """Is there such an element, whatever its value?"""
    return _tag(keyword) in dataset


def value_of(dataset: Dataset, keyword: str) -> Any:
    """An element the image can do without: None when it is absent or its value breaks the standard."""
    return tag_value(dataset, _tag(keyword))


def tag_value(dataset: Dataset, tag: BaseTag) -> Any:
    """The same by the number of a tag, for private elements."""
    try:
        return dataset[tag].value
    except Exception:
        return None


def text_of(dataset: Dataset, keyword: str) -> str:
    """An element as text, several values joined by a backslash; "" when it cannot be had."""
    try:
        return "\\".join(str(part) for part in _several(value_of(dataset, keyword))).strip()
    except Exception:
        return ""


def numbers_of(dataset: Dataset, keyword: str, default: float) -> list[float]:
    """The numbers of a decimal string, at least one; real files leave them empty or write decimal commas."""
    return to_numbers(value_of(dataset, keyword), default)


def to_numbers(value: Any, default: float) -> list[float]:
    return [_number(part, default) for part in _several(value)] or [default]


def number_of(dataset: Dataset, keyword: str) -> float | None:
    """The first number of a decimal string; None when there is none."""
    number = numbers_of(dataset, keyword, default=nan)[0]
    return None if isnan(number) else number


def whole_of(dataset: Dataset, keyword: str) -> int | None:
    """A whole number; None when it is absent, broken, or has a fraction."""
    number = number_of(dataset, keyword)
    return int(number) if number is not None and number == int(number) else None


def items_of(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none when it is absent or broken."""
    items = value_of(dataset, keyword)
    return [item for item in items if isinstance(item, Dataset)] if isinstance(items, MutableSequence) else []


def functional_group(dataset: Dataset, index: int, sequence: str, *, needed: bool = False) -> Dataset:
    """The functional group of one frame: per-frame, else shared, else the dataset itself (PS3.3 C.7.6.16).

    Raises BadImage (corrupt) when it is needed, other frames have one of their own and the frame is not in the list.
    """
    per_frame, shared = (value_of(dataset, f"{whose}FunctionalGroupsSequence") for whose in ("PerFrame", "Shared"))
    for groups, number in ((per_frame, index), (shared, 0)):
        if not isinstance(groups, MutableSequence) or number >= len(groups):
            continue
        items = items_of(groups[number], sequence)
        if items:
            return items[0]
    listed = isinstance(per_frame, MutableSequence) and 0 < len(per_frame) <= index
    if needed and listed and items_of(per_frame[0], sequence):
        raise BadImage("corrupt", "The header says of other frames what their values mean, and not of this one.")
    return dataset


def words_of(dataset: Dataset, keyword: str, *, signed: bool = False) -> list[int]:
    """The 16-bit numbers of an element that is US or SS (or OW) as the case may be, with the sign the case wants."""
    value = value_of(dataset, keyword)
    if isinstance(value, bytes):
        value = np.frombuffer(value[: len(value) // 2 * 2], dtype="<u2" if is_little(dataset) else ">u2").tolist()
    words = [part & 0xFFFF for part in _several(value) if isinstance(part, int)]
    return [with_sign(word) for word in words] if signed else words


def with_sign(word: int) -> int:
    """A 16-bit number read in two's complement."""
    return word - 0x10000 if word > 0x7FFF else word


def is_little(dataset: Dataset) -> bool:
    """Was the dataset read as little endian? Bytes of an element are as in the file."""
    try:
        return dataset.original_encoding[1] is not False
    except Exception:
        return True


def table_of(item: Dataset, keyword: str, n_entries: int) -> npt.NDArray[Any]:
    """The entries of a lookup table, unsigned; in words, or in bytes where there are only so many (PS3.3 C.11.1.1)."""
    value = value_of(item, keyword)
    if isinstance(value, bytes):
        word = "<u2" if is_little(item) else ">u2"
        if n_entries <= len(value) <= n_entries + 1:
            even = np.frombuffer(value + b"\0" * (len(value) % 2), dtype=word)
            return even.astype("<u2").view("u1")[:n_entries]
        return np.frombuffer(value[: len(value) // 2 * 2], dtype=word).astype(np.uint16)[:n_entries]
    return np.array([part & 0xFFFF for part in _several(value) if isinstance(part, int)], np.uint16)[:n_entries]


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, MutableSequence) else [value]


def _number(value: Any, default: float) -> float:
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace").strip("\0 ")
    try:
        number = float(str(value).replace(",", "."))
    except ValueError:
        return default
    return number if isfinite(number) else default
