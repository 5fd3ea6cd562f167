"""The full-range autoregressive model of a picture's grey values, estimated in small windows; see frar_abtsvm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from ..types import Float32

WINDOW = 5
REACH = 2
ORDERS = 4
"""r = |row| + |column| runs from 1 to 4 in the 5 x 5 neighbourhood."""

STRIDE = 2
QUANTISATION = 1.0
"""Noise variance no picture is below, in grey levels squared."""

NOISE_EDGES = (4.0, 16.0, 64.0, 256.0, 1024.0)
SHARE_EDGES = (0.2, 0.4, 0.6, 0.8, 0.95)
N_CELLS = 48
N_TEXTURE = N_CELLS + (len(NOISE_EDGES) + 1) * (len(SHARE_EDGES) + 1)


@dataclass(frozen=True)
class Fitted:
    """Of each window, rows by columns: posterior (rows, columns, N_CELLS) over the grid of theta, phi and alpha;
    noise, the residual variance, and variance, the picture's own (rows, columns), in grey levels squared."""

    posterior: Float32
    noise: Float32
    variance: Float32


@cache
def grid() -> Float32:
    """Weights of the orders 1 to 4 for K = 1, float32 (N_CELLS, 4), each row of length 1 (K takes the rest)."""
    thetas, phis, alphas = np.pi * np.arange(1, 5) / 5, np.pi * np.arange(4) / 4, (1.0, 1.5, 2.5)
    r = np.arange(1, ORDERS + 1)
    rows = [np.sin(r * theta) * np.cos(r * phi) / alpha**r for theta in thetas for phi in phis for alpha in alphas]
    weights = np.stack(rows)
    return np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True), np.float32)


def fit_frar(values: Float32) -> Fitted:
    """values: float32 (side, side), grey levels 0 to 255.

    In a window of n pixels, with u = the weighted neighbours under a cell and x the pixel: K = <u, x> / <u, u>, noise
    = <x, x> - K <u, x>, posterior of the cell proportional to noise^(-n/2) (K and the variance integrated out).
    """
    import cv2

    planes = [values, *(cv2.filter2D(values, -1, ring) for ring in _rings())]
    means = [_window_mean(plane) for plane in planes]
    moments = {
        (i, j): _window_mean(planes[i] * planes[j]) - means[i] * means[j]
        for i in range(ORDERS + 1)
        for j in range(i, ORDERS + 1)
    }
    variance = np.maximum(moments[0, 0], 0)
    with_pixel = np.stack([moments[0, r] for r in range(1, ORDERS + 1)], axis=-1)  # (rows, columns, 4)
    pairs = [(i, j) for i in range(1, ORDERS + 1) for j in range(i, ORDERS + 1)]
    among = np.stack([moments[pair] for pair in pairs], axis=-1)  # (rows, columns, 10)
    products = np.stack([(1 + (i != j)) * grid()[:, i - 1] * grid()[:, j - 1] for i, j in pairs])  # (10, cells)
    ux, uu = with_pixel @ grid().T, np.maximum(among @ products, 0)
    explained = ux * ux / (uu + QUANTISATION)
    left = np.maximum(variance[:, :, None] - explained, 0) + QUANTISATION
    logs = -(WINDOW**2) / 2 * np.log(left)
    likely = np.exp(logs - logs.max(axis=-1, keepdims=True))
    posterior = likely / likely.sum(axis=-1, keepdims=True)
    return Fitted(posterior, (posterior * left).sum(axis=-1) - QUANTISATION, variance)


def micro_texture(fitted: Fitted) -> Float32:
    """Mean posterior of the cells, then shares of windows by noise and explained share: each sums to 1."""
    cells = fitted.posterior.mean(axis=(0, 1))
    share = 1 - (fitted.noise + QUANTISATION) / (fitted.variance + QUANTISATION)
    level = np.digitize(fitted.noise, NOISE_EDGES) * (len(SHARE_EDGES) + 1) + np.digitize(share, SHARE_EDGES)
    counts = np.bincount(level.ravel(), minlength=N_TEXTURE - N_CELLS)
    return np.concatenate([cells, counts / level.size]).astype(np.float32)


def _rings() -> list[Float32]:
    """For each order the mean over the neighbours at that city-block distance, as 5 x 5 kernels."""
    rows, columns = np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1]
    order = np.abs(rows) + np.abs(columns)
    return [((order == r) / (order == r).sum()).astype(np.float32) for r in range(1, ORDERS + 1)]


def _window_mean(plane: npt.NDArray[np.generic]) -> Float32:
    import cv2

    return np.asarray(cv2.boxFilter(np.asarray(plane, np.float32), -1, (WINDOW, WINDOW)), np.float32)[
        ::STRIDE, ::STRIDE
    ]
