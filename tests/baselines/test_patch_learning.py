"""mil-patch [43]: the two losses, which patches are kept, what a patch network says, and the whole method on a toy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cbmir.baselines import TrainPart
from cbmir.baselines.mil_patch import MilPatch, informative_mean, posterior
from cbmir.baselines.patch_network import (
    IGNORED,
    PATCH,
    STRIDE,
    PatchNetwork,
    PatchRule,
    Schedule,
    first_stage_loss,
    second_stage_loss,
)
from cbmir.errors import CbmirError, UsageError

SHORT = Schedule(epochs=(3, 1, 2), lr=1e-2, batch_size=8)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of such small work only wait for one another where other tests run beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def marked(n: int) -> tuple[np.ndarray, list[str], list[str]]:
    """Noise with a small bright disc or cross somewhere: only a patch that sees it can tell."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 60, (n, 1, 128, 128), dtype=np.uint8)
    labels = ["bars" if i % 2 else "block" for i in range(n)]
    for image, label in zip(images, labels, strict=True):
        top, left = rng.integers(20, 80, 2)
        spot = image[0, top : top + 24, left : left + 24]
        spot[:] = 255
        if label == "bars":
            spot[::6], spot[1::6], spot[2::6] = 0, 0, 0
    return images, labels, [f"patient {i}" for i in range(n)]


def scores_of(probabilities: list[list[float]]) -> torch.Tensor:
    """One picture of 2 x 2 patches; a row per class, a column per patch."""
    return torch.tensor(probabilities).log().reshape(1, len(probabilities), 2, 2)


def test_a_picture_has_36_patches_and_a_patch_alone_gives_what_it_gives_inside_the_picture() -> None:
    network = PatchNetwork(3).eval()
    image = torch.rand(1, 1, 128, 128) * 255
    with torch.no_grad():
        fc, scores = network(image)
        patch = image[:, :, 2 * STRIDE : 2 * STRIDE + PATCH, 3 * STRIDE : 3 * STRIDE + PATCH]
        alone_fc, alone = network(patch)
    assert scores.shape == (1, 3, 6, 6)
    assert torch.allclose(alone[0, :, 0, 0], scores[0, :, 2, 3], atol=1e-5)
    assert torch.allclose(alone_fc[0, :, 0, 0], fc[0, :, 2, 3], atol=1e-5)


def test_the_first_stage_learns_from_the_best_patch_only() -> None:
    scores = scores_of([[0.9, 0.5, 0.2, 0.1], [0.1, 0.5, 0.8, 0.9]]).requires_grad_()
    loss = first_stage_loss(scores, torch.tensor([0]))
    assert loss.item() == pytest.approx(-np.log(0.9), abs=1e-6)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert gradient.flatten(2).abs().sum(1)[0].ne(0).tolist() == [True, False, False, False]


def test_patches_near_the_best_and_like_it_are_discriminative_wrong_or_unsure_ones_are_not() -> None:
    scores = scores_of([[0.9, 0.6, 0.2, 0.1], [0.1, 0.4, 0.8, 0.9]])
    targets = PatchRule(share=0.5, reach=1, entropy=0.8).targets(scores, torch.tensor([0]))
    assert targets.flatten().tolist() == [0, 0, 2, 2]


def test_a_patch_far_from_the_best_one_is_ignored_when_it_is_right_and_sure() -> None:
    scores = scores_of([[0.99, 0.95, 0.6, 0.1], [0.01, 0.05, 0.4, 0.9]])
    targets = PatchRule(share=0.5, reach=0, entropy=0.8).targets(scores, torch.tensor([0]))
    assert targets.flatten().tolist() == [0, IGNORED, 2, 2]


def test_the_second_stage_weighs_both_kinds_alike_and_ignores_the_rest() -> None:
    scores = scores_of([[0.5, 0.2, 0.2, 0.2], [0.25, 0.4, 0.3, 0.2], [0.25, 0.4, 0.5, 0.6]])
    targets = torch.tensor([[[0, 2], [2, IGNORED]]])
    expected = -np.log(0.5) - (np.log(0.4) + np.log(0.5)) / 2
    assert float(second_stage_loss(scores, targets)) == pytest.approx(expected, abs=1e-6)


def test_features_are_the_mean_of_the_m_patches_that_are_least_uninformative() -> None:
    fc = torch.tensor([[1.0, 2.0, 4.0, 8.0]]).reshape(1, 1, 2, 2)
    scores = scores_of([[0.9, 0.1, 0.7, 0.2], [0.1, 0.9, 0.3, 0.8]])  # the last class is the non-informative one
    assert informative_mean(fc, scores, 2).tolist() == [[2.5]]  # (1 + 4) / 2


def test_the_posterior_leaves_the_non_informative_class_out_and_sums_to_one() -> None:
    scores = torch.tensor([0.1, 0.2, 0.7]).log()[None, :, None, None].expand(1, 3, 6, 6)
    assert posterior(scores)[0].tolist() == pytest.approx([1 / 3, 2 / 3])


def test_it_learns_marks_that_only_a_patch_shows_and_repeats_itself(tmp_path: Path) -> None:
    train = TrainPart(*marked(40))
    method = MilPatch(schedule=SHORT, width=16)
    told: list[tuple[int, int]] = []
    method.fit(train, seed=3, on_progress=lambda done, total: told.append((done, total)))
    assert method.classes == ("bars", "block")
    assert told[-1] == (6 * 40, 6 * 40)
    new, truth, _ = marked(56)
    right = np.array(method.classes)[method.classify(new[40:]).argmax(axis=1)] == truth[40:]
    assert right.mean() >= 0.9
    features = method.features(new[40:])
    assert features.shape == (16, 16)
    assert features.dtype == np.float32

    again = MilPatch(schedule=SHORT, width=16)
    again.fit(train, seed=3)
    assert np.array_equal(again.features(new[40:]), features)

    method.save(tmp_path)
    loaded = MilPatch()
    loaded.load(tmp_path)
    assert loaded.classes == method.classes
    assert np.array_equal(loaded.features(new[40:]), features)


def test_what_is_not_fitted_or_damaged_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not fitted"):
        MilPatch().features(np.zeros((1, 1, 128, 128), np.uint8))
    with pytest.raises(CbmirError, match="fit it first"):
        MilPatch().load(tmp_path)
    (tmp_path / "state.npz").write_bytes(b"no zip")
    with pytest.raises(CbmirError, match="damaged"):
        MilPatch().load(tmp_path)
