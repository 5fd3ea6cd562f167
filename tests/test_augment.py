"""Augmentation: repeatable, within the grey levels, and strength 0 leaves the picture."""

from __future__ import annotations

import pytest
import torch

from cbmir.augment import _jpeg, augment


def pictures(n: int = 24, side: int = 48) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def drawn(seed: int, strength: float = 1.0) -> torch.Tensor:
    return augment(pictures(), 32, torch.Generator().manual_seed(seed), strength)


def test_it_is_drawn_from_the_generator() -> None:
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


@pytest.mark.parametrize("strength", [0.5, 1.0, 3.0])
def test_it_stays_within_the_grey_levels(strength: float) -> None:
    out = drawn(5, strength)
    assert out.shape == (24, 3, 32, 32)
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 255


def test_strength_0_only_resizes() -> None:
    same = augment(pictures(side=32), 32, torch.Generator().manual_seed(1), 0)
    torch.testing.assert_close(same, pictures(side=32).float())


def test_the_pictures_given_are_not_written_on() -> None:
    given = pictures()
    kept = given.clone()
    augment(given, 32, torch.Generator().manual_seed(1))
    assert torch.equal(given, kept)


def test_jpeg_keeps_what_is_even_and_loses_what_is_fine() -> None:
    even = torch.full((1, 3, 20, 20), 0.5)
    torch.testing.assert_close(_jpeg(even, 0.01), even, atol=0.01, rtol=0)
    chequered = (torch.arange(16)[:, None] + torch.arange(16)[None]).remainder(2).float().expand(1, 3, 16, 16)
    assert _jpeg(chequered, 0.5).std() < chequered.std() / 2
