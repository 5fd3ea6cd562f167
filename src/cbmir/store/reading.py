"""What can be asked of a store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import GIVING_IMAGES, BadGallery
from ..types import OWNERS, Float32, Record
from .changes import changes_since, generation_of
from .database import is_writable, sentences
from .entries import Block, StoredFile, Unit
from .removal import column_of, is_erased
from .rows import FILE, FILE_OF_F, RECORD, is_whole, record_of, told, vector_of, where_in
from .staging import State, layers_of, number_of

_BLOCK_BYTES = 4 << 20
_RECORDS_AT_ONCE = 2000

# CROSS JOIN fixes the order: walk the records as they are named first, look features up; nothing is sorted
_ROWS = """SELECT r.id, r.class, r.patient, r.study, r.series, f.data
    FROM record r CROSS JOIN feature f ON f.record = r.number AND f.layer = ?"""


class Reader:
    """The part of a store that writes nothing; see Store."""

    def __init__(self, directory: Path, connection: sqlite3.Connection) -> None:
        self.directory = directory
        self._connection = connection

    def close(self) -> None:
        self._connection.close()

    @property
    def writable(self) -> bool:
        return is_writable(self.directory)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read inside is of one moment, whatever is written meanwhile."""
        with sentences(self.directory):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    def meta(self) -> dict[str, Any]:
        return {key: told(value) for key, value in self._all("SELECT key, value FROM meta")}

    def card(self, state: State = "current") -> dict[str, Any] | None:
        """What was written of the encoder in this state; None when there is none."""
        rows = self._all("SELECT card FROM encoder WHERE state = ?", (state,))
        return told(rows[0][0]) if rows else None

    def encoder_number(self, state: State = "current") -> int | None:
        """Tells the encoders of this store apart, for good: a number is given once."""
        with sentences(self.directory):
            return number_of(self._connection, state)

    @property
    def layers(self) -> dict[str, int]:
        """name -> dim of the current encoder, the default first."""
        return self.layers_of("current")

    def layers_of(self, state: State) -> dict[str, int]:
        """name -> dim of the encoder in this state, the default first; {} when there is none."""
        with sentences(self.directory):
            return {name: dim for name, (_, dim) in layers_of(self._connection, state).items()}

    def generation(self) -> int:
        """Grows with every change of records or features that are searched."""
        with sentences(self.directory):
            return generation_of(self._connection)

    def changes_since(self, generation: int) -> list[str] | None:
        """The ids that came, went or were changed after a generation, in order.

        None when the log does not tell: it begins later, all has changed since, or the generation is not yet there.
        """
        with sentences(self.directory):
            return changes_since(self._connection, generation)

    def count(self) -> int:
        return int(self._all("SELECT count(*) FROM record")[0][0])

    def counts(self, column: str) -> dict[str, int]:
        """How many records there are of each value of class, modality, source or patient; '' where it is unknown."""
        if column not in ("class", "modality", "source", "patient"):
            raise ValueError(f"records are not counted by {column}")
        sql = f"SELECT coalesce({column}, ''), count(*) FROM record GROUP BY 1 ORDER BY 1"
        return dict(self._all(sql))

    def outcomes(self) -> dict[str, int]:
        """How many files ended in each outcome."""
        return dict(self._all("SELECT outcome, count(*) FROM file GROUP BY outcome ORDER BY outcome"))

    def failed(self, offset: int, limit: int) -> tuple[int, list[StoredFile]]:
        """How many files gave no image, and up to so many of them, after the first `offset` ones."""
        none = f"FROM file WHERE outcome NOT IN ({', '.join('?' * len(GIVING_IMAGES))})"
        total = self._all(f"SELECT count(*) {none}", GIVING_IMAGES)[0][0]
        rows = self._all(f"SELECT {FILE} {none} ORDER BY number LIMIT ? OFFSET ?", (*GIVING_IMAGES, limit, offset))
        return total, [StoredFile._make(row) for row in rows]

    def files(self, handles: Sequence[str] = ()) -> Iterator[StoredFile]:
        """The files with these handles, of which several may have the same one; all files when none is given."""
        with sentences(self.directory):
            if handles:
                rows = where_in(self._connection, f"SELECT {FILE} FROM file WHERE handle IN", handles)
            else:
                rows = self._connection.execute(f"SELECT {FILE} FROM file ORDER BY number")
            yield from map(StoredFile._make, rows)

    def files_named(self, names: Sequence[str]) -> dict[str, StoredFile]:
        """The files of these names; one that is not known is absent."""
        with sentences(self.directory):
            rows = where_in(self._connection, f"SELECT {FILE} FROM file WHERE name IN", names)
            return {row[0]: StoredFile._make(row) for row in rows}

    def file_of(self, record_id: str) -> StoredFile | None:
        """The file a record came from."""
        sql = f"SELECT {FILE_OF_F} FROM record r JOIN file f ON f.number = r.file WHERE r.id = ?"
        rows = self._all(sql, (record_id,))
        return StoredFile._make(rows[0]) if rows else None

    def record(self, record_id: str) -> Record | None:
        return self.records([record_id]).get(record_id)

    def records(self, ids: Sequence[str]) -> dict[str, Record]:
        """The records with these ids; an id that is not there is absent."""
        with sentences(self.directory):
            rows = where_in(self._connection, f"SELECT {RECORD} FROM record WHERE id IN", ids)
            return {row[0]: record_of(row) for row in rows}

    def of_same_file(self, record_id: str) -> list[Record]:
        """The records of the file that this one came from, in the order of their frames; [] for an unknown id."""
        sql = f"SELECT {RECORD} FROM record WHERE file = (SELECT file FROM record WHERE id = ?) ORDER BY frame_index"
        return [record_of(row) for row in self._all(sql, (record_id,))]

    def ids(self) -> list[str]:
        return [row[0] for row in self._all("SELECT id FROM record ORDER BY id")]

    def ids_of(self, unit: Unit, values: Sequence[str]) -> list[str]:
        """The ids that are these, or of these patients, studies or series; in order."""
        with sentences(self.directory):
            rows = where_in(self._connection, f"SELECT id FROM record WHERE {column_of(unit)} IN", values)
            return sorted(row[0] for row in rows)

    def are_erased(self, digests: Iterable[str]) -> bool:
        """Whether any of these digests is of something that was removed and is not to come back."""
        with sentences(self.directory):
            return is_erased(self._connection, digests)

    def posterior(self, record_id: str) -> Float32 | None:
        """float32 (K,), or None for an unknown id or an encoder without classes."""
        rows = self._all("SELECT posterior FROM record WHERE id = ?", (record_id,))
        return vector_of(rows[0][0]) if rows and rows[0][0] is not None else None

    def describe(self, ids: Sequence[str] | None = None) -> Iterator[list[Record]]:
        """All records, or those with these ids, in (class, id) order, some thousand at once.

        Inside a snapshot they come in the order of `blocks`, as far as these have features.
        """
        with sentences(self.directory):
            if ids is not None:
                some = self.records(ids).values()
                yield sorted(some, key=lambda record: (record.group, record.id))
                return
            cursor = self._connection.execute(f"SELECT {RECORD} FROM record ORDER BY class, id")
            while rows := cursor.fetchmany(_RECORDS_AT_ONCE):
                yield [record_of(row) for row in rows]

    def blocks(self, layer: str, state: State = "current") -> Iterator[Block]:
        """All records with features of a layer in (class, id) order, in blocks of a few megabytes."""
        with sentences(self.directory):
            number, dim = self._layer(layer, state)
            cursor = self._connection.execute(f"{_ROWS} ORDER BY r.class, r.id", (number,))
            while rows := cursor.fetchmany(max(1, _BLOCK_BYTES // (4 * dim))):
                yield _block(rows, dim)

    def rows(self, layer: str, ids: Sequence[str], state: State = "current") -> Block:
        """The records with these ids and their features of a layer, in (class, id) order; an id that is not there, or
        has no features of the layer, is absent.
        """
        with sentences(self.directory):
            number, dim = self._layer(layer, state)
            rows = where_in(self._connection, f"{_ROWS} WHERE r.id IN", ids, (number,))
            return _block(sorted(rows, key=lambda row: (row[1], row[0])), dim)

    def _layer(self, layer: str, state: State) -> tuple[int, int]:
        """Its number and dim."""
        known = layers_of(self._connection, state)
        if layer not in known:
            raise BadGallery(f"the {state} encoder of the gallery {self.directory} has no layer {layer}")
        return known[layer]

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with sentences(self.directory):
            return self._connection.execute(sql, values).fetchall()


def _block(rows: Sequence[Any], dim: int) -> Block:
    ids, groups, patients, studies, series, data = zip(*rows, strict=True) if rows else ((),) * 6
    owners = dict(zip(OWNERS, (patients, studies, series), strict=True))
    if torn := [name for name, row in zip(ids, data, strict=True) if not is_whole(row, 4 * dim)]:
        raise BadGallery(f"the features of image {torn[0]} are damaged; `cbmir verify --repair` mends that")
    return Block(ids, groups, owners, vector_of(b"".join(data)).reshape(len(rows), dim))
