"""Entries into the database, inside a transaction: which images stay, go over to another file, or are left out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..types import Record
from .entries import Added, Entry, StoredFile, check_entry
from .removal import is_erased
from .rows import CHECKED, DUE, FILE, blob_of, crc_of, feature_row, make_due, row_of

_FILE_MARKS = ", ".join("?" * len(StoredFile._fields))
_FILE_SETS = ", ".join(f"{column} = ?" for column in StoredFile._fields)
_RECORD_MARKS = ", ".join("?" * 17)
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
    """One transaction's worth of entries. layers: name -> (number in the database, dim).

    left: names of the files that are no longer there or have changed (owners.py): an image of such a file goes over to
    the next that brings it. skip_same_pixels: leave out an image whose pixels are there under another id. digests: by
    which removed images are known again, which are left out. touched: ids that came, went or are others now.
    """

    connection: sqlite3.Connection
    layers: Mapping[str, tuple[int, int]]
    left: set[str]
    skip_same_pixels: bool = False
    digests: Callable[[Record], Sequence[str]] | None = None
    added: int = 0
    replaced: int = 0
    moved: int = 0
    skipped: int = 0
    erased: int = 0
    touched: list[str] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    pixel_duplicates: list[tuple[str, str]] = field(default_factory=list)

    def put(self, entry: Entry) -> None:
        check_entry(entry, {name: dim for name, (_, dim) in self.layers.items()})
        number = self._put_file(entry)
        self.left.discard(entry.file.name)  # it has just been looked at
        n_erased = 0
        for row, record in enumerate(entry.records):
            if self.digests and is_erased(self.connection, self.digests(record)):
                n_erased += 1
            else:
                self._put_record(number, entry, row, record)
        if n_erased:
            self._note_erased(number, n_erased, whole=n_erased == len(entry.records))

    def result(self) -> Added:
        return Added(
            added=self.added,
            replaced=self.replaced,
            moved=self.moved,
            skipped=self.skipped,
            erased=self.erased,
            duplicates=tuple(self.duplicates),
            conflicts=tuple(self.conflicts),
            pixel_duplicates=tuple(self.pixel_duplicates),
        )

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
            run("UPDATE file SET erased = 0 WHERE number = ?", (number,))
            self.touched += [row[0] for row in run("SELECT id FROM record WHERE file = ?", (number,))]
            self.replaced += run("DELETE FROM record WHERE file = ?", (number,)).rowcount
        run(f"UPDATE file SET {_FILE_SETS} WHERE number = ?", (*entry.file, number))
        return number

    def _note_erased(self, file: int, n_images: int, *, whole: bool) -> None:
        """So that the file is not read again each time. One that gave nothing else is not to be found by its place."""
        self.erased += n_images
        place = ", place = x''" if whole else ""
        self.connection.execute(f"UPDATE file SET erased = ?{place} WHERE number = ?", (n_images, file))

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
        self.touched.append(image.id)
        forgotten = run(
            "DELETE FROM file WHERE number = ? AND NOT EXISTS (SELECT 1 FROM record WHERE file = ?)",
            (image.file, image.file),
        )
        if not forgotten.rowcount:
            run(f"UPDATE file SET {DUE} WHERE number = ?", (image.file,))

    def _insert(self, file: int, entry: Entry, row: int, record: Record) -> None:
        posterior = None if entry.posterior is None else blob_of(entry.posterior[row])
        values = (*row_of(record), record.group, file, posterior)
        cursor = self.connection.execute(
            f"INSERT INTO record ({CHECKED}, crc) VALUES ({_RECORD_MARKS})", (*values, crc_of(*values))
        )
        features = [
            feature_row(cursor.lastrowid or 0, number, entry.features[layer][row])
            for layer, (number, _) in self.layers.items()
        ]
        self.connection.executemany("INSERT INTO feature VALUES (?, ?, ?, ?)", features)
        self.touched.append(record.id)
