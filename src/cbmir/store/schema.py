"""The schema of the database, as numbered migrations.

A change of schema is a new entry at the end of MIGRATIONS, never an edit of an old one. Statements run in one
transaction; a function runs outside of any, and must be one that can be run twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

Migration = tuple[str, ...] | Callable[[sqlite3.Connection], None]


def scrub(connection: sqlite3.Connection) -> None:
    """Overwrites unused bytes of the database and of its log, where older versions left paths in plain text."""
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("VACUUM")
    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise sqlite3.OperationalError("database is locked")


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
    scrub,
    # 4: under which limits a file failed, so that larger ones are a reason to look again
    (
        "ALTER TABLE file ADD COLUMN timeout_s REAL NOT NULL DEFAULT 0",
        "ALTER TABLE file ADD COLUMN memory_bytes INTEGER NOT NULL DEFAULT 0",
    ),
)
