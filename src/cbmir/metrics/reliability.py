"""Do probabilities come true? Plain NumPy on (probability, what happened); and AUROC, on any two lists of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..types import Bool, Int
from .ranked import Float

N_BINS = 15
"""As in Guo et al. 2017."""

Binning = Literal["mass", "width"]
"""Bins of equally many predictions, or of equal width in probability."""


@dataclass(frozen=True)
class Bin:
    """Predictions of nearby probability. share: of all weight; told: mean probability; true: share that came true."""

    share: float
    told: float
    true: float


def reliability(
    probabilities: Float, true: Bool, weights: Float | None = None, *, binning: Binning = "mass", n_bins: int = N_BINS
) -> list[Bin]:
    """The bins that hold something, from low to high probability. probabilities: (n,) in [0, 1]; true: (n,).

    weights: (n,), 1 without them. Equal mass: bins of equal weight; equal probabilities are never parted, so there may
    be fewer bins. Equal width: n_bins parts of [0, 1]; 1 belongs to the last.
    """
    weights = np.ones(len(true)) if weights is None else weights
    if binning == "width":
        places = np.minimum((probabilities * n_bins).astype(np.int64), n_bins - 1)
    else:
        places = _of_equal_mass(probabilities, weights, n_bins)
    found = []
    for place in np.unique(places):
        here = places == place
        if (weight := weights[here].sum()) > 0:
            told, came = np.average(probabilities[here], weights=weights[here]), weights[here] @ true[here] / weight
            found.append(Bin(float(weight / weights.sum()), float(told), float(came)))
    return found


def _of_equal_mass(probabilities: Float, weights: Float, n_bins: int) -> Int:
    """The bin of each: that in which the middle of the weight at its probability lies."""
    values, codes = np.unique(probabilities, return_inverse=True)
    mass = np.bincount(codes, weights=weights, minlength=len(values))
    middle = (np.cumsum(mass) - mass / 2) / mass.sum() if mass.sum() else mass
    places: Int = np.minimum((middle * n_bins).astype(np.int64), n_bins - 1)[codes]
    return places


def ece(
    probabilities: Float, true: Bool, weights: Float | None = None, *, binning: Binning = "mass", n_bins: int = N_BINS
) -> float:
    """Expected calibration error: sum over bins of share x |told - true|; NaN of nothing."""
    bins = reliability(probabilities, true, weights, binning=binning, n_bins=n_bins)
    return sum(one.share * abs(one.told - one.true) for one in bins) if bins else float("nan")


def brier(probabilities: Float, true: Bool, weights: Float | None = None) -> float:
    """Mean of (probability - outcome)^2, outcome 0 or 1; NaN of nothing."""
    if not len(true):
        return float("nan")
    return float(np.average((probabilities - true) ** 2, weights=weights))


def auroc(negatives: Float, positives: Float) -> float:
    """How often a positive is above a negative, a tie counting half; NaN where one side is empty (Mann and Whitney)."""
    if not (len(negatives) and len(positives)):
        return float("nan")
    ordered = np.sort(negatives)
    below, upto = (np.searchsorted(ordered, positives, side=side) for side in ("left", "right"))
    return float((below + upto).mean() / 2 / len(negatives))
