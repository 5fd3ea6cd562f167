"""`index.search` beside a bare BLAS scan of the bytes it has to read: everything, inside a class, behind a filter; and
the eight-bit first pass beside the exact search without it; and what re-ranking takes.

python benchmarks/bench_search.py [--small]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from cbmir.index import NO_POSITIONS, Index, Scope
from cbmir.index.exact import ExactIndex, from_features
from cbmir.index.parts import candidates, parts_of
from cbmir.index.twopass import coarse_of
from cbmir.rerank import Aqe, KReciprocal
from cbmir.search import search
from cbmir.store import Store
from cbmir.types import Float32, Int
from measure import ORGAN24_GALLERY, Row, table

SIZES = ((5_000, 4096), (200_000, 512), (1_000_000, 256))
RERANKED, RERANKED_MS = (200_000, 256), 500
"""The gallery whose rankings are re-ranked, and what such a search may take."""
N_GROUPS = 24
K = 10
REPEATS, ROUNDS, PAUSE_S = 33, 3, 0.15
WHOLE, CLASS, FILTER, SLACK_MS, FASTER = 1.3, 1.5, 2.0, 0.2, 3.0
"""What a search may take, in times of a bare scan of the bytes it has to read (where these are few, and some
more for the call itself); how much faster two passes are."""


def gallery(n_rows: int, dim: int, seed: int = 0) -> ExactIndex:
    """Rows scattered around the centres of 24 groups of equal size; no feature below 0, as after a ReLU."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n_rows) % N_GROUPS
    rows = rng.standard_normal((n_rows, dim), dtype=np.float32)
    centres = rng.standard_normal((N_GROUPS, dim), dtype=np.float32)
    for start in range(0, n_rows, 10_000):
        rows[start : start + 10_000] += centres[groups[start : start + 10_000]]
    np.maximum(rows, 0, out=rows)
    index, _ = from_features(rows, [f"{g:02d}" for g in groups], [f"{i:08d}" for i in range(n_rows)])
    return index


