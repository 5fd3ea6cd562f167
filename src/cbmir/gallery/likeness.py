"""Whether a gallery holds anything like a query: how far the query's images are from their nearest in all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..confidence import NEIGHBOURS, farthest_usual, unlikeness
from ..index import Found, Index, Scope
from ..types import Float32

LOOKED_AT = 16
"""Of a query of more images so many, evenly spread, are looked at: each costs a search."""


def in_distribution(
    index: Index, rows: Float32, scope: Scope, calibration: Mapping[str, Any], layer: str, nearest: Found | None
) -> tuple[bool | None, tuple[str, ...]]:
    """False where at least half of the images are unlike the gallery, and then a sentence about it.

    rows: float32 (m, dim), the images of the query as they are. scope: all rows but the hidden ones; nearest: what the
    only image finds in it, where that is known. None without a calibration, or with too few rows to tell.
    """
    limit = farthest_usual(calibration, layer)
    if limit is None:
        return None, ()
    if nearest is not None and len(nearest) >= NEIGHBOURS:
        found = [nearest]
    else:
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(LOOKED_AT, len(rows))).astype(np.int64))
        found = [index.search(row, NEIGHBOURS, scope) for row in rows[chosen]]
    measured = np.array([unlikeness(one.distances) for one in found])
    if np.isnan(measured).any():
        return None, ()
    far = measured > limit
    if 2 * far.sum() < len(far):
        return True, ()
    return False, (_sentence(int(far.sum()), len(far), float(np.median(measured[far])), limit),)


def _sentence(n_far: int, n_images: int, distance: float, limit: float) -> str:
    who = "this image is" if n_images == 1 else f"{n_far} of {n_images} images of the query are"
    return (
        f"{who} unlike the gallery: the {NEIGHBOURS} nearest are {distance:.4g} away on average, and for 95 of 100 "
        f"images of the kinds the encoder knows it is {limit:.4g} at most"
    )
