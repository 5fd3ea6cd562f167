"""Closing a compact network: projection and heads fitted once more, on the pictures as they are.

While it is trained a body sees augmented pictures in even batches, under a projection of its own. At the end the
pooled channels of all bodies are centred, the directions in which images of one class differ are made small
(within-class covariance normalisation: Hatch, Kajarekar and Stolcke 2006), and those that hold the most are kept as the
main layer; the heads, one linear layer each, are fitted to that. All in closed form or to convergence, so that the
result depends on the order of nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from .metric_learning import UNKNOWN, MetricSet
from .recipes import MetricRecipe
from .types import Float32, Int

Float64 = npt.NDArray[np.float64]
BATCH = 64
STEPS = 200
"""Of L-BFGS, at most, for a head."""


@torch.no_grad()
def pooled_features(network: Any, images: MetricSet) -> Float32:
    """float32 (n, channels): the pooled maps of every image, as it is packed."""
    device = next(network.parameters()).device
    network.eval()
    found = []
    for start in range(0, len(images), BATCH):
        batch = torch.from_numpy(images.pictures(np.arange(start, min(start + BATCH, len(images)))))
        seen = batch.to(device, memory_format=torch.channels_last).float()
        found.append(network.pool(network.maps(seen)).cpu().numpy())
    return np.concatenate(found)


def close(network: Any, training: MetricSet, recipe: MetricRecipe, seed: int) -> None:
    """Fit projection and heads of a folded network in place."""
    pooled = pooled_features(network, training)
    labelled = training.classes != UNKNOWN
    matrix, centre = projection(pooled[labelled], training.classes[labelled], recipe.dim, recipe.shrinkage)
    with torch.no_grad():
        network.project.weight.copy_(torch.from_numpy(matrix))
        network.project.bias.copy_(torch.from_numpy(-matrix @ centre))
        main = F.normalize(network.project(torch.from_numpy(pooled).to(network.p.device)), dim=1)
    for head, numbers in ((network.classes, training.classes), (network.modalities, training.modalities)):
        fit_head(head, main, numbers, recipe.head_decay)


def projection(pooled: Float32, classes: Int, dim: int, shrinkage: float) -> tuple[Float64, Float64]:
    """(dim, channels) and the centre (channels,): whitened within classes, then the `dim` directions with most in them.

    pooled: (n, channels); classes: (n,).
    """
    centre = _mean_of_classes(pooled, classes)
    whitening = within_class_whitening(pooled, classes, shrinkage)
    directions = leading_directions((pooled - centre) @ whitening, classes, dim)
    return directions @ whitening, centre


def leading_directions(features: Float64, classes: Int, dim: int) -> Float64:
    """(dim, channels), orthonormal: those of the largest mean square, of which every class has the same share."""
    moment = np.mean([_moment(features[classes == number]) for number in np.unique(classes)], axis=0)
    _, axes = np.linalg.eigh(moment)
    found: Float64 = axes[:, ::-1][:, :dim].T
    return found


def _moment(features: Float64) -> Float64:
    found: Float64 = features.T @ features / len(features)
    return found


def _mean_of_classes(features: Float32, classes: Int) -> Float64:
    """The mean of the class means: a large class counts as a small one."""
    means = [features[classes == number].mean(axis=0, dtype=np.float64) for number in np.unique(classes)]
    mean: Float64 = np.mean(means, axis=0)
    return mean


def within_class_whitening(features: Float32 | Float64, classes: Int, shrinkage: float) -> Float64:
    """(dim, dim), symmetric: W^-1/2 of W = (1 - s) within + s trace(within) / dim I, scaled to a mean gain of 1.

    features: (n, dim); classes: (n,). within: the mean of the classes' covariances. s of 1 changes nothing.
    """
    dim = features.shape[1]
    within = np.zeros((dim, dim))
    present = np.unique(classes)
    for number in present:
        rest = features[classes == number].astype(np.float64)
        rest -= rest.mean(axis=0)
        within += rest.T @ rest / len(rest) / len(present)
    level = float(np.trace(within) / dim) or 1.0  # 0: every class is one point
    shrunk = (1 - shrinkage) * within + shrinkage * level * np.eye(dim)
    variances, axes = np.linalg.eigh(shrunk)
    matrix: Float64 = axes * (variances**-0.5) @ axes.T
    scaled: Float64 = matrix * (dim / np.trace(matrix))
    return scaled


def fit_head(head: torch.nn.Linear, main: Tensor, numbers: Int, decay: float) -> None:
    """Multinomial logistic regression, classes weighed evenly. main: (n, dim) of unit length; numbers: (n,).

    decay: of the squared weights, for a mean loss. Where nothing is told, the head answers evenly.
    """
    known = numbers != UNKNOWN
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    if not known.any():
        return
    rows, target = main[torch.from_numpy(known).to(main.device)], torch.from_numpy(numbers[known]).to(main.device)
    counts = torch.bincount(target, minlength=head.out_features).clamp(min=1)
    weights = (1 / counts.float())[target]
    weights = weights / weights.sum()
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=STEPS, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = (F.cross_entropy(head(rows), target, reduction="none") * weights).sum()
        value = value + decay * head.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
