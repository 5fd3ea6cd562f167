"""The eight-bit copy of the rows, a quarter of their bytes: what can be ruled out without reading the rows.

A row x is stored around the mean m of the layer as x - m = s a + e: a in [-127, 127]^dim, e the rounding error, of
which the norm is kept. The query is split the same way, p = q - m = t b + f. Then

    |x - q|^2 = |x - m|^2 + |p|^2 - 2 (x - m).p      and      (x - m).p = s t (a.b) + s a.f + e.p,

where a.b is a sum of whole numbers without any error and |s a.f + e.p| <= |s a| |f| + |e| |p| (Cauchy and Schwarz).
So every key lies in an interval that is known for certain, and a row whose interval begins behind the ends of k others
is none of the k best. On the organ24 features (4,318 x 4,096) 33 to 51 rows are left for k = 10 in the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..types import Float32, Int
from . import Float64
from .parts import Bounds, Part, in_pieces, place, products

Int8 = npt.NDArray[np.int8]

LEVELS = 127
MAX_DIM = 2**31 // LEVELS**2  # the sum of so many products of eight-bit numbers fits 32 bits
_BLOCK = 4096
_PIECE = 1 << 15  # rows: what is computed of so many stays in the cache, and in memory that is already there
_DENSE = 0.12  # of a run of rows; reading such a part of it costs as much as all of it (200,000 x 512, 1,000,000 x 256)
_SLACK = np.float32(64 * np.finfo(np.float32).eps / 2)
"""Part of |x - m|^2 + |p|^2 + penalty that a dozen float32 operations on numbers no larger can be wrong by."""
_TINY = 1e-30  # this part of it is more than anything a key can lose where float32 underflows, set to zero or not
SMALLEST_STEP = 1e-18  # below it a query counts as the mean itself: its eight-bit numbers would be rounding errors


@dataclass(frozen=True)
class Coarse:
    """mean: float32 (dim,). codes: int8 (n, dim), the a above. scales: float32 (n,), the s.

    terms: float32 (3, n): |x - m|^2; |e|, rounded up; |s a|, rounded up.
    """

    mean: Float32
    codes: Int8
    scales: Float32
    terms: Float32

    def bounds(self, query: Float32, parts: Sequence[Part]) -> Bounds:
        """Where the keys of the scope lie, all divided by 2 t. query: float32 (dim,)."""
        centred = query.astype(np.float64) - self.mean  # p
        step = np.abs(centred).max(initial=0) / LEVELS  # t
        step = step if step > SMALLEST_STEP else 1.0
        code = np.rint(centred / step)  # b
        rest = centred - step * code  # f
        square, root, rest_root = centred @ centred, np.sqrt(centred @ centred), np.sqrt(rest @ rest)
        low, wide = (
            (np.array(weights) / (2 * step)).astype(np.float32)
            for weights in ((1 - _SLACK, -2 * root, -2 * rest_root), (2 * _SLACK, 4 * root, 4 * rest_root))
        )
        key = code.astype(np.int8)
        lower = products(self.codes, parts, lambda rows, out: multiply(rows, key, out), _DENSE, threads=True)
        with np.errstate(over="ignore", invalid="ignore"):  # of norms so large that the bounds are of no use
            start = 0
            for part in in_pieces(parts, _PIECE):
                here = lower[start : start + part.size]
                np.multiply(here, self.scales[part.rows], out=here)
                np.subtract(low @ self.terms[:, part.rows], here, out=here)
                here += np.float32((square + part.penalty - _SLACK * (square + part.penalty + _TINY)) / (2 * step))
                start += part.size

        def width(rows: Int) -> Float32:
            positions, penalties = place(rows, parts)
            constant = 2 * _SLACK * (square + penalties + _TINY) / (2 * step)
            found: Float32 = wide @ self.terms[:, positions] + constant.astype(np.float32)
            return found

        return Bounds(lower, width)


def multiply(codes: Int8, code: Int8, out: Float32) -> None:
    """The products of codes (m, dim) with one (dim,), exact in 32 bits, each as the nearest float32 in out (m,)."""
    import numkong  # only large galleries need it

    numkong.cdist(codes, code[None], "dot", out=out[:, None])


def coded(rows: Float32, mean: Float32) -> tuple[Int8, Float32, Float32]:
    """codes, scales and terms of some rows. rows: float32 (m, dim); mean: float32 (dim,)."""
    codes = np.empty(rows.shape, np.int8)
    scales = np.empty(len(rows), np.float32)
    terms = np.empty((3, len(rows)), np.float32)
    for start in range(0, len(rows), _BLOCK):
        here = slice(start, start + _BLOCK)
        centred = np.subtract(rows[here], mean, dtype=np.float64)
        steps = np.abs(centred).max(axis=1) / LEVELS
        levels = np.rint(np.divide(centred, steps[:, None], out=np.zeros_like(centred), where=steps[:, None] > 0))
        codes[here] = levels
        squares = _dot(levels, levels)
        # the scale that leaves an error at right angles to the code, so that |s a| <= |x - m|
        best = np.divide(_dot(centred, levels), squares, out=np.zeros_like(squares), where=squares > 0)
        with np.errstate(over="ignore", under="ignore"):
            scales[here] = best
            levels *= scales[here, None]
            terms[0, here] = _dot(centred, centred)
            terms[1, here] = _up(np.sqrt(_dot(centred - levels, centred - levels)))
            terms[2, here] = _up(np.sqrt(_dot(levels, levels)))
    return codes, scales, terms


def coarse_of(rows: Float32) -> Coarse:
    """The eight-bit copy of all rows of a layer. rows: float32 (n, dim)."""
    mean: Float32 = (
        rows.mean(axis=0, dtype=np.float64).astype(np.float32) if len(rows) else np.zeros(rows.shape[1], "f4")
    )
    return Coarse(mean, *coded(rows, mean))


def _dot(some: Float64, others: Float64) -> Float64:
    found: Float64 = np.einsum("ij,ij->i", some, others)
    return found


def _up(values: Float64) -> Float32:
    """float32 above the values, and above what float64 may have lost of them."""
    return np.nextafter((values * (1 + 1e-9)).astype(np.float32), np.float32(np.inf))
