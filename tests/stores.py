"""Entries of a store that are known by eye, for tests of the store."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cbmir.errors import Outcome
from cbmir.store import Entry, Store, StoredFile
from cbmir.types import Record

LAYERS = {"mean": 2, "corner": 3}
CARD = {"name": "toy"}


def new_store(directory: Path) -> Store:
    return Store.create(directory, LAYERS, {"note": "mine"}, card=CARD)


def file_named(name: str, outcome: Outcome = "decoded", **others: Any) -> StoredFile:
    file = StoredFile(name, "folder", f"{name}.dcm", b"sealed", 10, 20, "aa", "", outcome)
    return file._replace(**others)


def entry(
    name: str,
    *ids: str,
    label: str | None = "knee",
    predicted: str | None = None,
    outcome: Outcome = "decoded",
    value: float = 1.0,
    pixels: str | None = None,
    patient: str | None = None,
    study: str | None = None,
    series: str | None = None,
) -> Entry:
    """A file with one record per id; all its features are `value`. pixels: the digest of every record; patient: of
    every record, each one's own by default.
    """
    records = tuple(
        Record(
            id=record_id, patient=patient or f"patient of {record_id}", study=study, series=series, frame_index=frame,
            labels={} if label is None else {"class": label}, predicted=predicted, pixel_digest=pixels,
        )
        for frame, record_id in enumerate(ids)
    )  # fmt: skip
    return Entry(
        file_named(name, outcome),
        records,
        {layer: np.full((len(ids), dim), value, np.float32) for layer, dim in LAYERS.items()},
        np.full((len(ids), 2), 0.5, np.float32),
    )


def ids_of(store: Store, layer: str = "mean") -> list[str]:
    return [name for block in store.blocks(layer) for name in block.ids]


def is_due(store: Store, name: str) -> bool:
    """Nothing on disk has this time and content: the file counts as changed."""
    file = store.files_named([name])[name]
    return (file.mtime_ns, file.content) == (-1, "")


def bytes_of(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.iterdir()))


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """A real limit, as of a full disk: no file of this process may grow beyond it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
