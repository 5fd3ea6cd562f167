"""The record of truth: files, records and features in SQLite. Knows no torch; the only module with SQL.

Write-ahead log with synchronous=FULL: what `add` has returned from survives a kill and a power cut. Many processes
read while one writes. The schema is in database.py.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..types import Float32, Record
from .database import connect_existing, create_database, sentences, take_lock, transaction
from .entries import OWNERS, Added, Block, Entry, StoredFile, check_entry

__all__ = ["OWNERS", "Added", "Block", "Entry", "Store", "StoredFile"]

_RECORD = """id, patient, study, series, frame_index, modality, source, labels, predicted, probability,
    attributes, provenance"""
_BLOCK_BYTES = 4 << 20


class Store:
    """Opened with `create` or `open`; closes its connection at the end of a `with`."""

    def __init__(self, directory: Path, connection: sqlite3.Connection) -> None:
        self.directory = directory
        self._connection = connection
        self._writer: sqlite3.Connection | None = None
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
        """A store that is there; an older one is brought to today's schema."""
        return cls(directory, connect_existing(directory))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the right to write, which only one process has at a time; may be entered again inside.

        Raises BadGallery at once when another has it. The lock is one of SQLite's on a file of its own, so the
        system releases it with the process, however that ends.
        """
        if self._writer is not None:
            yield
            return
        self._writer = take_lock(self.directory)
        try:
            yield
        finally:
            self._writer.close()
            self._writer = None

    def add(self, entries: Iterable[Entry]) -> Added:
        """Writes files with their records and features in one transaction; durable when it returns.

        A file known before loses its old records first. A record whose id another file has brought is left out
        and noted as a duplicate.
        """
        with self.writing(), sentences(self.directory), transaction(self._connection):
            results = [self._add(entry) for entry in entries]
            if any(added or replaced for added, replaced, _ in results):
                self._connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")
        return Added(
            added=sum(added for added, _, _ in results),
            replaced=sum(replaced for _, replaced, _ in results),
            duplicates=tuple(pair for *_, pairs in results for pair in pairs),
        )

    def touch(self, files: Iterable[StoredFile]) -> None:
        """Remembers new sizes and times of files whose content is the same."""
        rows = [(file.size, file.mtime_ns, file.root, file.shown) for file in files]
        with self.writing(), sentences(self.directory), transaction(self._connection):
            self._connection.executemany("UPDATE file SET size = ?, mtime_ns = ? WHERE root = ? AND shown = ?", rows)

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

    def files(self, root: str | None = None) -> Iterator[StoredFile]:
        """The files of one source, or of all."""
        sql = "SELECT root, shown, size, mtime_ns, content_hash, told, outcome, reason FROM file"
        rows = self._all(sql) if root is None else self._all(f"{sql} WHERE root = ?", (root,))
        return (StoredFile(*row) for row in rows)

    def file_of(self, record_id: str) -> StoredFile | None:
        """The file a record came from."""
        sql = """SELECT root, shown, size, mtime_ns, content_hash, told, outcome, reason FROM file
            WHERE number = (SELECT file FROM record WHERE id = ?)"""
        rows = self._all(sql, (record_id,))
        return StoredFile(*rows[0]) if rows else None

    def record(self, record_id: str) -> Record | None:
        return self.records([record_id]).get(record_id)

    def records(self, ids: Sequence[str]) -> dict[str, Record]:
        """The records with these ids; an id that is not there is absent."""
        found: dict[str, Record] = {}
        for start in range(0, len(ids), 500):  # SQLite allows a limited number of parameters
            some = list(ids[start : start + 500])
            marks = ", ".join("?" * len(some))
            for row in self._all(f"SELECT {_RECORD} FROM record WHERE id IN ({marks})", some):
                found[row[0]] = _record(row)
        return found

    def ids(self) -> list[str]:
        return [row[0] for row in self._all("SELECT id FROM record ORDER BY id")]

    def posterior(self, record_id: str) -> Float32 | None:
        """float32 (K,), or None for an unknown id or an encoder without classes."""
        rows = self._all("SELECT posterior FROM record WHERE id = ?", (record_id,))
        return _vector(rows[0][0]) if rows and rows[0][0] is not None else None

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
                features = _vector(b"".join(data)).reshape(len(rows), self.layers[layer])
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
            WHERE f.number IS NULL OR f.outcome NOT IN ('decoded', 'partial')"""
        if orphans := self._all(sql)[0][0]:
            found.append(f"{orphans} records belong to no decoded file")
        return found

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with sentences(self.directory):
            return self._connection.execute(sql, values).fetchall()

    def _add(self, entry: Entry) -> tuple[int, int, list[tuple[str, str]]]:
        check_entry(entry, self.layers)
        number, replaced = self._put_file(entry.file)
        added = 0
        duplicates: list[tuple[str, str]] = []
        for row, record in enumerate(entry.records):
            if self._put_record(number, entry, row, record):
                added += 1
            else:
                duplicates.append((record.id, entry.file.shown))
                self._connection.execute("INSERT OR IGNORE INTO duplicate VALUES (?, ?)", (number, record.id))
        return added, replaced, duplicates

    def _put_file(self, file: StoredFile) -> tuple[int, int]:
        """Number of the file, and how many old records it lost."""
        run = self._connection.execute
        known = run("SELECT number FROM file WHERE root = ? AND shown = ?", (file.root, file.shown)).fetchone()
        values = (file.size, file.mtime_ns, file.content_hash, file.told, file.outcome, file.reason)
        if known is None:
            sql = "INSERT INTO file (size, mtime_ns, content_hash, told, outcome, reason, root, shown)"
            cursor = run(f"{sql} VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*values, file.root, file.shown))
            return int(cursor.lastrowid or 0), 0
        number = int(known[0])
        # a file that waited behind one of these records as its duplicate is looked at again at the next run
        run(
            """UPDATE file SET content_hash = '', mtime_ns = -1 WHERE number IN
            (SELECT d.file FROM duplicate d JOIN record r ON r.id = d.id WHERE r.file = ?)""",
            (number,),
        )
        run("DELETE FROM duplicate WHERE file = ?", (number,))
        replaced = run("DELETE FROM record WHERE file = ?", (number,)).rowcount
        sql = "UPDATE file SET size = ?, mtime_ns = ?, content_hash = ?, told = ?, outcome = ?, reason = ?"
        run(f"{sql} WHERE number = ?", (*values, number))
        return number, replaced

    def _put_record(self, file: int, entry: Entry, row: int, record: Record) -> bool:
        """False when there is a record with this id already."""
        posterior = None if entry.posterior is None else _blob(entry.posterior[row])
        marks = ", ".join("?" * 15)
        cursor = self._connection.execute(
            f"INSERT OR IGNORE INTO record ({_RECORD}, class, file, posterior) VALUES ({marks})",
            (*_row(record), record.group, file, posterior),
        )
        if cursor.rowcount == 0:
            return False
        self._connection.executemany(
            "INSERT INTO feature VALUES (?, ?, ?)",
            [
                (cursor.lastrowid, number, _blob(entry.features[layer][row]))
                for layer, number in self._layer_numbers.items()
            ],
        )
        return True


def _row(record: Record) -> tuple[Any, ...]:
    """Values in the order of _RECORD."""
    return (
        record.id, record.patient, record.study, record.series, record.frame_index, record.modality,
        record.source, _json(record.labels), record.predicted, record.probability,
        _json(record.attributes), _json(record.provenance),
    )  # fmt: skip


def _record(row: Sequence[Any]) -> Record:
    values = list(row)
    values[7], values[10], values[11] = json.loads(row[7]), json.loads(row[10]), json.loads(row[11])
    return Record(*values)


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True)


def _blob(values: Float32) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()


def _vector(blob: bytes) -> Float32:
    return np.frombuffer(blob, "<f4").astype(np.float32, copy=False)
