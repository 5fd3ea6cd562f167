"""The record of truth: files, records and features in SQLite. Knows no torch; the only package with SQL.

Write-ahead log with synchronous=FULL: what `add` has returned from survives a kill and a power cut. Many processes
read while one writes. The schema is in schema.py.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ..errors import BadGallery
from ..types import Float32, Record
from .database import connect_existing, create_database, is_writable, sentences, take_lock, transaction
from .entries import OWNERS, Added, Block, Entry, Gone, StoredFile
from .owners import owners_that_left
from .rows import FILE, FILE_OF_F, RECORD, record_of, touch, vector_of, where_in
from .survey import Survey
from .writing import Writer

__all__ = ["OWNERS", "Added", "Block", "Entry", "Gone", "Store", "StoredFile", "Survey"]

_BLOCK_BYTES = 4 << 20


class Store:
    """Opened with `create` or `open`; closes its connection at the end of a `with`."""

    def __init__(self, directory: Path, connection: sqlite3.Connection) -> None:
        self.directory = directory
        self._connection = connection
        self._writer: sqlite3.Connection | None = None
        self._turn = threading.Lock()  # of this store and its surveys, which write from other threads
        with sentences(directory):
            rows = connection.execute("SELECT name, dim, number FROM layer ORDER BY number").fetchall()
        self.layers: dict[str, int] = {name: dim for name, dim, _ in rows}
        self._layer_numbers: dict[str, int] = {name: number for name, _, number in rows}

    @classmethod
    def create(cls, directory: Path, layers: Mapping[str, int], meta: Mapping[str, Any]) -> Store:
        """A new, empty store in a folder that is not there or empty. layers: name -> dim, the default first."""
        rows = [(key, json.dumps(value)) for key, value in {"generation": 0, **meta}.items()]

        def fill(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
            connection.executemany("INSERT INTO layer (name, dim) VALUES (?, ?)", list(layers.items()))

        create_database(directory, list(layers.values()), fill)
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path) -> Store:
        """A store that is there; an older one is brought to today's schema. One that cannot be written can be read."""
        return cls(directory, connect_existing(directory))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    @property
    def writable(self) -> bool:
        return is_writable(self.directory)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the right to write, which only one process has at a time; may be entered again inside.

        Raises BadGallery at once when another has it. The lock is one of SQLite's on a file of its own, so the
        system releases it with the process, however that ends.
        """
        if self._writer is not None:
            yield
            return
        if not self.writable:
            raise BadGallery(f"the gallery {self.directory} is read-only here: it can be searched, and not changed")
        self._writer = take_lock(self.directory)
        try:
            yield
        finally:
            self._writer.close()
            self._writer = None

    def add(self, entries: Iterable[Entry], *, gone: Gone | None = None, skip_same_pixels: bool = False) -> Added:
        """Writes files with their records and features in one transaction; durable when it returns.

        A file known before loses its old records first, unless it gives none now because it could not be read. A
        record whose id another file has brought goes over to the new file when the other is gone or has changed; else
        it is left out and noted as a duplicate. gone: tells which files have, none by default. skip_same_pixels: a
        record whose pixels are there under another id is left out too, and takes its place when that one's file is
        gone.
        """
        entries = list(entries)
        with self.writing(), sentences(self.directory):
            left = owners_that_left(self._connection, entries, gone, of_pixels=skip_same_pixels) if gone else set()
            writer = Writer(self._connection, self.layers, self._layer_numbers, left, skip_same_pixels)
            with self._turn, transaction(self._connection):
                for entry in entries:
                    writer.put(entry)
                if writer.changed:
                    self._connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")
        return writer.result()

    def touch(self, files: Iterable[StoredFile]) -> None:
        """Remembers new sizes and times of files whose content is the same."""
        with self.writing(), sentences(self.directory), self._turn, transaction(self._connection):
            touch(self._connection, files)

    @contextmanager
    def survey(self) -> Iterator[Survey]:
        """For whoever walks through a source, also in another thread. Best inside `writing`."""
        with closing(Survey(self.directory, self._turn)) as survey:
            yield survey

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
        return {key: json.loads(value) for key, value in self._all("SELECT key, value FROM meta")}

    def generation(self) -> int:
        """Grows with every change of records or features."""
        return int(self._all("SELECT value FROM meta WHERE key = 'generation'")[0][0])

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

    def ids(self) -> list[str]:
        return [row[0] for row in self._all("SELECT id FROM record ORDER BY id")]

    def posterior(self, record_id: str) -> Float32 | None:
        """float32 (K,), or None for an unknown id or an encoder without classes."""
        rows = self._all("SELECT posterior FROM record WHERE id = ?", (record_id,))
        return vector_of(rows[0][0]) if rows and rows[0][0] is not None else None

    def blocks(self, layer: str) -> Iterator[Block]:
        """All records with features of a layer in (class, id) order, in blocks of a few megabytes."""
        rows_at_once = max(1, _BLOCK_BYTES // (4 * self.layers[layer]))
        with sentences(self.directory):
            # CROSS JOIN fixes the order: walk the index by (class, id), look features up; nothing is sorted
            cursor = self._connection.execute(
                """SELECT r.id, r.class, r.patient, r.study, r.series, f.data
                FROM record r CROSS JOIN feature f ON f.record = r.number AND f.layer = ?
                ORDER BY r.class, r.id""",
                (self._layer_numbers[layer],),
            )
            while rows := cursor.fetchmany(rows_at_once):
                ids, groups, patients, studies, series, data = zip(*rows, strict=True)
                owners = dict(zip(OWNERS, (patients, studies, series), strict=True))
                features = vector_of(b"".join(data)).reshape(len(rows), self.layers[layer])
                yield Block(ids, groups, owners, features)

    def problems(self) -> list[str]:
        """What is wrong inside the store, one sentence each; empty when all is well."""
        found = [f"database: {row[0]}" for row in self._all("PRAGMA quick_check") if row[0] != "ok"]
        for name, number in self._layer_numbers.items():
            size = 4 * self.layers[name]
            sql = """SELECT count(*) FROM record r LEFT JOIN feature f ON f.record = r.number AND f.layer = ?
                WHERE f.data IS NULL OR length(f.data) != ?"""
            if missing := self._all(sql, (number, size))[0][0]:
                found.append(f"{missing} records have no whole features of layer {name}")
        sql = """SELECT count(*) FROM record r LEFT JOIN file f ON f.number = r.file
            WHERE f.number IS NULL"""
        if orphans := self._all(sql)[0][0]:
            found.append(f"{orphans} records belong to no file")
        return found

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with sentences(self.directory):
            return self._connection.execute(sql, values).fetchall()
