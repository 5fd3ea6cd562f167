"""Batches and losses of metric learning, on numbers checkable by head."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cbmir.metric_learning import UNKNOWN, MetricLearning, MetricSet
from cbmir.recipes import OURS, MetricRecipe

RECIPE = replace(OURS, batch_size=16, side=32, packed=32, dim=8)


def collection(**changes: Any) -> MetricSet:
    """Class 0: 90 images of source 0 and 10 of source 1; class 1: 4 images; 6 that nobody labelled."""
    n = 110
    classes = np.repeat([0, 1, UNKNOWN], [100, 4, 6])
    parts: dict[str, Any] = {
        "images": np.random.default_rng(0).integers(0, 256, (n, 3, 32, 32), np.uint8),
        "rows": np.arange(n),
        "classes": classes,
        "groups": classes,
        "findings": np.where(classes == 0, np.arange(n) % 2, UNKNOWN),
        "modalities": np.zeros(n, np.int64),
        "sources": np.repeat([0, 1, 2], [90, 10, 10]),
    }
    return MetricSet(**parts | changes)


class Toy(nn.Module):
    """A linear body: mean colour to 8 dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies, self.project = nn.Linear(3, 8), nn.Linear(8, 8)
        self.classes, self.modalities = nn.Linear(8, 2), nn.Linear(8, 1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        main = nn.functional.normalize(self.project(self.bodies(images.mean((2, 3)) / 255)), dim=1)
        return main, self.classes(main).log_softmax(1)


def places(epochs: int = 30, recipe: MetricRecipe = RECIPE) -> np.ndarray[Any, Any]:
    objective = MetricLearning(collection(), recipe, seed=1)
    return np.concatenate([batch for epoch in range(epochs) for batch, _ in objective.batches(epoch, 0)])


def test_classes_are_even_however_many_images_they_have() -> None:
    drawn = Counter(collection().classes[places()].tolist())
    assert drawn[0] / drawn[1] == pytest.approx(1, abs=0.3)


def test_sources_of_a_class_count_by_the_root_of_their_size() -> None:
    drawn = places()
    of_class = drawn[collection().classes[drawn] == 0]
    share = float((collection().sources[of_class] == 1).mean())
    assert share == pytest.approx(10**0.5 / (90**0.5 + 10**0.5), abs=0.06)


def test_an_image_without_a_class_stands_twice_in_its_batch() -> None:
    objective = MetricLearning(collection(), RECIPE, seed=1)
    for batch, _ in objective.batches(0, 0):
        alone = batch[collection().classes[batch] == UNKNOWN]
        assert all(count % 2 == 0 for count in Counter(alone.tolist()).values())


def test_a_batch_is_the_same_whenever_it_is_drawn() -> None:
    objective = MetricLearning(collection(), RECIPE, seed=1)
    whole = [(batch.tolist(), seed) for batch, seed in objective.batches(2, 0)]
    rest = [(batch.tolist(), seed) for batch, seed in objective.batches(2, 3)]
    assert whole[3:] == rest
    assert whole != [(batch.tolist(), seed) for batch, seed in MetricLearning(collection(), RECIPE, 2).batches(2, 0)]


def test_an_epoch_may_be_shorter_than_the_collection() -> None:
    objective = MetricLearning(collection(), replace(RECIPE, epoch_images=32), seed=1)
    assert len(list(objective.batches(0, 0))) == 2


@pytest.mark.parametrize("metric", ["none", "supcon", "multi-similarity", "proxy-anchor"])
def test_every_loss_teaches(metric: Any) -> None:
    """Dark and bright pictures: after some steps the two classes are apart."""
    images = np.concatenate([np.full((100, 3, 32, 32), 20, np.uint8), np.full((10, 3, 32, 32), 220, np.uint8)])
    recipe = replace(RECIPE, metric=metric, augment=0.0, finding=0.0, lr=0.01)
    objective = MetricLearning(collection(images=images), recipe, seed=1)
    torch.manual_seed(0)
    network = Toy()
    optimizer = objective.optimizer(network)
    values = []
    for epoch in range(12):
        for batch in objective.batches(epoch, 0):
            losses = objective.losses(network, batch, torch.device("cpu"))
            optimizer.zero_grad()
            losses.loss.backward()
            optimizer.step()
            values.append((float(losses.loss.detach()), losses.n_wrong))
    assert np.mean([loss for loss, _ in values[-5:]]) < np.mean([loss for loss, _ in values[:5]])
    assert sum(wrong for _, wrong in values[-5:]) == 0


def test_images_that_nobody_labelled_alone_give_a_finite_loss() -> None:
    nothing = np.full(110, UNKNOWN)
    objective = MetricLearning(
        collection(classes=nothing, groups=nothing, findings=nothing, modalities=nothing), RECIPE, seed=1
    )
    losses = objective.losses(Toy(), next(objective.batches(0, 0)), torch.device("cpu"))
    assert torch.isfinite(losses.loss)
    assert losses.n_judged == 0


def test_a_finding_is_told_apart_within_its_class_only() -> None:
    """The centres of the other class's findings are no wrong answers: the loss of one alone in its class is 0."""
    findings = np.where(collection().classes == 1, 0, UNKNOWN)
    objective = MetricLearning(collection(findings=findings), RECIPE, seed=1)
    main = nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    told = torch.full((4,), 1), torch.zeros(4, dtype=torch.int64)
    assert objective.fine(main, *told).item() == pytest.approx(0, abs=1e-6)
