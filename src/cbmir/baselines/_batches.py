"""Batch by batch through a network, and the answers joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..encoder import Encoded
from ..types import UInt8


def in_batches(images: UInt8, size: int, encode: Callable[[UInt8], Encoded]) -> Encoded:
    """What `encode` says of all images, `size` at a time. Without images it is asked once, for its layers and dims."""
    starts = range(0, max(len(images), 1), size)
    return joined([encode(np.array(images[start : start + size])) for start in starts])


def joined(parts: Sequence[Encoded]) -> Encoded:
    """One after the other; at least one."""
    features = {layer: np.concatenate([part.features[layer] for part in parts]) for layer in parts[0].features}
    posteriors = [part.posterior for part in parts if part.posterior is not None]
    return Encoded(features, np.concatenate(posteriors) if posteriors else None)
