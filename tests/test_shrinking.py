"""Pictures with a very long side are averaged down first, by blocks of whole pixels."""

from __future__ import annotations

import numpy as np
import pytest

from cbmir import shrinking
from cbmir.preprocess import Preprocessing, preprocess
from cbmir.shrinking import shrunk
from cbmir.types import DecodedImage, Provenance


def picture(pixels: np.ndarray, **known: object) -> DecodedImage:
    return DecodedImage(
        pixels=pixels, value_range=(0, 255), id="x", provenance=Provenance("PNG"), made_for_eye=True, **known
    )


@pytest.fixture
def limit_of_4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrinking, "LONGEST_SIDE", 4)


def test_a_picture_of_usual_size_is_left_alone() -> None:
    image = picture(np.zeros((6144, 1), np.float32))
    assert shrunk(image) is image


@pytest.mark.usefixtures("limit_of_4")
def test_blocks_of_whole_pixels_become_their_mean() -> None:
    # 8 columns by 2, 3 rows by 1
    image = picture(np.arange(24, dtype=np.float32).reshape(3, 8))
    small = shrunk(image)
    assert small.pixels.tolist() == [[0.5, 2.5, 4.5, 6.5], [8.5, 10.5, 12.5, 14.5], [16.5, 18.5, 20.5, 22.5]]
    assert small.pixel_aspect == 0.5  # its pixels are twice as wide as high now
    assert small.padding is None


@pytest.mark.usefixtures("limit_of_4")
def test_the_last_block_may_be_smaller() -> None:
    assert shrunk(picture(np.array([[0, 2, 4, 6, 9]], np.float32))).pixels.tolist() == [[1, 5, 9]]


@pytest.mark.usefixtures("limit_of_4")
def test_padding_and_what_is_no_number_do_not_count() -> None:
    pixels = np.array([[1, 99, np.nan, 4, 99, 99, 7, 9]], np.float32)
    small = shrunk(picture(pixels, padding=pixels == 99))
    assert small.pixels.tolist() == [[1, 4, 0, 8]]
    assert small.padding is not None
    assert small.padding.tolist() == [[False, False, True, False]]


@pytest.mark.usefixtures("limit_of_4")
def test_colour_is_averaged_by_channel() -> None:
    small = shrunk(picture(np.array([[[0, 10, 255]], [[3, 20, 255]]] * 4, np.uint8)))
    assert small.pixels.tolist() == [[[2, 15, 255]]] * 4


def test_a_very_large_picture_is_seen_as_a_whole() -> None:
    high = np.zeros((20000, 50), np.float32)
    high[:10000] = 200
    shown = preprocess(picture(high), Preprocessing(size=8, crop=8)).pixels[0]
    assert shown[:3].min() == 200
    assert shown[5:].max() == 0
