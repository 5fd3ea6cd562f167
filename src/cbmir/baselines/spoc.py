"""Sum-pooled convolutional features, SPoC [17], on the last convolution of the paper's network.

From the paper (Babenko and Lempitsky, Aggregating deep convolutional features for image retrieval, ICCV 2015, section
4): activations of the last convolutional layer, weighted by a Gaussian centre prior whose sigma is a third of the
distance from the centre to the nearest border, summed over places; L2; PCA with whitening to 256; L2 again; the dot
product, which on unit vectors ranks as the Euclidean distance.

What we had to choose: the network, ours instead of a VGG trained on photographs; CVL5 after its ReLU and before its
pooling, 256 maps of 13 x 13; PCA fitted on the train part (the paper's on a collection held apart). With 256 maps PCA
turns and whitens but drops nothing; directions with nearly no variance are dropped, since whitening them makes noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..distances import Distance
from ..errors import UsageError
from ..fitting import centre_crop
from ..preprocess import Preprocessing
from ..recipes import PAPER_PRACTICAL, Recipe
from ..types import Float32, Progress, UInt8
from ._handmade import read_state, write_state
from .dcnn import Dcnn
from .projection import Whitening, fit_whitening, unit

DIM = 256
BATCH = 64


class Spoc:
    """start: the folder of a saved `dcnn`, which is then not trained again. The network's posterior is its class."""

    name = "spoc"
    distance: Distance = "euclidean"
    preprocessing = Preprocessing(crop=256)

    def __init__(self, *, start: Path | None = None, recipe: Recipe = PAPER_PRACTICAL, width: int = 4096) -> None:
        self.dcnn, self.start = Dcnn(recipe=recipe, width=width), start
        self._whitening: Whitening | None = None
        self._network: Any = None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.dcnn.classes

    def fit(
        self,
        images: UInt8,
        labels: Sequence[str],
        *,
        patients: Sequence[str],
        seed: int,
        on_progress: Progress | None = None,
    ) -> None:
        if self.start is None:
            self.dcnn.fit(images, labels, patients=patients, seed=seed, on_progress=on_progress)
        else:
            self.dcnn.load(self.start)
        self._network = self.dcnn.network()
        self._whitening = fit_whitening(unit(self._pooled(images)), DIM)

    def features(self, images: UInt8) -> Float32:
        if self._whitening is None:
            raise UsageError(f"The method '{self.name}' is not fitted yet.")
        return self._whitening(unit(self._pooled(images)))

    def classify(self, images: UInt8) -> Float32:
        return self.dcnn.classify(images)

    @torch.inference_mode()
    def _pooled(self, images: UInt8) -> Float32:
        parts = []
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(centre_crop(images[start : start + BATCH])).float()
            parts.append(sum_pooled(last_convolution(self._network, batch)).numpy())
        return np.concatenate(parts)

    def save(self, folder: Path) -> None:
        if self._whitening is None:
            raise UsageError(f"The method '{self.name}' is not fitted yet.")
        self.dcnn.save(folder / "dcnn")
        write_state(folder, self.name, self._whitening.as_arrays())

    def load(self, folder: Path) -> None:
        self._whitening = Whitening.from_arrays(read_state(folder, self.name), self.name)
        self.dcnn.load(folder / "dcnn")
        self._network = self.dcnn.network()


def last_convolution(network: Any, images: Tensor) -> Tensor:
    """CVL5 after its ReLU, (batch, 256, 13, 13), of images (batch, 1, 224, 224), grey levels 0 ... 255."""
    seen: list[Tensor] = []
    handle = network.cvl5.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        network(images)
    finally:
        handle.remove()
    return F.relu(seen[0])


def centre_prior(side: int) -> Tensor:
    """exp(-(x^2 + y^2) / (2 sigma^2)) from the centre, sigma a third of the way to the border; (side, side)."""
    offset = torch.arange(side) - (side - 1) / 2
    sigma = side / 2 / 3
    line = torch.exp(-(offset**2) / (2 * sigma**2))
    return line[:, None] * line[None, :]


def sum_pooled(maps: Tensor) -> Tensor:
    """(batch, channels, side, side) weighted by the centre prior and summed: (batch, channels)."""
    return (maps * centre_prior(maps.shape[-1])).sum(dim=(2, 3))
