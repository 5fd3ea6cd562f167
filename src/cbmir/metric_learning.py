"""The task of the compact encoder: rank. Images of one class near, others far; within a class, images of one finding.

Losses, on the main layer (unit length):
- cross-entropy of the classes, on cosine similarities (Zhai and Wu 2019, Classification is a strong baseline for deep
  metric learning), and of the findings of the image's own class, so that a class does not become a point;
- a loss on distances: supervised contrastive (Khosla et al. 2020), multi-similarity (Wang et al. 2019) or proxy anchor
  (Kim et al. 2020), from pytorch-metric-learning, for classes and again for findings;
- cross-entropy of the modality.
An image without a class stands twice in a batch, as two pictures that are like each other and like nothing else.
Batches are even over classes, and within a class over sources by the root of their size: a class is not its scanner.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .augment import augment
from .fitting import Losses
from .recipes import GROUP, MetricRecipe
from .types import Int, UInt8

UNKNOWN = -1
"""Of a class, finding or modality that nobody told."""
UNLABELLED = 4
"""Images without a class in a group of a batch, each twice."""
START_SCALE = 16.0
"""Cosine similarities are multiplied by this before their softmax, at first; it is learned."""


@dataclass(frozen=True)
class MetricSet:
    """images: uint8 (N, 3, side, side), may be memory-mapped; rows: int64 (n,), which of them these are.

    classes, findings, modalities: int64 (n,), UNKNOWN where nobody told. groups: int64 (n,), as classes, but also
    told for images of classes that the encoder shall not answer. sources: int64 (n,).
    """

    images: UInt8
    rows: Int
    classes: Int
    groups: Int
    findings: Int
    modalities: Int
    sources: Int

    def __len__(self) -> int:
        return len(self.rows)

    def pictures(self, places: Int) -> UInt8:
        """uint8 (m, 3, side, side) of some places from 0 to n - 1, read into memory."""
        rows = self.rows[places]
        order = np.argsort(rows, kind="stable")  # a memory map is read forwards
        out = np.empty((len(rows), *self.images.shape[1:]), np.uint8)
        out[order] = self.images[rows[order]]
        return out


class MetricLearning:
    """See fitting.Objective and the top of this file."""

    def __init__(self, training: MetricSet, recipe: MetricRecipe, seed: int) -> None:
        self.training, self.recipe, self.seed = training, recipe, seed
        self.n_images = recipe.epoch_images or len(training)
        self.by_group = _by_group_and_source(training)
        self.fine = _FineClasses(training, recipe.dim, seed)
        self.by_class = _metric_loss(recipe, int(training.groups.max(initial=-1)) + 1)
        self.by_finding = _metric_loss(recipe, int(training.findings.max(initial=-1)) + 1)
        parts: list[nn.Module | None] = [self.fine, self.by_class, self.by_finding]
        self.learned: nn.Module = nn.ModuleList([part for part in parts if part is not None])

    @property
    def identity(self) -> str:
        digest = sha256()
        for part in ("rows", "classes", "groups", "findings", "modalities", "sources"):
            digest.update(getattr(self.training, part).tobytes())
        return digest.hexdigest()

    def optimizer(self, network: torch.nn.Module) -> torch.optim.Optimizer:
        """AdamW; the heads, and what only the losses have, learn faster than the bodies."""
        body = list(network.get_submodule("bodies").parameters())
        known = {id(parameter) for parameter in body}
        heads = [parameter for parameter in network.parameters() if id(parameter) not in known]
        own = list(self.learned.parameters())
        groups: list[dict[str, Any]] = [
            {"params": body, "times": 1.0},
            {"params": [*heads, *own], "times": self.recipe.heads},
        ]
        return torch.optim.AdamW(groups, lr=self.recipe.lr, weight_decay=self.recipe.weight_decay, fused=True)

    def batches(self, epoch: int, start: int) -> Iterator[tuple[Int, int]]:
        """Places in the training set, and the seed of their augmentation."""
        for step in range(start, -(-self.n_images // self.recipe.batch_size)):
            rng = np.random.default_rng((self.seed, epoch, step))
            yield self._draw(rng), int(rng.integers(2**62))

    def _draw(self, rng: np.random.Generator) -> Int:
        n_groups = self.recipe.batch_size // GROUP
        names = list(self.by_group)
        chosen = rng.choice(len(names), n_groups, replace=len(names) < n_groups)
        places: list[int] = []
        for name in chosen:
            sources = self.by_group[names[name]]
            n = UNLABELLED if names[name] == UNKNOWN else GROUP
            shares = np.array([len(members) ** 0.5 for members in sources])
            picked = rng.choice(len(sources), n, p=shares / shares.sum())
            drawn = [int(rng.choice(sources[source])) for source in picked]
            places += drawn if n == GROUP else [*drawn, *drawn]
        return np.array(places, np.int64)

    def losses(self, module: Any, batch: tuple[Int, int], device: torch.device) -> Losses:
        places, augment_seed = batch
        training, recipe = self.training, self.recipe
        generator = torch.Generator().manual_seed(augment_seed)
        images = augment(torch.from_numpy(training.pictures(places)), recipe.side, generator, recipe.augment)
        main, class_scores = module(images.to(device, memory_format=torch.channels_last))
        modality_scores = module.modalities(main)
        told = {
            name: torch.from_numpy(getattr(training, name)[places]).to(device)
            for name in ("classes", "groups", "findings", "modalities")
        }
        loss = _cross_entropy(class_scores, told["classes"], recipe.label_smoothing)
        loss = loss + recipe.modality * _cross_entropy(modality_scores, told["modalities"], 0.0)
        if recipe.finding:
            loss = loss + recipe.finding * self.fine(main, told["classes"], told["findings"])
        if self.by_class is not None:
            alone = len(self.training.images) + torch.from_numpy(training.rows[places]).to(device)
            labels = torch.where(told["groups"] == UNKNOWN, alone, told["groups"])
            distances = self._metric(self.by_class, main, labels)
            if recipe.finding and self.by_finding is not None:
                has = told["findings"] != UNKNOWN
                distances = distances + recipe.finding * self._metric(self.by_finding, main[has], told["findings"][has])
            loss = loss + recipe.metric_weight * distances
        judged = told["classes"] != UNKNOWN
        wrong = class_scores.argmax(1)[judged] != told["classes"][judged]
        return Losses(loss, len(places), int(wrong.sum()), int(judged.sum()))

    def _metric(self, loss: nn.Module, main: Tensor, labels: Tensor) -> Tensor:
        """0 where there is nothing to compare. Proxies know classes only: images that stand alone take no part."""
        if self.recipe.metric == "proxy-anchor":
            known = labels < loss.num_classes  # type: ignore[operator]
            main, labels = main[known], labels[known]
        if len(labels) < 2:
            return main.sum() * 0
        found: Tensor = loss(main, labels)
        return found

    def validate(self, module: Any) -> dict[str, float]:
        return {}


def _by_group_and_source(training: MetricSet) -> dict[int, list[Int]]:
    """Group -> the places of each of its sources. The unlabelled are one group."""
    found: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, (group, source) in enumerate(zip(training.groups.tolist(), training.sources.tolist(), strict=True)):
        found[group][source].append(place)
    return {
        group: [np.array(found[group][source], np.int64) for source in sorted(found[group])] for group in sorted(found)
    }


def _cross_entropy(log_probabilities: Tensor, told: Tensor, smoothing: float) -> Tensor:
    """Mean over the images whose answer is told; 0 where there is none."""
    known = told != UNKNOWN
    if not known.any():
        return log_probabilities.sum() * 0
    return F.cross_entropy(log_probabilities[known], told[known], label_smoothing=smoothing)


class _FineClasses(nn.Module):
    """Cross-entropy of the finding among those of the same class, on cosine similarities to a vector for each."""

    def __init__(self, training: MetricSet, dim: int, seed: int) -> None:
        super().__init__()
        n = int(training.findings.max(initial=-1)) + 1
        generator = torch.Generator().manual_seed(seed)
        self.centres = nn.Parameter(torch.randn(n, dim, generator=generator) * dim**-0.5)
        self.scale = nn.Parameter(torch.tensor(float(np.log(START_SCALE))))
        of = np.full(n, UNKNOWN, np.int64)
        has = training.findings != UNKNOWN
        of[training.findings[has]] = training.classes[has]
        self.register_buffer("class_of", torch.from_numpy(of))

    def forward(self, main: Tensor, classes: Tensor, findings: Tensor) -> Tensor:
        known = (findings != UNKNOWN) & (classes != UNKNOWN)
        if not known.any():
            return main.sum() * 0
        scores = self.scale.exp() * main[known] @ F.normalize(self.centres, dim=1).T
        elsewhere = self.class_of[None] != classes[known][:, None]  # type: ignore[index]
        return F.cross_entropy(scores.masked_fill(elsewhere, -1e4), findings[known])


def _metric_loss(recipe: MetricRecipe, n_labels: int) -> nn.Module | None:
    """None where the recipe has none, or nothing is told apart."""
    from pytorch_metric_learning import losses

    if recipe.metric == "none" or n_labels == 0:
        return None
    made: nn.Module = {
        "supcon": lambda: losses.SupConLoss(temperature=recipe.temperature),
        "multi-similarity": lambda: losses.MultiSimilarityLoss(alpha=2, beta=1 / recipe.temperature, base=0.5),
        "proxy-anchor": lambda: losses.ProxyAnchorLoss(n_labels, recipe.dim, margin=0.1, alpha=32),
    }[recipe.metric]()
    return made
