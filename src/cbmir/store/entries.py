"""What goes into a store and comes out of it, beside records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import BadGallery, Outcome
from ..sources import path_of
from ..types import Float32, Record

OWNERS = ("patient", "study", "series")


@dataclass(frozen=True)
class StoredFile:
    """A file of a source as it was when it was last looked at.

    root: folder of the source, absolute; shown: the path below it. told: digest of what the source said about the
    file (labels, patient); a file of which something else is told counts as changed. content_hash: sha256, hex.
    """

    root: str
    shown: str
    size: int
    mtime_ns: int
    content_hash: str
    told: str
    outcome: Outcome
    reason: str | None = None

    @property
    def path(self) -> Path:
        """Where the file was."""
        return path_of(self.root, self.shown)


@dataclass(frozen=True)
class Entry:
    """A file and what came out of it: records, and per layer one row of features for each.

    features: layer -> float32 (n_records, dim). posterior: float32 (n_records, K) or None.
    """

    file: StoredFile
    records: tuple[Record, ...] = ()
    features: Mapping[str, Float32] = field(default_factory=dict)
    posterior: Float32 | None = None


@dataclass(frozen=True)
class Added:
    """What a write changed. duplicates: (id, shown) of images that another file had brought before."""

    added: int
    replaced: int
    duplicates: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Block:
    """Consecutive records of a layer in (class, id) order, with their features float32 (n, dim)."""

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    owners: Mapping[str, tuple[str | None, ...]]  # patient, study, series
    features: Float32


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
