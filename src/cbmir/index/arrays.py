"""A file of arrays that is mapped, not read: what a matrix is made of.

    64 bytes  magic, b"CBMIRMX2", and zeros
    arrays    one after another, each padded to a multiple of 64 bytes
    header    JSON: what the maker has to say, and arrays {name: dtype, shape, offset, crc32}
    16 bytes  length and CRC-32 of the header, little endian, and the magic again: a file that ends here is whole

A new file takes the place of an old one in one step, on disk before that; whoever still has the old one open keeps it.
The checksums are compared by `damaged`, not at every opening.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAGIC = b"CBMIRMX2"
_ALIGN = 64


@dataclass(frozen=True)
class Arrays:
    """An open file of arrays. header: what its maker said, beside where the arrays are."""

    header: Mapping[str, Any]
    data: mmap.mmap | bytes

    def __getitem__(self, name: str) -> Array:
        part = self.header["arrays"][name]
        flat = np.frombuffer(self.data, part["dtype"], math.prod(part["shape"]), part["offset"])
        return cast(Array, flat.reshape(part["shape"]))

    def __contains__(self, name: str) -> bool:
        return name in self.header["arrays"]

    def damaged(self) -> list[str]:
        """Names of the arrays that do not match their checksum."""
        parts = self.header["arrays"].items()
        return [name for name, part in parts if zlib.crc32(memoryview(self.data)[_place(part)]) != part["crc32"]]


def open_arrays(path: Path) -> Arrays | None:
    """None when there is no whole file of arrays."""
    try:
        with path.open("rb") as file:
            return arrays_in(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError):
        return None


def arrays_in(data: mmap.mmap | bytes) -> Arrays:
    """Raises ValueError when these bytes are no whole file."""
    end = len(data) - 16
    if end < 0 or data[:8] != MAGIC or data[-8:] != MAGIC:
        raise ValueError("not a whole file of arrays")
    length, crc = (int.from_bytes(data[at : at + 4], "little") for at in (end, end + 4))
    text = data[max(0, end - length) : end]
    if zlib.crc32(text) != crc:
        raise ValueError("not a whole header")
    return Arrays(json.loads(text), data)


def _place(part: Mapping[str, Any]) -> slice:
    """Where its bytes lie."""
    start: int = part["offset"]
    return slice(start, start + math.prod(part["shape"]) * np.dtype(part["dtype"]).itemsize)


class Writer:
    """Writes arrays one after another and remembers where, and their checksums."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._arrays: dict[str, dict[str, Any]] = {}
        self._part: dict[str, Any] = {}
        file.write(MAGIC.ljust(_ALIGN, b"\0"))

    def begin(self, name: str, dtype: str) -> None:
        self._part = {"dtype": dtype, "offset": self._file.tell(), "crc32": 0}
        self._arrays[name] = self._part

    def extend(self, values: Array) -> None:
        data = np.ascontiguousarray(values, self._part["dtype"]).tobytes()
        self._part["crc32"] = zlib.crc32(data, self._part["crc32"])
        self._file.write(data)

    def end(self, shape: tuple[int, ...]) -> None:
        self._part["shape"] = list(shape)
        self._file.write(b"\0" * (-self._file.tell() % _ALIGN))

    def put(self, name: str, values: Array) -> None:
        self.begin(name, values.dtype.str)
        self.extend(values)
        self.end(values.shape)

    def read(self, name: str, start: int, stop: int) -> Array:
        """Rows of an array that is written already."""
        part = self._arrays[name]
        row = math.prod(part["shape"][1:])
        size = np.dtype(part["dtype"]).itemsize
        here = self._file.tell()
        self._file.seek(part["offset"] + start * row * size)
        data = self._file.read((stop - start) * row * size)
        self._file.seek(here)
        return np.frombuffer(data, part["dtype"]).reshape(stop - start, *part["shape"][1:])

    def finish(self, header: Mapping[str, Any]) -> None:
        text = json.dumps({**header, "arrays": self._arrays}).encode()
        self._file.write(text + len(text).to_bytes(4, "little") + zlib.crc32(text).to_bytes(4, "little") + MAGIC)


@contextmanager
def written(path: Path) -> Iterator[Writer]:
    """A file that takes its place when all is in it."""
    new = path.with_name(f"{path.name}.new")
    try:
        with new.open("w+b") as file:
            yield Writer(file)
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the last bytes, which say it is whole, alone
        os.replace(new, path)
        sync_folder(path.parent)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def in_memory(files: dict[str, Arrays], name: str) -> Iterator[Writer]:
    """The same where nothing can be written: what was made is put into `files`."""
    content = io.BytesIO()
    yield Writer(content)
    files[name] = arrays_in(content.getvalue())


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
