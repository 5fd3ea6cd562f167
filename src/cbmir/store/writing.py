"""Entries into the database, inside a transaction: which images stay, go over to another file, or are left out."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from ..types import Record
from .entries import Added, Entry, Gone, StoredFile, check_entry
from .rows import FILE, FILE_OF_F, RECORD, blob_of, make_due, row_of

_FILE_MARKS = ", ".join("?" * len(StoredFile._fields))
_FILE_SETS = ", ".join(f"{column} = ?" for column in StoredFile._fields)
_RECORD_MARKS = ", ".join("?" * 16)


@dataclass
class Writer:
    """One transaction's worth of entries. layers: name -> dim; layer_numbers: name -> number in the database.

    gone: tells whether a file is no longer there: an image of such a file goes over to the next that brings it.
    skip_same_pixels: leave out an image whose pixels are there under another id.
    """

    connection: sqlite3.Connection
    layers: Mapping[str, int]
    layer_numbers: Mapping[str, int]
    gone: Gone
    skip_same_pixels: bool = False
    added: int = 0
    replaced: int = 0
    moved: int = 0
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    pixel_duplicates: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gone = lru_cache(1024)(self.gone)  # one look at the disk for all images of a file

    def put(self, entry: Entry) -> None:
        check_entry(entry, self.layers)
        number = self._put_file(entry)
        for row, record in enumerate(entry.records):
            self._put_record(number, entry, row, record)

    def result(self) -> Added:
        return Added(
            added=self.added,
            replaced=self.replaced,
            moved=self.moved,
            duplicates=tuple(self.duplicates),
            conflicts=tuple(self.conflicts),
            pixel_duplicates=tuple(self.pixel_duplicates),
        )

    @property
    def changed(self) -> bool:
        """Whether records or features are others than before."""
        return bool(self.added or self.replaced or self.moved)

    def _put_file(self, entry: Entry) -> int:
        """The number of the file, which has lost its old records unless it keeps them."""
        run = self.connection.execute
        known = run("SELECT number FROM file WHERE name = ?", (entry.file.name,)).fetchone()
        if known is None:
            return int(run(f"INSERT INTO file ({FILE}) VALUES ({_FILE_MARKS})", entry.file).lastrowid or 0)
        number = int(known[0])
        if not entry.keeps_records:
            make_due(self.connection, "r.file = ?", (number,))
            run("DELETE FROM duplicate WHERE file = ?", (number,))
            self.replaced += run("DELETE FROM record WHERE file = ?", (number,)).rowcount
        run(f"UPDATE file SET {_FILE_SETS} WHERE number = ?", (*entry.file, number))
        return number

    def _put_record(self, file: int, entry: Entry, row: int, record: Record) -> None:
        """Insert it, or note why not."""
        moved = False
        if owner := self._owner(record.id):
            owner_number, owner_file, digest = owner
            if owner_number == file or not self.gone(owner_file):
                self.duplicates.append((record.id, entry.file.handle))
                if digest and record.pixel_digest and digest != record.pixel_digest:
                    self.conflicts.append(record.id)
                self._wait_behind(file, record.id)
                return
            self._release(record.id, owner_number)
            moved = True
        if twin := self._twin(record):
            self.pixel_duplicates.append((record.id, twin))
            if self.skip_same_pixels:
                self.replaced += moved
                self._wait_behind(file, twin)
                return
        self._insert(file, entry, row, record)
        self.moved += moved
        self.added += not moved

    def _owner(self, record_id: str) -> tuple[int, StoredFile, str | None] | None:
        """Number and file that brought an image of this id before, and the digest of its pixels."""
        sql = f"""SELECT f.number, r.pixel_digest, {FILE_OF_F}
            FROM record r JOIN file f ON f.number = r.file WHERE r.id = ?"""
        row = self.connection.execute(sql, (record_id,)).fetchone()
        return row and (row[0], StoredFile._make(row[2:]), row[1])

    def _twin(self, record: Record) -> str | None:
        """The id of another image with the same pixels."""
        if record.pixel_digest is None:
            return None
        sql = "SELECT id FROM record WHERE pixel_digest = ? ORDER BY number LIMIT 1"
        row = self.connection.execute(sql, (record.pixel_digest,)).fetchone()
        return row and str(row[0])

    def _wait_behind(self, file: int, record_id: str) -> None:
        self.connection.execute("INSERT OR IGNORE INTO duplicate VALUES (?, ?)", (file, record_id))

    def _release(self, record_id: str, owner: int) -> None:
        """Takes an image from a file that is gone; a file that is left without any is forgotten."""
        self.connection.execute("DELETE FROM record WHERE id = ?", (record_id,))
        self.connection.execute(
            "DELETE FROM file WHERE number = ? AND NOT EXISTS (SELECT 1 FROM record WHERE file = ?)", (owner, owner)
        )

    def _insert(self, file: int, entry: Entry, row: int, record: Record) -> None:
        posterior = None if entry.posterior is None else blob_of(entry.posterior[row])
        cursor = self.connection.execute(
            f"INSERT INTO record ({RECORD}, class, file, posterior) VALUES ({_RECORD_MARKS})",
            (*row_of(record), record.group, file, posterior),
        )
        features = [
            (cursor.lastrowid, number, blob_of(entry.features[layer][row]))
            for layer, number in self.layer_numbers.items()
        ]
        self.connection.executemany("INSERT INTO feature VALUES (?, ?, ?)", features)
