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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..baselines import Method
from ..errors import CbmirError
from ..files import write_json
from ..types import Float32, Int, Record
from .collection import Images
from .protocols import Fold

CHUNK = 256
"""Images whose features are asked for at once, so that progress can be told."""


@dataclass(frozen=True)
class Features:
    """gallery, queries: layer -> float32 (n, dim). posteriors: float32 (n, K) over classes, None without.

    seconds_to_fit, and ms per query image from prepared pixels to features of all layers.
    """

    gallery: Mapping[str, Float32]
    queries: Mapping[str, Float32]
    posterior: Float32 | None
    classes: tuple[str, ...]
    seconds_to_fit: float
    ms_per_query: float


@dataclass(frozen=True)
class Bench:
    """Where and on what methods run. folder: of all methods; data: identity of the images; tell: (done, all, words)."""

    folder: Path
    records: tuple[Record, ...]
    data: str
    seed: int
    tell: Callable[[int, int, str], None]

    def identity(self, asked: str, fold: Fold, *more: str) -> str:
        """Of everything that the result depends on. asked: the method as it was called for."""
        rows = [fold.gallery.tolist(), fold.queries.tolist()]
        told = [self.data, asked, fold.name, rows, self.seed, __version__, *more]
        return sha256(json.dumps(told).encode()).hexdigest()

    def home(self, name: str, asked: str, fold: Fold) -> Path:
        return self.folder / folder_name(name, asked) / fold.name


def folder_name(name: str, asked: str) -> str:
    """A name of a file for any method; two models in folders of the same name are told apart by a digest."""
    plain = re.sub(r"[^A-Za-z0-9.+_-]", "-", name)[:60]
    return plain if plain == asked else f"{plain}-{sha256(asked.encode()).hexdigest()[:6]}"


def features_of(method: Method, asked: str, images: Images, fold: Fold, bench: Bench) -> Features:
    """Fit on the gallery, features of both sides; what an earlier call finished is taken as it is.

    Raises CbmirError, naming the method, when its features or posteriors are not finite numbers, one row per image.
    """
    home = bench.home(method.name, asked, fold)
    seconds, fitted_as = fitted(method, asked, images, fold, bench)
    identity = bench.identity(asked, fold, fitted_as)
    kept = _read_json(home / "features.json")
    if kept.get("identity") != identity or not all((home / name).is_file() for name in kept["files"]):
        home.mkdir(parents=True, exist_ok=True)
        (home / "features.json").unlink(missing_ok=True)
        _compute(method, images, fold, bench, home, identity)
        kept = _read_json(home / "features.json")
    return _load(home, kept, seconds)


def fitted(method: Method, asked: str, images: Images, fold: Fold, bench: Bench) -> tuple[float, str]:
    """Fit, or load what was fitted before. Returns the seconds it took, then or now, and an identity of the fit.

    Methods of one `fit_name` share a fit; one that can go on from a saved network gets it where it is there.
    """
    shared = str(getattr(method, "fit_name", asked))
    home = bench.home(shared if shared != asked else method.name, shared, fold)
    identity = bench.identity(shared, fold)
    kept = _read_json(home / "fitted.json")
    if kept.get("identity") == identity and _loads(method, home / "state"):
        return float(kept["seconds"]), str(kept["fit"])
    home.mkdir(parents=True, exist_ok=True)
    (home / "fitted.json").unlink(missing_ok=True)
    _prepare(method, home, fold, bench)
    rows = np.array([row for row in fold.gallery if bench.records[row].label is not None], np.int64)
    records = [bench.records[row] for row in rows]
    start = time.perf_counter()
    method.fit(
        images.take(rows),
        [record.label or "" for record in records],
        patients=[record.patient or f"image {record.id}" for record in records],
        seed=bench.seed,
        on_progress=lambda done, total: bench.tell(done, total, f"{method.name}, {fold.name}: fitting"),
    )
    seconds = time.perf_counter() - start
    _save(method, home / "state")
    this_fit = f"{identity} {time.time_ns()}"  # features of an earlier one are not this one's
    write_json(home / "fitted.json", {"identity": identity, "seconds": seconds, "fit": this_fit})
    shutil.rmtree(home / "work", ignore_errors=True)
    return seconds, this_fit


