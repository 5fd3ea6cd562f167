"""Records, files and features as rows of the database, and back."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from ..errors import BadGallery
from ..types import Float32, Record
from .entries import StoredFile

RECORD = """id, patient, study, series, frame_index, modality, source, labels, predicted, probability,
    attributes, provenance, pixel_digest"""
CHECKED = f"{RECORD}, class, file, posterior"
"""What the checksum of a record is of: all its columns but the number, which the features' own would not match."""
FILE = ", ".join(StoredFile._fields)
FILE_OF_F = ", ".join(f"f.{column}" for column in StoredFile._fields)

DUE = "content = '', mtime_ns = -1"
"""Makes a file count as changed: nothing on disk has this time and content."""

_AT_ONCE = 500  # SQLite allows a limited number of parameters

_COMPACT = json.JSONEncoder(separators=(",", ":"))  # json.dumps would make one anew for each row

Item = TypeVar("Item")


def chunks(items: Iterable[Item], size: int = _AT_ONCE) -> Iterator[list[Item]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def where_in(
    connection: sqlite3.Connection, sql: str, values: Iterable[Any], before: Sequence[Any] = ()
) -> Iterator[Any]:
    """The rows of a statement that ends in `IN`, for any number of values. before: parameters earlier in it."""
    for some in chunks(dict.fromkeys(values)):
        yield from connection.execute(f"{sql} ({', '.join('?' * len(some))})", [*before, *some])


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
        record.source, _json(record.labels), record.predicted, real(record.probability),
        _json(record.attributes), _json(record.provenance), record.pixel_digest,
    )  # fmt: skip


def record_of(row: Sequence[Any]) -> Record:
    """Of the columns RECORD. Raises BadGallery where they are damaged."""
    values = list(row)
    try:
        values[7], values[10], values[11] = json.loads(row[7]), json.loads(row[10]), json.loads(row[11])
    except ValueError:
        raise BadGallery(f"the record of image {row[0]} is damaged; `cbmir verify --repair` mends that") from None
    return Record(*values)


def told(text: str) -> Any:
    """What a store says of itself, in JSON. Raises BadGallery where that is damaged."""
    try:
        return json.loads(text)
    except ValueError:
        raise BadGallery("what the gallery says of itself is damaged; restore it or index again") from None


def group_of(labels: str, predicted: str | None) -> str:
    """Record.group, of the columns."""
    return json.loads(labels).get("class") or predicted or ""


def crc_of(*values: Any) -> int:
    """Checksum of the columns CHECKED: CRC-32 of them as a JSON list in ASCII without spaces, blobs in hexadecimal."""
    texts = [value.hex() if isinstance(value, bytes) else value for value in values]
    return zlib.crc32(_COMPACT.encode(texts).encode("ascii"))


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True)


def real(value: float | None) -> float | None:
    """A number as it comes back from the database, which knows no NaN."""
    return None if value is None or value != value else float(value)


def blob_of(values: Float32) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()


def feature_row(record: int, layer: int, values: Float32) -> tuple[int, int, bytes, int]:
    """record, layer, data, crc of the table feature. Numbers of the database; values: float32 (dim,)."""
    data = blob_of(values)
    return record, layer, data, zlib.crc32(data)


def is_whole(blob: Any, n_bytes: int) -> bool:
    """A flipped bit can make other bytes, or text, of it."""
    return isinstance(blob, bytes) and len(blob) == n_bytes


def vector_of(blob: bytes) -> Float32:
    return np.frombuffer(blob, "<f4").astype(np.float32, copy=False)
