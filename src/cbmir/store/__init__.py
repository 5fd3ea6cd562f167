"""The record of truth: files, records and features in SQLite. Knows no torch; the only package with SQL.

Write-ahead log with synchronous=FULL: what `add` has returned from survives a kill and a power cut. Many processes
read while one writes. The schema is in schema.py.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ..errors import BadGallery
from . import checks, removal, staging
from .backup import write_backup
from .changes import forget_changes, move_on
from .database import connect_existing, create_database, sentences, take_lock, transaction
from .entries import Added, Block, Entry, Gone, Pending, Problem, Removed, Repaired, StoredFile, Unit
from .owners import owners_that_left
from .reading import Reader
from .removal import Digests
from .rows import touch
from .schema import empty_log, rewrite
from .staging import State
from .survey import Survey
from .writing import Writer

__all__ = [
    "Added", "Block", "Digests", "Entry", "Gone", "Pending", "Problem", "Removed", "Repaired", "State",
    "Store", "StoredFile", "Survey", "Unit",
]  # fmt: skip


class Store(Reader):
    """Opened with `create` or `open`; closes its connection at the end of a `with`. What can be asked is in Reader."""

    def __init__(self, directory: Path, connection: sqlite3.Connection) -> None:
        super().__init__(directory, connection)
        self._writer: sqlite3.Connection | None = None
        self._turn = threading.Lock()  # of this store and its surveys, which write from other threads

    @classmethod
    def create(
        cls, directory: Path, layers: Mapping[str, int], meta: Mapping[str, Any], *, card: Mapping[str, Any]
    ) -> Store:
        """A new, empty store in a folder that is not there or empty. layers: name -> dim, the default first; card: what
        is to be known of their encoder.
        """
        rows = [(key, json.dumps(value)) for key, value in {"generation": 0, "log_from": 0, **meta}.items()]

        def fill(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
            staging.insert_encoder(connection, "current", card, layers)

        create_database(directory, list(layers.values()), fill)
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path, *, any_thread: bool = False) -> Store:
        """A store that is there; an older one is brought to today's schema. One that cannot be written can be read.

        any_thread: it may be used in other threads than this one, in one at a time.
        """
        return cls(directory, connect_existing(directory, any_thread=any_thread))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the right to write, which only one process has at a time; may be entered again inside.

        Raises BadGallery at once when another has it. The lock is one of SQLite's on a file of its own, so the
        system releases it with the process, however that ends.
        """
        if self._writer is not None:
            yield
            return
        if not self.writable:
            raise BadGallery(f"the gallery {self.directory} is read-only here: it can be searched, and not changed")
        self._writer = take_lock(self.directory)
        try:
            yield
        finally:
            self._writer.close()
            self._writer = None

    def add(
        self,
        entries: Iterable[Entry],
        *,
        gone: Gone | None = None,
        skip_same_pixels: bool = False,
        erased: Digests | None = None,
        encoder: int | None = None,
    ) -> Added:
        """Writes files with their records and features in one transaction; durable when it returns.

        A file known before loses its old records first, unless it gives none now because it could not be read. A
        record whose id another file has brought goes over to the new file when the other is gone or has changed; else
        it is left out and noted as a duplicate. gone: tells which files have, none by default. skip_same_pixels: a
        record whose pixels are there under another id is left out too, and takes its place when that one's file is
        gone. erased: digests of a record; it is left out when any is of something that was removed. encoder: the number
        of the encoder that made the features; raises BadGallery when it is no longer the current one.
        """
        entries = list(entries)
        with self.writing(), sentences(self.directory):
            left = owners_that_left(self._connection, entries, gone, of_pixels=skip_same_pixels) if gone else set()
            with self._turn, transaction(self._connection):
                if encoder not in (None, staging.number_of(self._connection, "current")):
                    raise BadGallery(f"the gallery {self.directory} has another encoder now; open it again")
                layers = staging.layers_of(self._connection, "current")
                writer = Writer(self._connection, layers, left, skip_same_pixels, erased)
                for entry in entries:
                    writer.put(entry)
                if writer.touched:
                    move_on(self._connection, writer.touched)
        return writer.result()

    def touch(self, files: Iterable[StoredFile]) -> None:
        """Remembers new sizes and times of files whose content is the same."""
        with self._change():
            touch(self._connection, files)

    @contextmanager
    def survey(self) -> Iterator[Survey]:
        """For whoever walks through a source, also in another thread. Best inside `writing`."""
        with closing(Survey(self.directory, self._turn)) as survey:
            yield survey

    def remove(self, unit: Unit, values: Sequence[str], digests: Digests) -> Removed:
        """Removes images: these ids, or all images of these patients, studies or series. Durable when it returns.

        Their records, features of every encoder and notes of duplicates go, and files that are left without an image,
        also of those that had the same images and came later. digests: of each record, remembered so that `add` knows
        it again. The ids stay in the log of changes, and bytes in SQLite's files, until `scrub(smaller=True)`.
        """
        with self._change():
            return removal.remove(self._connection, unit, values, digests)

    def readmit(self) -> int:
        """Forgets what is not to come back, and how many digests that were; the next index run brings it back."""
        with self._change():
            return removal.readmit(self._connection)

    def scrub(self, upto_generation: int | None = None, *, smaller: bool = False) -> None:
        """Empties SQLite's log, which holds what was removed; in the database that was written over at once.

        upto_generation: the log of changes forgets what was touched up to it; None: nothing. smaller: the database is
        written anew, without room for what was removed. Only then is that in no byte any more: where SQLite has moved
        rows to another page, it leaves pieces of them between the others of the old one. It takes as long as reading
        and writing all of it, and its place once more in the log and once in the folder for temporary files. Raises
        BadGallery when somebody goes on reading for 5 s; then old bytes may still be in the log.
        """
        with self.writing():
            staging.sweep(self._connection, self._change)
            if upto_generation is not None:
                with self._change():
                    forget_changes(self._connection, upto_generation)
            with self._turn, sentences(self.directory):
                try:
                    (rewrite if smaller else empty_log)(self._connection)
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error):
                        raise
                    raise BadGallery(
                        f"somebody goes on reading the gallery {self.directory}, so that removed bytes may still be in "
                        "its log; try again when nobody does"
                    ) from None

    def begin_next(self, card: Mapping[str, Any], layers: Mapping[str, int]) -> None:
        """Makes room for the features of another encoder beside those of the current one.

        Raises BadGallery when there is a next encoder already, or a previous one is still kept.
        """
        with self.writing():
            staging.sweep(self._connection, self._change)
            with self._change():
                staging.begin_next(self._connection, card, layers)

    def stage_previous(self) -> None:
        """The previous encoder becomes the next one: what it lacks (images that came since) is pending."""
        with self._change():
            staging.stage_previous(self._connection)

    def pending(self, limit: int, after: int = 0) -> list[Pending]:
        """Up to so many files, with a number above `after`, in this order, that have images without features of the
        next encoder. An index run between two calls may add to those before: begin again until there are none.
        """
        with sentences(self.directory):
            return staging.pending(self._connection, limit, after)

    def put_next(self, entries: Iterable[Entry]) -> list[str]:
        """Writes features, posteriors and predicted classes of the next encoder, in one transaction; durable when it
        returns. Gives the ids that were written.

        An image is passed over when the gallery does not have it from a file of this name and content: it was removed,
        or has changed, since the file was read.
        """
        with self._change():
            return staging.put_next(self._connection, entries)

    def audit_next(self) -> list[str]:
        """The ids that lack features of any layer of the next encoder, or its opinion; in order."""
        return self._audit("next")

    def audit_previous(self) -> list[str]:
        """The same for the previous encoder: images that came since."""
        return self._audit("previous")

    def swap_next(self) -> None:
        """The next encoder becomes the current one, which is kept as the previous one. In one transaction: features,
        opinions, classes of records, layers and card are those of the one or of the other.

        Raises BadGallery when any image lacks something (audit_next).
        """
        with self._change():
            staging.swap(self._connection, "next")

    def swap_back(self) -> None:
        """The previous encoder and the current one change places.

        Raises BadGallery when any image lacks something of it: stage_previous, and make that first.
        """
        with self._change():
            staging.swap(self._connection, "previous")

    def drop_next(self) -> None:
        """Forgets the next encoder and its features."""
        self._forget("next")

    def forget_previous(self) -> None:
        """Forgets the previous encoder and its features. The database gets smaller with `scrub(smaller=True)`."""
        self._forget("previous")

    def backup(self, file: Path) -> None:
        """Writes the store as it is now to one file, a database whole in itself, while others go on writing.

        It takes its name when it is whole and on the disk. Bytes that are no longer used do not come along.
        """
        with sentences(self.directory):
            write_backup(self._connection, file)

    def problems(self) -> list[Problem]:
        """What is wrong inside the store; empty when all is well. Reads all of it."""
        with closing(connect_existing(self.directory)) as connection:
            return checks.problems(connection)

    def repair(self, problems: Iterable[Problem]) -> Repaired:
        """Mends what can be mended: see ProblemKind. What is dropped comes back with the next index run, if its file is
        still there.
        """
        with self.writing():
            with closing(connect_existing(self.directory)) as connection, sentences(self.directory), self._turn:
                repaired = checks.repair(connection, list(problems))
            staging.sweep(self._connection, self._change)  # which wants that no row belongs to nothing
            return repaired

    def _audit(self, state: State) -> list[str]:
        with sentences(self.directory):
            return staging.lacking(self._connection, state)

    def _forget(self, state: staging.Other) -> None:
        with self.writing():
            with self._change():
                staging.let_go(self._connection, state)
            staging.sweep(self._connection, self._change)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """One transaction, for whoever may write."""
        with self.writing(), sentences(self.directory), self._turn, transaction(self._connection):
            yield
