"""Marks by which files of DICOM, and sequences in them, are known. Tags are those of little endian."""

from __future__ import annotations

from typing import Literal

Order = Literal["little", "big"]

ITEM, ITEM_END, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"
TRAILING_PADDING = b"\xfc\xff\xfc\xff"
UNDEFINED = 0xFFFFFFFF
"""The length of what ends with a mark."""


def is_dicom_file(data: bytes) -> bool:
    """Whether the bytes begin as PS3.10 says: with a preamble, and the prefix DICM."""
    return data[128:132] == b"DICM"


def in_order(tag: bytes, order: Order) -> bytes:
    """A tag of little endian in the wanted byte order; it is two numbers of two bytes."""
    return tag if order == "little" else tag[1::-1] + tag[:1:-1]