def filters(n_rows: int, seed: int = 2) -> Mapping[str, Int]:
    """Positions as filters leave them: here and there, and in runs, since what belongs together lies together."""
    rng = np.random.default_rng(seed)
    in_runs = np.repeat(rng.random(n_rows // 500 + 1) < 0.3, 500)[:n_rows]
    return {
        "1 of 50 rows, here and there": np.flatnonzero(rng.random(n_rows) < 0.02),
        "1 of 4 rows, here and there": np.flatnonzero(rng.random(n_rows) < 0.25),
        "1 of 2 rows, here and there": np.flatnonzero(rng.random(n_rows) < 0.5),
        "3 of 10 rows, in runs of 500": np.flatnonzero(in_runs),
    }


def bare_scan(rows: Float32, query: Float32) -> Float32:
    return rows @ query


def medians_ms(*calls: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Median milliseconds of each, in rounds so that what else the machine does falls on all. Before each turn there
    is a pause: threads of BLAS spin for a while after their work, on a core that the next call may want.
    """
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for kept, call in zip(times, calls, strict=True):
            time.sleep(PAUSE_S)
            for turn in range(repeats // ROUNDS + 2):
                started = time.perf_counter()
                call()
                if turn >= 2:  # the first turns bring memory and caches in
                    kept.append((time.perf_counter() - started) * 1000)
    return [statistics.median(kept) for kept in times]


def query_of(index: Index, seed: int = 1) -> Float32:
    """A point between two rows, so that it has neighbours and is none of them."""
    some = np.random.default_rng(seed).integers(0, len(index), 2)
    return index.features(some).mean(axis=0, dtype=np.float32)


def measure(index: ExactIndex, scope: Scope, scanned: Float32) -> tuple[float, float]:
    """Median ms of a search and of the scan of the rows it has to read."""
    query = query_of(index)
    ours, bare = medians_ms(lambda: index.search(query, K, scope), lambda: bare_scan(scanned, query))
    return ours, bare


def rows(sizes: tuple[tuple[int, int], ...] = SIZES) -> list[Row]:
    found = []
    for n_rows, dim in sizes:
        index = gallery(n_rows, dim)
        found += [*_scans(index), *_two_passes(f"{n_rows:,} x {dim}", index)]
    return [*found, *_reranked(*RERANKED), *_on_organ24()]


def _reranked(n_rows: int, dim: int) -> list[Row]:
    """Searches as a gallery has them, with the parameters of the papers and the widest that are tuned."""
    index = gallery(n_rows, dim)
    index = replace(index, coarse=coarse_of(index.rows))
    query = query_of(index)
    ways = (None, Aqe(50, 3.0), KReciprocal(20, 6, 0.3), KReciprocal(80, 12, 0.3))
    times = medians_ms(*(lambda how=how: search(index, query, k=K, reranking=how) for how in ways))
    return [
        Row(
            f"search {n_rows:,} x {dim}, k = {K}, {how or 'not re-ranked'}",
            f"{ms:.1f} ms",
            f"<= {RERANKED_MS} ms" if how else "",
            ms <= RERANKED_MS if how else None,
        )
        for how, ms in zip(ways, times, strict=True)
    ]


def _scans(index: ExactIndex) -> list[Row]:
    size = f"{len(index):,} x {index.dim}"
    group = sorted(index.groups)[N_GROUPS // 2]
    shipped = replace(index, coarse=coarse_of(index.rows))  # as a gallery has it
    found = [
        _row(f"search {size}, all, k = {K}", *measure(index, Scope(), index.rows), WHOLE),
        _row(
            f"search {size}, one class of {N_GROUPS}",
            *measure(index, Scope(groups=(group,)), index.rows[index.groups[group]]),
            CLASS,
            SLACK_MS,
        ),
    ]
    for name, passing in filters(len(index)).items():
        scanned = np.ascontiguousarray(index.rows[passing])
        times = measure(shipped, Scope(rows=passing), scanned)
        found.append(_row(f"search {size}, {name}, int8 first", *times, FILTER, SLACK_MS))
    return found


def _row(what: str, ours: float, bare: float, factor: float, slack_ms: float = 0.0) -> Row:
    target = factor * bare + slack_ms
    slack = f" + {slack_ms} ms" if slack_ms else ""
    measured = f"{ours:.2f} ms; bare scan {bare:.2f} ms ({ours / bare:.2f} x)"
    return Row(what, measured, f"<= {factor} x{slack} = {target:.2f} ms", ours <= target)


def _two_passes(what: str, index: ExactIndex, same: str = "") -> list[Row]:
    """The same searches with and without the eight-bit copy. same: of real features, which have the target: synthetic
    rows in thousands of dimensions are nearly all equally far, and little can be ruled out.
    """
    both = replace(index, coarse=coarse_of(index.rows))
    query, group = query_of(index), sorted(index.groups)[len(index.groups) // 2]
    scopes = {"all": Scope(), "one class": Scope(groups=(group,))}
    if not same:
        scopes |= {name: Scope(rows=passing) for name, passing in filters(len(index)).items()}
    found = []
    for name, scope in scopes.items():
        first, float32 = medians_ms(
            lambda scope=scope: both.search(query, K, scope), lambda scope=scope: index.search(query, K, scope)
        )
        goal = bool(same) and name == "all"
        found.append(
            Row(
                f"int8 first, {what}, {name}",
                f"{first:.2f} ms; float32 {float32:.2f} ms ({float32 / first:.2f} times faster){same}",
                f">= {FASTER:g} times" if goal else "",
                float32 >= FASTER * first if goal else None,
            )
        )
    return found


def _on_organ24() -> list[Row]:
    """Of the features of a trained encoder, where they are at hand: equal results, counted, and times."""
    if not ORGAN24_GALLERY:
        return []
    found = []
    with Store.open(ORGAN24_GALLERY) as store:
        for layer in store.layers:
            blocks = list(store.blocks(layer))
            features = np.concatenate([block.features for block in blocks])
            groups, ids = ([name for block in blocks for name in getattr(block, part)] for part in ("groups", "ids"))
            index, _ = from_features(features, groups, ids)
            same, left = agreement(index), rows_left(index)
            told = f"; {same:.1%} same top {K}; {statistics.median(left):g} rows left to read, at most {max(left)}"
            found += _two_passes(f"organ24 {layer} {len(index):,} x {index.dim}", index, told)
            found[-2] = replace(found[-2], met=bool(found[-2].met) and same == 1)
    return found


def agreement(index: ExactIndex, every: int = 10) -> float:
    """The part of queries, each tenth row, of which both ways give the same rows and distances in the same order."""
    both = replace(index, coarse=coarse_of(index.rows))
    pairs = [(index.search(row, K), both.search(row, K)) for row in index.rows[::every]]
    same = [
        np.array_equal(a.positions, b.positions) and np.array_equal(a.distances, b.distances) and "int8" in b.by
        for a, b in pairs
    ]
    return sum(same) / len(same)


def rows_left(index: ExactIndex, every: int = 10) -> list[int]:
    """How many rows the eight-bit copy cannot rule out, for each tenth row as a query."""
    coarse, parts = coarse_of(index.rows), parts_of(index.groups, Scope())
    return [len(candidates(coarse.bounds(row, parts), K, NO_POSITIONS)) for row in index.rows[::every]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="measure the smallest gallery only")
    print(table(rows(SIZES[:1] if parser.parse_args().small else SIZES)))


if __name__ == "__main__":
    main()
