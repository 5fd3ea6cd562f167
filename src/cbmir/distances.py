"""The four distances features are ranked by, from a few queries to a whole gallery; memory stays near the answer's.

Euclidean ones are the index's own, so that what is measured is what `cbmir search` answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, get_args

import numpy as np

from .errors import UsageError
from .index.exact import ExactIndex, squared_norms
from .types import Float32

Distance = Literal["euclidean", "manhattan", "hamming", "chi-square"]
DISTANCES: tuple[Distance, ...] = get_args(Distance)

_BLOCK_BYTES = 1 << 18  # of the gallery, so that it and two buffers stay in a core's cache

Measure = Callable[[Float32, Float32, Float32, Float32], Float32]
"""(rows (m, dim), query (dim,), two buffers like rows) -> distances (m,)."""


def distances(queries: Float32, gallery: Float32, distance: Distance) -> Float32:
    """All distances: float32 (b, n) from queries (b, dim) and gallery (n, dim), float32 and finite.

    euclidean: sqrt of the sum of (x - y)^2. manhattan: sum of |x - y|. hamming: how many of the values, all 0 or 1,
    differ. chi-square: half the sum of (x - y)^2 / (x + y), for values of at least 0; a value 0 in both adds 0.
    Equal rows are at exactly 0 of one another, and equal gallery rows tie. Raises UsageError for features that are
    not finite, differ in dim, or are out of the distance's range.
    """
    _check(queries, gallery, distance)
    if distance == "euclidean":
        rows = np.ascontiguousarray(gallery, np.float32)
        whole = ExactIndex(rows, squared_norms(rows), {"": slice(0, len(rows))}, np.arange(len(rows)))
        return whole.distances(queries)
    if distance == "hamming":
        return _hamming(queries, gallery)
    return _blocked(queries, gallery, _manhattan if distance == "manhattan" else _chi_square)


def _check(queries: Float32, gallery: Float32, distance: Distance) -> None:
    if distance not in DISTANCES:
        raise UsageError(f"there is no distance '{distance}': choose one of {', '.join(DISTANCES)}")
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise UsageError(f"queries {queries.shape} and gallery {gallery.shape} are not rows of the same length")
    for rows in (queries, gallery):
        if not np.isfinite(rows).all():
            raise UsageError("the features are not finite numbers")
        if distance == "chi-square" and rows.size and rows.min() < 0:
            raise UsageError("the chi-square distance is for features of at least 0")
        if distance == "hamming" and not ((rows == 0) | (rows == 1)).all():
            raise UsageError("the Hamming distance is for features that are 0 or 1")


def _hamming(queries: Float32, gallery: Float32) -> Float32:
    """|x| + |y| - 2 x.y of 0/1 values: whole numbers, exact in float32 up to 2^24 bits."""
    ones = queries.sum(axis=1)[:, None] + gallery.sum(axis=1)[None, :]
    return np.asarray(ones - 2 * (queries @ gallery.T), np.float32)


def _manhattan(rows: Float32, query: Float32, work: Float32, _: Float32) -> Float32:
    np.subtract(rows, query, out=work)
    np.abs(work, out=work)
    return np.asarray(work.sum(axis=1), np.float32)


def _chi_square(rows: Float32, query: Float32, work: Float32, total: Float32) -> Float32:
    np.subtract(rows, query, out=work)
    np.multiply(work, work, out=work)
    np.add(rows, query, out=total)
    np.maximum(total, np.finfo(np.float32).tiny, out=total)  # 0 / tiny is 0
    np.divide(work, total, out=work)
    return np.asarray(work.sum(axis=1) / 2, np.float32)


def _blocked(queries: Float32, gallery: Float32, measure: Measure) -> Float32:
    """Block by block of the gallery, on all cores (NumPy lets go of the interpreter's lock)."""
    out = np.empty((len(queries), len(gallery)), np.float32)
    queries = np.ascontiguousarray(queries, np.float32)
    size = max(1, _BLOCK_BYTES // (4 * max(1, gallery.shape[1])))

    def one(start: int) -> None:
        rows = np.ascontiguousarray(gallery[start : start + size], np.float32)
        work, total = np.empty_like(rows), np.empty_like(rows)
        for i, query in enumerate(queries):
            out[i, start : start + size] = measure(rows, query, work, total)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, range(0, len(gallery), size)))
    return out
