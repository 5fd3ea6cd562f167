"""Records, files and features as rows of the database, and back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from ..types import Float32, Record
from .entries import StoredFile

RECORD = """id, patient, study, series, frame_index, modality, source, labels, predicted, probability,
    attributes, provenance, pixel_digest"""
FILE = ", ".join(StoredFile._fields)
FILE_OF_F = ", ".join(f"f.{column}" for column in StoredFile._fields)

DUE = "content = '', mtime_ns = -1"
"""Makes a file count as changed: nothing on disk has this time and content."""

_AT_ONCE = 500  # SQLite allows a limited number of parameters

Item = TypeVar("Item")


def chunks(items: Iterable[Item], size: int = _AT_ONCE) -> Iterator[list[Item]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def where_in(connection: sqlite3.Connection, sql: str, values: Iterable[Any]) -> Iterator[Any]:
    """The rows of a statement that ends in `IN`, for any number of values."""
    for some in chunks(values):
        yield from connection.execute(f"{sql} ({', '.join('?' * len(some))})", some)


def touch(connection: sqlite3.Connection, files: Iterable[StoredFile]) -> None:
    """New sizes and times of files whose content is the same, unless they have become due meanwhile."""
    rows = [(file.size, file.mtime_ns, file.name, file.content) for file in files]
    connection.executemany("UPDATE file SET size = ?, mtime_ns = ? WHERE name = ? AND content = ?", rows)


def make_due(connection: sqlite3.Connection, waited_for: str, values: Sequence[Any]) -> None:
    """Files that waited, as duplicates, behind the records of these are looked at again at the next run.

    waited_for: a condition on the record r.
    """
    connection.execute(
        f"UPDATE file SET {DUE} WHERE number IN (SELECT d.file FROM duplicate d JOIN record r ON r.id = d.id "
        f"WHERE {waited_for})",
        values,
    )


def row_of(record: Record) -> tuple[Any, ...]:
    """Values in the order of RECORD."""
    return (
        record.id, record.patient, record.study, record.series, record.frame_index, record.modality,
        record.source, _json(record.labels), record.predicted, record.probability,
        _json(record.attributes), _json(record.provenance), record.pixel_digest,
    )  # fmt: skip


def record_of(row: Sequence[Any]) -> Record:
    values = list(row)
    values[7], values[10], values[11] = json.loads(row[7]), json.loads(row[10]), json.loads(row[11])
    return Record(*values)


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True)


def blob_of(values: Float32) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()


def vector_of(blob: bytes) -> Float32:
    return np.frombuffer(blob, "<f4").astype(np.float32, copy=False)
