"""A second encoder beside the current one: its features and opinions grow, are audited, and take over in one step.

The states of an encoder: current, which is searched; next, which is being made; previous, which was current before;
none while it is being forgotten. There is at most one of each of the first three.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal

from ..errors import BadGallery
from .changes import move_on_wholly
from .entries import Entry, Pending, StoredFile, check_entry
from .rows import CHECKED, FILE_OF_F, blob_of, crc_of, feature_row, real

State = Literal["current", "next", "previous"]
Other = Literal["next", "previous"]

_RECORDS_AT_ONCE = 5000  # whose features are forgotten in one transaction

_LACKS = """(EXISTS (SELECT 1 FROM layer l WHERE l.encoder = :encoder AND NOT EXISTS (
        SELECT 1 FROM feature x WHERE x.record = r.number AND x.layer = l.number AND length(x.data) = 4 * l.dim))
    OR NOT EXISTS (SELECT 1 FROM opinion o WHERE o.record = r.number AND o.encoder = :encoder))"""
"""Whether the record r lacks features of any layer of an encoder that is not current, or its opinion."""


def number_of(connection: sqlite3.Connection, state: State) -> int | None:
    """The number of the encoder in this state."""
    row = connection.execute("SELECT number FROM encoder WHERE state = ?", (state,)).fetchone()
    return None if row is None else int(row[0])


def layers_of(connection: sqlite3.Connection, state: State) -> dict[str, tuple[int, int]]:
    """name -> (number, dim) of the layers of the encoder in this state, the default first; {} when there is none."""
    sql = """SELECT l.name, l.number, l.dim FROM layer l JOIN encoder e ON e.number = l.encoder
        WHERE e.state = ? ORDER BY l.number"""
    return {name: (number, dim) for name, number, dim in connection.execute(sql, (state,))}


def insert_encoder(
    connection: sqlite3.Connection, state: State, card: Mapping[str, Any], layers: Mapping[str, int]
) -> None:
    cursor = connection.execute("INSERT INTO encoder (state, card) VALUES (?, ?)", (state, json.dumps(dict(card))))
    rows = [(cursor.lastrowid, name, dim) for name, dim in layers.items()]
    connection.executemany("INSERT INTO layer (encoder, name, dim) VALUES (?, ?, ?)", rows)


def begin_next(connection: sqlite3.Connection, card: Mapping[str, Any], layers: Mapping[str, int]) -> None:
    """See Store.begin_next."""
    _refuse(connection, "next", "features of another encoder are being made already: go on with them, or drop them")
    _refuse(connection, "previous", "the encoder before the current one is still kept: forget it first")
    insert_encoder(connection, "next", card, layers)


def stage_previous(connection: sqlite3.Connection) -> None:
    """See Store.stage_previous."""
    _refuse(connection, "next", "features of another encoder are being made: drop them first")
    _required(connection, "previous")
    connection.execute("UPDATE encoder SET state = 'next' WHERE state = 'previous'")


def pending(connection: sqlite3.Connection, limit: int, after: int) -> list[Pending]:
    """See Store.pending."""
    encoder = _required(connection, "next")
    files = f"""SELECT f.number, {FILE_OF_F} FROM file f WHERE f.number > :after
        AND EXISTS (SELECT 1 FROM record r WHERE r.file = f.number AND {_LACKS}) ORDER BY f.number LIMIT :limit"""
    records = f"SELECT r.id FROM record r WHERE r.file = :file AND {_LACKS} ORDER BY r.frame_index, r.id"
    found = []
    for number, *file in connection.execute(files, {"encoder": encoder, "after": after, "limit": limit}).fetchall():
        ids = connection.execute(records, {"encoder": encoder, "file": number})
        found.append(Pending(number, StoredFile._make(file), tuple(row[0] for row in ids)))
    return found


def put_next(connection: sqlite3.Connection, entries: Iterable[Entry]) -> list[str]:
    """See Store.put_next."""
    encoder = _required(connection, "next")
    layers = layers_of(connection, "next")
    dims = {name: dim for name, (_, dim) in layers.items()}
    owned = """SELECT r.number FROM record r JOIN file f ON f.number = r.file
        WHERE r.id = ? AND f.name = ? AND f.content = ?"""
    put = []
    for entry in entries:
        check_entry(entry, dims)
        for row, record in enumerate(entry.records):
            found = connection.execute(owned, (record.id, entry.file.name, entry.file.content)).fetchone()
            if found is None:
                continue
            features = [
                feature_row(found[0], number, entry.features[name][row]) for name, (number, _) in layers.items()
            ]
            connection.executemany("INSERT OR REPLACE INTO feature VALUES (?, ?, ?, ?)", features)
            posterior = None if entry.posterior is None else blob_of(entry.posterior[row])
            opinion = record.predicted, real(record.probability), posterior
            values = found[0], encoder, *opinion, crc_of(*opinion)
            connection.execute("INSERT OR REPLACE INTO opinion VALUES (?, ?, ?, ?, ?, ?)", values)
            put.append(record.id)
    return put


def lacking(connection: sqlite3.Connection, state: State) -> list[str]:
    """The ids of the records that lack features or an opinion of the encoder in this state, in order."""
    sql = f"SELECT r.id FROM record r WHERE {_LACKS} ORDER BY r.id"
    return [row[0] for row in connection.execute(sql, {"encoder": _required(connection, state)})]


def swap(connection: sqlite3.Connection, state: Other) -> None:
    """The encoder in this state becomes the current one, which becomes the previous one. See Store.swap_next."""
    new, old = _required(connection, state), _required(connection, "current")
    if missing := len(lacking(connection, state)):
        raise BadGallery(f"{missing} images lack features of the encoder that is to take over; nothing was changed")
    if state == "next":
        _refuse(connection, "previous", "the encoder before the current one is still kept: forget it first")
    run = connection.execute
    opinion = "predicted, probability, posterior"
    damaged = f"""SELECT 1 FROM record WHERE crc IS NOT crc_of({CHECKED})
        UNION ALL SELECT 1 FROM opinion WHERE crc IS NOT crc_of({opinion}) LIMIT 1"""
    if run(damaged).fetchone():  # new checksums would hide it
        raise BadGallery("the gallery holds damaged records: mend it first, with `cbmir verify --repair`")
    run(f"INSERT INTO opinion SELECT number, ?, {opinion}, crc_of({opinion}) FROM record", (old,))
    run(
        f"""UPDATE record SET ({opinion}) = (
            SELECT {opinion} FROM opinion o WHERE o.record = record.number AND o.encoder = ?)""",
        (new,),
    )
    # where it stays the same, its index is left alone, which takes longer than all else
    run("UPDATE record SET class = group_of(labels, predicted) WHERE class != group_of(labels, predicted)")
    run(f"UPDATE record SET crc = crc_of({CHECKED})")
    run("DELETE FROM opinion WHERE encoder = ?", (new,))
    run("UPDATE encoder SET state = NULL WHERE number IN (?, ?)", (old, new))
    run("UPDATE encoder SET state = 'previous' WHERE number = ?", (old,))
    run("UPDATE encoder SET state = 'current' WHERE number = ?", (new,))
    move_on_wholly(connection)


def let_go(connection: sqlite3.Connection, state: Other) -> None:
    """Nobody sees the encoder in this state any more; `sweep` deletes what is there of it."""
    connection.execute("UPDATE encoder SET state = NULL WHERE state = ?", (state,))


def sweep(connection: sqlite3.Connection, transaction: Callable[[], AbstractContextManager[None]]) -> None:
    """Deletes what is there of encoders that were let go, in many transactions: one would fill the log. Cut short, it
    goes on the next time.
    """
    gone = "SELECT number FROM encoder WHERE state IS NULL"
    if connection.execute(gone).fetchone() is None:
        return
    last = connection.execute("SELECT coalesce(max(number), 0) FROM record").fetchone()[0]
    layers = f"SELECT number FROM layer WHERE encoder IN ({gone})"
    for start in range(0, last, _RECORDS_AT_ONCE):
        some = (start, start + _RECORDS_AT_ONCE)
        with transaction():
            connection.execute(f"DELETE FROM feature WHERE record > ? AND record <= ? AND layer IN ({layers})", some)
            connection.execute(f"DELETE FROM opinion WHERE record > ? AND record <= ? AND encoder IN ({gone})", some)
    with transaction():
        connection.execute(f"DELETE FROM layer WHERE encoder IN ({gone})")
        connection.execute("DELETE FROM encoder WHERE state IS NULL")


def _required(connection: sqlite3.Connection, state: State) -> int:
    number = number_of(connection, state)
    if number is None:
        raise BadGallery(f"the gallery has no {state} encoder")
    return number


def _refuse(connection: sqlite3.Connection, state: State, sentence: str) -> None:
    if number_of(connection, state) is not None:
        raise BadGallery(sentence)
