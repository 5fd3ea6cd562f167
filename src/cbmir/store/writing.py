"""Entries into the database, inside a transaction: which images stay, go over to another file, or are left out."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..types import Record
from .entries import Added, Entry, StoredFile, check_entry
from .rows import DUE, FILE, RECORD, blob_of, make_due, row_of

_FILE_MARKS = ", ".join("?" * len(StoredFile._fields))
_FILE_SETS = ", ".join(f"{column} = ?" for column in StoredFile._fields)
_RECORD_MARKS = ", ".join("?" * 16)
_STORED = "SELECT r.id, r.pixel_digest, f.number, f.name FROM record r JOIN file f ON f.number = r.file"
TWINS = f"{_STORED} WHERE r.pixel_digest = ? ORDER BY r.number"


class _Stored(NamedTuple):
    """An image that is in the gallery, and its file."""

    id: str
    pixels: str | None
    file: int
    name: str


@dataclass
class Writer:
    """One transaction's worth of entries. layers: name -> dim; layer_numbers: name -> number in the database.

    left: names of the files that are no longer there or have changed (owners.py): an image of such a file goes over to
    the next that brings it. skip_same_pixels: leave out an image whose pixels are there under another id.
    """

    connection: sqlite3.Connection
    layers: Mapping[str, int]
    layer_numbers: Mapping[str, int]
    left: set[str]
    skip_same_pixels: bool = False
    added: int = 0
    replaced: int = 0
    moved: int = 0
    skipped: int = 0
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    pixel_duplicates: list[tuple[str, str]] = field(default_factory=list)

    def put(self, entry: Entry) -> None:
        check_entry(entry, self.layers)
        number = self._put_file(entry)
        self.left.discard(entry.file.name)  # it has just been looked at
        for row, record in enumerate(entry.records):
            self._put_record(number, entry, row, record)

    def result(self) -> Added:
        return Added(
            added=self.added,
            replaced=self.replaced,
            moved=self.moved,
            skipped=self.skipped,
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
        owner = self._owner(record.id)
        if owner and owner.name not in self.left:
            self._note_duplicate(file, entry, record, owner)
            return
        if owner:
            self._release(owner)
        twin = self._twin(record)
        if twin and self.skip_same_pixels and twin.name not in self.left:
            self._skip(file, record, twin)
            self.replaced += owner is not None
            return
        takes_over = twin is not None and self.skip_same_pixels
        if twin and takes_over:
            make_due(self.connection, "r.id = ?", (twin.id,))
            self._release(twin)
        elif twin:
            self.pixel_duplicates.append((record.id, twin.id))
        self._insert(file, entry, row, record)
        self.moved += owner is not None or takes_over
        self.added += owner is None and not takes_over

    def _note_duplicate(self, file: int, entry: Entry, record: Record, owner: _Stored) -> None:
        self.duplicates.append((record.id, entry.file.handle))
        if owner.pixels and record.pixel_digest and owner.pixels != record.pixel_digest:
            self.conflicts.append(record.id)
        self._wait_behind(file, record.id)

    def _skip(self, file: int, record: Record, twin: _Stored) -> None:
        self.pixel_duplicates.append((record.id, twin.id))
        self.skipped += 1
        self._wait_behind(file, twin.id)

    def _owner(self, record_id: str) -> _Stored | None:
        """The image of this id that a file brought before."""
        row = self.connection.execute(f"{_STORED} WHERE r.id = ?", (record_id,)).fetchone()
        return row and _Stored._make(row)

    def _twin(self, record: Record) -> _Stored | None:
        """Another image with the same pixels, best one whose file is there."""
        if record.pixel_digest is None:
            return None
        twins = map(_Stored._make, self.connection.execute(TWINS, (record.pixel_digest,)))
        first = next(twins, None)
        if first is None or first.name not in self.left:
            return first
        return next((twin for twin in twins if twin.name not in self.left), first)

    def _wait_behind(self, file: int, record_id: str) -> None:
        self.connection.execute("INSERT OR IGNORE INTO duplicate VALUES (?, ?)", (file, record_id))

    def _release(self, image: _Stored) -> None:
        """Takes an image from a file that is gone or has changed. A file that is left without any is forgotten, and
        one that has others is looked at again."""
        run = self.connection.execute
        run("DELETE FROM record WHERE id = ?", (image.id,))
        forgotten = run(
            "DELETE FROM file WHERE number = ? AND NOT EXISTS (SELECT 1 FROM record WHERE file = ?)",
            (image.file, image.file),
        )
        if not forgotten.rowcount:
            run(f"UPDATE file SET {DUE} WHERE number = ?", (image.file,))

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
