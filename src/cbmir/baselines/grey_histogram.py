"""The other floor: which grey levels there are, not where. Nothing is fitted.

Source: Swain and Ballard, Color Indexing, IJCV 7(1), 1991, with grey levels for colours. Chosen here: 64 equal bins,
128 x 128 pixels, chi-square distance (Puzicha et al., ICCV 1999) in place of histogram intersection.
"""

from __future__ import annotations

import numpy as np

from ..distances import Distance
from ..encoder import Encoded
from ..preprocess import Preprocessing
from ..types import Float32, UInt8
from ._handmade import image_rows
from ._states import ArrayMethod

N_BINS = 64


class GreyHistogram(ArrayMethod):
    """Shares of 64 grey levels, at least 0, that sum to 1. dim 64."""

    name = "grey-histogram"
    learns = False
    distance: Distance = "chi-square"
    preprocessing = Preprocessing(size=128, crop=128)

    def encode(self, images: UInt8) -> Encoded:
        return Encoded({self.name: image_rows(images, histogram, N_BINS)}, None)


def histogram(image: UInt8) -> Float32:
    """image: uint8 of any shape. Returns float32 (64,)."""
    counts = np.bincount(image.ravel() // np.uint8(256 // N_BINS), minlength=N_BINS)
    return (counts / image.size).astype(np.float32)
