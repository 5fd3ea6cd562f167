"""Closing a compact network: within-class whitening and heads, on numbers checkable by head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cbmir.closing import fit_head, leading_directions, projection, within_class_whitening
from cbmir.metric_learning import UNKNOWN


def test_directions_in_which_a_class_varies_become_small() -> None:
    """Two classes, each spread 3 along x and 1 along y: x shrinks by 3 against y."""
    features = np.array([[-3.0, -1], [3, 1], [-3, 1], [3, -1], [7, 9], [13, 11], [7, 11], [13, 9]])
    matrix = within_class_whitening(features, np.repeat([0, 1], 4), 0.0)
    assert matrix[0, 1] == pytest.approx(0)
    assert matrix[1, 1] / matrix[0, 0] == pytest.approx(3)
    assert np.trace(matrix) == pytest.approx(2)


def test_full_shrinkage_changes_nothing() -> None:
    features = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_allclose(within_class_whitening(features, np.arange(20) % 4, 1.0), np.eye(3), atol=1e-12)


def test_classes_that_are_points_change_nothing() -> None:
    features = np.repeat(np.eye(3), 2, axis=0)
    np.testing.assert_allclose(within_class_whitening(features, np.repeat([0, 1, 2], 2), 0.3), np.eye(3), atol=1e-12)


def test_a_small_class_counts_as_a_large_one() -> None:
    small, large = np.array([[0.0, -1], [0, 1]]), np.array([[-1.0, 0], [1, 0]])
    few = within_class_whitening(np.concatenate([small, large]), np.array([0, 0, 1, 1]), 0.0)
    many = within_class_whitening(np.concatenate([small, *[large] * 50]), np.array([0, 0] + [1] * 100), 0.0)
    np.testing.assert_allclose(few, many, atol=1e-12)


def test_the_directions_with_most_in_them_are_kept_and_every_class_has_one_voice() -> None:
    """Class 0 lies at 3 along x, with a hundred images; class 1 at 4 along y, with two; z is nobody's."""
    features = np.concatenate([np.tile([3.0, 0, 0], (100, 1)), np.tile([0.0, 4, 0], (2, 1))])
    kept = leading_directions(features, np.repeat([0, 1], [100, 2]), 2)
    np.testing.assert_allclose(np.abs(kept), [[0, 1, 0], [1, 0, 0]], atol=1e-12)


def test_the_projection_centres_between_the_classes_and_tells_them_apart() -> None:
    pooled = np.array([[0, 0, 5], [0, 2, 5], [4, 0, 5], [4, 2, 5]], np.float32)
    matrix, centre = projection(pooled, np.repeat([0, 1], 2), 1, 0.5)
    assert centre.tolist() == [2, 1, 5]
    places = (pooled - centre) @ matrix.T
    assert places.ravel() / places[0, 0] == pytest.approx([1, 1, -1, -1])


def test_a_head_learns_what_a_line_can_tell() -> None:
    angles = torch.linspace(0, 2 * torch.pi, 40)
    main = torch.stack([angles.cos(), angles.sin()], 1)
    numbers = (main[:, 0] > 0).long().numpy()
    numbers[::7] = UNKNOWN
    head = nn.Linear(2, 2)
    fit_head(head, main, numbers, 1e-4)
    known = numbers != UNKNOWN
    assert (head(main).argmax(1).numpy()[known] == numbers[known]).all()


def test_a_head_without_anything_told_answers_evenly() -> None:
    head = nn.Linear(2, 3)
    fit_head(head, torch.eye(2), np.full(2, UNKNOWN), 1e-4)
    assert head(torch.eye(2)).softmax(1).tolist() == [[pytest.approx(1 / 3)] * 3] * 2
