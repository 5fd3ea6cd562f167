"""Colour pixels to RGB, eight bits each (PS3.3 C.7.6.3.1.2), and palettes (C.7.6.3.1.5, C.7.9)."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ...errors import BadImage
from ...types import UInt8
from .elements import is_little, table_of, value_of, with_sign, words_of

Array = npt.NDArray[Any]
CHANNELS = ("Red", "Green", "Blue")
MAX_ENTRIES = 65536
NO_PALETTE = "The palette of the picture is missing or damaged."

FROM_YBR_FULL = np.array([[1, 1, 1], [0, -0.114 * 1.772 / 0.587, 1.772], [1.402, -0.299 * 1.402 / 0.587, 0]])
FROM_YBR_PARTIAL = np.array([[1.1644, 1.1644, 1.1644], [0, -0.3917, 2.0173], [1.5960, -0.8130, 0]])


def to_rgb(pixels: Array, bits: int, photometric: str) -> UInt8:
    """RGB uint8 of (rows, columns, samples) with so many bits each; deeper colour keeps its top eight."""
    pixels = _to_8_bits(pixels, bits)
    if photometric in ("YBR_FULL", "YBR_FULL_422", "YBR"):
        return _linear(pixels, (0, 128, 128), FROM_YBR_FULL)
    if photometric.startswith("YBR_PARTIAL"):
        return _linear(pixels, (16, 128, 128), FROM_YBR_PARTIAL)
    if photometric == "HSV":
        return _from_hsv(pixels)
    if photometric == "ARGB":
        pixels = pixels[..., 1:]
    if photometric == "CMYK":
        light = 255 - pixels.astype(np.uint16)
        pixels = ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(pixels)


def _to_8_bits(pixels: Array, bits: int) -> UInt8:
    if bits < 8:
        pixels = pixels.astype(np.uint16) * 255 // (2**bits - 1)
    eight: UInt8 = (pixels >> max(bits - 8, 0)).astype(np.uint8)
    return eight


def _linear(pixels: UInt8, zero: tuple[int, int, int], matrix: Array) -> UInt8:
    values = pixels.astype(np.float32)
    values -= np.array(zero, dtype=np.float32)
    values = values @ matrix.astype(np.float32)
    values += 0.5
    np.clip(np.floor(values, out=values), 0, 255, out=values)
    return values.astype(np.uint8)


def _from_hsv(pixels: UInt8) -> UInt8:
    """Hue, saturation, value, each over its whole range (retired; PS3.3 of 1998)."""
    colours, place = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    rgb = [colorsys.hsv_to_rgb(*(part / 255 for part in colour)) for colour in colours.tolist()]
    table = np.rint(np.array(rgb) * 255).astype(np.uint8)
    picture: UInt8 = table[place.reshape(-1)].reshape(pixels.shape)
    return picture


def palette_colours(stored: Array, dataset: Dataset, *, signed: bool) -> UInt8:
    """RGB uint8 of indices into the palette of the dataset. Raises BadImage (corrupt) when it has none."""
    tables, first = read_palette(dataset, signed=signed)
    index = np.clip(stored.astype(np.int64) - first, 0, len(tables) - 1)
    picture: UInt8 = tables[index]
    return picture


def read_palette(dataset: Dataset, *, signed: bool = False) -> tuple[UInt8, int]:
    """(entries, 3) uint8 and the stored value of the first entry.

    Some palettes are declared 16 bits deep and hold 8.
    """
    tables: list[Array] = []
    first, deep = 0, False
    for number, channel in enumerate(CHANNELS):
        descriptor = words_of(dataset, f"{channel}PaletteColorLookupTableDescriptor")
        if len(descriptor) != 3:
            raise BadImage("corrupt", NO_PALETTE)
        n_entries = descriptor[0] or MAX_ENTRIES
        if number == 0:
            first = with_sign(descriptor[1]) if signed else descriptor[1]
        table = _table(dataset, channel, n_entries, descriptor[2])
        deep = deep or table.max(initial=0) > 255
        tables.append(table)
    length = min(len(table) for table in tables)
    if length < 1:
        raise BadImage("corrupt", NO_PALETTE)
    entries = np.stack([table[:length] for table in tables], axis=1)
    return (entries >> 8 if deep else entries).astype(np.uint8), first


def _table(dataset: Dataset, channel: str, n_entries: int, bits: int) -> Array:
    table = table_of(dataset, f"{channel}PaletteColorLookupTableData", n_entries)
    if len(table):
        return table
    data = value_of(dataset, f"Segmented{channel}PaletteColorLookupTableData")
    if not isinstance(data, bytes):
        return table
    word = "<u2" if is_little(dataset) else ">u2"
    words = np.frombuffer(data[: len(data) // 2 * 2], word)
    values = words.astype("<u2").view("u1") if bits <= 8 else words
    return np.array(expand_segments(values.tolist(), wide=bits > 8)[:n_entries], dtype=np.uint16)


def expand_segments(data: Sequence[int], *, wide: bool) -> list[int]:
    """A segmented table (PS3.3 C.7.9.2): 0 discrete, 1 linear, 2 indirect (a copy of earlier segments).

    data: opcode, length, ... in bytes, or in words when wide. Raises BadImage (corrupt).
    """
    table: list[int] = []
    at = 0
    while at + 2 < len(data) and len(table) <= MAX_ENTRIES:
        at = _expand_one(data, at, table, wide)
        if at < 0:
            raise BadImage("corrupt", NO_PALETTE)
    return table


def _expand_one(data: Sequence[int], at: int, table: list[int], wide: bool, *, nested: bool = False) -> int:
    """Append one segment to the table; where the next begins, -1 when it cannot be read."""
    opcode, length, at = data[at], data[at + 1], at + 2
    if opcode == 0:
        table.extend(data[at : at + length])
        return at + length
    if opcode == 1 and table and length and at < len(data):
        start, end = table[-1], data[at]
        table.extend(round(start + (end - start) * step / length) for step in range(1, length + 1))
        return at + 1
    n_parts = 2 if wide else 4
    if opcode != 2 or nested or at + n_parts > len(data):
        return -1
    source = sum(part << ((16 if wide else 8) * place) for place, part in enumerate(data[at : at + n_parts]))
    for _ in range(length):
        if not 0 <= source < at - 2 or len(table) > MAX_ENTRIES:
            return -1
        source = _expand_one(data, source, table, wide, nested=True)
    return at + n_parts
