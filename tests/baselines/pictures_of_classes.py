"""Small classes of pictures a person could tell apart: stripes that lie, stripes that stand, noise."""

from __future__ import annotations

import numpy as np

from cbmir.baselines import TrainPart
from cbmir.preprocess import Preprocessing
from cbmir.types import UInt8

CLASSES = ("lying", "noise", "standing")


def stripes(side: int, period: int, *, standing: bool) -> UInt8:
    """Black and white bands, `period` pixels from one to the next."""
    band = (np.arange(side) % period < period // 2) * np.uint8(200)
    lying = np.repeat(band[:, None], side, axis=1)
    return (lying.T if standing else lying).astype(np.uint8)


def pictures(preprocessing: Preprocessing, per_class: int = 6, seed: int = 0) -> tuple[UInt8, list[str], list[str]]:
    """Images (n, C, side, side), labels and patients (two images each) of CLASSES."""
    rng = np.random.default_rng(seed)
    side = preprocessing.crop
    images, labels = [], []
    for label in CLASSES:
        for _ in range(per_class):
            noise = rng.integers(0, 40, (side, side), dtype=np.uint8)
            if label == "noise":
                picture = noise * np.uint8(6)
            else:
                picture = stripes(side, int(rng.integers(10, 16)), standing=label == "standing") + noise
            images.append(np.repeat(picture[None], preprocessing.n_channels, axis=0))
            labels.append(label)
    return np.stack(images), labels, [f"patient {i // 2}" for i in range(len(labels))]


def train_part(preprocessing: Preprocessing) -> TrainPart:
    return TrainPart(*pictures(preprocessing))
