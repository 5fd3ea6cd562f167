"""cbmir's store and index beside FAISS and LanceDB on the same rows: latency, recall with and without a filter, insert
rate, disk, memory.

python benchmarks/bench_engines.py [--rows N] [--dim N]

A filter is one class of 24: that of the query, or another one (a wrong guess, or what a user chose): where graphs lose
what a filter allows. Each engine runs in a process of its own. LanceDB is optional: pip install -e '.[engines]'.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from bench_growth import DIM, N_CLASSES, N_CLUSTERS, PER_FILE, entries, features
from cbmir.types import Float32, Int
from measure import Row, run, table

ROWS = 50_000
N_QUERIES = 60
K = 10
LINKS, WIDE_BUILDING, WIDE_SEARCH = 16, 128, 64
"""Of HNSW everywhere: M, efConstruction, ef."""


def class_of(row: int) -> int:
    return row % N_CLUSTERS % N_CLASSES


def queries(dim: int) -> Float32:
    """Features near those of the gallery and none of them; query i lies near the rows of class `class_of(i)`."""
    return features(0, N_QUERIES, dim, seed=0) + 0.1 * features(0, N_QUERIES, dim, seed=3)


class Engine(ABC):
    """Inserts rows in batches, makes itself ready, finds row numbers. folder: its own, empty."""

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder, self.dim = folder, dim

    @abstractmethod
    def insert(self, first: int, rows: Float32) -> None: ...

    @abstractmethod
    def ready(self) -> None: ...

    @abstractmethod
    def search(self, query: Float32, only: int | None) -> list[int]:
        """Numbers of the K nearest rows, of one class where `only` names one."""


class Cbmir(Engine):
    """A store, durable at every batch, and its matrix."""

    def __init__(self, folder: Path, dim: int) -> None:
        from cbmir.store import Store

        super().__init__(folder, dim)
        self.store = Store.create(folder / "gallery", {"code": dim}, {}, card={"name": "synthetic"})

    def insert(self, first: int, rows: Float32) -> None:
        self.store.add(entries(first, len(rows), self.dim))

    def ready(self) -> None:
        from cbmir.index.matrix import open_matrix

        self.matrix = open_matrix(self.store, "code")

    def search(self, query: Float32, only: int | None) -> list[int]:
        from cbmir.index import Scope

        scope = Scope() if only is None else Scope(groups=(f"class {only:02}",))
        return [int(name, 16) for name in self.matrix.names(self.matrix.index.search(query, K, scope).positions)]


class Faiss(Engine):
    """In memory; written to a file at the end, and nothing is durable before that."""

    factory = "Flat"

    def __init__(self, folder: Path, dim: int) -> None:
        import faiss

        super().__init__(folder, dim)
        self.faiss = faiss
        self.index = faiss.index_factory(dim, self.factory)
        if self.factory != "Flat":
            self.index.hnsw.efConstruction = WIDE_BUILDING

    def insert(self, first: int, rows: Float32) -> None:
        self.index.add(rows)

    def ready(self) -> None:
        self.faiss.write_index(self.index, os.fspath(self.folder / "index.faiss"))
        numbers = np.arange(self.index.ntotal)
        self.classes: list[Int] = [numbers[numbers % N_CLUSTERS % N_CLASSES == c] for c in range(N_CLASSES)]

    def search(self, query: Float32, only: int | None) -> list[int]:
        selector = None if only is None else self.faiss.IDSelectorBatch(self.classes[only])
        if self.factory == "Flat":
            how = self.faiss.SearchParameters(sel=selector)
        else:
            how = self.faiss.SearchParametersHNSW(sel=selector, efSearch=WIDE_SEARCH)
        found: list[int] = self.index.search(query[None], K, params=how)[1][0].tolist()
        return found


class FaissHnsw(Faiss):
    factory = f"HNSW{LINKS}"


class Lance(Engine):
    """A table with a bitmap of the classes, searched exactly."""

    approximate = False

    def __init__(self, folder: Path, dim: int) -> None:
        import lancedb

        super().__init__(folder, dim)
        self.database = lancedb.connect(folder)
        self.table: Any = None

    def insert(self, first: int, rows: Float32) -> None:
        import pyarrow as pa

        numbers = np.arange(first, first + len(rows))
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), self.dim)
        batch = pa.table({"number": numbers, "class": numbers % N_CLUSTERS % N_CLASSES, "code": vectors})
        if self.table is None:
            self.table = self.database.create_table("rows", batch)
        else:
            self.table.add(batch)

    def ready(self) -> None:
        self.table.optimize()
        self.table.create_scalar_index("class", index_type="BITMAP")
        if self.approximate:
            self.table.create_index(
                metric="l2", vector_column_name="code", index_type="IVF_HNSW_SQ", num_partitions=4,
                m=LINKS, ef_construction=WIDE_BUILDING,
            )  # fmt: skip

    def search(self, query: Float32, only: int | None) -> list[int]:
        asked = self.table.search(query, vector_column_name="code").limit(K).select(["number"])
        if self.approximate:
            asked = asked.nprobes(4).ef(WIDE_SEARCH)
        if only is not None:
            asked = asked.where(f"class = {only}", prefilter=True)
        found: list[int] = asked.to_arrow()["number"].to_pylist()
        return found


class LanceHnsw(Lance):
    approximate = True


ENGINES: dict[str, tuple[type[Engine], str]] = {
    "cbmir": (Cbmir, "numkong"),
    "FAISS flat": (Faiss, "faiss"),
    "FAISS HNSW": (FaissHnsw, "faiss"),
    "LanceDB exact": (Lance, "lancedb"),
    "LanceDB IVF_HNSW_SQ": (LanceHnsw, "lancedb"),
}
"""The engine, and the module it needs."""
CASES = ("all", "own class", "wrong class")


def tried(name: str, n_rows: int, dim: int) -> dict[str, Any]:
    """All of one engine, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        engine = ENGINES[name][0](Path(folder), dim)
        inserted_s = 0.0
        for first in range(0, n_rows, 50 * PER_FILE):
            rows = np.concatenate(
                [
                    features(at, min(PER_FILE, n_rows - at), dim)
                    for at in range(first, min(first + 5000, n_rows), PER_FILE)
                ]
            )
            started = time.perf_counter()
            engine.insert(first, rows)
            inserted_s += time.perf_counter() - started
        started = time.perf_counter()
        engine.ready()
        ready_s = time.perf_counter() - started
        cases = {case: _asked(engine, case, dim) for case in CASES}
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {"inserted_s": inserted_s, "ready_s": ready_s, "bytes": size, "cases": cases}


