"""What a store knows of the files of a source, for whoever walks through the source while another adds."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from .database import connect_existing, sentences, transaction
from .entries import StoredFile
from .rows import FILE, chunks, make_due, touch, where_in

_UNSEEN_AT_ONCE = 1000
_WITHOUT_IMAGES = "NOT EXISTS (SELECT 1 FROM record WHERE record.file = file.number)"


class Survey:
    """Remembers which files it was asked about, in a temporary table: memory does not grow with them.

    It has a connection of its own and may be used in another thread than the store's, in one at a time. To write, the
    process must hold the right to (Store.writing). turn: held by whoever of this process writes: SQLite itself would
    wait for a long transaction of the store a few seconds only.
    """

    def __init__(self, directory: Path, turn: threading.Lock) -> None:
        self._directory = directory
        self._turn = turn
        self._connection = connect_existing(directory, any_thread=True)
        with sentences(directory):
            self._connection.execute("CREATE TEMP TABLE seen (number INTEGER PRIMARY KEY)")
            newest = self._connection.execute("SELECT coalesce(max(number), 0) FROM file").fetchone()
        self._newest: int = newest[0]  # files that come later are no news of this source

    def close(self) -> None:
        self._connection.close()

    def lookup(self, names: Sequence[str]) -> dict[str, StoredFile]:
        """The files of these names, which have been seen now; one that is not known is absent."""
        found: dict[str, StoredFile] = {}
        numbers = []
        with sentences(self._directory):
            for number, *row in where_in(self._connection, f"SELECT number, {FILE} FROM file WHERE name IN", names):
                numbers.append((number,))
                found[row[0]] = StoredFile._make(row)
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT OR IGNORE INTO seen VALUES (?)", numbers)
            self._connection.execute("COMMIT")
        return found

    def touch(self, files: Sequence[StoredFile]) -> None:
        """Remembers new sizes and times of files whose content is the same."""
        with sentences(self._directory), self._turn, transaction(self._connection):
            touch(self._connection, files)

    def unseen(self, folder: str) -> Iterator[StoredFile]:
        """Files of a source's folder that were known at the beginning and were not asked about."""
        last = 0
        sql = f"""SELECT number, {FILE} FROM file WHERE folder = ? AND number > ? AND number <= ?
            AND number NOT IN (SELECT number FROM seen) ORDER BY number LIMIT {_UNSEEN_AT_ONCE}"""
        while True:
            with sentences(self._directory):
                rows = self._connection.execute(sql, (folder, last, self._newest)).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield from (StoredFile._make(row[1:]) for row in rows)

    def settle(self, gone: Sequence[StoredFile]) -> None:
        """Files that are gone: those that gave no images are forgotten; whoever waited behind the images of others,
        with the same images, is looked at again at the next run and takes their place.
        """
        for some in chunks(file.name for file in gone):
            marks = ", ".join("?" * len(some))
            numbers = f"SELECT number FROM file WHERE name IN ({marks})"
            with sentences(self._directory), self._turn, transaction(self._connection):
                make_due(self._connection, f"r.file IN ({numbers})", some)
                self._connection.execute(
                    f"DELETE FROM file WHERE name IN ({marks}) AND number NOT IN (SELECT file FROM record)", some
                )

    def folders(self) -> list[str]:
        """The folders of all sources, as StoredFile.folder has them."""
        with sentences(self._directory):
            rows = self._connection.execute("SELECT DISTINCT folder FROM file").fetchall()
        return [row[0] for row in rows]

    def without_images(self, folder: str) -> StoredFile | None:
        """A file of a source's folder that has no images, and of which is known where it is; None when all have."""
        sql = f"SELECT {FILE} FROM file WHERE folder = ? AND place != x'' AND {_WITHOUT_IMAGES} LIMIT 1"
        with sentences(self._directory):
            row = self._connection.execute(sql, (folder,)).fetchone()
        return row and StoredFile._make(row)

    def forget(self, folder: str) -> None:
        """The files of a source's folder that have no images."""
        with sentences(self._directory), self._turn, transaction(self._connection):
            self._connection.execute(f"DELETE FROM file WHERE folder = ? AND {_WITHOUT_IMAGES}", (folder,))
