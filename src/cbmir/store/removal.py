"""Images that go for good, in one transaction: out of every table, and remembered only by digests of another key."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from ..types import Record
from .changes import move_on
from .entries import Removed, Unit
from .rows import DUE, RECORD, record_of, where_in

Digests = Callable[[Record], Sequence[str]]
"""Keyed digests of a record, by which it is known again when it has been removed."""


def column_of(kind: Unit) -> str:
    """The column of the records that are meant. Raises ValueError for another kind: it becomes SQL."""
    if kind not in ("id", "patient", "study", "series"):
        raise ValueError(f"images are not removed by {kind}")
    return kind


def remove(connection: sqlite3.Connection, kind: Unit, values: Sequence[str], digests: Digests) -> Removed:
    """See Store.remove."""
    column = column_of(kind)
    rows = list(where_in(connection, f"SELECT number, file, {column}, {RECORD} FROM record WHERE {column} IN", values))
    unknown = tuple(sorted(set(values) - {row[2] for row in rows}))
    if not rows:
        return Removed(unknown=unknown)
    records = [record_of(row[3:]) for row in rows]
    ids = [record.id for record in records]
    noted = {digest for record in records for digest in digests(record)}
    connection.executemany("INSERT OR IGNORE INTO erased VALUES (?)", [(digest,) for digest in sorted(noted)])
    waiting = {row[0] for row in where_in(connection, "SELECT file FROM duplicate WHERE id IN", ids)}
    connection.executemany("DELETE FROM duplicate WHERE id = ?", [(name,) for name in ids])
    connection.executemany("DELETE FROM record WHERE number = ?", [(row[0],) for row in rows])
    handles = _forget_or_count(connection, Counter(row[1] for row in rows), waiting)
    move_on(connection, ids)
    return Removed(tuple(sorted(ids)), tuple(sorted(handles)), len(ids), len(handles), unknown)


def _forget_or_count(connection: sqlite3.Connection, lost: Counter[int], waiting: set[int]) -> list[str]:
    """Forgets the files that have no image left, and gives their handles: their places may name whom they were of.

    lost: how many images each file has lost; the others of these files remember how many. waiting: files that had the
    same images, and came later; the next run looks at those that have others.
    """
    empty = "SELECT f.number, f.handle FROM file f WHERE NOT EXISTS (SELECT 1 FROM record r WHERE r.file = f.number)"
    forgotten = dict(where_in(connection, f"{empty} AND f.number IN", sorted(lost.keys() | waiting)))
    connection.executemany("DELETE FROM file WHERE number = ?", [(number,) for number in forgotten])
    counted = [(n, number) for number, n in lost.items() if number not in forgotten]
    connection.executemany("UPDATE file SET erased = erased + ? WHERE number = ?", counted)
    due = [(number,) for number in waiting if number not in forgotten]
    connection.executemany(f"UPDATE file SET {DUE} WHERE number = ?", due)
    return list(forgotten.values())


def is_erased(connection: sqlite3.Connection, digests: Iterable[str]) -> bool:
    """Whether any of these digests is of something that was removed."""
    return next(where_in(connection, "SELECT 1 FROM erased WHERE digest IN", digests), None) is not None


def readmit(connection: sqlite3.Connection) -> int:
    """See Store.readmit."""
    connection.execute(f"UPDATE file SET erased = 0, {DUE} WHERE erased > 0")
    return connection.execute("DELETE FROM erased").rowcount
