"""The floor: the picture itself as a thumbnail. Nothing is fitted, no paper is behind it."""

from __future__ import annotations

import numpy as np

from ..distances import Distance
from ..encoder import PixelsEncoder
from ..types import Float32, UInt8
from ._handmade import Handmade


class Pixels(Handmade):
    """The features of the encoder `pixels`: 24 x 24 grey values in [0, 1], their mean taken away. dim 576."""

    name = "pixels"
    distance: Distance = "euclidean"
    preprocessing = PixelsEncoder().preprocessing

    def features(self, images: UInt8) -> Float32:
        if len(images) == 0:
            return np.empty((0, PixelsEncoder.layers["pixels"]), np.float32)
        return PixelsEncoder().encode(images).features["pixels"]
