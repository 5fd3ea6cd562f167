"""The schema of the database, as numbered migrations.

A change of schema is a new entry at the end of MIGRATIONS, never an edit of an old one. Statements run in one
transaction; a function runs outside of any, and must be one that can be run twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from .rows import CHECKED

Migration = tuple[str, ...] | Callable[[sqlite3.Connection], None]


_ROWS_AT_ONCE = 2000  # features of 4096 numbers then pass through the log in pieces of 32 megabytes


def rewrite(connection: sqlite3.Connection) -> None:
    """All of the database anew, without unused bytes: what was deleted while nothing was written over it goes."""
    connection.execute("VACUUM")
    empty_log(connection)


def empty_log(connection: sqlite3.Connection) -> None:
    """Of what it has brought to the database. Raises OperationalError, "database is locked", when somebody reads on."""
    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise sqlite3.OperationalError("database is locked")


def fill_checksums(connection: sqlite3.Connection) -> None:
    """Of what was written before there were any. Every statement is a transaction: the log stays short."""
    for table, checksum in (("record", f"crc_of({CHECKED})"), ("feature", "crc_of_bytes(data)")):
        last = connection.execute(f"SELECT coalesce(max(rowid), 0) FROM {table}").fetchone()[0]
        for start in range(0, last, _ROWS_AT_ONCE):
            connection.execute(
                f"UPDATE {table} SET crc = {checksum} WHERE rowid > ? AND rowid <= ? AND crc IS NULL",
                (start, start + _ROWS_AT_ONCE),
            )


MIGRATIONS: tuple[Migration, ...] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE layer (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, dim INTEGER NOT NULL)",
        """CREATE TABLE file (
            number INTEGER PRIMARY KEY, root TEXT NOT NULL, shown TEXT NOT NULL,
            size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, content_hash TEXT NOT NULL,
            told TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT,
            UNIQUE (root, shown))""",
        """CREATE TABLE record (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
            file INTEGER NOT NULL REFERENCES file ON DELETE CASCADE, frame_index INTEGER NOT NULL,
            patient TEXT, study TEXT, series TEXT, class TEXT NOT NULL, modality TEXT, source TEXT,
            predicted TEXT, probability REAL,
            labels TEXT NOT NULL, attributes TEXT NOT NULL, provenance TEXT NOT NULL, posterior BLOB)""",
        "CREATE INDEX record_by_class ON record (class, id)",
        "CREATE INDEX record_by_file ON record (file)",
        "CREATE INDEX record_by_patient ON record (patient)",
        """CREATE TABLE feature (
            record INTEGER NOT NULL REFERENCES record ON DELETE CASCADE,
            layer INTEGER NOT NULL REFERENCES layer, data BLOB NOT NULL,
            PRIMARY KEY (record, layer))""",
        """CREATE TABLE duplicate (
            file INTEGER NOT NULL REFERENCES file ON DELETE CASCADE, id TEXT NOT NULL,
            PRIMARY KEY (file, id)) WITHOUT ROWID""",
        "CREATE INDEX duplicate_by_id ON duplicate (id)",
    ),
    # 2: files are known by keyed digests, their places are sealed. What version 1 knew of files is forgotten (it had
    # their paths as they are); the images stay, and belong to files of no place until they are found again.
    (
        """CREATE TABLE file_2 (
            number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, folder TEXT NOT NULL, handle TEXT NOT NULL,
            place BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, content TEXT NOT NULL,
            told TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT, attempts INTEGER NOT NULL, reader TEXT NOT NULL)""",
        """INSERT INTO file_2
            SELECT number, lower(hex(randomblob(16))), '', '', x'', 0, 0, '', '', outcome, NULL, 1, ''
            FROM file WHERE number IN (SELECT file FROM record)""",
        "DELETE FROM duplicate",
        "DROP TABLE file",
        "ALTER TABLE file_2 RENAME TO file",
        "CREATE INDEX file_by_folder ON file (folder)",
        "ALTER TABLE record ADD COLUMN pixel_digest TEXT",
        "CREATE INDEX record_by_pixels ON record (pixel_digest) WHERE pixel_digest IS NOT NULL",
    ),
    # 3: no path stays in an unused byte
    rewrite,
    # 4: under which limits a file failed, so that larger ones are a reason to look again
    (
        "ALTER TABLE file ADD COLUMN timeout_s REAL NOT NULL DEFAULT 0",
        "ALTER TABLE file ADD COLUMN memory_bytes INTEGER NOT NULL DEFAULT 0",
    ),
    # 5: several encoders in one store, of which one is current; checksums; a log of changes; what is not to come back
    (
        """CREATE TABLE encoder (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            state TEXT UNIQUE CHECK (state IN ('current', 'next', 'previous')), card TEXT NOT NULL)""",
        """INSERT INTO encoder (number, state, card)
            SELECT 1, 'current', coalesce((SELECT value FROM meta WHERE key = 'encoder'), '{}')
            WHERE EXISTS (SELECT 1 FROM meta)""",
        "DELETE FROM meta WHERE key = 'encoder'",
        "INSERT INTO meta SELECT 'log_from', value FROM meta WHERE key = 'generation'",
        """CREATE TABLE layer_5 (
            number INTEGER PRIMARY KEY, encoder INTEGER NOT NULL REFERENCES encoder, name TEXT NOT NULL,
            dim INTEGER NOT NULL, UNIQUE (encoder, name))""",
        "INSERT INTO layer_5 SELECT number, 1, name, dim FROM layer",
        "DROP TABLE layer",
        "ALTER TABLE layer_5 RENAME TO layer",
        "ALTER TABLE feature ADD COLUMN crc INTEGER",
        "ALTER TABLE record ADD COLUMN crc INTEGER",
        "ALTER TABLE file ADD COLUMN erased INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX record_by_study ON record (study) WHERE study IS NOT NULL",
        "CREATE INDEX record_by_series ON record (series) WHERE series IS NOT NULL",
        """CREATE TABLE opinion (
            record INTEGER NOT NULL REFERENCES record ON DELETE CASCADE,
            encoder INTEGER NOT NULL REFERENCES encoder, predicted TEXT, probability REAL, posterior BLOB,
            crc INTEGER NOT NULL, PRIMARY KEY (record, encoder)) WITHOUT ROWID""",
        "CREATE TABLE change (number INTEGER PRIMARY KEY, generation INTEGER NOT NULL, id TEXT NOT NULL)",
        "CREATE INDEX change_by_generation ON change (generation)",
        "CREATE TABLE erased (digest TEXT PRIMARY KEY) WITHOUT ROWID",
    ),
    # 6
    fill_checksums,
    # 7: until now what was deleted was not written over
    rewrite,
)
"""What the tables of 5 hold. encoder: the cards; state NULL: it is being forgotten, and its features are deleted bit by
bit. record: predicted, probability and posterior are those of the current encoder; opinion: those of the others.
crc: of data, of the columns CHECKED (rows.py), and of an opinion's last three. change: the ids that each generation
touched, of the generations after meta's log_from. erased: keyed digests of what was removed and is not to come back;
file.erased: how many images of a file were removed or left out for that.
"""
