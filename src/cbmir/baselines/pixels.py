"""The floor: the picture itself as a thumbnail. Nothing is fitted, no paper is behind it."""

from __future__ import annotations

from ..distances import Distance
from ..encoder import Encoded, PixelsEncoder
from ..types import UInt8
from ._states import ArrayMethod


class Pixels(ArrayMethod):
    """The features of the encoder `pixels`: 24 x 24 grey values in [0, 1], their mean taken away. dim 576."""

    name = "pixels"
    learns = False
    distance: Distance = "euclidean"
    preprocessing = PixelsEncoder().preprocessing

    def encode(self, images: UInt8) -> Encoded:
        return Encoded({self.name: PixelsEncoder().encode(images).features["pixels"]}, None)
