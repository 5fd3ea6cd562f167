"""Image by image on all cores, and drawing some of them: what the handcrafted methods share."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..types import Float32, Int, Progress, UInt8


def image_rows(
    images: UInt8, describe: Callable[[UInt8], Float32], dim: int, on_progress: Progress | None = None
) -> Float32:
    """`describe` of every image (C, side, side), as float32 (n, dim).

    One thread per core, for OpenCV and NumPy let go of the interpreter's lock; BLAS then gets no more threads.
    """
    from threadpoolctl import threadpool_limits

    out = np.empty((len(images), dim), np.float32)
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for i, row in enumerate(pool.map(lambda i: describe(np.asarray(images[i])), range(len(images)))):
            out[i] = row
            if on_progress:
                on_progress(i + 1, len(images))
    return out


def drawn(n: int, most: int, rng: np.random.Generator) -> Int:
    """At most `most` of n rows, in order."""
    return np.sort(rng.permutation(n)[:most])
