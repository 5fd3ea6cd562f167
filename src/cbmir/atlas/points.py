"""The map of a gallery as the gallery is now, and what of it lies in a part of the plane."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..index.matrix import Matrix
from ..types import Float32, Int
from . import FILE, Atlas, read_atlas

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1: left, top, right, bottom."""

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Points:
    """In the order of the file, so that any beginning covers the map evenly. positions: of the matrix, int64 (n,).

    groups: which of the classes each is of, int64 (n,); the class of those that have none is ''.
    """

    stamp: Stamp
    matrix: Matrix
    atlas: Atlas
    places: Float32
    positions: Int
    classes: tuple[str, ...]
    groups: Int

    @property
    def bounds(self) -> Box:
        """Of all of them."""
        if not len(self.places):
            return 0.0, 0.0, 1.0, 1.0
        (x0, y0), (x1, y1) = self.places.min(axis=0).tolist(), self.places.max(axis=0).tolist()
        return x0, y0, x1, y1

    def within(self, box: Box | None, limit: int) -> tuple[int, Int]:
        """How many lie in a box, borders included, and the rows of at most so many of them, evenly spread."""
        if box is None:
            return len(self.places), np.arange(min(limit, len(self.places)))
        inside = ((self.places >= box[:2]) & (self.places <= box[2:])).all(axis=1)
        rows = np.flatnonzero(inside)
        return len(rows), rows[:limit]

    def ids(self, rows: Int) -> list[str]:
        return self.matrix.names(self.positions[rows])


def points_of(directory: Path, matrix: Matrix, known: Points | None = None) -> Points | None:
    """None where there is no map of this encoder. known: what was read earlier, which is given again while nothing has
    changed.
    """
    stamp = _stamp(directory)
    if stamp is None:
        return None
    if known is not None and known.stamp == stamp and known.matrix.generation == matrix.generation:
        return known
    atlas = read_atlas(directory)
    if atlas is None or (atlas.encoder, atlas.layer) != (matrix.base.encoder, matrix.layer):
        return None
    positions = atlas.positions_in(matrix)
    there = np.flatnonzero(positions >= 0)
    positions = positions[there]
    classes = matrix.columns["class"]
    groups = classes.codes[positions].astype(np.int64)
    names = (*classes.values, *([""] if (groups < 0).any() else []))
    groups[groups < 0] = len(classes.values)
    return Points(stamp, matrix, atlas, np.asarray(atlas.places[there]), positions, names, groups)


def _stamp(directory: Path) -> Stamp | None:
    try:
        status = os.stat(directory / FILE)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
