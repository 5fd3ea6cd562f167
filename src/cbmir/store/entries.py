"""What goes into a store and comes out of it, beside records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from ..errors import GIVING_IMAGES, BadGallery, Outcome
from ..types import Float32, Record

Unit = Literal["id", "patient", "study", "series"]
"""What is removed as a whole: an image, or all images of one owner."""


class StoredFile(NamedTuple):
    """A file of a source as it was when it was last looked at. Nothing here tells where it is but `place`, sealed.

    name, folder: keyed digests of where the file is and of the folder of its source; handle: how reports call it.
    place: sealed (privacy.py); empty for a file of which a gallery of version 1 knew. content: keyed digest of the
    bytes, "" when they were not read. told: digest of what the source said about the file (labels, patient); a file
    of which something else is told counts as changed. reason: why it gave no images, or fewer than it might.
    attempts: how often the same reader has looked at the same file and failed; reader: which version of the program;
    timeout_s, memory_bytes: what it allowed the decoder.
    """

    name: str
    folder: str
    handle: str
    place: bytes
    size: int
    mtime_ns: int
    content: str
    told: str
    outcome: Outcome
    reason: str | None = None
    attempts: int = 1
    reader: str = ""
    timeout_s: float = 0
    memory_bytes: int = 0


Gone = Callable[[StoredFile], bool]
"""Whether a file is no longer where it was, or has changed since it was looked at. May look at the disk."""


@dataclass(frozen=True)
class Entry:
    """A file and what came out of it: records, and per layer one row of features for each.

    features: layer -> float32 (n_records, dim). posterior: float32 (n_records, K) or None.
    """

    file: StoredFile
    records: tuple[Record, ...] = ()
    features: Mapping[str, Float32] = field(default_factory=dict)
    posterior: Float32 | None = None

    @property
    def keeps_records(self) -> bool:
        """A file that has become unreadable keeps the images it gave before."""
        return not self.records and self.file.outcome not in GIVING_IMAGES


@dataclass(frozen=True)
class Added:
    """What a write changed.

    replaced: records lost by files that gave others. moved: images that went over from a file that is gone or has
    changed. duplicates: (id, handle) of images that another file had brought before; conflicts: the ids of those that
    show other pixels. pixel_duplicates: (id, id) of an image and of one with other id and the same pixels, there
    before; skipped: how many of these were left out for it. erased: how many images were left out since they, or all
    of their owner, were removed for good.
    """

    added: int = 0
    replaced: int = 0
    moved: int = 0
    skipped: int = 0
    duplicates: tuple[tuple[str, str], ...] = ()
    conflicts: tuple[str, ...] = ()
    pixel_duplicates: tuple[tuple[str, str], ...] = ()
    erased: int = 0


@dataclass(frozen=True)
class Block:
    """Consecutive records of a layer in (class, id) order, with their features float32 (n, dim)."""

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    owners: Mapping[str, tuple[str | None, ...]]  # patient, study, series
    features: Float32


@dataclass(frozen=True)
class Removed:
    """What was removed: ids of images, handles of the files that were forgotten with them (both in order), how many of
    each. unknown: the values asked for that nothing belonged to.
    """

    ids: tuple[str, ...] = ()
    handles: tuple[str, ...] = ()
    n_records: int = 0
    n_files: int = 0
    unknown: tuple[str, ...] = ()


class Pending(NamedTuple):
    """A file with images (ids, in the order of their frames) that lack features of the next encoder. number: where to
    go on after it."""

    number: int
    file: StoredFile
    ids: tuple[str, ...]


ProblemKind = Literal["database", "index", "orphan", "record", "features", "staged"]
"""database: pages of it; only a backup helps. index: what SQLite finds rows by; made again. orphan: rows that belong to
nothing; deleted. record: columns of a record; features: of the current encoder; both dropped, and their files due.
staged: features of another encoder; deleted, and made again by the next re-embedding."""


@dataclass(frozen=True)
class Problem:
    """Something wrong inside a store, in one sentence. ids: of the images it is about, where it is about images."""

    sentence: str
    kind: ProblemKind
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Repaired:
    """dropped: ids of the images that were dropped, in order; n_due: how many files the next index run reads again."""

    dropped: tuple[str, ...] = ()
    n_due: int = 0


def check_entry(entry: Entry, layers: Mapping[str, int]) -> None:
    if not entry.records:
        return
    for layer, dim in layers.items():
        features = entry.features.get(layer)
        if features is None or features.shape != (len(entry.records), dim):
            raise BadGallery(f"the gallery wants {dim} features of layer {layer} for every image")
        norms = np.einsum("ij,ij->i", features, features, dtype=np.float32)
        if not np.isfinite(norms).all():
            raise BadGallery(f"the encoder gave features of layer {layer} that are not finite numbers")
