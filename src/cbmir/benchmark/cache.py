"""Fitted methods and their features on disk, each with an identity, so that an interrupted benchmark goes on.

METHOD/FOLD/state/      what `fit` learned; fitted.json says of which data, written last
METHOD/FOLD/*.npy       features of every layer and posteriors; features.json says of what, written last
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..baselines import Method, TrainPart
from ..baselines._batches import joined
from ..baselines.projection import Projected
from ..encoder import Encoded
from ..errors import CbmirError
from ..files import read_json, write_json
from ..types import Float32, Int, Record
from .collection import Images
from .protocols import Fold

CHUNK = 256
"""Images whose features are asked for at once, so that progress can be told."""


@dataclass(frozen=True)
class Features:
    """gallery, queries: layer -> float32 (n, dim). posterior: of the queries, float32 (n, K) over classes, or None.

    seconds_to_fit, and ms per query image from prepared pixels to features of all layers and posterior; with those of
    the method it stands on. identity: of all that they depend on.
    """

    gallery: Mapping[str, Float32]
    queries: Mapping[str, Float32]
    posterior: Float32 | None
    classes: tuple[str, ...]
    seconds_to_fit: float
    ms_per_query: float
    identity: str = ""


@dataclass(frozen=True)
class Bench:
    """Where and on what methods run. folder: of all methods; data: identity of the images; tell: (done, all, words)."""

    folder: Path
    records: tuple[Record, ...]
    data: str
    seed: int
    tell: Callable[[int, int, str], None]

    def identity(self, fit_name: str, fold: Fold, *more: str) -> str:
        """Of everything that the result depends on."""
        rows = [fold.gallery.tolist(), fold.queries.tolist()]
        told = [self.data, fit_name, fold.name, rows, self.seed, __version__, *more]
        return sha256(json.dumps(told).encode()).hexdigest()

    def home(self, fit_name: str, fold: Fold) -> Path:
        return self.folder / folder_name(fit_name, fit_name) / fold.name

    def labelled(self, fold: Fold) -> tuple[Int, list[str], list[str]]:
        """Which places of the fold's gallery have a label, these labels, and the patients."""
        told = [(place, self.records[row]) for place, row in enumerate(fold.gallery)]
        known = [(place, record.label, record.owner) for place, record in told if record.label is not None]
        return np.array([k[0] for k in known], np.int64), [k[1] for k in known], [k[2] for k in known]


def folder_name(name: str, whole: str) -> str:
    """A name of a file for any method; two models in folders of the same name are told apart by a digest."""
    plain = re.sub(r"[^A-Za-z0-9.+_-]", "-", name)[:60]
    return plain if plain == whole else f"{plain}-{sha256(whole.encode()).hexdigest()[:6]}"


def features_of(method: Method, images: Images, fold: Fold, bench: Bench) -> Features:
    """Fit on the gallery, features of both sides; what an earlier call finished is taken as it is.

    Methods of one `fit_name` share both; a projected method takes the features of the one it stands on.
    Raises CbmirError, naming the method, when its features or posteriors are not finite numbers, one row per image.
    """
    home = bench.home(method.fit_name, fold)
    make: Callable[[], Features]
    if isinstance(method, Projected):
        below = features_of(method.base, images, fold, bench)
        identity = bench.identity(method.fit_name, fold, below.identity)
        make = partial(_projected, method, below, fold, bench)
    else:
        seconds, identity = fitted(method, images, fold, bench)
        make = partial(_encoded, method, images, fold, bench, seconds)
    kept = read_json(home / "features.json")
    if kept.get("identity") != identity or not all((home / name).is_file() for name in kept["files"]):
        home.mkdir(parents=True, exist_ok=True)
        (home / "features.json").unlink(missing_ok=True)
        _write(make(), method.name, fold, home, identity)
        kept = read_json(home / "features.json")
    return _read(home, kept, method.layers)


def fitted(method: Method, images: Images, fold: Fold, bench: Bench) -> tuple[float, str]:
    """Fit, or load what was fitted before. Returns the seconds it took, then or now, and an identity of the fit.

    The method it stands on is fitted first, once for all that do; its seconds are counted in.
    """
    below = (0.0, "") if method.base is None else fitted(method.base, images, fold, bench)
    home = bench.home(method.fit_name, fold)
    identity = bench.identity(method.fit_name, fold, below[1])
    kept = read_json(home / "fitted.json")
    if kept.get("identity") == identity and _loads(method, home / "state"):
        return float(kept["seconds"]), str(kept["fit"])
    home.mkdir(parents=True, exist_ok=True)
    (home / "fitted.json").unlink(missing_ok=True)
    places, labels, patients = bench.labelled(fold)
    words = f"{method.name}, {fold.name}: fitting"
    start = time.perf_counter()
    train = TrainPart(images.take(fold.gallery[places]), labels, patients, home / "work")
    method.fit(train, seed=bench.seed, on_progress=lambda done, total: bench.tell(done, total, words))
    seconds = below[0] + time.perf_counter() - start
    _save(method, home / "state")
    this_fit = f"{identity} {time.time_ns()}"  # features of an earlier one are not this one's
    write_json(home / "fitted.json", {"identity": identity, "seconds": seconds, "fit": this_fit})
    shutil.rmtree(home / "work", ignore_errors=True)
    return seconds, this_fit


