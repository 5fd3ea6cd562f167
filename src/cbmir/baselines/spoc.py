"""Sum-pooled convolutional features, SPoC [17], on the last convolution of the paper's network.

From the paper (Babenko and Lempitsky, Aggregating deep convolutional features for image retrieval, ICCV 2015, section
4): activations of the last convolutional layer, weighted by a Gaussian centre prior whose sigma is a third of the
distance from the centre to the nearest border, summed over places; L2; PCA with whitening to 256; L2 again; the dot
product, which on unit vectors ranks as the Euclidean distance.

What we had to choose: the network, ours instead of a VGG trained on photographs; CVL5 after its ReLU and before its
pooling, 256 maps of 13 x 13; PCA fitted on the train part (the paper's on a collection held apart). The paper keeps 256
of 512 dimensions. Of our 256 that would drop nothing, and whitening all of them makes noise of the weak ones: how many
stay is chosen by the mAP of three inner folds of the train part by patient.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..classification import centre_crop
from ..distances import Distance
from ..encoder import Encoded
from ..preprocess import Preprocessing
from ..recipes import PAPER_PRACTICAL, DcnnRecipe
from ..types import Float32, Progress, UInt8
from . import TrainPart
from ._batches import in_batches
from ._states import not_fitted, read_state, write_state
from .dcnn import Dcnn
from .projection import Whitening, choose_dim, fit_whitening, unit

BATCH = 64


class Spoc:
    """base: the network to look into, trained first where it is not fitted. Its posterior is the network's."""

    name = "spoc"
    fit_name = "spoc"
    layers = ("spoc",)
    learns = True
    distance: Distance = "euclidean"
    preprocessing = Preprocessing(crop=256)

    def __init__(self, *, base: Dcnn | None = None, recipe: DcnnRecipe = PAPER_PRACTICAL, width: int = 4096) -> None:
        self.base: Dcnn = base or Dcnn(recipe=recipe, width=width)
        self._whitening: Whitening | None = None
        self._network: Any = None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.base.classes

    def fit(self, train: TrainPart, *, seed: int, on_progress: Progress | None = None) -> None:
        if not self.base.classes:
            self.base.fit(train, seed=seed, on_progress=on_progress)
        self._network = self.base.network()
        pooled = self._pooled(train.images).features[self.name]
        self._whitening = fit_whitening(pooled, choose_dim(pooled, train.labels, train.patients, seed))

    def encode(self, images: UInt8) -> Encoded:
        whitening, pooled = self._fitted(), self._pooled(images)
        return Encoded({self.name: whitening(pooled.features[self.name])}, pooled.posterior)

    def features(self, images: UInt8) -> Float32:
        return self.encode(images).features[self.name]

    def classify(self, images: UInt8) -> Float32 | None:
        return self.encode(images).posterior

    def _pooled(self, images: UInt8) -> Encoded:
        """Before whitening."""
        return in_batches(images, BATCH, self._batch)

    @torch.inference_mode()
    def _batch(self, images: UInt8) -> Encoded:
        maps, log_probabilities = last_convolution(self._network, torch.from_numpy(centre_crop(images)).float())
        return Encoded({self.name: unit(sum_pooled(maps).numpy())}, log_probabilities.exp().numpy())

    def _fitted(self) -> Whitening:
        if self._whitening is None:
            raise not_fitted(self.name)
        return self._whitening

    def save(self, folder: Path) -> None:
        arrays = self._fitted().as_arrays()
        self.base.save(folder / "dcnn")
        write_state(folder, self.name, arrays)

    def load(self, folder: Path) -> None:
        self._whitening = Whitening.from_arrays(read_state(folder, self.name), self.name)
        self.base.load(folder / "dcnn")
        self._network = self.base.network()


def last_convolution(network: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """CVL5 after its ReLU, (batch, 256, 13, 13), of images (batch, 1, 224, 224), grey levels 0 ... 255.

    Beside it what the network answers: log-probabilities (batch, classes).
    """
    seen: list[Tensor] = []
    handle = network.cvl5.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        log_probabilities = network(images)[-1]
    finally:
        handle.remove()
    return F.relu(seen[0]), log_probabilities


def centre_prior(side: int) -> Tensor:
    """exp(-(x^2 + y^2) / (2 sigma^2)) from the centre, sigma a third of the way to the border; (side, side)."""
    offset = torch.arange(side) - (side - 1) / 2
    sigma = side / 2 / 3
    line = torch.exp(-(offset**2) / (2 * sigma**2))
    return line[:, None] * line[None, :]


def sum_pooled(maps: Tensor) -> Tensor:
    """(batch, channels, side, side) weighted by the centre prior and summed: (batch, channels)."""
    return (maps * centre_prior(maps.shape[-1])).sum(dim=(2, 3))
