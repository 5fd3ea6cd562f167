"""`encoder:DIR`: any encoder of cbmir as a method, with its own preprocessing and nothing left to fit."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..distances import Distance
from ..encoder import Encoded, load_encoder
from ..errors import CbmirError
from ..types import UInt8
from ._batches import in_batches
from ._states import ArrayMethod, Arrays

BATCH = 64


class Trained(ArrayMethod):
    """Features of all layers of the encoder, its posterior. The encoder must not have seen the test part: nobody here
    can check that. path: a directory made by `cbmir train`, `default` or `pixels`.
    """

    distance: Distance = "euclidean"
    learns = False
    fitted = True

    def __init__(self, path: Path) -> None:
        self.path, self.encoder = path, load_encoder(str(path))
        self.name = f"encoder:{self.encoder.name}"
        self.preprocessing = self.encoder.preprocessing
        self.classes = self.encoder.classes

    @property
    def fit_name(self) -> str:
        return f"{self.name} {sha256(str(self.path).encode()).hexdigest()[:12]}"

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.encoder.layers)

    def encode(self, images: UInt8) -> Encoded:
        return in_batches(images, BATCH, self.encoder.encode)

    def _state(self) -> Arrays:
        """Which encoder it was."""
        return {"fingerprint": np.array(self.encoder.fingerprint)}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        if str(arrays["fingerprint"]) != self.encoder.fingerprint:
            raise CbmirError(f"What is saved there is of another encoder than '{self.name}': measure it again.")
