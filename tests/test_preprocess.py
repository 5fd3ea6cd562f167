"""Window for features, resize, centre crop: numbers checkable by head."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cbmir.errors import BadImage
from cbmir.preprocess import Preprocessing, apply_window, preprocess, window_for_features
from cbmir.types import DecodedImage, Provenance, Window

WHOLE = Preprocessing(size=2, crop=2)  # a 2 x 2 picture is not resized


def grey(
    values: Any, *, form: str = "DICOM", value_range: tuple[float, float] = (0, 4095), **known: Any
) -> DecodedImage:
    pixels = np.asarray(values, dtype=np.float32)
    known.setdefault("made_for_eye", value_range[1] - value_range[0] <= 255)
    return DecodedImage(pixels=pixels, value_range=value_range, id="x", provenance=Provenance(form), **known)


def colour(values: Any) -> DecodedImage:
    pixels = np.asarray(values, dtype=np.uint8)
    return DecodedImage(pixels=pixels, value_range=(0, 255), id="x", provenance=Provenance("PNG"), made_for_eye=True)


def window(values: list[float], center: float, width: float, function: Any = "LINEAR") -> Any:
    return apply_window(np.array([values], dtype=np.float32), center, width, function)[0].tolist()


# Windows, PS3.3 C.11.2.1


def test_a_linear_window_follows_the_standards_example() -> None:
    # c = 2048, w = 4096: the identity of 12 bits, 0 is black and 4095 white
    assert window([0, 4095], 2048, 4096) == [0, 1]
    assert window([2047.5], 2048, 4096) == [0.5]


def test_a_linear_window_has_half_pixel_offsets() -> None:
    # from 50 - 0.5 - 50 = -0.5 to 99.5, so 49.5 is in the middle
    assert window([-1, -0.5, 49.5, 99.5, 200], 50, 101) == pytest.approx([0, 0, 0.5, 1, 1])


def test_a_linear_window_of_width_1_is_a_threshold() -> None:
    # x <= c - 0.5 is black, x > c - 0.5 white
    assert window([9, 9.5, 10], 10, 1) == [0, 0, 1]


def test_an_exact_window_has_no_offsets() -> None:
    assert window([-10, 0, 25, 50, 100, 110], 50, 100, "LINEAR_EXACT") == [0, 0, 0.25, 0.5, 1, 1]


def test_a_sigmoid_window_is_a_half_at_its_center() -> None:
    # 1 / (1 + exp(-4 (x - c) / w))
    dark, middle, bright = window([0, 50, 100], 50, 100, "SIGMOID")
    assert middle == 0.5
    assert bright == pytest.approx(1 / (1 + np.exp(-2)))
    assert dark == pytest.approx(1 - bright)


def test_a_sigmoid_window_does_not_overflow() -> None:
    assert window([-1e9, 1e9], 0, 1, "SIGMOID") == pytest.approx([0, 1])


@pytest.mark.parametrize(
    ("width", "function"), [(0.5, "LINEAR"), (0, "LINEAR_EXACT"), (-1, "SIGMOID"), (np.nan, "LINEAR")]
)
def test_a_window_that_is_too_narrow_is_refused(width: float, function: Any) -> None:
    with pytest.raises(BadImage, match="not valid") as caught:
        window([0], 0, width, function)
    assert caught.value.outcome == "refused"


# Which window


def test_ct_is_the_mean_of_lung_soft_and_bone_windows() -> None:
    image = grey([[-2000, 40], [1500, -600]], modality="CT", windows=(Window(0, 1),))
    shown = window_for_features(image, WHOLE)
    by_hand = [
        np.mean([window([value], *pair)[0] for pair in ((-600, 1500), (40, 400), (400, 1800))])
        for value in (-2000, 40, 1500, -600)
    ]
    assert shown.ravel() == pytest.approx(by_hand)
    assert shown[0, 0] == 0  # air outside
    assert shown[1, 0] == 1  # dense bone
    assert shown[0, 1] == pytest.approx((0.9272 + 0.5 + 0.2999) / 3, abs=0.001)  # soft tissue at 40 HU


def test_ct_keeps_the_order_of_hu() -> None:
    hu = np.linspace(-1350, 1300, 64, dtype=np.float32).reshape(8, 8)
    steps = np.diff(window_for_features(grey(hu, modality="CT"), WHOLE).ravel())
    assert steps.min() > 0


def test_ct_in_colour_has_one_window_per_channel() -> None:
    image = grey([[-2000, 40], [1500, 40]], modality="CT")
    lung, soft, bone = preprocess(image, Preprocessing(size=2, crop=2, channels="rgb"))
    assert (soft[0, 1], lung[1, 0], soft[1, 0], bone[1, 0]) == (128, 255, 255, 255)
    assert lung[0, 1] == 236  # (40 + 600.5) / 1499 + 0.5 = 0.927
    assert bone[0, 1] == 77  # (40 - 399.5) / 1799 + 0.5 = 0.300


def test_a_ct_picture_that_is_no_hu_is_not_windowed_as_hu() -> None:
    image = grey([[0, 51], [102, 255]], form="PNG", value_range=(0, 255), modality="CT")
    assert preprocess(image, WHOLE).ravel().tolist() == [0, 51, 102, 255]


def test_a_ct_image_outside_all_hu_windows_falls_back_to_its_own_window() -> None:
    image = grey([[2000, 2001], [2002, 2003]], modality="CT", windows=(Window(2002, 4),))
    assert window_for_features(image, WHOLE).ravel() == pytest.approx([0, 1 / 3, 2 / 3, 1])


@pytest.mark.parametrize("modality", ["MR", "PT", "NM"])
def test_percentiles_of_the_slice_ignore_padding_and_the_headers_window(modality: str) -> None:
    # 1 .. 1000 and 1000 padding pixels: ranks 0.5 % and 99.5 % of 999 steps are the 5th and 994th
    values = np.concatenate([np.arange(1, 1001), np.full(1000, 60000)]).reshape(40, 50)
    image = grey(values, modality=modality, padding=values == 60000, windows=(Window(5, 2),))
    shown = window_for_features(image, WHOLE).ravel()
    assert shown[5] == 0
    assert shown[4 + 495] == pytest.approx((500 - 6) / (995 - 6))
    assert shown[994] == 1
    assert (shown[1000:] == 0).all()


def test_percentiles_that_coincide_give_way_to_the_extremes() -> None:
    values = np.zeros((30, 30))
    values[0, 0] = 7  # one hot pixel in 900: both percentiles are 0
    assert window_for_features(grey(values, modality="PT"), WHOLE)[0, 0] == 1


def test_others_use_the_first_window_of_the_header_that_shows_something() -> None:
    windows = (Window(0, -1), Window(5000, 2), Window(200, 100, "LINEAR_EXACT"))
    image = grey([[100, 175], [200, 250]], modality="DX", windows=windows)
    assert window_for_features(image, WHOLE).ravel().tolist() == [0, 0.25, 0.5, 1]


def test_a_voi_lut_wins_over_windows() -> None:
    table = np.array([0, 0.2, 1], dtype=np.float32)
    image = grey([[9, 10], [11, 99]], modality="MG", voi_lut=(10.0, table), windows=(Window(0, 1),))
    assert window_for_features(image, WHOLE).ravel() == pytest.approx([0, 0, 0.2, 1])


def test_eight_bits_without_a_window_are_shown_as_they_are() -> None:
    image = grey([[0, 51], [102, 254]], value_range=(0, 255), modality="US")
    assert preprocess(image, WHOLE).ravel().tolist() == [0, 51, 102, 254]


def test_sixteen_bits_without_a_window_use_percentiles() -> None:
    image = grey([[1000, 2000], [3000, 4000]], form="PNG", value_range=(0, 65535))
    assert window_for_features(image, WHOLE).ravel() == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_monochrome1_is_inverted_last_and_padding_is_black() -> None:
    padding = np.array([[True, False], [False, False]])
    windows = (Window(100, 100, "LINEAR_EXACT"),)
    image = grey([[0, 75], [150, 0]], modality="DX", windows=windows, padding=padding, monochrome1=True)
    # windowed 0, 0.25, 1, 0; inverted 1, 0.75, 0, 1; then the padding pixel painted
    assert window_for_features(image, WHOLE).ravel().tolist() == [0, 0.75, 0, 1]


@pytest.mark.parametrize("known", [{}, {"modality": "CT"}, {"modality": "MR"}, {"windows": (Window(5, 10),)}])
def test_a_constant_image_is_refused(known: dict[str, Any]) -> None:
    with pytest.raises(BadImage, match="constant") as caught:
        preprocess(grey(np.full((4, 4), 7), **known), WHOLE)
    assert caught.value.outcome == "refused"


def test_a_constant_colour_and_an_image_of_padding_are_refused() -> None:
    with pytest.raises(BadImage, match="constant"):
        preprocess(colour(np.full((4, 4, 3), (9, 8, 7))), WHOLE)
    with pytest.raises(BadImage, match="constant"):
        preprocess(grey([[1, 2], [3, 4]], padding=np.ones((2, 2), dtype=bool)), WHOLE)


def test_values_that_are_not_numbers_stay_out() -> None:
    image = grey([[np.nan, 0], [500, 1000]], modality="MR", padding=np.array([[True, False], [False, False]]))
    assert preprocess(image, WHOLE).ravel().tolist() == [0, 0, 128, 255]


# Colour, size, crop


def test_colour_becomes_grey_by_luma() -> None:
    # 0.299, 0.587, 0.114 of 255
    image = colour([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]])
    assert preprocess(image, WHOLE).ravel().tolist() == [76, 150, 29, 255]


def test_colour_stays_colour_and_grey_is_repeated_when_channels_are_rgb() -> None:
    rgb = Preprocessing(size=2, crop=2, channels="rgb")
    pixels = [[[255, 0, 7], [0, 255, 7]], [[0, 0, 255], [9, 9, 9]]]
    assert np.moveaxis(preprocess(colour(pixels), rgb), 0, -1).tolist() == pixels
    red, green, blue = preprocess(grey([[0, 1], [2, 3]], value_range=(0, 3)), rgb)
    assert red.tolist() == green.tolist() == blue.tolist() == [[0, 85], [170, 255]]


def test_the_result_has_the_shape_of_the_recipe() -> None:
    image = grey(np.arange(300 * 20).reshape(300, 20))
    assert preprocess(image, Preprocessing()).shape == (1, 224, 224)
    assert preprocess(image, Preprocessing(size=64, crop=64, channels="rgb")).shape == (3, 64, 64)
    assert preprocess(image, Preprocessing()).dtype == np.uint8


def test_the_crop_is_the_centre_of_the_whole_resized_picture() -> None:
    rng = np.random.default_rng(0)
    image = grey(rng.integers(0, 256, (90, 70)), value_range=(0, 255))
    whole = preprocess(image, Preprocessing(size=32, crop=32))[0]
    centre = preprocess(image, Preprocessing(size=32, crop=20))[0]
    assert np.abs(centre.astype(int) - whole[6:26, 6:26]).max() <= 1


def test_shrinking_averages_and_skips_no_pixel() -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    shown = preprocess(grey(board, value_range=(0, 255)), Preprocessing(size=8, crop=4))
    assert np.abs(shown.astype(int) - 128).max() <= 1


def test_resizing_is_bilinear() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (33, 47)).astype(np.float32)
    shown = preprocess(grey(pixels, value_range=(0, 255)), Preprocessing(size=16, crop=16))[0]
    plain = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR))
    assert np.abs(shown - plain).max() <= 0.51


@pytest.mark.parametrize("shape", [(1, 2), (1, 5000), (5000, 1), (2, 1)])
def test_extreme_shapes_are_resized(shape: tuple[int, int]) -> None:
    image = grey(np.arange(shape[0] * shape[1]).reshape(shape))
    assert preprocess(image, Preprocessing(size=8, crop=6)).shape == (1, 6, 6)


# The recipe


def test_a_recipe_survives_json() -> None:
    recipe = Preprocessing(size=64, crop=60, channels="rgb", percentiles=(1, 99))
    assert Preprocessing.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 2},
        {"size": 8, "crop": 9},
        {"crop": 0},
        {"channels": "lab"},
        {"percentiles": (99, 1)},
        {"ct_windows": ((40, 400),)},
        {"ct_windows": ((40, 400), (40, 0), (1, 1))},
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Preprocessing(**wrong)
