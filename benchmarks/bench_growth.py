"""How a gallery grows, 1,000 to 2,000,000 images: search, opening, memory, disk, and what changes cost.

python benchmarks/bench_growth.py [--rows N] [--dim N] [--ann]

Features are drawn around cluster centres that lie in few dimensions, as those of trained networks do. Each gallery is
opened by a new process, after the system has been told to forget its files: what a first search costs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cbmir.store import Entry, Store, StoredFile
from cbmir.types import Float32, Record
from measure import Row, table

SIZES = (1_000, 10_000, 100_000, 1_000_000, 2_000_000)
DIM = 256
N_CLUSTERS, N_CLASSES, LATENT, NOISE = 200, 24, 24, 0.3
PER_FILE, FILES_AT_ONCE = 100, 50
CHANGED = 1_000
OPEN_S, CHANGE_S, AT_ROWS = 1.0, 1.0, 1_000_000
"""Targets, at this size: opening, and 1,000 images added anew or removed, until a search sees it."""
K, REPEATS = 10, 15


def features(first: int, count: int, dim: int, seed: int = 0) -> Float32:
    """Rows `first` and following: a centre, a spread in 24 dimensions, noise; at unit length. float32 (count, dim)."""
    shape = np.random.default_rng(seed)
    centres = shape.standard_normal((N_CLUSTERS, dim), dtype=np.float32)
    spread = shape.standard_normal((LATENT, dim), dtype=np.float32) / LATENT**0.5
    rng = np.random.default_rng([seed, first])
    rows = centres[np.arange(first, first + count) % N_CLUSTERS]
    rows += rng.standard_normal((count, LATENT), dtype=np.float32) @ spread
    rows += NOISE * rng.standard_normal((count, dim), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def entries(first: int, count: int, dim: int, seed: int = 0, layer: str = "code") -> Iterator[Entry]:
    """Files of 100 images each, with ids and patients as long as real ones, in 24 classes."""
    for start in range(first, first + count, PER_FILE):
        numbers = range(start, min(start + PER_FILE, first + count))
        records = tuple(
            Record(
                f"{number:032x}", patient=f"{number // 20:032x}", modality=("CT", "MR", "US")[number % 3],
                labels={"class": f"class {number % N_CLUSTERS % N_CLASSES:02}"}, attributes={"study_year": "2024"},
            )
            for number in numbers
        )  # fmt: skip
        file = StoredFile(f"{start:032x}", "folder", f"{start:012x}.dcm", b"sealed", 1, 2, "content", "", "decoded")
        yield Entry(file, records, {layer: features(start, len(numbers), dim, seed)})


def make(directory: Path, n_rows: int, dim: int) -> float:
    """A gallery's store; seconds it took."""
    started = time.perf_counter()
    with Store.create(directory, {"code": dim}, {}, card={"name": "synthetic"}) as store:
        fill(store, n_rows)
    return time.perf_counter() - started


def fill(store: Store, n_rows: int) -> None:
    """Puts so many images into an empty store, with features of its default layer."""
    layer, dim = next(iter(store.layers.items()))
    step = PER_FILE * FILES_AT_ONCE
    with store.writing():
        for first in range(0, n_rows, step):
            store.add(entries(first, min(step, n_rows - first), dim, layer=layer))


def opened(directory: Path) -> dict[str, Any]:
    """Opens a gallery in this process, searches it, and says what that took."""
    from cbmir.index import Scope
    from cbmir.index.matrix import open_matrix

    started = time.perf_counter()
    with Store.open(directory) as store:
        matrix = open_matrix(store, "code")
        open_s = time.perf_counter() - started
        query = features(0, 1, matrix.index.dim, seed=1)[0]
        scopes = {"all": Scope(), "class": Scope(groups=("class 07",))}
        first_s = _seconds(lambda: matrix.index.search(query, K))
        times = {
            name: statistics.median(_seconds(lambda s=scope: matrix.index.search(query, K, s)) for _ in range(REPEATS))
            for name, scope in scopes.items()
        }
        hits = matrix.index.search(query, K)
        join_s = statistics.median(
            _seconds(lambda: store.records(matrix.names(hits.positions))) for _ in range(REPEATS)
        )
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "open_s": open_s,
        "first_s": first_s,
        **times,
        "join_s": join_s,
        "by": hits.by,
        "anonymous_mb": int(status["RssAnon"].split()[0]) / 1000,
        "mapped_mb": int(status["RssFile"].split()[0]) / 1000,
    }


