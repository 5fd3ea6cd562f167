"""NRRD with its data attached: the header through pynrrd, the voxels read here, for pynrrd opens whatever file a
header names. Source: teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import nrrd
import numpy as np

from ..archives import GZIP, inflate
from ..errors import BadImage
from .limits import check_size
from .volumes import Array, Volume, first_volume

MAX_HEADER_BYTES = 2**20
MAX_TEXT_BYTES = 2**26
END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
DAMAGED = "The NRRD header is damaged."
COLOUR_KINDS = ("RGB-color", "RGBA-color", "3-color", "4-color")
SPATIAL_KINDS = ("domain", "space")
TYPES: Mapping[str, str] = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
TO_RAS = {"right": 1, "left": -1, "anterior": 1, "posterior": -1, "superior": 1, "inferior": -1}
ABBREVIATIONS = {"r": "right", "l": "left", "a": "anterior", "p": "posterior", "s": "superior", "i": "inferior"}


def read_nrrd(data: bytes) -> Volume:
    """The volume of an NRRD file; of several (time points, directions), the first.

    Raises BadImage; other exceptions, too, on headers no one foresaw.
    """
    header, start = _header(data)
    dtype = _dtype(header)
    sizes = [int(size) for size in header["sizes"]]
    voxels = _values(data, start, header, dtype, sizes).reshape(sizes, order="F")
    notes: list[str] = []
    spatial, colour = _axes(header, sizes, dtype)
    affine = _affine(header, spatial, notes)
    others = [axis for axis in range(len(sizes)) if axis not in spatial and axis != colour]
    order = [*spatial, *others, *([] if colour is None else [colour])]
    padded = [sizes[axis] for axis in spatial] + [1] * (3 - len(spatial))
    shape = (*padded, *(sizes[axis] for axis in others))
    voxels = voxels.transpose(order).reshape((*shape, *([] if colour is None else [sizes[colour]])))
    return Volume(
        voxels=first_volume(voxels if colour is None else voxels[..., :3], shape, notes),
        affine=affine,
        format="NRRD",
        decoder="pynrrd",
        notes=tuple(notes),
    )


def _header(data: bytes) -> tuple[Mapping[str, Any], int]:
    """The fields, and where the data begins."""
    end = END_OF_HEADER.search(data, 0, MAX_HEADER_BYTES)
    text = data[: end.start()] if end else data[:MAX_HEADER_BYTES]
    if re.search(rb"(?mi)^data ?file:", text):
        raise BadImage("refused", "The NRRD header names another file for its data: join them into one .nrrd file.")
    if end is None:
        raise BadImage("corrupt", DAMAGED)
    header = nrrd.read_header(line + "\n" for line in text.decode("ascii", "replace").splitlines())
    if not {"type", "dimension", "encoding", "sizes"} <= header.keys():
        raise BadImage("corrupt", DAMAGED)
    if int(header["dimension"]) != len(header["sizes"]) or not 1 <= len(header["sizes"]) <= 7:
        raise BadImage("corrupt", DAMAGED)
    return header, end.end()


def _dtype(header: Mapping[str, Any]) -> np.dtype[Any]:
    name = TYPES.get(str(header["type"]).strip().lower())
    if name is None:
        raise BadImage("unsupported", "The NRRD file has a data type that is not read.")
    order = ">" if str(header.get("endian", "little")).lower() == "big" else "<"
    return np.dtype(order + name)


def _values(data: bytes, start: int, header: Mapping[str, Any], dtype: np.dtype[Any], sizes: list[int]) -> Array:
    """All numbers, in the file's order, a view of its bytes where these are not compressed."""
    if min(sizes) < 1:
        raise BadImage("corrupt", "The header says that the volume has no voxels.")
    count = 1
    for size in sizes:
        count *= size
    check_size(1, 1, 1, count * dtype.itemsize)
    encoding = str(header["encoding"]).lower()
    if encoding in ("ascii", "text", "txt"):
        return _text_values(data, start, dtype, count)
    content, first = _content(data, start, encoding, header, count * dtype.itemsize)
    if first < 0 or len(content) - first < count * dtype.itemsize:
        raise BadImage("corrupt", "The volume is truncated: the file has fewer bytes than its header says.")
    return np.frombuffer(content, dtype, count, first)


