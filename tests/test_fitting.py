"""Fitting: eq. 1 to the letter, schedules, crops, and a run that was killed goes on where it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cbmir.classification import TrainingSet, crop, fit_classifier, negative_log_likelihood, validate
from cbmir.errors import CbmirError, UsageError
from cbmir.fitting import learning_rate
from cbmir.recipes import PAPER, recipe_named

RECIPE = replace(PAPER, batch_size=4, epochs=3, lr=0.05, momentum=0.9, precision="32-true")


class Brightness(nn.Module):
    """Two classes by mean grey level, with dropout so that randomness matters; answers like the DCNN."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 2)
        self.dropout = nn.Dropout(0.25)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mean = images.mean(dim=(1, 2, 3))[:, None] / 255 - 0.5
        return mean, self.linear(self.dropout(mean)).log_softmax(dim=1)


def brightness(seed: int = 0) -> Brightness:
    torch.manual_seed(seed)
    return Brightness()


@pytest.fixture
def dark_and_bright() -> TrainingSet:
    grey = np.array([10, 20, 30, 40, 210, 220, 230, 240], np.uint8)
    return TrainingSet(np.broadcast_to(grey[:, None, None, None], (8, 1, 256, 256)), np.repeat([0, 1], 4))


def test_it_learns_and_logs_one_line_an_epoch(dark_and_bright: TrainingSet, tmp_path: Path) -> None:
    log = fit_classifier(brightness(), dark_and_bright, dark_and_bright, replace(RECIPE, epochs=12), tmp_path, seed=1)
    assert log[-1]["loss"] < log[0]["loss"]
    assert log[-1]["validation_error"] == 0
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [*range(1, 13)]
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_one_image_a_step_is_equation_1(dark_and_bright: TrainingSet, tmp_path: Path) -> None:
    """theta <- theta - eta * gradient of J(theta; x, y), image by image, in the order drawn for the epoch."""
    literal = replace(PAPER, epochs=1, lr=0.1)
    network, by_hand = brightness().eval(), brightness().eval()
    network.dropout = by_hand.dropout = nn.Identity()
    fit_classifier(network, dark_and_bright, None, literal, tmp_path, seed=5)
    for row in np.random.default_rng((5, 0)).permutation(8):
        image = torch.from_numpy(dark_and_bright.images[row : row + 1, :, 16:240, 16:240].astype(np.float32))
        loss = -by_hand(image)[-1][0, dark_and_bright.labels[row]]
        gradients = torch.autograd.grad(loss, list(by_hand.parameters()))
        with torch.no_grad():
            for theta, gradient in zip(by_hand.parameters(), gradients, strict=True):
                theta -= 0.1 * gradient
    for ours, theirs in zip(network.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kill_at", [2, 3, 4])
def test_a_killed_run_ends_as_if_it_had_not_been(
    dark_and_bright: TrainingSet, tmp_path: Path, kill_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbmir.fitting.CHECKPOINT_EVERY_S", -1.0)  # a checkpoint after every step
    recipe = replace(RECIPE, crop="random", flip=True)
    whole = brightness()
    expected = fit_classifier(whole, dark_and_bright, None, recipe, tmp_path / "whole", seed=2)

    class Killed(Exception):
        pass

    steps = 0

    def kill(_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == kill_at:
            raise Killed

    with pytest.raises(Killed):
        fit_classifier(brightness(), dark_and_bright, None, recipe, tmp_path / "run", seed=2, on_progress=kill)
    again = brightness(seed=99)
    log = fit_classifier(again, dark_and_bright, None, recipe, tmp_path / "run", seed=2)
    assert [line["loss"] for line in log] == [line["loss"] for line in expected]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_an_unfinished_run_with_another_recipe_is_refused(
    dark_and_bright: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbmir.fitting.CHECKPOINT_EVERY_S", -1.0)
    fit_classifier(brightness(), dark_and_bright, None, RECIPE, tmp_path, seed=1)
    with pytest.raises(UsageError, match="other data, recipe or seed"):
        fit_classifier(brightness(), dark_and_bright, None, replace(RECIPE, lr=0.01), tmp_path, seed=1)
    with pytest.raises(UsageError, match="other data, recipe or seed"):
        fit_classifier(
            brightness(), dark_and_bright, None, RECIPE, tmp_path, seed=1, data="other images, the same labels"
        )


def test_a_run_that_diverges_says_so(dark_and_bright: TrainingSet, tmp_path: Path) -> None:
    network = brightness()
    network.register_forward_hook(lambda _, __, output: tuple(part * float("inf") for part in output))
    with pytest.raises(CbmirError, match="smaller learning rate"):
        fit_classifier(network, dark_and_bright, None, RECIPE, tmp_path, seed=1)


def test_the_papers_learning_rate_is_constant() -> None:
    assert {learning_rate(PAPER, epoch) for epoch in (0, 0.5, 15, 29.9)} == {1e-4}


def test_cosine_rises_over_the_warm_up_and_falls_to_zero() -> None:
    recipe = replace(PAPER, lr=0.2, schedule="cosine", warmup_epochs=2, epochs=10)
    assert learning_rate(recipe, 0) == 0
    assert learning_rate(recipe, 1) == pytest.approx(0.1)
    assert learning_rate(recipe, 2) == pytest.approx(0.2)
    assert learning_rate(recipe, 6) == pytest.approx(0.1)
    assert learning_rate(recipe, 10) == pytest.approx(0)


def test_smoothing_spreads_a_part_of_the_target_over_all_classes() -> None:
    log_probabilities = torch.tensor([[-1.0, -3.0]])
    target = torch.tensor([0])
    assert negative_log_likelihood(log_probabilities, target, 0).item() == 1
    assert negative_log_likelihood(log_probabilities, target, 0.1).item() == pytest.approx(0.9 * 1 + 0.1 * 2)


def test_the_centre_crop_is_rows_16_to_240() -> None:
    images = np.arange(256, dtype=np.uint8)[None, None, :, None].repeat(256, axis=3)
    out = crop(images, PAPER, np.random.default_rng(0))
    assert out.shape == (1, 1, 224, 224)
    assert (out[0, 0, 0, 0], out[0, 0, -1, 0]) == (16, 239)


def test_random_crops_differ_and_stay_inside() -> None:
    images = np.arange(256, dtype=np.uint8)[None, None, :, None].repeat(256, axis=3).repeat(50, axis=0)
    tops = crop(images, replace(PAPER, crop="random"), np.random.default_rng(0))[:, 0, 0, 0]
    assert set(tops) <= set(range(33))
    assert len(set(tops)) > 10


def test_validation_keeps_every_neuron(dark_and_bright: TrainingSet) -> None:
    network = brightness()
    assert validate(network, dark_and_bright) == validate(network, dark_and_bright)


def test_an_unknown_recipe_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="no recipe 'papper': choose one of paper"):
        recipe_named("papper")


def test_a_recipe_can_be_changed_entry_by_entry() -> None:
    changed = recipe_named("paper", ["lr=0.01", "flip=True", "crop=random", "batch_size=8"], epochs=2)
    assert (changed.lr, changed.flip, changed.crop, changed.batch_size, changed.epochs) == (0.01, True, "random", 8, 2)
    assert (changed.weights, changed.momentum) == (PAPER.weights, PAPER.momentum)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("speed=9", "has no 'speed'"),
        ("lr=fast", "lr is float"),
        ("flip=maybe", "flip is bool"),
        ("crop=left", "crop is one of centre, random"),
        ("lr=-1", "lr -1.0 is out of range"),
        ("batch_size=0", "batch_size 0 is out of range"),
        ("zoom=2", "zoom 2.0 is out of range"),
    ],
)
def test_a_wrong_change_is_refused_by_name(change: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        recipe_named("paper", [change])


def test_zoom_flip_and_tone_make_other_pictures_of_the_same_thing() -> None:
    images = np.random.default_rng(1).integers(0, 256, (6, 1, 256, 256), np.uint8)
    recipe = replace(PAPER, crop="random", zoom=0.3, flip=True, tone=0.4)
    once, again = (crop(images, recipe, np.random.default_rng(7)) for _ in range(2))
    assert once.shape == (6, 1, 224, 224)
    assert once.dtype == np.uint8
    np.testing.assert_array_equal(once, again)
    assert (once != crop(images, recipe, np.random.default_rng(8))).any()


def test_tone_leaves_black_black() -> None:
    black = np.zeros((3, 1, 256, 256), np.uint8)
    assert not crop(black, replace(PAPER, crop="random", tone=0.5), np.random.default_rng(0)).any()