def changed(directory: Path, n_rows: int, dim: int) -> dict[str, float]:
    """Seconds of 1,000 images added anew, and of 1,000 removed, each until a search sees it."""
    from cbmir.index.matrix import open_matrix

    count = min(CHANGED, n_rows)
    with Store.open(directory) as store:
        open_matrix(store, "code")

        def upsert() -> None:
            store.add(list(entries(0, count, dim, seed=2)))
            open_matrix(store, "code")

        def remove() -> None:
            store.remove("id", [f"{number:032x}" for number in range(n_rows - count, n_rows)], lambda record: ())
            open_matrix(store, "code")

        return {"upsert_s": _seconds(upsert), "remove_s": _seconds(remove)}


def approximate(directory: Path) -> str:
    """What FAISS would bring: how long it takes to make, how much is found, how long a search takes."""
    from cbmir.index import ann
    from cbmir.index.matrix import open_matrix

    ann.PAYS_FROM = 0
    with Store.open(directory) as store:
        told = ann.build_ann(store, "code")
        matrix = ann.with_ann(open_matrix(store, "code"), store)
        query = features(0, 1, matrix.index.dim, seed=1)[0]
        by = matrix.index.search(query, K).by  # which also reads it
        ms = 1000 * statistics.median(_seconds(lambda: matrix.index.search(query, K)) for _ in range(REPEATS))
    return (
        f"{told['kind']}, by {by}: {ms:.2f} ms, recall {told['recall@10']:.3f}, made in {told['seconds']:.0f} s, "
        f"{told['bytes'] / 1e6:.0f} MB"
    )


def rows(most: int = SIZES[-1], dim: int = DIM, ann: bool = False, sizes: Sequence[int] = SIZES) -> list[Row]:
    found = []
    for n_rows in (size for size in sizes if size <= most):
        with tempfile.TemporaryDirectory() as folder:
            found += _rows_of(Path(folder) / "gallery", n_rows, dim, ann)
    return found


def _rows_of(directory: Path, n_rows: int, dim: int, ann: bool) -> list[Row]:
    made_s = make(directory, n_rows, dim)
    built_s = in_new_process(directory)["open_s"]  # it makes the matrix
    forget(directory)
    told = in_new_process(directory)
    database, matrix = (_megabytes(directory, pattern) for pattern in ("gallery.sqlite*", "matrix/*"))
    raw = n_rows * dim * 4 / 1e6
    changes = changed(directory, n_rows, dim)
    size, goal = f"growth {n_rows:,} x {dim}", n_rows == AT_ROWS
    found = [
        Row(
            f"{size}: search",
            f"{told['all'] * 1e3:.2f} ms all ({told['by']}), {told['class'] * 1e3:.2f} ms one class of {N_CLASSES}; "
            f"the records of {K} hits {told['join_s'] * 1e3:.2f} ms more",
        ),
        Row(
            f"{size}: opening, files not in memory",
            f"{told['open_s'] * 1e3:.0f} ms, first search {told['first_s'] * 1e3:.0f} ms more",
            f"< {OPEN_S:g} s" if goal else "",
            told["open_s"] < OPEN_S if goal else None,
        ),
        Row(
            f"{size}: made",
            f"store {n_rows / made_s:,.0f} images a second, matrix {built_s:.1f} s",
        ),
        Row(
            f"{size}: disk and memory in times of the features ({raw:,.0f} MB)",
            f"database {database / raw:.2f} x, matrix {matrix / raw:.2f} x; "
            f"mapped {told['mapped_mb'] / raw:.2f} x, own {told['anonymous_mb']:,.0f} MB",
        ),
        Row(
            f"{size}: {min(CHANGED, n_rows):,} images added anew; removed",
            f"{changes['upsert_s']:.2f} s; {changes['remove_s']:.2f} s",
            f"< {CHANGE_S:g} s each" if goal else "",
            max(changes.values()) < CHANGE_S if goal else None,
        ),
    ]
    if ann:
        found.append(Row(f"{size}: approximate index", approximate(directory)))
    return found


def in_new_process(directory: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--open", os.fspath(directory)]
    told: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return told


def forget(directory: Path) -> None:
    """Lets the system drop what it holds of the files of a folder in memory."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _megabytes(directory: Path, pattern: str) -> float:
    return sum(path.stat().st_size for path in directory.glob(pattern)) / 1e6


def _seconds(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=SIZES[-1], help="no gallery larger than this")
    parser.add_argument("--only", type=int, help="this size alone")
    parser.add_argument("--dim", type=int, default=DIM)
    parser.add_argument("--ann", action="store_true", help="make an approximate index of each, which takes minutes")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open:
        print(json.dumps(opened(options.open)))
        return
    sizes = (options.only,) if options.only else SIZES
    print(table(rows(options.only or options.rows, options.dim, options.ann, sizes)))


if __name__ == "__main__":
    main()
