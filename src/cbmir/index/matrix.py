"""The matrix: a layer's features as one memory-mapped file, sorted by (class, id). A cache, derived from the store.

    DIR/matrix/LAYER.matrix
        64 bytes  magic, b"CBMIRMX1", and zeros
        arrays    rows, squared_norms, id_order, ids; for patient, study and series the names in order, and per row
                  the number of its own name (-1: unknown); each padded to a multiple of 64 bytes
        header    JSON: generation of the store it was made from, groups [[name, rows], ...], arrays {name: dtype,
                  shape, offset, crc32}
        16 bytes  length of the header, little endian, and the magic again: a file that ends here is whole

It is rebuilt when the store has moved on, in a file beside it that takes its place in one step, on disk before that;
whoever still has the old one open keeps it. Where a gallery cannot be written it is made in memory, for one process.
The checksums are compared by `problems`, not at every opening.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import os
import secrets
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from ..errors import BadGallery
from ..store import OWNERS, Block, Store
from ..types import Int
from . import NO_POSITIONS
from .exact import ExactIndex, order_of, slices_of, squared_norms

Array = npt.NDArray[Any]

MAGIC = b"CBMIRMX1"
_ALIGN = 64
_UNFINISHED_S = 3600  # whoever builds writes all the time: a file that has rested so long is nobody's


@dataclass(frozen=True)
class Matrix:
    """What one layer of a gallery is searched with: the index, and the names of its rows.

    ids: (n,) bytes. owners: kind -> (names in order, per row the number of its name or -1).
    """

    generation: int
    index: ExactIndex
    ids: npt.NDArray[np.bytes_]
    owners: Mapping[str, tuple[npt.NDArray[np.bytes_], npt.NDArray[np.int32]]]

    def names(self, positions: Int) -> list[str]:
        return [name.decode() for name in self.ids[positions].tolist()]

    def position(self, group: str, record_id: str) -> int | None:
        """Where a record of this group lies; None when it is not here."""
        rows = self.index.groups.get(group)
        if rows is None:
            return None
        found = _find(self.ids[rows], record_id)
        return None if found is None else rows.start + found

    def belonging_to(self, kind: str, name: str | None) -> Int:
        """Positions of the records of one patient, study or series; none for an unknown one (None)."""
        names, numbers = self.owners[kind]
        number = None if name is None else _find(names, name)
        return NO_POSITIONS if number is None else np.flatnonzero(numbers == number)


def open_matrix(store: Store, layer: str) -> Matrix:
    """The matrix of a layer as the store is now; made first when it is missing, stale or unreadable."""
    return _current(store, layer).matrix


def problems(store: Store, layer: str) -> list[str]:
    """Compares the file with its checksums, and its rows with the store's features. One sentence for each fault."""
    path = _path(store, layer)
    current = _current(store, layer)
    header, data = current.header, current.data
    parts = header["arrays"].items()
    bad = [name for name, part in parts if zlib.crc32(_array(part, data).tobytes()) != part["crc32"]]
    found = [f"{path}: {name} do not match their checksum; delete the file, it is made again" for name in bad]
    crc = 0
    with store.snapshot():
        if store.generation() != header["generation"]:
            return found
        for block in store.blocks(layer):
            crc = zlib.crc32(block.features.tobytes(), crc)
    if crc != header["arrays"]["rows"]["crc32"]:
        found.append(f"{path}: the rows are not the features of the store; delete the file, it is made again")
    return found


def remove_unfinished(store: Store) -> None:
    """Removes what processes that were killed while they built a matrix have left. For whoever may write."""
    for path in (store.directory / "matrix").glob("*.matrix.*.new"):
        with suppress(FileNotFoundError):  # its builder has just finished
            if time.time() - path.stat().st_mtime > _UNFINISHED_S:
                path.unlink()


def _path(store: Store, layer: str) -> Path:
    return store.directory / "matrix" / f"{layer}.matrix"


def _find(names: npt.NDArray[np.bytes_], name: str) -> int | None:
    """Where a name stands in sorted names."""
    key = np.bytes_(name.encode())
    place = int(np.searchsorted(names, key))
    return place if place < len(names) and names[place] == key else None


@dataclass(frozen=True)
class _Whole:
    """What a file holds, or would hold, and the matrix it is."""

    header: Mapping[str, Any]
    data: mmap.mmap | bytes
    matrix: Matrix


def _current(store: Store, layer: str) -> _Whole:
    path, dim = _path(store, layer), store.layers[layer]
    whole = _load(path, dim)
    if whole is None or whole.matrix.generation != store.generation():
        data = _build(store, layer, path)
        whole = _load(path, dim) if data is None else _parsed(data, dim)
    if whole is None:
        raise BadGallery(f"{path} does not hold what was just written to it; check the disk")
    return whole


def _load(path: Path, dim: int) -> _Whole | None:
    """None when there is no whole file of this dim."""
    try:
        with path.open("rb") as file:
            return _parsed(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dim)
    except (OSError, ValueError):
        return None


