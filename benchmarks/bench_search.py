"""`index.search` beside a bare BLAS scan of the same rows, over the whole gallery and inside one class.

python benchmarks/bench_search.py [--growth]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from cbmir.index import Scope
from cbmir.index.exact import ExactIndex, from_features
from cbmir.types import Float32
from measure import Row, table

SIZES = ((5_000, 4096), (200_000, 512))
GROWTH = (1_000, 5_000, 20_000, 50_000, 100_000, 200_000)
N_GROUPS = 24
K = 10
REPEATS = 41
FACTOR, SLACK_MS = 1.5, 0.2


def gallery(n_rows: int, dim: int, seed: int = 0) -> ExactIndex:
    """Rows scattered around the centres of 24 groups of equal size; no feature below 0, as after a ReLU."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n_rows) % N_GROUPS
    rows = rng.standard_normal((n_rows, dim), dtype=np.float32)
    rows += rng.standard_normal((N_GROUPS, dim), dtype=np.float32)[groups]
    np.maximum(rows, 0, out=rows)
    index, _ = from_features(rows, [f"{g:02d}" for g in groups], [f"{i:08d}" for i in range(n_rows)])
    return index


def bare_scan(rows: Float32, query: Float32) -> Float32:
    return rows @ query


def medians_ms(ours: Callable[[], object], bare: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """Median milliseconds of both, taken in turns so that what else the machine does falls on both."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 2):
        for kept, call in zip(times, (ours, bare), strict=True):
            started = time.perf_counter()
            call()
            if turn >= 2:  # the first turns bring memory and caches in
                kept.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[0]), statistics.median(times[1])


def measure(index: ExactIndex, gated: bool, seed: int = 1) -> tuple[float, float]:
    """Median ms of a search and of the scan of the rows it has to read."""
    query = np.maximum(np.random.default_rng(seed).standard_normal(index.dim, dtype=np.float32), 0)
    group = sorted(index.groups)[N_GROUPS // 2]
    scope = Scope(groups=(group,)) if gated else Scope()
    rows = index.rows[index.groups[group]] if gated else index.rows
    return medians_ms(lambda: index.search(query, K, scope), lambda: bare_scan(rows, query))


def rows() -> list[Row]:
    """Searches against scans, gated and not."""
    found = []
    for n_rows, dim in SIZES:
        index = gallery(n_rows, dim)
        for gated in (False, True):
            ours, bare = measure(index, gated)
            target = FACTOR * bare + SLACK_MS
            found.append(
                Row(
                    f"search {n_rows:,} x {dim}, {'one class of 24' if gated else 'all'}, k = {K}",
                    f"{ours:.2f} ms; bare scan {bare:.2f} ms ({ours / bare:.2f} x)",
                    f"<= {FACTOR} x + {SLACK_MS} ms = {target:.2f} ms",
                    ours <= target,
                )
            )
    return found


def growth(dim: int = 512) -> list[Row]:
    """How a search grows with the gallery."""
    found = []
    for n_rows in GROWTH:
        index = gallery(n_rows, dim)
        times = {gated: measure(index, gated)[0] for gated in (False, True)}
        found.append(
            Row(
                f"growth: search {n_rows:,} x {dim}",
                f"{times[False]:.2f} ms all, {times[True]:.2f} ms one class of 24",
            )
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", action="store_true", help="measure 1,000 to 200,000 rows too")
    options = parser.parse_args()
    print(table(rows() + (growth() if options.growth else [])))


if __name__ == "__main__":
    main()
