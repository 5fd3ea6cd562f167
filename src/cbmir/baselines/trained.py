"""`encoder:DIR`: any encoder of cbmir as a method, with its own preprocessing and nothing left to fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..distances import Distance
from ..encoder import Encoded, Encoder, load_encoder
from ..errors import CbmirError
from ..types import Float32, Progress, UInt8
from ._handmade import read_state, write_state

BATCH = 64


class Trained:
    """Features of the encoder's first layer, its posterior. The encoder must not have seen the test part: nobody here
    can check that. path: a directory made by `cbmir train`, or `pixels`.
    """

    distance: Distance = "euclidean"

    def __init__(self, path: Path) -> None:
        self.encoder: Encoder = load_encoder(path)
        self.name = f"encoder:{self.encoder.name}"
        self.preprocessing = self.encoder.preprocessing
        self.classes = self.encoder.classes
        self.layers = tuple(self.encoder.layers)

    def fit(
        self,
        images: UInt8,
        labels: Sequence[str],
        *,
        patients: Sequence[str],
        seed: int,
        on_progress: Progress | None = None,
    ) -> None:
        """Nothing to learn."""

    def features(self, images: UInt8) -> Float32:
        return self.features_by_layer(images)[self.layers[0]]

    def features_by_layer(self, images: UInt8) -> dict[str, Float32]:
        """All layers in one pass, the default one first."""
        answers = encoded(self.encoder, images)
        return {layer: np.concatenate([answer.features[layer] for answer in answers]) for layer in self.layers}

    def classify(self, images: UInt8) -> Float32 | None:
        return posteriors(encoded(self.encoder, images)) if self.classes else None

    def save(self, folder: Path) -> None:
        """Which encoder it was."""
        write_state(folder, "encoder", {"fingerprint": np.array(self.encoder.fingerprint)})

    def load(self, folder: Path) -> None:
        if str(read_state(folder, "encoder").get("fingerprint")) != self.encoder.fingerprint:
            raise CbmirError(f"What is saved there is of another encoder than '{self.name}': measure it again.")


def encoded(encoder: Encoder, images: UInt8, cut: Callable[[UInt8], UInt8] = np.array) -> list[Encoded]:
    """What the encoder says, batch by batch. cut: from the images given to those the encoder takes."""
    return [encoder.encode(cut(images[start : start + BATCH])) for start in range(0, max(len(images), 1), BATCH)]


def posteriors(answers: Sequence[Encoded]) -> Float32:
    return np.concatenate([answer.posterior for answer in answers if answer.posterior is not None])