def _loads(method: Method, state: Path) -> bool:
    try:
        method.load(state)
    except CbmirError:
        return False
    return True


def _save(method: Method, state: Path) -> None:
    new = state.with_name("state.new")
    shutil.rmtree(new, ignore_errors=True)
    method.save(new)
    shutil.rmtree(state, ignore_errors=True)
    os.replace(new, state)


def _encoded(method: Method, images: Images, fold: Fold, bench: Bench, seconds_to_fit: float) -> Features:
    gallery, seconds = _side(method, images, fold.gallery, bench, f"{method.name}, {fold.name}: gallery")
    queries = gallery
    if not fold.leaks:
        queries, seconds = _side(method, images, fold.queries, bench, f"{method.name}, {fold.name}: queries")
    ms_per_query = 1000 * seconds / max(len(fold.queries), 1)
    return Features(gallery.features, queries.features, queries.posterior, method.classes, seconds_to_fit, ms_per_query)


def _side(method: Method, images: Images, rows: Int, bench: Bench, words: str) -> tuple[Encoded, float]:
    """Features and posteriors of some images, and the seconds they took; reading the pixels does not count."""
    parts: list[Encoded] = []
    seconds = 0.0
    for start in range(0, len(rows), CHUNK):
        pixels = images.take(rows[start : start + CHUNK])
        began = time.perf_counter()
        parts.append(method.encode(pixels))
        seconds += time.perf_counter() - began
        bench.tell(min(start + CHUNK, len(rows)), len(rows), words)
    return joined(parts), seconds


def _projected(method: Projected, below: Features, fold: Fold, bench: Bench) -> Features:
    """Fitted and projected on the features of the method it stands on, which takes moments: only the result is kept."""
    layer = method.base.layers[0]
    places, labels, patients = bench.labelled(fold)
    start = time.perf_counter()
    method.fit_projection(below.gallery[layer][places], labels, patients=patients, seed=bench.seed)
    gallery = method.project(below.gallery[layer], None)
    fitted = time.perf_counter()
    queries = method.project(below.queries[layer], below.posterior)
    ms_per_query = 1000 * (time.perf_counter() - fitted) / max(len(fold.queries), 1)
    return Features(
        gallery.features,
        queries.features,
        queries.posterior,
        method.classes or below.classes,
        below.seconds_to_fit + fitted - start,
        below.ms_per_query + ms_per_query,
    )


def _write(found: Features, name: str, fold: Fold, home: Path, identity: str) -> None:
    one_side = found.queries is found.gallery
    files: list[str] = []
    sides = {"gallery": (found.gallery, len(fold.gallery)), "queries": (found.queries, len(fold.queries))}
    for side, (by_layer, n_rows) in sides.items():
        for place, array in enumerate(by_layer.values()):
            _check(array, n_rows, name, "features")
            if side == "gallery" or not one_side:
                files.append(_array_written(home / f"{side}-{place}.npy", array))
    if found.posterior is not None:
        _check(found.posterior, len(fold.queries), name, "posteriors")
        files.append(_array_written(home / "posterior.npy", found.posterior))
    told = {
        "identity": identity,
        "files": files,
        "layers": list(found.gallery),
        "classes": list(found.classes) if found.posterior is not None else [],
        "one_side": one_side,
        "seconds_to_fit": found.seconds_to_fit,
        "ms_per_query": found.ms_per_query,
    }
    write_json(home / "features.json", told)


def _check(array: npt.NDArray[Any], n_rows: int, name: str, what: str) -> None:
    if array.ndim != 2 or len(array) != n_rows:
        raise CbmirError(f"The method '{name}' gives {what} of shape {array.shape} for {n_rows} images.")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise CbmirError(
            f"The method '{name}' gives {what} that are not finite, for {int(bad.sum())} of {n_rows} images."
        )


def _array_written(path: Path, array: npt.NDArray[Any]) -> str:
    """Whole or not at all; returns the name."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(array, np.float32), allow_pickle=False)
    os.replace(new, path)
    return path.name


def _read(home: Path, kept: Mapping[str, Any], layers: Sequence[str]) -> Features:
    """Of the named layers alone."""

    def side(name: str) -> dict[str, Float32]:
        return {layer: _array(home / f"{name}-{kept['layers'].index(layer)}.npy") for layer in layers}

    gallery = side("gallery")
    return Features(
        gallery=gallery,
        queries=gallery if kept["one_side"] else side("queries"),
        posterior=_array(home / "posterior.npy") if kept["classes"] else None,
        classes=tuple(kept["classes"]),
        seconds_to_fit=float(kept["seconds_to_fit"]),
        ms_per_query=float(kept["ms_per_query"]),
        identity=str(kept["identity"]),
    )


def _array(path: Path) -> Float32:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False), np.float32)
