"""A volume as its readers hand it over: voxels, where they lie, and what to make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..types import ObjectKind

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Volume:
    """voxels: (x, y, z) as stored, or uint8 (x, y, z, 3) RGB; a view, so that it is in memory once.

    affine: (4, 4), voxel indices to mm in RAS+ (x to the patient's right, y to the front, z up), possibly nonsense.
    slope, intercept: value = slope * voxel + intercept.
    """

    voxels: Array
    affine: Array
    format: str
    decoder: str
    slope: float = 1.0
    intercept: float = 0.0
    kind: ObjectKind = "picture"
    notes: tuple[str, ...] = ()


def first_volume(voxels: Array, shape: tuple[int, ...], notes: list[str]) -> Array:
    """(x, y, z[, 3]) of (x, y, z, ...[, 3]), whose shape without colours is `shape`; said in the notes."""
    n_volumes = int(np.prod(shape[3:], dtype=np.int64))
    if n_volumes > 1:
        notes.append(f"the first of {n_volumes} volumes")
    first: Array = voxels[(slice(None),) * 3 + (0,) * (len(shape) - 3)]
    return first
