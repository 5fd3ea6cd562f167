"""A database copied while others write to it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from .database import put_in_place


def write_backup(connection: sqlite3.Connection, file: Path) -> None:
    """See Store.backup. SQLite reads one moment of the database and writes it anew: smaller than a copy of its pages,
    and a page that is damaged does not come along unseen.
    """
    file = file.resolve()
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    try:
        connection.execute("VACUUM INTO ?", (str(new),))
        put_in_place(new, file)
    finally:
        new.unlink(missing_ok=True)
