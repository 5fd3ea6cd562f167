"""Small pictures of a gallery's images, sealed: derived from their files when somebody first wants to see them.

    DIR/thumbnails.sqlite   of each image and side at most one; who lacks the key sees ids and noise

Whatever is wrong with it, it may be deleted: pictures are drawn again. Removed images leave it with `tidy`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .database import is_writable, sentences, transaction
from .rows import where_in
from .schema import rewrite

if TYPE_CHECKING:
    from . import Store

FILE = "thumbnails.sqlite"
HELD = 4_000
"""How many are kept where nothing can be written: in memory, some 20 megabytes."""

_BUSY_S = 5
_WHOLE, _SHRINKING = 1, 2
"""PRAGMA user_version: rows were deleted, of which pieces may be left until all is written anew."""


@dataclass(frozen=True)
class Thumbnail:
    """side: pixels of the longer side. pixels: the digest of what was drawn (Record.pixel_digest). sealed: the picture,
    under the key of the gallery.
    """

    id: str
    side: int
    pixels: str
    sealed: bytes


class Thumbnails:
    """Opened with `open`; may be used from many threads."""

    def __init__(self, connection: sqlite3.Connection, directory: Path, most: int | None) -> None:
        self._connection, self._directory, self._most = connection, directory, most
        self._turn = threading.Lock()

    @classmethod
    def open(cls, directory: Path) -> Thumbnails:
        """Those of a gallery; one that is damaged is made anew. In memory where the gallery can only be read."""
        with sentences(directory):
            if not is_writable(directory):
                return cls(_connected(":memory:"), directory, HELD)
            try:
                connection = _connected(directory / FILE)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                delete(directory)
                connection = _connected(directory / FILE)
            return cls(connection, directory, None)

    def close(self) -> None:
        with self._turn:
            self._connection.close()

    def get(self, record_id: str, side: int, pixels: str) -> bytes | None:
        """The sealed picture; None when there is none of these pixels."""
        sql = "SELECT sealed FROM thumbnail WHERE id = ? AND side = ? AND pixels = ?"
        with self._turn, sentences(self._directory):
            row = self._connection.execute(sql, (record_id, side, pixels)).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, drawn: Iterable[Thumbnail], store: Store) -> None:
        """Keeps them. One whose image has been removed while it was drawn goes at once.

        store: of the gallery, to ask after the commit: whoever removes an image does so before it looks here.
        """
        rows = [(one.id, one.side, one.pixels, one.sealed) for one in drawn]
        with self._turn, sentences(self._directory):
            with transaction(self._connection):
                self._connection.executemany(
                    "INSERT OR REPLACE INTO thumbnail (id, side, pixels, sealed) VALUES (?, ?, ?, ?)", rows
                )
                if self._most is not None:
                    oldest = "SELECT max(number) FROM thumbnail"
                    self._connection.execute(f"DELETE FROM thumbnail WHERE number <= ({oldest}) - ?", (self._most,))
            ids = {row[0] for row in rows}
            _drop(self._connection, ids - store.records(list(ids)).keys())


def tidy(store: Store) -> None:
    """Drops those of images that are no longer in the gallery, from every byte of the file; all of a damaged one.

    For whoever may write. Raises BadGallery when somebody keeps the file busy for 5 s; the same call again goes on.
    """
    with sentences(store.directory):
        try:
            with _there(store.directory) as connection:
                if connection is not None:
                    _drop(connection, _strays(connection, store))
                    if _version(connection) == _SHRINKING:
                        rewrite(connection)
                        connection.execute(f"PRAGMA user_version = {_WHOLE}")
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            delete(store.directory)


def problems(store: Store) -> list[str]:
    """What is wrong: one sentence each."""
    mended = "`cbmir verify --repair` mends that"
    with sentences(store.directory):
        try:
            with _there(store.directory) as connection:
                if connection is None:
                    return []
                whole = connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
                n_strays = len(_strays(connection, store)) if whole else 0
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            whole, n_strays = False, 0
    if not whole:
        return [f"{store.directory / FILE} is damaged; {mended}"]
    return [f"{n_strays} images have thumbnails and are not in the gallery; {mended}"] if n_strays else []


def sealed_of(directory: Path, ids: Sequence[str]) -> list[bytes]:
    """The sealed pictures of some images; none of a damaged file, which `tidy` deletes."""
    with sentences(directory):
        try:
            with _there(directory) as connection:
                if connection is None:
                    return []
                rows = where_in(connection, "SELECT sealed FROM thumbnail WHERE id IN", ids)
                return [bytes(sealed) for (sealed,) in rows]
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            return []


def delete(directory: Path) -> None:
    """All of them, with what SQLite keeps beside them."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        (directory / f"{FILE}{suffix}").unlink(missing_ok=True)


def _connected(place: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(place, isolation_level=None, timeout=_BUSY_S, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes is drawn again
        connection.execute("PRAGMA secure_delete = ON")
        if _version(connection) == 0:
            with transaction(connection):
                connection.execute(
                    """CREATE TABLE IF NOT EXISTS thumbnail (number INTEGER PRIMARY KEY, id TEXT NOT NULL,
                    side INTEGER NOT NULL, pixels TEXT NOT NULL, sealed BLOB NOT NULL, UNIQUE (id, side))"""
                )
                connection.execute(f"PRAGMA user_version = {_WHOLE}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _there(directory: Path) -> Iterator[sqlite3.Connection | None]:
    """The file, where there is one."""
    if not (directory / FILE).exists():
        yield None
        return
    with closing(_connected(directory / FILE)) as connection:
        yield connection


def _strays(connection: sqlite3.Connection, store: Store) -> set[str]:
    return {row[0] for row in connection.execute("SELECT DISTINCT id FROM thumbnail")} - set(store.ids())


def _drop(connection: sqlite3.Connection, ids: Iterable[str]) -> None:
    rows = [(record_id,) for record_id in ids]
    if not rows:
        return
    with transaction(connection):
        connection.executemany("DELETE FROM thumbnail WHERE id = ?", rows)
        connection.execute(f"PRAGMA user_version = {_SHRINKING}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