def _asked(engine: Engine, case: str, dim: int) -> dict[str, Any]:
    found, times = [], []
    for number, query in enumerate(queries(dim)):
        only = {"all": None, "own class": class_of(number), "wrong class": (class_of(number) + 11) % N_CLASSES}[case]
        engine.search(query, only) if number == 0 else None  # what is only made at the first search
        started = time.perf_counter()
        found.append(engine.search(query, only))
        times.append(time.perf_counter() - started)
    return {"ms": statistics.median(times) * 1e3, "found": found}


def truth(n_rows: int, dim: int) -> dict[str, list[set[int]]]:
    """The K nearest rows of every query by the definition, in float64."""
    asked = queries(dim).astype(np.float64)
    squared = np.empty((len(asked), n_rows))
    for at in range(0, n_rows, PER_FILE):
        rows = features(at, min(PER_FILE, n_rows - at), dim).astype(np.float64)
        squared[:, at : at + len(rows)] = ((asked[:, None] - rows[None]) ** 2).sum(axis=2)
    classes = np.arange(n_rows) % N_CLUSTERS % N_CLASSES
    own = np.array([class_of(number) for number in range(len(asked))])[:, None]
    shut = {"all": False, "own class": classes != own, "wrong class": classes != (own + 11) % N_CLASSES}
    best = {case: np.argsort(np.where(closed, np.inf, squared), axis=1)[:, :K] for case, closed in shut.items()}
    return {case: [set(line) for line in lines.tolist()] for case, lines in best.items()}


def rows(n_rows: int = ROWS, dim: int = DIM) -> list[Row]:
    true, found = truth(n_rows, dim), []
    for name, (_, module) in ENGINES.items():
        what = f"engines, {n_rows:,} x {dim}: {name}"
        if importlib.util.find_spec(module) is None:
            found.append(Row(what, f"not measured: {module} is not installed"))
            continue
        done = run([sys.executable, __file__, "--engine", name, "--rows", str(n_rows), "--dim", str(dim)])
        found.append(_row(what, json.loads(done.stdout), done.peak_mb, true, n_rows, dim, ours=name == "cbmir"))
    return found


def _row(
    what: str, told: dict[str, Any], peak_mb: float, true: dict[str, list[set[int]]], n_rows: int, dim: int, ours: bool
) -> Row:
    recall = {
        case: float(np.mean([len(want & set(got)) / K for want, got in zip(true[case], asked["found"], strict=True)]))
        for case, asked in told["cases"].items()
    }
    searched = ", ".join(
        f"{case} {asked['ms']:.2f} ms (recall {recall[case]:.3f})" for case, asked in told["cases"].items()
    )
    raw_mb = n_rows * dim * 4 / 1e6
    measured = (
        f"{searched}; {n_rows / told['inserted_s']:,.0f} rows a second, ready in {told['ready_s']:.1f} s; "
        f"disk {told['bytes'] / 1e6 / raw_mb:.2f} x, memory {peak_mb / raw_mb:.2f} x of the features"
    )
    return Row(what, measured, "recall 1 everywhere" if ours else "", min(recall.values()) == 1 if ours else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--dim", type=int, default=DIM)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        print(json.dumps(tried(options.engine, options.rows, options.dim)))
    else:
        print(table(rows(options.rows, options.dim)))


if __name__ == "__main__":
    main()
