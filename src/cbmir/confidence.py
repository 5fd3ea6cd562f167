"""What an encoder's calibration makes of what it says: plain arithmetic, fitted by calibrate.py.

    tempered(log_probabilities, calibration) -> posterior   probabilities that come true as often as they say
    scores(distances, calibration, layer) -> array | None   the probability that a hit is of the query's class
    unlikeness(distances) -> float                          how far a query is from the gallery it asks
    farthest_usual(calibration, layer) -> float | None      of 100 queries that belong there, 95 are nearer

An encoder without the part of the calibration that is asked for gives None, or the posterior as the network says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .types import Float32

NEIGHBOURS = 5
"""Whose mean distance tells whether a query is like the gallery; of fewer nothing is told."""


def tempered(log_probabilities: Float32, calibration: Mapping[str, Any]) -> Float32:
    """softmax(log p / T), float32 (n, K), T of the calibration (Guo et al. 2017). The order of classes stays."""
    fitted = calibration.get("temperature")
    if fitted is None:
        return np.exp(log_probabilities)
    return softened(log_probabilities, fitted["temperature"])


def softened(log_probabilities: Float32, temperature: float) -> Float32:
    scaled = np.asarray(log_probabilities, np.float64) / temperature
    odds = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True), np.float32)


def scores(distances: Float32, calibration: Mapping[str, Any], layer: str) -> Float32 | None:
    """1 / (1 + exp(slope d - intercept)), float32 as distances, falling with the distance. Between 0 and 1."""
    fitted = calibration.get("score", {}).get(layer)
    if fitted is None:
        return None
    return logistic(distances, fitted["slope"], fitted["intercept"])


def logistic(distances: npt.NDArray[np.floating[Any]], slope: float, intercept: float) -> Float32:
    odds = np.clip(slope * np.asarray(distances, np.float64) - intercept, -700, 700)
    return np.asarray(1 / (1 + np.exp(odds)), np.float32)


def unlikeness(distances: Float32) -> float:
    """Mean of the NEIGHBOURS smallest distances, nearest first, to rows of the gallery; NaN of fewer."""
    nearest = distances[:NEIGHBOURS]
    return float(nearest.mean(dtype=np.float64)) if len(nearest) == NEIGHBOURS else float("nan")


def farthest_usual(calibration: Mapping[str, Any], layer: str) -> float | None:
    """The unlikeness above which a query is flagged."""
    fitted = calibration.get("in_distribution", {}).get(layer)
    return None if fitted is None else float(fitted["threshold"])
