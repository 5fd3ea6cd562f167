"""What the methods with a network share: tensors from saved arrays, and the images a method is fitted on, named."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ..errors import CbmirError
from ..types import UInt8

if TYPE_CHECKING:
    from torch import Tensor


def damaged(name: str) -> CbmirError:
    return CbmirError(f"What is saved of the method '{name}' is damaged: delete it and fit again.")


def tensors_of(arrays: Mapping[str, npt.NDArray[Any]], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the names of `wanted`. Raises KeyError where one is missing."""
    import torch

    return {name: torch.from_numpy(arrays[name]) for name in wanted}


def images_digest(images: UInt8) -> str:
    """Names the images a run was started on, hex; read in pieces, since they may be memory-mapped."""
    digest = sha256(repr(images.shape).encode())
    for start in range(0, len(images), 256):
        digest.update(images[start : start + 256].tobytes())
    return digest.hexdigest()
