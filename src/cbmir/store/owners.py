"""Which files that own images are no longer what they were. Asked before a transaction begins: it looks at the disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache

from .entries import Entry, Gone, StoredFile
from .rows import FILE_OF_F, where_in

_FROM = "FROM record r JOIN file f ON f.number = r.file"
_BY_ID = f"SELECT DISTINCT {FILE_OF_F} {_FROM} WHERE r.id IN"
_BY_PIXELS = f"SELECT {FILE_OF_F} {_FROM} WHERE r.pixel_digest = ? ORDER BY r.number"


def owners_that_left(
    connection: sqlite3.Connection, entries: Sequence[Entry], gone: Gone, *, of_pixels: bool
) -> set[str]:
    """Names of the files that brought images of these entries before and are gone, as `gone` tells, each asked once.

    of_pixels: also of those that brought images of the same pixels under other ids, up to the first that is there.
    """
    gone = cache(gone)
    ids = [record.id for entry in entries for record in entry.records]
    owners = {file.name: file for file in map(StoredFile._make, where_in(connection, _BY_ID, ids))}
    left = {name for name, file in owners.items() if gone(file)}
    return left | _twins_that_left(connection, entries, gone) if of_pixels else left


def _twins_that_left(connection: sqlite3.Connection, entries: Sequence[Entry], gone: Gone) -> set[str]:
    left = set()
    for digest in {record.pixel_digest for entry in entries for record in entry.records if record.pixel_digest}:
        for file in map(StoredFile._make, connection.execute(_BY_PIXELS, (digest,))):
            if not gone(file):
                break
            left.add(file.name)
    return left
