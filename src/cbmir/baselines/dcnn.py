"""The paper's own network, with its three layers of features: FCL1, FCL2, FCL3.

From the paper (section 3.1): the network, its 24-way output, Euclidean distance on the activations of a fully connected
layer. What we had to choose is in networks/dcnn.py (padding, the reading of FCL3) and in the recipe `paper-practical`
(docs/reproduction.md): the paper's own recipe does not train in the time anybody has.

One fit serves the three layers: methods with the same `fit_name` save and load the same thing.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import torch

from ..classification import SIDE, TrainingSet, centre_crop, fit_classifier
from ..distances import Distance
from ..encoder import Encoded, NetworkEncoder, load_encoder, save_encoder
from ..errors import CbmirError, UsageError
from ..fitting import StepReport
from ..networks import build
from ..preprocess import Preprocessing
from ..recipes import PAPER_PRACTICAL, DcnnRecipe
from ..runtime import NetworkFiles, load_network
from ..types import Float32, Progress, UInt8
from . import Method, TrainPart
from ._batches import in_batches
from ._states import images_digest, not_fitted

BATCH = 64
LAYERS = ("FCL1", "FCL2", "FCL3")
MADE_BY = "dcnn"
"""What the training record of the saved encoder says."""


class Dcnn:
    """Activations of one layer, dim 4,096. Its images are 256 on a side: training cuts 224 at random, the rest centred.

    recipe, width: smaller ones for a short run. Saved, it is an encoder like those of `cbmir train`.
    """

    distance: Distance = "euclidean"
    preprocessing = Preprocessing(crop=256)
    fit_name = "dcnn"
    base: Method | None = None
    learns = True

    def __init__(self, layer: str = "FCL1", *, recipe: DcnnRecipe = PAPER_PRACTICAL, width: int = 4096) -> None:
        """Raises UsageError for a layer that is none of LAYERS."""
        if layer not in LAYERS:
            raise UsageError(f"The network has the layers {', '.join(LAYERS)}, not '{layer}'.")
        self.name = f"dcnn-{layer.lower()}"
        self.layers = (layer,)
        self.recipe, self.width = recipe, width
        self._encoder: NetworkEncoder | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return () if self._encoder is None else self._encoder.classes

    def fit(self, train: TrainPart, *, seed: int, on_progress: Progress | None = None) -> None:
        architecture = self._architecture(len(train.classes))
        network = build(architecture)
        network.initialise(self.recipe.weights, self.recipe.biases, torch.Generator().manual_seed(seed))
        log = train_network(network, train, self.recipe, seed=seed, on_progress=on_progress)
        save_encoder(
            home := temporary_folder(self),
            {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()},
            architecture=architecture,
            preprocessing=Preprocessing(),
            classes=train.classes,
            layers=dict.fromkeys(LAYERS, self.width),
            calibration={},
            training={"method": MADE_BY, "recipe": self.recipe.as_dict(), "seed": seed, "log": log},
        )
        self._take(home)

    def _architecture(self, n_classes: int) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "kind": "dcnn",
            "side": SIDE,
            "channels": 1,
            "n_classes": n_classes,
            "mean": recipe.mean,
            "scale": recipe.scale,
            "dropout": recipe.dropout,
            "separate_fcl3": True,
            "width": self.width,
        }

    def encode(self, images: UInt8) -> Encoded:
        encoder = self._fitted()
        return in_batches(images, BATCH, lambda batch: encoder.encode(centre_crop(batch)))

    def features(self, images: UInt8) -> Float32:
        return self.encode(images).features[self.layers[0]]

    def classify(self, images: UInt8) -> Float32 | None:
        return self.encode(images).posterior

    def network(self) -> Any:
        """The fitted network as a torch module of its own, for what goes on from it."""
        encoder = self._fitted()
        weights = encoder.directory / "weights.safetensors"
        return load_network(NetworkFiles(encoder.architecture, weights, encoder.weights_sha256))

    def _fitted(self) -> NetworkEncoder:
        if self._encoder is None:
            raise not_fitted(self.name)
        return self._encoder

    def save(self, folder: Path) -> None:
        home = self._fitted().directory
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("weights.safetensors", "encoder.json"):  # encoder.json last: whole or not there
            new = folder / (file + ".new")
            shutil.copyfile(home / file, new)
            new.replace(folder / file)

    def load(self, folder: Path) -> None:
        if not (folder / "encoder.json").is_file():
            raise CbmirError(f"The method '{self.name}' was not saved there: fit it first.")
        self._take(folder)

    def _take(self, folder: Path) -> None:
        encoder = load_encoder(folder)
        if not isinstance(encoder, NetworkEncoder) or encoder.training.get("method") != MADE_BY:
            raise CbmirError(f"What is saved there is not of the method '{self.name}': fit it again.")
        self._encoder = encoder


def train_network(
    network: torch.nn.Module,
    train: TrainPart,
    recipe: DcnnRecipe,
    *,
    seed: int,
    on_progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Train a network in place, all images, none kept for validation; its last output are log-probabilities.

    Its images are 256 on a side. Returns the log.
    """

    def report(step: StepReport) -> None:
        if on_progress:
            on_progress(step.done, step.total)

    folder = train.work or Path(tempfile.mkdtemp(prefix="cbmir-"))
    if train.work is None:  # not sooner: TensorBoard's thread may still write
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    data = f"{type(network).__name__} {images_digest(train.images)}"
    training = TrainingSet(train.images, train.numbers)
    log = fit_classifier(network, training, None, recipe, folder, seed=seed, data=data, on_progress=report)
    for checkpoint in folder.glob("checkpoint.*"):
        checkpoint.unlink()
    return log


def temporary_folder(owner: object) -> Path:
    """A folder that lives as long as its owner."""
    folder = Path(tempfile.mkdtemp(prefix="cbmir-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder
