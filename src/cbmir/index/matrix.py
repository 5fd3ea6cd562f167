"""What a gallery is searched with: a matrix per layer, derived from the store, and what has changed since it was made.

    DIR/matrix/records.columns   everything about the rows but their features, for all layers (columns.py)
    DIR/matrix/LAYER.matrix      the features of a layer, in the same order (layer.py)
    DIR/matrix/LAYER.ann         an approximate index of a layer, where one was asked for (ann.py)

All carry the generation of the store and the number of the encoder they were made of; files of the same generation and
encoder have the same order of rows. When the store has moved on, the rows it has touched since are hidden, and their
present state is searched beside them (delta.py, layered.py); when there are too many of them the files are made again,
all of them, since they share one order, by one process at a time. Where a gallery cannot be written they are made in
memory, for one process.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadGallery
from ..store import Store
from ..store.database import sentences
from ..types import OWNERS, Bool, Int
from . import NO_POSITIONS, Index
from .arrays import Arrays, in_memory, open_arrays, written
from .columns import Column, Columns, Gathered, Records, write_columns
from .delta import Base, Delta, layered, read_delta
from .exact import ExactIndex
from .layer import layer_index, write_layer

_CHANGED_ROWS, _CHANGED_BYTES = 20_000, 64 << 20
_CHANGED_PART = 0.05
"""How many rows may have changed before the files are made again: the larger of a part of them, and of so many rows,
as far as those stay below so many bytes. Whoever opens the matrix reads them all: 20,000 in about half a second."""
_MENDED = "; `cbmir verify --repair` makes it again"
_SAMPLE = 200  # of the rows that are searched for by `problems`


@dataclass(frozen=True)
class Matrix:
    """A layer of a gallery at one generation of its store: the index, and what is known of its positions."""

    generation: int
    layer: str
    base: Base
    delta: Delta
    index: Index

    @cached_property
    def live(self) -> Bool:
        """Which positions stand for a record, bool (len(index),); the others are in no result."""
        live = np.ones(len(self.index), np.bool_)
        live[self.delta.outdated] = False
        return live

    def names(self, positions: Int) -> list[str]:
        """The ids at some positions."""
        n = len(self.base.records)
        below = iter(self.base.records.ids[positions[positions < n]].tolist())
        return [next(below).decode() if row < n else self.delta.block.ids[row - n] for row in positions.tolist()]

    def positions(self, ids: Sequence[str]) -> Int:
        """Where some records lie, int64 (len(ids),); -1 for one that is not here."""
        _, found = self.base.records.places(ids)
        found[np.isin(found, self.delta.outdated)] = -1
        n = len(self.base.records)
        for row, name in enumerate(ids if self.delta.places else ()):
            if name in self.delta.places:
                found[row] = n + self.delta.places[name]
        return found

    def position(self, record_id: str) -> int | None:
        """Where a record lies; None when it is not here."""
        found = int(self.positions([record_id])[0])
        return None if found < 0 else found

    @cached_property
    def columns(self) -> Mapping[str, Column]:
        """What is known of every position, by name: class, label, predicted, modality, source, labels, attributes."""
        records = self.base.records
        return Columns(records.column, records.names, self.delta.gathered.columns(), self._n_rows)

    @cached_property
    def owners(self) -> Mapping[str, Column]:
        """Whose each position is, by kind: patient, study, series."""
        return Columns(self.base.records.owner, OWNERS, self.delta.gathered.owners(), self._n_rows)

    @property
    def _n_rows(self) -> tuple[int, int]:
        return len(self.base.records), len(self.delta)

    def belonging_to(self, kind: str, name: str | None) -> Int:
        """Positions of the records of one patient, study or series; none for an unknown one (None)."""
        if name is None:
            return NO_POSITIONS
        below = self.base.records.belonging_to(kind, name)
        below = below[self.live[below]]
        rows = [row for row, record in enumerate(self.delta.records) if getattr(record, kind) == name]
        return np.concatenate([below, np.array(rows, np.int64) + len(self.base.records)])


def open_matrix(store: Store, layer: str, known: Matrix | None = None) -> Matrix:
    """The matrix of a layer as the store is now; its files are made first when they are missing, unreadable or of too
    long ago. known: an earlier matrix of the same store, of which the changes read before are taken over.
    """
    with store.snapshot():
        matrix = _opened(store, layer, known)
    if matrix is None and not _can_write(store):
        return _made_in_memory(store, layer)
    if matrix is None:
        with building(store), store.snapshot():
            matrix = _opened(store, layer, known)  # another process may have made them while this one waited
            if matrix is None:
                _make(store, [layer])
                matrix = _opened(store, layer, known)
    if matrix is None:
        raise BadGallery(f"{folder_of(store)} does not hold what was just written to it; check the disk")
    return matrix


def compact(store: Store) -> None:
    """Makes all files again as the store is now, and removes whatever else is in the folder: no removed record stays in
    any of them. For whoever may write.
    """
    folder = folder_of(store)
    if not folder.exists():
        return
    layers = list(store.layers)
    kept = {"records.columns", *(f"{layer}.matrix" for layer in layers)}
    with building(store), store.snapshot():  # whoever built before is done, whoever builds later sees what is removed
        _make(store, layers)
        for path in folder.iterdir():
            if path.is_file() and path.name not in kept:
                path.unlink()


def problems(store: Store, layer: str) -> list[str]:
    """Compares the files with their checksums, their rows with the store's features, and lets some of them find
    themselves. One sentence for each fault; the files of `compact` have none of these.
    """
    if found := _damaged(store, layer):  # what else is wrong then follows from that, or cannot be read
        return found
    matrix = open_matrix(store, layer)
    n_rows = 0
    with store.snapshot():
        if store.generation() != matrix.generation:
            return []
        for block in store.blocks(layer):
            n_rows += len(block.ids)
            places = matrix.positions(block.ids)
            if (places < 0).any() or not np.array_equal(matrix.index.features(places), block.features):
                return [f"the matrix of layer {layer} does not hold the features of the store{_MENDED}"]
    if n_rows != (n_live := np.count_nonzero(matrix.live)):
        return [f"the matrix of layer {layer} has {n_live} rows, the store {n_rows}{_MENDED}"]
    lost = _not_finding_themselves(matrix)
    return [f"{lost} images do not find themselves in layer {layer}{_MENDED}"] if lost else []


def _damaged(store: Store, layer: str) -> list[str]:
    names = ("records.columns", f"{layer}.matrix")
    return [
        f"{folder_of(store) / name}: {array} does not match its checksum{_MENDED}"
        for name, file in zip(names, _files(store, layer), strict=True)
        for array in (file.damaged() if file is not None else ())
    ]


def _not_finding_themselves(matrix: Matrix) -> int:
    """How many of a sample do not: whose best hit is not at distance 0 and with the same features."""
    rows = np.flatnonzero(matrix.live)
    sample = np.random.default_rng(0).choice(rows, min(_SAMPLE, len(rows)), replace=False)
    lost = 0
    for row in matrix.index.features(sample):
        best = matrix.index.search(row, 1)
        lost += not (best.distances[0] == 0 and np.array_equal(matrix.index.features(best.positions)[0], row))
    return lost


@contextmanager
def building(store: Store) -> Iterator[None]:
    """The right to make files, of one process at a time: else files of two moments would take each other's places.

    What lies there unfinished is of a process that was killed, and removed.
    """
    folder = folder_of(store)
    with sentences(store.directory):
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for path in folder.glob("*.new"):
                path.unlink()
            yield
        finally:
            os.close(descriptor)


def folder_of(store: Store) -> Path:
    return store.directory / "matrix"


def _can_write(store: Store) -> bool:
    folder = folder_of(store)
    return store.writable and (os.access(folder, os.W_OK) or not folder.exists())


Files = tuple[Arrays | None, Arrays | None]
"""The columns of the records, and a layer."""


def _files(store: Store, layer: str) -> Files:
    folder = folder_of(store)
    return open_arrays(folder / "records.columns"), open_arrays(folder / f"{layer}.matrix")


def _stamp(store: Store) -> dict[str, Any]:
    return {"generation": store.generation(), "encoder": store.encoder_number()}


def _base(store: Store, layer: str, files: Files) -> Base | None:
    """None when the files are not those of one moment of the present encoder."""
    columns, rows = files
    if columns is None or rows is None:
        return None
    try:
        stamps = [(file.header["generation"], file.header["encoder"]) for file in (columns, rows)]
        if stamps[0] != stamps[1] or stamps[0][1] != store.encoder_number():
            return None
        records = Records(columns)
        exact = layer_index(rows, records)
        return Base(*stamps[0], records, exact) if exact.dim == store.layers[layer] else None
    except (ValueError, KeyError, TypeError):
        return None


def _opened(store: Store, layer: str, known: Matrix | None) -> Matrix | None:
    base = _base(store, layer, _files(store, layer))
    return None if base is None else _matrix(store, layer, base, known)


def _matrix(store: Store, layer: str, base: Base, known: Matrix | None) -> Matrix | None:
    """The base and what has changed since; None when the store does not tell, or that is too much."""
    touched = store.changes_since(base.generation)
    if touched is None or len(touched) > _most_changes(base.exact):
        return None
    before, recent = None, touched
    if known is not None and _stands_on(known, layer, base):
        since = store.changes_since(known.generation)
        before, recent = (None, touched) if since is None else (known.delta, since)
    delta = read_delta(store, layer, recent, base, before)
    index = layered(base, delta) if touched else base.exact
    return Matrix(store.generation(), layer, base, delta, index)


def _stands_on(matrix: Matrix, layer: str, base: Base) -> bool:
    """Whether a matrix was made of files with the same rows in the same order."""
    own = matrix.base
    return (matrix.layer, own.generation, own.encoder) == (layer, base.generation, base.encoder)


def _most_changes(base: ExactIndex) -> int:
    few = min(_CHANGED_ROWS, _CHANGED_BYTES // (4 * base.dim))
    return max(few, int(_CHANGED_PART * len(base)))


def _made_in_memory(store: Store, layer: str) -> Matrix:
    files: dict[str, Arrays] = {}
    with store.snapshot():
        stamp, gathered = _stamp(store), Gathered(store.describe())
        with in_memory(files, "columns") as writer:
            write_columns(gathered, writer, stamp)
        with in_memory(files, "rows") as writer:
            write_layer(store.blocks(layer), gathered.ids, _dims(store, [layer])[layer], writer, stamp)
        base = _base(store, layer, (files["columns"], files["rows"]))
        matrix = None if base is None else _matrix(store, layer, base, None)
    if matrix is None:
        raise BadGallery(
            f"the features of layer {layer} do not fit what the gallery says of it; check it with `verify`"
        )
    return matrix


def _make(store: Store, layers: Sequence[str]) -> None:
    """The files of these layers, where they are of another moment; of all, and of the records, when those are.

    In a snapshot, and by whoever may build.
    """
    folder, stamp, dims = folder_of(store), _stamp(store), _dims(store, layers)
    columns = open_arrays(folder / "records.columns")
    if columns is not None and _is_of(columns, stamp):
        ids = [name.decode() for name in Records(columns).ids.tolist()]
    else:
        gathered = Gathered(store.describe())
        ids, layers = gathered.ids, list(dims)
        with written(folder / "records.columns") as writer:
            write_columns(gathered, writer, stamp)
    for layer in layers:
        path = folder / f"{layer}.matrix"
        there = open_arrays(path)
        if there is None or not _is_of(there, stamp):
            with written(path) as writer:
                write_layer(store.blocks(layer), ids, dims[layer], writer, stamp)


def _dims(store: Store, layers: Sequence[str]) -> Mapping[str, int]:
    """Of all layers. Raises BadGallery where those that are wanted were of an encoder before."""
    dims = store.layers
    if not dims.keys() >= set(layers):
        raise BadGallery(f"the gallery {store.directory} has another encoder now; open it again")
    return dims


def _is_of(file: Arrays, stamp: Mapping[str, Any]) -> bool:
    return all(file.header.get(key) == value for key, value in stamp.items())