def _parsed(data: mmap.mmap | bytes, dim: int) -> _Whole | None:
    try:
        header = _header(data)
        arrays = {name: _array(part, data) for name, part in header["arrays"].items()}
        ends = np.cumsum([0] + [rows for _, rows in header["groups"]]).tolist()
        groups = {name: slice(ends[i], ends[i + 1]) for i, (name, _) in enumerate(header["groups"])}
        index = ExactIndex(arrays["rows"], arrays["squared_norms"], groups, arrays["id_order"])
        owners = {kind: (arrays[f"{kind}_names"], arrays[f"{kind}_numbers"]) for kind in OWNERS}
        matrix = Matrix(header["generation"], index, arrays["ids"], owners)
        return _Whole(header, data, matrix) if index.dim == dim else None
    except (ValueError, KeyError, TypeError):
        return None


def _header(data: mmap.mmap | bytes) -> dict[str, Any]:
    end = len(data) - 16
    if end < 0 or data[:8] != MAGIC or data[-8:] != MAGIC:
        raise ValueError("not a whole matrix")
    length = int.from_bytes(data[end : end + 8], "little")
    header: dict[str, Any] = json.loads(data[max(0, end - length) : end])
    return header


def _array(part: Mapping[str, Any], data: mmap.mmap | bytes) -> Array:
    flat = np.frombuffer(data, part["dtype"], math.prod(part["shape"]), part["offset"])
    return cast(Array, flat.reshape(part["shape"]))


def _build(store: Store, layer: str, path: Path) -> bytes | None:
    """Into the file; where that cannot be written, its content is returned instead."""
    if store.writable and (os.access(path.parent, os.W_OK) or not path.parent.exists()):
        _write_file(store, layer, path)
        return None
    content = io.BytesIO()
    with store.snapshot():
        _write(store, layer, _Writer(content))
    return content.getvalue()


def _write_file(store: Store, layer: str, path: Path) -> None:
    """Under a name of its own first, so several processes may build at once; the last one stays."""
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    with store.snapshot():  # which also tells a full disk in one sentence
        path.parent.mkdir(exist_ok=True)
        try:
            with new.open("wb") as file:
                _write(store, layer, _Writer(file))
                file.flush()
                os.fsync(file.fileno())  # else a power cut could leave the last bytes, which say it is whole, alone
            os.replace(new, path)
            _sync_folder(path.parent)
        finally:
            new.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(store: Store, layer: str, writer: _Writer) -> None:
    """The rows stream from the store to the file; what is small is gathered beside and follows."""
    gathered = _Gathered()
    writer.begin("rows", np.dtype("<f4"))
    for block in store.blocks(layer):
        writer.extend(block.features)
        gathered.add(block)
    writer.end((len(gathered.ids), store.layers[layer]))
    for name, values in gathered.arrays().items():
        writer.begin(name, values.dtype)
        writer.extend(values)
        writer.end(values.shape)
    groups = [[name, rows.stop - rows.start] for name, rows in slices_of(gathered.groups).items()]
    writer.finish({"generation": store.generation(), "groups": groups})


class _Gathered:
    """What is kept of every record while the rows stream by."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.groups: list[str] = []
        self.owners: dict[str, list[str | None]] = {kind: [] for kind in OWNERS}
        self.norms: list[Array] = []

    def add(self, block: Block) -> None:
        self.ids.extend(block.ids)
        self.groups.extend(block.groups)
        for kind, names in block.owners.items():
            self.owners[kind].extend(names)
        self.norms.append(squared_norms(block.features))

    def arrays(self) -> dict[str, Array]:
        arrays: dict[str, Array] = {
            "squared_norms": np.concatenate([np.empty(0, "<f4"), *self.norms]),
            "id_order": order_of(self.ids).astype("<i8"),
            "ids": _encoded(self.ids),
        }
        for kind, names in self.owners.items():
            known = sorted({name for name in names if name is not None})
            number = {name: place for place, name in enumerate(known)}
            arrays[f"{kind}_names"] = _encoded(known)
            arrays[f"{kind}_numbers"] = np.array([number.get(name or "", -1) for name in names], "<i4")
        return arrays


def _encoded(names: Sequence[str]) -> Array:
    """UTF-8 with zeros behind; sorts as the names themselves do."""
    return np.array([name.encode() for name in names] or np.empty(0, "S1"))


class _Writer:
    """Writes arrays one after another and remembers where, and their checksums."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._arrays: dict[str, dict[str, Any]] = {}
        self._part: dict[str, Any] = {}
        file.write(MAGIC.ljust(_ALIGN, b"\0"))

    def begin(self, name: str, dtype: np.dtype[Any]) -> None:
        self._part = {"dtype": dtype.str, "offset": self._file.tell(), "crc32": 0}
        self._arrays[name] = self._part

    def extend(self, values: Array) -> None:
        data = values.tobytes()
        self._part["crc32"] = zlib.crc32(data, self._part["crc32"])
        self._file.write(data)

    def end(self, shape: tuple[int, ...]) -> None:
        self._part["shape"] = list(shape)
        self._file.write(b"\0" * (-self._file.tell() % _ALIGN))

    def finish(self, header: Mapping[str, Any]) -> None:
        text = json.dumps({**header, "arrays": self._arrays}).encode()
        self._file.write(text + len(text).to_bytes(8, "little") + MAGIC)
