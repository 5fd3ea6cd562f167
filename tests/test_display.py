"""An image for eyes: numbers checkable by head. Against dcm2pnm: tests/images/test_references.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cbmir.display import render, rendered
from cbmir.errors import UsageError
from cbmir.types import DecodedImage, Provenance, Window


def grey(
    values: Any, *, value_range: tuple[float, float] = (0, 4095), unit: str | None = None, **known: Any
) -> DecodedImage:
    known.setdefault("made_for_eye", value_range[1] <= 255)
    return DecodedImage(
        pixels=np.asarray(values, dtype=np.float32),
        value_range=value_range,
        id="x",
        provenance=Provenance("DICOM", values=unit),
        **known,
    )


def shown(image: DecodedImage, window: tuple[float, float] | None = None) -> list[int]:
    return render(image, window).ravel().tolist()


def test_the_first_window_of_the_header_is_used_even_for_ct_and_mr() -> None:
    # from 49.5 - 50 to 49.5 + 50: 0 is 0.5 / 100 of 255 = 1.275, 49.5 is 127.5, rounded up
    for modality in ("CT", "MR", "DX"):
        image = grey([[-1, 0, 49.5, 99.5]], modality=modality, windows=(Window(50, 101), Window(0, 1)))
        assert shown(image) == [0, 1, 128, 255]
        assert rendered(image)[1] == "window LINEAR"


def test_a_voi_lut_comes_before_windows() -> None:
    table = np.array([0, 0.2, 1], dtype=np.float32)
    assert shown(grey([[9, 11, 12, 99]], voi_lut=(10.0, table), windows=(Window(0, 1),))) == [0, 51, 255, 255]


def test_what_is_no_number_has_no_place_in_a_voi_lut_and_is_black() -> None:
    table = np.array([0.2, 0.4, 1], dtype=np.float32)
    assert shown(grey([[10, np.nan, 99]], voi_lut=(10.0, table))) == [51, 0, 255]


def test_eight_bits_without_a_window_are_shown_as_they_are() -> None:
    every = np.arange(256)[None]
    assert shown(grey(every, value_range=(0, 255))) == every[0].tolist()
    assert shown(grey(every, value_range=(0, 255), windows=(Window(128, 256),))) == every[0].tolist()


def test_the_rest_is_shown_between_percentiles_of_the_unpadded_pixels() -> None:
    padded = np.array([[-2000, 0, 500, 1000]])
    image = grey(padded, modality="CT", padding=padded == -2000)
    assert rendered(image)[1] == "percentiles 0.5-99.5"
    assert shown(image) == [0, 0, 128, 255]


def test_pet_in_suv_without_a_window_is_shown_from_0_to_10() -> None:
    assert shown(grey([[0, 2, 10, 40]], modality="PT", unit="SUVbw")) == [0, 51, 255, 255]


def test_a_window_that_is_asked_for_wins() -> None:
    image = grey([[0, 50, 100]], windows=(Window(0, 1),))
    assert shown(image, (50.5, 101)) == [0, 128, 255]
    with pytest.raises(UsageError, match="at least 1 wide, not 0"):
        render(image, (50, 0))


def test_monochrome1_is_inverted_last_and_padding_is_black() -> None:
    image = grey([[0, 51, 255, 7]], value_range=(0, 255), monochrome1=True, padding=np.array([[0, 0, 0, 1]], bool))
    assert shown(image) == [255, 204, 0, 0]


def test_colour_is_shown_as_it_is() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    image = DecodedImage(pixels=pixels, value_range=(0, 255), id="x", provenance=Provenance("PNG"))
    assert (render(image) == pixels).all()


@pytest.mark.parametrize(
    "image",
    [
        grey([[np.nan, np.nan]]),
        grey([[5, 6]], padding=np.ones((1, 2), bool)),
        grey([[7, 7]], monochrome1=True),
        grey([[np.inf, np.nan]], windows=(Window(1, 2),)),
    ],
)
def test_where_nothing_can_be_seen_all_is_black(image: DecodedImage) -> None:
    assert shown(image) == [0, 0]
