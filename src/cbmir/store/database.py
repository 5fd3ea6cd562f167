"""The database file: how it is made, brought to today's schema (schema.py), opened, locked, and its errors told."""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from ..errors import BadGallery
from ..files import GALLERY_DATABASE
from .rows import crc_of, group_of
from .schema import MIGRATIONS, Migration

_LOCK = "writer.lock"
_UNFINISHED = GALLERY_DATABASE + ".new"
_BUSY_S = 5  # how long a write waits for a reader that finishes the log, before it gives up
_PAGE_SIZES = (4096, 8192, 16384)  # of 32,768 the log writes so much more that adding gets slower


def page_size(dims: Sequence[int]) -> int:
    """The page size that wastes least for rows of features of these dims (float32), small before large.

    A row that fits a page shares it with as many as fit whole; a longer one keeps a part there and fills pages of
    its own with the rest. Source: sqlite.org/fileformat2.html, sections 1.6 and 1.5 (local payload).
    """
    return min(_PAGE_SIZES, key=lambda size: (sum(_disk_bytes(4 * dim + 22, size) for dim in dims), size))


def _disk_bytes(payload: int, page: int) -> float:
    largest, smallest = page - 35, (page - 12) * 32 // 255 - 23
    if payload <= largest:
        return page / ((page - 8) // (payload + 4))
    rest = smallest + (payload - smallest) % (page - 4)
    local = rest if rest <= largest else smallest
    overflow_pages = -(-(payload - local) // (page - 4))
    return overflow_pages * page + page / ((page - 8) // (local + 8))


def create_database(directory: Path, dims: Sequence[int], fill: Callable[[sqlite3.Connection], None]) -> None:
    """A database for rows of features of these dims. It gets its name when it is whole: `fill` has the last word.

    Raises BadGallery when there is one already, or the folder holds anything else.
    """
    check_vacant(directory)
    with sentences(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with closing(take_lock(directory)):
            check_vacant(directory)
            new = directory / _UNFINISHED
            new.unlink(missing_ok=True)
            with closing(_connect(new, "rwc")) as connection:
                connection.execute(f"PRAGMA page_size = {page_size(dims)}")
                migrate(connection)
                with transaction(connection):
                    fill(connection)
            put_in_place(new, directory / GALLERY_DATABASE)


def check_vacant(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise BadGallery("a gallery is a folder, and --gallery names a file")
    if (directory / GALLERY_DATABASE).exists():
        raise BadGallery(f"there is a gallery in {directory} already")
    names = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    if any(not name.startswith((_LOCK, _UNFINISHED)) for name in names):
        raise BadGallery(f"{directory} holds other files; a gallery needs a folder of its own")


def connect_existing(directory: Path, *, any_thread: bool = False) -> sqlite3.Connection:
    """Opens for reading only what cannot be written. Raises BadGallery when there is none that can be used.

    any_thread: it may be used in other threads than this one, in one at a time.
    """
    if not (directory / GALLERY_DATABASE).is_file():
        raise BadGallery(f"there is no gallery in {directory}; make one with `cbmir index`")
    writable = is_writable(directory)
    with sentences(directory):
        connection = _connect(directory / GALLERY_DATABASE, "rw" if writable else _reading_mode(directory), any_thread)
        try:
            if writable:
                connection.execute("PRAGMA journal_mode = WAL")
            _bring_up(directory, connection, writable)
        except BaseException:
            connection.close()
            raise
    return connection


def is_writable(directory: Path) -> bool:
    """Whether a gallery that is there may be changed: SQLite wants to write beside the database, too."""
    return os.access(directory, os.W_OK) and os.access(directory / GALLERY_DATABASE, os.W_OK)


def _reading_mode(directory: Path) -> str:
    """Without a log nobody is writing now, and SQLite needs no file to share it; with one it must be taken along."""
    try:
        n_bytes = (directory / f"{GALLERY_DATABASE}-wal").stat().st_size
    except FileNotFoundError:
        n_bytes = 0
    return "ro" if n_bytes else "ro&immutable=1"


def _bring_up(directory: Path, connection: sqlite3.Connection, writable: bool) -> None:
    version = _version(connection)
    if version == 0:
        raise BadGallery(f"{directory / GALLERY_DATABASE} is no database of cbmir; delete it and index again")
    if version > len(MIGRATIONS):
        raise BadGallery(f"the gallery in {directory} was made by a newer cbmir; use that one")
    if version < len(MIGRATIONS) and not writable:
        raise BadGallery(f"the gallery in {directory} was made by an older cbmir: open it once where it can be written")
    if version < len(MIGRATIONS):
        with closing(take_lock(directory)):  # two at once would both count the steps
            migrate(connection)


def migrate(connection: sqlite3.Connection) -> None:
    """Brings the schema to today's, step by step; cut short, it goes on with the step it was at."""
    for number, step in enumerate(MIGRATIONS, 1):
        if _version(connection) < number:
            _apply(connection, number, step)


def _apply(connection: sqlite3.Connection, number: int, step: Migration) -> None:
    if callable(step):
        step(connection)
        connection.execute(f"PRAGMA user_version = {number}")
        return
    connection.execute("PRAGMA foreign_keys = OFF")  # or a table that is made anew would take others' rows with it
    with transaction(connection):
        for statement in step:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
    connection.execute("PRAGMA foreign_keys = ON")


def take_lock(directory: Path) -> sqlite3.Connection:
    """The right to write, held until the connection closes or the process ends, however that ends.

    It is one of SQLite's locks on a file of its own. Raises BadGallery at once when another holds it.
    """
    with sentences(directory):
        writer = sqlite3.connect(directory / _LOCK, isolation_level=None, timeout=0)
    try:
        with sentences(directory):
            writer.execute("BEGIN EXCLUSIVE")
    except BadGallery:
        writer.close()
        raise
    return writer


def put_in_place(new: Path, file: Path) -> None:
    """Gives a file its name in one move, when it is on the disk; the name then stays through a power cut, too."""
    _sync(new)
    os.replace(new, file)
    _sync(file.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def sentences(directory: Path) -> Iterator[None]:
    """Errors of SQLite and of the disk, as one sentence for the person who can act."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise BadGallery(f"another process is writing to the gallery {directory}; try again later") from None
        if "decode" in str(error):  # the error holds what could not be read, which may be anybody's
            raise BadGallery(f"the gallery {directory} is damaged; `cbmir verify --repair` mends that") from None
        if "unable to open" in str(error) and not is_writable(directory):
            raise BadGallery(f"the gallery {directory} holds a log: open it once where it can be written") from None
        raise BadGallery(f"the gallery {directory} cannot be used: {error}") from None
    except sqlite3.DatabaseError as error:
        raise BadGallery(f"the gallery {directory} is damaged ({error}); restore it or index again") from None
    except OSError as error:
        raise BadGallery(f"the gallery {directory} cannot be used: {error.strerror or error}") from None


def _connect(path: Path, mode: str, any_thread: bool = False) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_S, check_same_thread=not any_thread)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # writes zeros over what is deleted; costs nothing one can measure
    connection.create_function("crc_of", -1, crc_of, deterministic=True)
    connection.create_function("crc_of_bytes", 1, zlib.crc32, deterministic=True)
    connection.create_function("group_of", 2, group_of, deterministic=True)
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
