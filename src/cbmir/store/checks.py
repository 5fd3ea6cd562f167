"""What is wrong inside a database, and what can be mended of it. Streams: memory grows with the damage only."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..errors import BadGallery
from .changes import changes_since, generation_of, move_on_wholly
from .database import transaction
from .entries import Problem, ProblemKind, Repaired
from .rows import CHECKED, DUE, crc_of, is_whole, told

_CHILDREN = (
    ("feature", "record", "record"), ("feature", "layer", "layer"), ("opinion", "record", "record"),
    ("opinion", "encoder", "encoder"), ("layer", "encoder", "encoder"), ("duplicate", "file", "file"),
)  # fmt: skip
"""Table, column, and the table whose number it holds; records and their files are looked at apart."""


def problems(connection: sqlite3.Connection) -> list[Problem]:
    """See Store.problems. connection: of its own; text that is damaged is read as it is."""
    connection.text_factory = _text
    connection.execute("BEGIN")  # all of one moment
    try:
        return [problem for check in _CHECKS for problem in _told(check, connection)]
    finally:
        connection.execute("ROLLBACK")


def repair(connection: sqlite3.Connection, found: Sequence[Problem]) -> Repaired:
    """See Store.repair. connection: of its own, as for `problems`."""
    connection.text_factory = _text
    connection.execute("CREATE TEMP TABLE bad_number (number INTEGER PRIMARY KEY)")
    with transaction(connection):
        _drop_staged(connection, _ids(found, ("staged",)))
        dropped, n_due = _note_records(connection, _ids(found, ("record", "features")))
        connection.execute("REINDEX")  # nothing is deleted that an index does not know
        connection.execute("DELETE FROM record WHERE number IN (SELECT number FROM bad_number)")
        for table, column, parent in _CHILDREN:
            connection.execute(f"DELETE FROM {table} WHERE {column} NOT IN (SELECT number FROM {parent})")
        if any(problem.kind in ("record", "features", "index") for problem in found):
            move_on_wholly(connection)  # what was read by a damaged index, or id, may be anything
    return Repaired(tuple(sorted(dropped)), n_due)


def _told(
    check: Callable[[sqlite3.Connection], Iterator[Problem]], connection: sqlite3.Connection
) -> Iterator[Problem]:
    """What a check finds, up to where the database cannot be read."""
    try:
        yield from check(connection)
    except sqlite3.DatabaseError as error:
        yield Problem(f"database: {error}", "database")


def _pages(connection: sqlite3.Connection) -> Iterator[Problem]:
    for (text,) in connection.execute("PRAGMA quick_check"):
        if text != "ok":
            yield Problem(f"database: {_one_line(text)}", "database")


def _itself(connection: sqlite3.Connection) -> Iterator[Problem]:
    try:
        for (text,) in connection.execute("SELECT value FROM meta UNION ALL SELECT card FROM encoder"):
            told(text)
        generation_of(connection)
        changes_since(connection, 0)
    except (BadGallery, TypeError, ValueError):
        yield Problem("what the gallery says of itself is damaged: only a backup helps", "database")


def _indexes(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Records and files are found by what the indexes say; features through their own check."""
    for table in ("record", "file"):
        for (text,) in connection.execute(f"PRAGMA integrity_check({table})"):
            if text != "ok":
                yield Problem(f"index of {table}: {_one_line(text)}", "index")


def _checksums(connection: sqlite3.Connection) -> Iterator[Problem]:
    bad = [
        record_id
        for record_id, crc, *columns in connection.execute(f"SELECT id, crc, {CHECKED} FROM record ORDER BY number")
        if crc_of(*columns) != crc
    ]
    if bad:
        yield Problem(f"{len(bad)} records do not match their checksum", "record", tuple(bad))


def _features(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Every record has features of every layer of the current encoder; whatever there is matches its checksum."""
    layers = connection.execute(
        "SELECT l.number, l.name, l.dim, e.state FROM layer l JOIN encoder e ON e.number = l.encoder ORDER BY l.number"
    ).fetchall()
    for number, name, dim, state in layers:
        kind: ProblemKind = "features" if state == "current" else "staged"
        of = f"layer {name}" + ("" if state == "current" else f" of the {state} encoder")
        missing, damaged = _faults(connection, number, 4 * dim)
        if missing and state == "current":
            yield Problem(f"{len(missing)} records have no whole features of {of}", kind, tuple(missing))
        if damaged:
            yield Problem(
                f"{len(damaged)} records have features of {of} that do not match their checksum", kind, tuple(damaged)
            )


def _faults(connection: sqlite3.Connection, layer: int, n_bytes: int) -> tuple[list[str], list[str]]:
    """The ids of the records without whole features of a layer, and of those with damaged ones."""
    missing, damaged = [], []
    sql = """SELECT r.id, f.data, f.crc FROM record r LEFT JOIN feature f ON f.record = r.number AND f.layer = ?
        ORDER BY r.number"""
    for record_id, data, crc in connection.execute(sql, (layer,)):
        if not is_whole(data, n_bytes):
            missing.append(record_id)
        elif zlib.crc32(data) != crc:
            damaged.append(record_id)
    return missing, damaged


def _opinions(connection: sqlite3.Connection) -> Iterator[Problem]:
    sql = """SELECT r.id, o.crc, o.predicted, o.probability, o.posterior
        FROM record r CROSS JOIN opinion o ON o.record = r.number ORDER BY r.number"""
    bad = [record_id for record_id, crc, *opinion in connection.execute(sql) if crc_of(*opinion) != crc]
    if bad:
        yield Problem(f"{len(bad)} opinions of other encoders do not match their checksum", "staged", tuple(bad))


def _orphans(connection: sqlite3.Connection) -> Iterator[Problem]:
    sql = "SELECT id FROM record WHERE file NOT IN (SELECT number FROM file) ORDER BY number"
    if ids := [row[0] for row in connection.execute(sql)]:
        yield Problem(f"{len(ids)} records belong to no file", "record", tuple(ids))
    for table, column, parent in _CHILDREN:
        sql = f"SELECT count(*) FROM {table} WHERE {column} NOT IN (SELECT number FROM {parent})"
        if n_rows := connection.execute(sql).fetchone()[0]:
            yield Problem(f"{n_rows} rows of {table} belong to no {parent}", "orphan")


def _unfinished(connection: sqlite3.Connection) -> Iterator[Problem]:
    if connection.execute("SELECT 1 FROM encoder WHERE state IS NULL").fetchone():
        yield Problem("features of an encoder that was forgotten are still there", "staged")


_CHECKS = (_pages, _itself, _indexes, _checksums, _features, _opinions, _orphans, _unfinished)


def _ids(found: Iterable[Problem], kinds: Sequence[ProblemKind]) -> set[str]:
    return {name for problem in found if problem.kind in kinds for name in problem.ids}


def _find(connection: sqlite3.Connection, ids: set[str]) -> list[str]:
    """Which of these ids there are; the numbers of their records are then in bad_number. No index is trusted."""
    rows = connection.execute("SELECT number, id FROM record NOT INDEXED")
    found = [(number, name) for number, name in rows if name in ids]
    connection.execute("DELETE FROM bad_number")
    connection.executemany("INSERT INTO bad_number VALUES (?)", [(number,) for number, _ in found])
    return [name for _, name in found]


def _drop_staged(connection: sqlite3.Connection, ids: set[str]) -> None:
    """Features and opinions of these records under encoders that are not current."""
    _find(connection, ids)
    others = "SELECT number FROM encoder WHERE state IS NOT 'current'"
    bad = "record IN (SELECT number FROM bad_number)"
    connection.execute(
        f"DELETE FROM feature WHERE {bad} AND layer IN (SELECT number FROM layer WHERE encoder IN ({others}))"
    )
    connection.execute(f"DELETE FROM opinion WHERE {bad} AND encoder IN ({others})")


def _note_records(connection: sqlite3.Connection, ids: set[str]) -> tuple[list[str], int]:
    """The ids that are to be dropped (bad_number then has their numbers), and how many files are due for it."""
    found = _find(connection, ids)
    # what a damaged record says of its file may be wrong, and the index then still knows
    told = "SELECT file FROM record NOT INDEXED WHERE number IN (SELECT number FROM bad_number)"
    known = "SELECT file FROM record INDEXED BY record_by_file WHERE +number IN (SELECT number FROM bad_number)"
    connection.execute("CREATE TEMP TABLE due (number INTEGER PRIMARY KEY)")
    connection.execute(f"INSERT OR IGNORE INTO due SELECT * FROM ({told}) UNION SELECT * FROM ({known})")
    n_due = connection.execute(f"UPDATE file SET {DUE} WHERE number IN (SELECT number FROM due)").rowcount
    return found, n_due


def _text(data: bytes) -> str:
    """Damaged text can then be compared and printed; it matches no checksum."""
    return data.decode("utf-8", "backslashreplace")


def _one_line(text: str) -> str:
    return " ".join(text.split())
