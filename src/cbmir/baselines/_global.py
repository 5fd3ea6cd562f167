"""Global features of one picture: edges, colour, texture, layout; see svm_fusion."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..types import Float32, UInt8

DIMS: Mapping[str, int] = {"edges": 80, "colours": 9, "texture": 20, "layout": 64}
"""Feature -> how many values, in the order of `describe`."""

_LEVELS = 32
_LEAST_EDGE = 11.0  # of the MPEG-7 reference software, in grey levels
_ROOT2 = float(np.sqrt(2))
_FILTERS: Float32 = np.array(
    [[1, -1, 1, -1], [1, 1, -1, -1], [_ROOT2, 0, 0, -_ROOT2], [0, _ROOT2, -_ROOT2, 0], [2, -2, -2, 2]], np.float32
)
"""Vertical, horizontal, 45 degrees, 135 degrees, none, on the means of 2 x 2 parts (upper left and right, lower)."""


def describe(image: UInt8) -> Float32:
    """All features of DIMS one after the other, float32 (173,). image: uint8 RGB (3, 128, 128)."""
    import cv2

    colour = np.ascontiguousarray(image.transpose(1, 2, 0))
    grey = np.asarray(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY), np.uint8)
    hsv = np.asarray(cv2.cvtColor(colour.astype(np.float32) / 255, cv2.COLOR_RGB2HSV), np.float32)
    return np.concatenate([edge_histogram(grey), moments(hsv), texture(grey), layout(grey)])


def edge_histogram(grey: UInt8) -> Float32:
    """Shares of five kinds of edges in 4 x 4 regions: float32 (80,), region by region along rows.

    Each block of 4 x 4 pixels is the kind whose filter answers most, or none below the least edge.
    Source: Manjunath et al., IEEE TCSVT 11(6), 2001 (MPEG-7 edge histogram).
    """
    n = len(grey) // 4
    parts = means(grey, 2 * n).reshape(n, 2, n, 2).transpose(0, 2, 1, 3).reshape(n, n, 4)
    strength = np.abs(parts @ _FILTERS.T)  # (n, n, 5)
    is_kind = (strength == strength.max(axis=-1, keepdims=True)) & (strength.max(axis=-1, keepdims=True) > _LEAST_EDGE)
    regions = is_kind.reshape(4, n // 4, 4, n // 4, 5).mean(axis=(1, 3))
    return np.asarray(regions.ravel(), np.float32)


def moments(hsv: Float32) -> Float32:
    """Mean, deviation and cube root of the third moment of each channel: float32 (9,). hsv: (side, side, 3).

    The hue, in degrees, counts as a part of a turn. Source: Stricker and Orengo, SPIE 2420, 1995.
    """
    values = hsv.reshape(-1, 3).astype(np.float64) / (360, 1, 1)
    mean = values.mean(axis=0)
    apart = values - mean
    return np.concatenate([mean, np.sqrt((apart**2).mean(axis=0)), np.cbrt((apart**3).mean(axis=0))]).astype(np.float32)


def texture(grey: UInt8) -> Float32:
    """Energy, contrast, homogeneity, correlation and entropy of co-occurring grey levels: float32 (20,).

    32 levels, neighbours in four directions; five groups of four. Source: Haralick et al., IEEE TSMC 3(6), 1973.
    """
    from skimage.feature import graycomatrix, graycoprops

    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    matrix = graycomatrix(grey // (256 // _LEVELS), [1], angles, levels=_LEVELS, symmetric=True, normed=True)
    found = [graycoprops(matrix, name)[0] for name in ("energy", "contrast", "homogeneity", "correlation")]
    entropy = -(matrix * np.log2(matrix, out=np.zeros_like(matrix), where=matrix > 0)).sum(axis=(0, 1, 2))
    return np.concatenate([*found, entropy]).astype(np.float32)


def layout(grey: UInt8) -> Float32:
    """Mean grey of 8 x 8 parts, in [0, 1], along rows: float32 (64,)."""
    return means(grey, 8).ravel() / np.float32(255)


def means(grey: npt.NDArray[np.generic], parts: int) -> Float32:
    """Means of parts x parts equal squares of a square picture, float32 (parts, parts)."""
    size = len(grey) // parts
    return np.asarray(grey.reshape(parts, size, parts, size).mean(axis=(1, 3), dtype=np.float32), np.float32)