def _prepare(method: Method, home: Path, fold: Fold, bench: Bench) -> None:
    """Checkpoints beside the fit; the network of this fold instead of a second one."""
    if hasattr(method, "work"):
        method.work = home / "work"
    network = bench.home("dcnn", "dcnn", fold)
    ready = _read_json(network / "fitted.json").get("identity") == bench.identity("dcnn", fold)
    if ready and getattr(method, "start", ...) is None:
        method.start = network / "state"  # type: ignore[attr-defined]


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


def _compute(method: Method, images: Images, fold: Fold, bench: Bench, home: Path, identity: str) -> None:
    sides = {"gallery": fold.gallery} | ({} if fold.leaks else {"queries": fold.queries})
    layers: tuple[str, ...] = ()
    files: list[str] = []
    seconds = 0.0
    for side, rows in sides.items():
        found, seconds = _by_layer(method, images, rows, bench, f"{method.name}, {fold.name}: {side}")
        layers = tuple(found)
        for place, array in enumerate(found.values()):
            _check(array, len(rows), method.name, "features")
            files.append(_write(home / f"{side}-{place}.npy", array))
    posterior = method.classify(images.take(fold.queries)) if method.classes else None
    if posterior is not None:
        _check(posterior, len(fold.queries), method.name, "posteriors")
        files.append(_write(home / "posterior.npy", posterior))
    told = {
        "identity": identity,
        "files": files,
        "layers": list(layers),
        "classes": list(method.classes) if posterior is not None else [],
        "one_side": fold.leaks,
        "ms_per_query": 1000 * seconds / max(len(fold.queries), 1),
    }
    write_json(home / "features.json", told)


def _by_layer(method: Method, images: Images, rows: Int, bench: Bench, words: str) -> tuple[dict[str, Float32], float]:
    """Features of some images, and the seconds they took; reading the pixels does not count."""
    parts: dict[str, list[Float32]] = {}
    seconds = 0.0
    for start in range(0, len(rows), CHUNK):
        pixels = images.take(rows[start : start + CHUNK])
        began = time.perf_counter()
        found = _layers(method, pixels)
        seconds += time.perf_counter() - began
        for layer, array in found.items():
            parts.setdefault(layer, []).append(array)
        bench.tell(min(start + CHUNK, len(rows)), len(rows), words)
    return {layer: np.concatenate(arrays) for layer, arrays in parts.items()}, seconds


def _layers(method: Method, pixels: Any) -> dict[str, Float32]:
    """All layers of a method that has several under one name; a method of one `fit_name` has its own alone."""
    own = tuple(getattr(method, "layers", (method.name,)))
    by_layer = getattr(method, "features_by_layer", None)
    if by_layer is None or hasattr(method, "fit_name"):
        return {own[0]: method.features(pixels)}
    found: dict[str, Float32] = by_layer(pixels)
    return found


def _check(array: npt.NDArray[Any], n_rows: int, name: str, what: str) -> None:
    if array.ndim != 2 or len(array) != n_rows:
        raise CbmirError(f"The method '{name}' gives {what} of shape {array.shape} for {n_rows} images.")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise CbmirError(
            f"The method '{name}' gives {what} that are not finite, for {int(bad.sum())} of {n_rows} images."
        )


def _write(path: Path, array: npt.NDArray[Any]) -> str:
    """Whole or not at all; returns the name."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(array, np.float32), allow_pickle=False)
    os.replace(new, path)
    return path.name


def _load(home: Path, kept: Mapping[str, Any], seconds: float) -> Features:
    def side(name: str) -> dict[str, Float32]:
        return {layer: _array(home / f"{name}-{place}.npy") for place, layer in enumerate(kept["layers"])}

    gallery = side("gallery")
    return Features(
        gallery=gallery,
        queries=gallery if kept["one_side"] else side("queries"),
        posterior=_array(home / "posterior.npy") if kept["classes"] else None,
        classes=tuple(kept["classes"]),
        seconds_to_fit=seconds,
        ms_per_query=float(kept["ms_per_query"]),
    )


def _array(path: Path) -> Float32:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False), np.float32)


def _read_json(path: Path) -> dict[str, Any]:
    """{} where it is not there or no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
