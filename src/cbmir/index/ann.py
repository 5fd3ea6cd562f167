"""Approximate search with FAISS, for unfiltered searches of large galleries: optional, derived, never needed.

    DIR/matrix/LAYER.ann         what FAISS writes of its index
    DIR/matrix/LAYER.ann.json    what it was made of (generation, encoder), how, its checksum, and how well it finds
                                 what exact search finds, measured when it was made

It only proposes rows; their distances are measured exactly. A search inside classes, with penalties, behind a filter
or for the farthest is exact as always: a graph or a list of cells would miss most of what a filter allows, and say
nothing. It is read at the first search that may use it, wholly: it pays for whoever searches many times.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ..errors import BadGallery, CbmirError, UsageError
from ..files import read_json, write_json
from ..store import Store
from ..types import Float32, Int
from . import Found, Scope
from .delta import Base
from .exact import ExactIndex, distances_to, ranked
from .layered import LayeredIndex
from .matrix import Matrix, building, folder_of, open_matrix

Kind = Literal["hnsw", "ivfpq"]
KINDS: tuple[Kind, ...] = get_args(Kind)

PAYS_FROM = 200_000_000
"""Features (rows x dim) from which on the exact search takes about 10 ms (benchmarks/bench_growth.py): less nobody
feels, and an approximate index costs minutes to make and a second copy of the features in memory."""

RECALL_AT, SAMPLE = 10, 200
_SMALLEST_IVFPQ = 39 * 256  # rows: FAISS wants so many for each of the 256 values of a byte
_PROPOSED = {"hnsw": 4, "ivfpq": 30}  # times k: rows are proposed by rounded distances
_EF, _PROBES = 64, 32  # how widely a search looks: candidates in the graph, cells


@dataclass(frozen=True)
class AnnIndex:
    """An exact index, and one of FAISS over the same rows. report: what was said of it when it was made.

    load: gives that of FAISS; raises a CbmirError, saying why, when it is not to be used.
    """

    exact: ExactIndex
    report: Mapping[str, Any]
    load: Callable[[], Any]

    @cached_property
    def _loaded(self) -> tuple[Any, str]:
        """The index of FAISS, or None and why."""
        try:
            return self.load(), ""
        except CbmirError as error:
            return None, str(error)

    def __len__(self) -> int:
        return len(self.exact)

    @property
    def dim(self) -> int:
        return self.exact.dim

    @property
    def groups(self) -> Collection[str]:
        return self.exact.groups

    def search(self, query: Float32, k: int, scope: Scope = Scope()) -> Found:  # noqa: B008 (frozen)
        """At most k rows, nearest first; some of the true ones may be missing where `by` is "ann"."""
        narrowed = scope.groups is not None or scope.penalties or scope.rows is not None
        if narrowed or scope.farthest or scope.exact:
            return self.exact.search(query, k, scope)
        faiss, why_not = self._loaded
        if faiss is None:
            found = self.exact.search(query, k, scope)
            return replace(found, by=f"{found.by}; {why_not}")
        query = self.exact.checked(query, k)
        hidden = np.unique(scope.hidden)
        n_candidates = len(self) - len(hidden)
        times = _PROPOSED[self.report["kind"]]
        n_proposed = times * k
        while 4 * n_proposed < len(self):
            proposed = self._proposed(query, n_proposed)
            proposed = proposed[~np.isin(proposed, hidden)]
            if len(proposed) >= min(times * k // 2, n_candidates):
                return self._measured(query, proposed, k, n_candidates)
            n_proposed *= 4
        return self.exact.search(query, k, scope)

    def distances(self, queries: Float32) -> Float32:
        return self.exact.distances(queries)

    def rank(self, distances: Float32, scope: Scope = Scope()) -> Found:  # noqa: B008 (frozen)
        return self.exact.rank(distances, scope)

    def features(self, positions: Int) -> Float32:
        return self.exact.features(positions)

    def _proposed(self, query: Float32, count: int) -> Int:
        faiss = _faiss()
        if self.report["kind"] == "hnsw":
            wide = faiss.SearchParametersHNSW(efSearch=max(_EF, 2 * count))
        else:
            wide = faiss.SearchParametersIVF(nprobe=_PROBES)
        _, positions = self._loaded[0].search(query[None], count, params=wide)
        found: Int = positions[0][positions[0] >= 0]
        return found

    def _measured(self, query: Float32, positions: Int, k: int, n_candidates: int) -> Found:
        distances = distances_to(self.exact.rows, positions, query)
        keys = distances.astype(np.float64) ** 2
        best = ranked(keys, self.exact.id_order[positions])[:k]
        return Found(distances[best], positions[best], n_candidates, keys[best], "ann")


def build_ann(store: Store, layer: str, kind: Kind = "hnsw") -> dict[str, Any]:
    """Makes the approximate index of a layer as its files are now; replaces the one there was. For whoever may write.

    Returns what the JSON file says: {"layer", "kind", "generation", "encoder", "rows", "seconds", "recall@10", "pays",
    "bytes", "crc32"}; the recall is over a seeded sample of 200 stored rows, each hidden from its own search, and
    `pays` whether searches use the index.
    Raises UsageError for another kind, too few rows, or where FAISS is not installed.
    """
    if kind not in KINDS:
        raise UsageError(f"an approximate index is {' or '.join(KINDS)}, not {kind!r}")
    base = open_matrix(store, layer).base
    started = time.perf_counter()
    index = _trained(kind, base.exact.rows)
    report = {
        "layer": layer, "kind": kind, "generation": base.generation, "encoder": base.encoder, "rows": len(base.exact),
        "seconds": round(time.perf_counter() - started, 3),
        f"recall@{RECALL_AT}": recall(AnnIndex(base.exact, {"kind": kind}, lambda: index)),
        "pays": base.exact.rows.size >= PAYS_FROM,
    }  # fmt: skip
    path, told = _paths(store, layer)
    new = path.with_name(path.name + ".new")
    with building(store):
        try:
            _write(index, new)
            report |= {"bytes": new.stat().st_size, "crc32": _crc_of(new)}
            told.unlink(missing_ok=True)
            os.replace(new, path)
            write_json(told, report)
        finally:
            new.unlink(missing_ok=True)
    return report


def recall(index: AnnIndex, seed: int = 0) -> float:
    """The part of the true 10 nearest that are found, over a sample of stored rows; of rows equally far any will do."""
    rows = np.random.default_rng(seed).choice(len(index), min(SAMPLE, len(index)), replace=False)
    hits = wanted = 0
    for row in rows.tolist():
        query, scope = index.exact.rows[row], Scope(hidden=np.array([row]))
        true = index.exact.search(query, RECALL_AT, scope).distances
        if len(true):
            hits += int(np.count_nonzero(index.search(query, RECALL_AT, scope).distances <= true[-1]))
        wanted += len(true)
    return round(hits / wanted, 4) if wanted else 1.0


def with_ann(matrix: Matrix, store: Store, known: Matrix | None = None) -> Matrix:
    """The same matrix, searched with the approximate index of its layer where there is one.

    known: an earlier one of the same store and layer; what FAISS has read for it is not read again.
    """
    path, told = _paths(store, matrix.layer)
    if not (report := read_json(told)):
        return matrix
    found = _ann_of(known) if known is not None and known.base.generation == matrix.base.generation else None
    if found is None or found.report != report:
        found = AnnIndex(matrix.base.exact, report, partial(_read, path, report, matrix.base))
    index = replace(matrix.index, base=found) if isinstance(matrix.index, LayeredIndex) else found
    return replace(matrix, index=index)


def _ann_of(matrix: Matrix) -> AnnIndex | None:
    index = matrix.index.base if isinstance(matrix.index, LayeredIndex) else matrix.index
    return index if isinstance(index, AnnIndex) else None


def _read(path: Path, report: Mapping[str, Any], base: Base) -> Any:
    """What FAISS reads. Raises BadGallery, saying why, when it is not to be used."""
    if (report.get("generation"), report.get("encoder")) != (base.generation, base.encoder):
        raise BadGallery("the approximate index is out of date")
    if base.exact.rows.size < PAYS_FROM:
        least = -(-PAYS_FROM // base.exact.dim)
        raise BadGallery(f"an approximate index does not pay below {least:,} images")
    faiss = _faiss()
    try:
        if report.get("kind") in KINDS and _crc_of(path) == report.get("crc32"):  # FAISS follows any number it reads
            return faiss.read_index(os.fspath(path))
    except (OSError, RuntimeError):
        pass
    raise BadGallery("the approximate index is damaged")


def _crc_of(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc


def _trained(kind: Kind, rows: Float32) -> Any:
    faiss = _faiss()
    n, dim = rows.shape
    if not n:
        raise UsageError("there are no images to make an approximate index of")
    if kind == "hnsw":  # one byte a feature: the exact distances come from the matrix
        index = faiss.index_factory(dim, "HNSW16_SQ8")
        index.hnsw.efConstruction = 128
    elif n < _SMALLEST_IVFPQ:
        raise UsageError(f"ivfpq wants {_SMALLEST_IVFPQ:,} images at least, and there are {n:,}; use hnsw, or none")
    else:
        cells = min(int(4 * n**0.5), n // 39)
        index = faiss.index_factory(dim, f"IVF{cells},PQ{_bytes_a_row(dim)}")
    sample = np.random.default_rng(0).choice(n, min(n, max(_SMALLEST_IVFPQ, n // 10)), replace=False)
    index.train(rows[np.sort(sample)])
    index.add(rows)
    return index


def _bytes_a_row(dim: int) -> int:
    """About one for eight features; FAISS wants parts of equal size."""
    return next(parts for parts in range(max(1, dim // 8), 0, -1) if dim % parts == 0)


def _write(index: Any, path: Path) -> None:
    try:
        _faiss().write_index(index, os.fspath(path))
    except RuntimeError:  # as FAISS tells of a file that it cannot write
        raise BadGallery(f"the approximate index cannot be written to {path.parent}; is the disk full?") from None
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _paths(store: Store, layer: str) -> tuple[Path, Path]:
    folder = folder_of(store)
    return folder / f"{layer}.ann", folder / f"{layer}.ann.json"


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise UsageError("an approximate index needs FAISS: pip install 'cbmir[ann]'") from None
    return faiss
