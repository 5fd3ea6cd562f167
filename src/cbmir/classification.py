"""The paper's task: tell classes apart. Pictures of 256 pixels a side, 224 of them seen, negative log-likelihood.

Source: the paper, section 3.1.2, eq. 1 to 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .fitting import Losses, TrainingProgress, fit
from .recipes import DcnnRecipe
from .types import Int, UInt8

SIDE = 224
"""Side of the square the network sees; the packed images are 256 on a side."""


@dataclass(frozen=True)
class TrainingSet:
    """images: uint8 (N, C, 256, 256), may be memory-mapped; labels: int64 (n,), index of the class.

    rows: which of the images these are, None when all N.
    """

    images: UInt8
    labels: Int
    rows: Int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Int) -> TrainingSet:
        """These rows, read into memory."""
        return TrainingSet(self.images[rows if self.rows is None else self.rows[rows]], self.labels[rows])

    def part(self, rows: Int) -> TrainingSet:
        """These rows, left on disk."""
        return TrainingSet(self.images, self.labels[rows], rows)


class Classification:
    """Classes told apart, in an order drawn for each epoch. See fitting.Objective."""

    def __init__(self, training: TrainingSet, validation: TrainingSet | None, recipe: DcnnRecipe, seed: int) -> None:
        self.training, self.validation, self.recipe, self.seed = training, validation, recipe, seed
        self.n_images = len(training)
        self.learned = None

    @property
    def identity(self) -> str:
        digest = sha256(self.training.labels.tobytes())
        if self.training.rows is not None:
            digest.update(self.training.rows.tobytes())
        return digest.hexdigest()

    def optimizer(self, network: torch.nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            network.parameters(),
            lr=self.recipe.lr,
            momentum=self.recipe.momentum,
            weight_decay=self.recipe.weight_decay,
            fused=True,  # one pass over the 75 million weights instead of five
        )

    def batches(self, epoch: int, start: int) -> Iterator[tuple[UInt8, Int]]:
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.training))
        for step, rows in enumerate(batches(order, self.recipe.batch_size)):
            batch = self.training[rows]
            images = crop(batch.images, self.recipe, rng)
            if step >= start:  # the crops before a checkpoint are drawn again so that the rest is the same
                yield images, batch.labels

    def losses(self, module: Any, batch: tuple[UInt8, Int], device: torch.device) -> Losses:
        """Eq. 1 on one batch (the paper's batch is one image)."""
        images, labels = batch
        target = torch.from_numpy(labels).to(device)
        log_probabilities = module(torch.from_numpy(images).to(device).float())[-1]
        loss = negative_log_likelihood(log_probabilities, target, self.recipe.label_smoothing)
        return Losses(loss, len(labels), int((log_probabilities.argmax(1) != target).sum()))

    def validate(self, module: Any) -> dict[str, float]:
        return {} if self.validation is None else validate(module, self.validation)


def fit_classifier(
    network: torch.nn.Module,
    training: TrainingSet,
    validation: TrainingSet | None,
    recipe: DcnnRecipe,
    run_dir: Path,
    *,
    seed: int,
    data: str = "",
    device: str = "auto",
    on_progress: TrainingProgress | None = None,
) -> list[dict[str, float]]:
    """fitting.fit for a network whose last output are log-probabilities of classes."""
    objective = Classification(training, validation, recipe, seed)
    return fit(network, objective, recipe, run_dir, seed=seed, data=data, device=device, on_progress=on_progress)


def negative_log_likelihood(log_probabilities: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """NLL, the paper's criterion; with smoothing s the target keeps 1 - s and s is spread over all classes."""
    nll = F.nll_loss(log_probabilities, target)
    return nll if smoothing == 0 else (1 - smoothing) * nll - smoothing * log_probabilities.mean()


def crop(images: UInt8, recipe: DcnnRecipe, rng: np.random.Generator) -> UInt8:
    """224 x 224 of each image (n, C, 256, 256): the centre, or a place, size, side and tone drawn for each image."""
    if recipe.crop == "centre":
        return centre_crop(images)
    return np.stack([_augmented(image, recipe, rng) for image in images])


def _augmented(image: UInt8, recipe: DcnnRecipe, rng: np.random.Generator) -> UInt8:
    """One image (C, 256, 256) as another picture of the same thing."""
    whole = image.shape[-1]
    side = SIDE if recipe.zoom == 0 else int(rng.integers(round(whole * (1 - recipe.zoom)), whole + 1))
    top, left = rng.integers(0, whole - side + 1, 2)
    out = image[:, top : top + side, left : left + side]
    if side != SIDE:
        out = np.stack(
            [np.asarray(Image.fromarray(plane).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for plane in out]
        )
    if recipe.flip and rng.random() < 0.5:
        out = out[:, :, ::-1]
    return _toned(out, recipe.tone, rng) if recipe.tone else out


def _toned(image: UInt8, amount: float, rng: np.random.Generator) -> UInt8:
    """Another window: a gamma and a gain, each between exp(-amount) and exp(amount)."""
    gamma, gain = np.exp(rng.uniform(-amount, amount, 2))
    curve = np.clip(gain * (np.arange(256) / 255) ** gamma, 0, 1) * 255
    toned: UInt8 = np.rint(curve).astype(np.uint8)[image]
    return toned


def centre_crop(images: UInt8) -> UInt8:
    margin = (images.shape[-1] - SIDE) // 2
    return np.ascontiguousarray(images[..., margin : margin + SIDE, margin : margin + SIDE])


def batches(order: Int, size: int) -> Iterator[Int]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


@torch.no_grad()
def validate(module: Any, validation: TrainingSet) -> dict[str, float]:
    """Loss and error on the validation part, every neuron kept."""
    module.eval()
    loss, wrong = 0.0, 0
    device = next(module.parameters()).device
    for rows in batches(np.arange(len(validation)), 128):
        batch = validation[rows]
        target = torch.from_numpy(batch.labels).to(device)
        images = torch.from_numpy(centre_crop(batch.images)).to(device).float()
        log_probabilities = module(images)[-1]
        loss += float(F.nll_loss(log_probabilities, target, reduction="sum"))
        wrong += int((log_probabilities.argmax(1) != target).sum())
    return {"validation_loss": loss / len(validation), "validation_error": wrong / len(validation)}
