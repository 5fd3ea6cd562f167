"""The generation of a store, and its log of changes: which ids each generation touched. Inside a transaction.

What is derived from the store at one generation stays usable with the log: it hides the ids that were touched later,
and looks at them as they are now.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from .rows import told

LOG_ROWS = 250_000
"""How many changes the log keeps: more than anybody mends one by one before a rebuild is cheaper."""


def generation_of(connection: sqlite3.Connection) -> int:
    return _number(connection, "generation")


def move_on(connection: sqlite3.Connection, ids: Iterable[str]) -> None:
    """The next generation, which has touched these ids."""
    generation = _next(connection)
    connection.executemany(
        "INSERT INTO change (generation, id) VALUES (?, ?)", [(generation, name) for name in dict.fromkeys(ids)]
    )
    bounds = "SELECT (SELECT min(number) FROM change), (SELECT max(number) FROM change)"
    first, last = connection.execute(bounds).fetchone()
    if first is not None and last - first >= LOG_ROWS:
        cut = last - LOG_ROWS
        (oldest,) = connection.execute("SELECT generation FROM change WHERE number = ?", (cut,)).fetchone()
        connection.execute("DELETE FROM change WHERE number <= ?", (cut,))
        _begin_after(connection, oldest)


def move_on_wholly(connection: sqlite3.Connection) -> None:
    """The next generation, which has touched all ids: nothing made before it can be used any more."""
    forget_changes(connection, _next(connection))


def forget_changes(connection: sqlite3.Connection, upto: int) -> None:
    """The log then tells the changes after this generation only."""
    connection.execute("DELETE FROM change WHERE generation <= ?", (upto,))
    _begin_after(connection, upto)


def changes_since(connection: sqlite3.Connection, generation: int) -> list[str] | None:
    """The ids touched after a generation, in order; None when the log does not reach back so far, or not yet there."""
    if not _number(connection, "log_from") <= generation <= generation_of(connection):
        return None
    sql = "SELECT DISTINCT id FROM change WHERE generation > ? ORDER BY id"
    return [row[0] for row in connection.execute(sql, (generation,))]


def _next(connection: sqlite3.Connection) -> int:
    generation = generation_of(connection) + 1
    connection.execute("UPDATE meta SET value = ? WHERE key = 'generation'", (str(generation),))
    return generation


def _begin_after(connection: sqlite3.Connection, generation: int) -> None:
    connection.execute("UPDATE meta SET value = max(CAST(value AS INTEGER), ?) WHERE key = 'log_from'", (generation,))


def _number(connection: sqlite3.Connection, key: str) -> int:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return int(told(row[0] if row else ""))