def _text_values(data: bytes, start: int, dtype: np.dtype[Any], count: int) -> Array:
    if len(data) - start > MAX_TEXT_BYTES:
        raise BadImage("refused", "The NRRD file holds more numbers as text than are safe to read.")
    values = np.fromstring(data[start:].decode("ascii"), dtype=np.float64, sep=" ")
    if values.size < count:
        raise BadImage("corrupt", "The volume is truncated: the file has fewer numbers than its header says.")
    return values[:count].astype(dtype)


def _content(data: bytes, start: int, encoding: str, header: Mapping[str, Any], needed: int) -> tuple[bytes, int]:
    """The bytes that hold the numbers, and where they begin: lines are skipped in the file, bytes after inflating."""
    for _ in range(int(header.get("line skip", header.get("lineskip", 0)))):
        start = data.find(b"\n", start) + 1
        if start < 1:
            raise BadImage("corrupt", DAMAGED)
    skip = int(header.get("byte skip", header.get("byteskip", 0)))
    if skip < -1:
        raise BadImage("corrupt", DAMAGED)
    if encoding == "raw":
        return data, (len(data) - needed if skip == -1 else start + skip)
    if encoding in ("gzip", "gz"):
        content = inflate(data[start:], GZIP)
        return content, (len(content) - needed if skip == -1 else skip)
    raise BadImage("unsupported", "The NRRD file has an encoding that is not read; raw, gzip and ascii are.")


def _axes(header: Mapping[str, Any], sizes: list[int], dtype: np.dtype[Any]) -> tuple[list[int], int | None]:
    """The axes of space, three at most, and that of the colours."""
    kinds = [str(kind) for kind in header.get("kinds", [])] or ["domain"] * len(sizes)
    colour = next((axis for axis, kind in enumerate(kinds) if kind in COLOUR_KINDS and sizes[axis] in (3, 4)), None)
    if colour is not None and dtype != np.uint8:
        raise BadImage("unsupported", "The NRRD file has colours of more than 8 bits, which are not read.")
    directions = header.get("space directions")
    spatial = [
        axis
        for axis in range(len(sizes))
        if axis != colour
        and kinds[axis] in (*SPATIAL_KINDS, "???", "none")
        and (directions is None or np.isfinite(np.asarray(directions[axis], dtype=float)).all())
    ]
    if not spatial:
        raise BadImage("unsupported", "The NRRD file has no axis of space.")
    return spatial[:3], colour


def _affine(header: Mapping[str, Any], spatial: list[int], notes: list[str]) -> Array:
    """Voxel indices to mm, RAS+. Without a stated space the axes are taken to be those of DICOM, LPS."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    signs = _signs(str(header.get("space", "")))
    directions = header.get("space directions")
    if directions is None or signs is None:
        notes.append("the orientation is not stated")
        for column, spacing in enumerate(_spacings(header, spatial)):
            affine[:3, column] *= spacing
        return affine
    affine = np.eye(4)
    for column, axis in enumerate(spatial):
        affine[:3, column] = signs * np.asarray(directions[axis], dtype=float)[:3]
    origin = np.asarray(header.get("space origin", np.zeros(3)), dtype=float)
    if origin.shape == (3,) and np.isfinite(origin).all():
        affine[:3, 3] = signs * origin
    return affine


def _spacings(header: Mapping[str, Any], spatial: list[int]) -> list[float]:
    """The distance of two voxels along each axis of space: stated, or the length of its direction, whatever the space;
    1 where neither is known."""
    stated: Any = header.get("space directions")
    if stated is None:
        stated = header.get("spacings", [])
    lengths = [float(np.linalg.norm(stated[axis])) if axis < len(stated) else 1.0 for axis in spatial]
    return [length if np.isfinite(length) and length > 0 else 1.0 for length in lengths]


def _signs(space: str) -> Array | None:
    """+1 or -1 per axis of the stated space, to RAS; None for a space that is not the patient's."""
    words = space.strip().lower().split("-")
    if len(words) == 1 and len(words[0]) == 3:
        words = [ABBREVIATIONS.get(letter, "") for letter in words[0]]
    if [word in TO_RAS for word in words[:3]] != [True] * 3:
        return None
    pairs = (("right", "left"), ("anterior", "posterior"), ("superior", "inferior"))
    if not all(word in pair for word, pair in zip(words, pairs, strict=False)):
        return None
    return np.array([TO_RAS[word] for word in words[:3]], dtype=float)
