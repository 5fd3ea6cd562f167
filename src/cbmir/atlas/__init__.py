"""The map of a gallery: every image as a point in the plane, alike ones close to each other, for people to wander in.

    DIR/atlas.arrays     (a file of arrays, index/arrays.py), derived from the default layer
        ids              bytes (n,), in an order of which any beginning covers the map evenly
        places           float32 (n, 2), the longer side of the map from 0 to 1
        landmarks        bool (n,): those that were laid out; the others were placed among them

Made at the end of an index run and of a change of encoder. What has changed since is placed among the landmarks, so
that the map stays as people know it; it is laid out anew under another encoder, and when half of it is new.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..index.arrays import Arrays, open_arrays, written
from ..index.matrix import Matrix, open_matrix
from ..store import Store
from ..store.database import sentences
from ..types import Bool, Float32, Int
from .layout import Land, Projection, agreement, by_chance, into_square, landmarks, lay_out, spread_first

FILE = "atlas.arrays"
LIBRARY = "scikit-learn"
NO_LIBRARY = f"there is no map of the gallery, for {LIBRARY} is not installed: `pip install 'cbmir[web]'` brings it"

_MOST_NEW = 0.5
"""Part of the images that may be new, or of the landmarks that may be gone, before all is laid out anew."""

State = Literal["made", "brought up to date", "unchanged", "missing"]


@dataclass(frozen=True)
class AtlasReport:
    """What became of the map. points: images on it. same_class: the share of the ten nearest images that are of an
    image's class, on the map and by all features, when it was laid out. note: a sentence where something is missing.
    """

    state: State
    points: int
    seconds: float
    same_class: dict[str, float] | None = None
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Atlas:
    """The file, as it was read. arrays: see the module."""

    generation: int
    encoder: int
    layer: str
    ids: npt.NDArray[np.bytes_]
    places: Float32
    landmarks: Bool
    laid_out: int
    same_class: dict[str, float]

    def kept(self, rows: Bool | Int) -> Atlas:
        """Some of its rows."""
        return replace(self, ids=self.ids[rows], places=self.places[rows], landmarks=self.landmarks[rows])

    def without(self, ids: Sequence[str]) -> Atlas:
        return self.kept(~np.isin(self.ids, np.array([name.encode() for name in ids]))) if ids else self

    def positions_in(self, matrix: Matrix) -> Int:
        """Of its rows in a matrix; -1 for what is not there."""
        return matrix.positions([name.decode() for name in self.ids.tolist()])


def read_atlas(directory: Path) -> Atlas | None:
    """The map of a gallery, whole; None where there is none."""
    file = open_arrays(directory / FILE)
    return None if file is None else _atlas_of(file)


def _atlas_of(file: Arrays) -> Atlas | None:
    try:
        header = {name: file.header[name] for name in ("generation", "encoder", "layer", "laid_out", "same_class")}
        atlas = Atlas(**header, ids=file["ids"], places=file["places"], landmarks=file["landmarks"])
    except (KeyError, ValueError):
        return None
    return atlas if len(atlas.ids) == len(atlas.places) == len(atlas.landmarks) else None


def bring_up_to_date(store: Store, layer: str) -> AtlasReport:
    """Makes the map of a gallery as the store is now. For whoever may write. layer: the default one.

    Nothing is computed for a gallery that is as it was; what is new in a known one is placed on the map it has.
    """
    started = time.monotonic()
    before = read_atlas(store.directory)
    if before is not None and (before.generation, before.encoder, before.layer) == (*_now(store), layer):
        return _report("unchanged", before, started)
    matrix = open_matrix(store, layer)
    touched = None if before is None else store.changes_since(before.generation)
    placed = None
    if before is not None and touched is not None and (before.encoder, before.layer) == (matrix.base.encoder, layer):
        placed = _placed(before, touched, matrix)
    if placed is not None:
        _write(store, placed)
        return _report("brought up to date", placed, started)
    try:
        made = _laid_out(matrix)
    except ImportError:
        delete(store.directory)  # that of another encoder
        return AtlasReport("missing", 0, round(time.monotonic() - started, 3), note=NO_LIBRARY)
    _write(store, made)
    return _report("made", made, started)


def _report(state: State, atlas: Atlas, started: float) -> AtlasReport:
    return AtlasReport(state, len(atlas.ids), round(time.monotonic() - started, 3), atlas.same_class)


def _now(store: Store) -> tuple[int, int | None]:
    return store.generation(), store.encoder_number()


def _laid_out(matrix: Matrix) -> Atlas:
    """All anew. Raises ImportError where that needs scikit-learn, and there is none."""
    rows = np.flatnonzero(matrix.live)
    ids, groups = _names(matrix, rows), matrix.columns["class"].codes[rows].astype(np.int64)
    chance = by_chance(name.decode() for name in ids.tolist())
    chosen = landmarks(chance, groups)
    features = matrix.index.features
    projection = Projection.of(features(rows[chosen])) if len(chosen) else Projection(*_nothing())
    projected = projection(features(rows[chosen])) if len(chosen) else np.empty((0, 0), np.float32)
    land = Land(projection, projected, lay_out(projected))
    places = land.place(rows, features)
    places[chosen] = land.places
    places = into_square(places)
    shares = agreement(places, lambda some: features(rows[some]), groups, chance) if len(rows) else (1.0, 1.0)
    same_class = {"map": round(shares[0], 4), "features": round(shares[1], 4)}
    marked = np.zeros(len(rows), np.bool_)
    marked[chosen] = True
    atlas = Atlas(matrix.generation, matrix.base.encoder, matrix.layer, ids, places, marked, len(rows), same_class)
    return atlas.kept(spread_first(places, chance))


def _nothing() -> tuple[Float32, Float32]:
    return np.zeros(0, np.float32), np.zeros((0, 0), np.float32)


def _placed(before: Atlas, touched: Sequence[str], matrix: Matrix) -> Atlas | None:
    """The map before, with what came since and without what has gone; None when too little of it is left."""
    stays = before.without(touched)
    stays = stays.kept(stays.positions_in(matrix) >= 0)
    rows = np.flatnonzero(matrix.live)
    is_new = np.ones(len(matrix.index), np.bool_)
    is_new[stays.positions_in(matrix)] = False
    new = rows[is_new[rows]]
    marks = int(stays.landmarks.sum())
    if len(new) > _MOST_NEW * len(rows) or len(rows) > before.laid_out / _MOST_NEW or marks < _least_marks(before):
        return None
    features = matrix.index.features
    at = stays.kept(stays.landmarks).positions_in(matrix)
    projection = Projection.of(features(at))
    land = Land(projection, projection(features(at)), stays.places[stays.landmarks])
    ids = np.r_[stays.ids, _names(matrix, new)]
    places = np.concatenate([stays.places, land.place(new, features)])
    order = spread_first(places, by_chance(name.decode() for name in ids.tolist()))
    marked = np.r_[stays.landmarks, np.zeros(len(new), np.bool_)]
    atlas = Atlas(
        matrix.generation, before.encoder, before.layer, ids, places, marked, before.laid_out, before.same_class
    )
    return atlas.kept(order)


def _least_marks(before: Atlas) -> int:
    return max(2, int(_MOST_NEW * min(before.laid_out, before.landmarks.sum())))


def _names(matrix: Matrix, rows: Int) -> npt.NDArray[np.bytes_]:
    return np.array([name.encode() for name in matrix.names(rows)] or np.empty(0, "S1"))


def prune(store: Store) -> None:
    """Takes what has changed or gone off the map, until the next index run places it. For whoever may write."""
    (store.directory / f"{FILE}.new").unlink(missing_ok=True)  # of a process that was killed
    if not (store.directory / FILE).exists():
        return
    atlas = read_atlas(store.directory)
    touched = None if atlas is None else store.changes_since(atlas.generation)
    if atlas is None or touched is None or atlas.encoder != store.encoder_number():
        delete(store.directory)
        return
    if touched:
        _write(store, replace(atlas.without(touched), generation=store.generation()))


def problems(store: Store) -> list[str]:
    """What is wrong with the file: a sentence each. Without one nothing is."""
    path = store.directory / FILE
    mended = "`cbmir verify --repair` deletes it, and the next `cbmir index` makes it again"
    if not path.exists():
        return []
    file = open_arrays(path)
    atlas = None if file is None else _atlas_of(file)
    if file is None or atlas is None:
        return [f"{path} is damaged; {mended}"]
    if damaged := file.damaged():
        return [f"{path}: {damaged[0]} does not match its checksum; {mended}"]
    if (atlas.generation, atlas.encoder) != _now(store):
        return []  # the next index run brings it up to date
    strays = {name.decode() for name in atlas.ids.tolist()} - set(store.ids())
    return [f"{path} has {len(strays)} images that are not in the gallery; {mended}"] if strays else []


def delete(directory: Path) -> None:
    (directory / FILE).unlink(missing_ok=True)


def _write(store: Store, atlas: Atlas) -> None:
    with sentences(store.directory), written(store.directory / FILE) as writer:
        for name in ("ids", "places", "landmarks"):
            writer.put(name, getattr(atlas, name))
        rest = ("generation", "encoder", "layer", "laid_out", "same_class")
        writer.finish({name: getattr(atlas, name) for name in rest})
