"""Window for features, resize, centre crop: numbers checkable by head."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cbmir.errors import BadImage
from cbmir.preprocess import Preprocessing, preprocess
from cbmir.preprocess import window_for_features as windowed
from cbmir.types import DecodedImage, Provenance, Window
from cbmir.windowing import apply_window

WHOLE = Preprocessing(size=2, crop=2)  # a 2 x 2 picture is not resized


def grey(
    values: Any, *, form: str = "DICOM", value_range: tuple[float, float] = (0, 4095), **known: Any
) -> DecodedImage:
    pixels = np.asarray(values, dtype=np.float32)
    known.setdefault("made_for_eye", value_range[1] - value_range[0] <= 255)
    provenance = Provenance(form, values=known.pop("unit", None))
    return DecodedImage(pixels=pixels, value_range=value_range, id="x", provenance=provenance, **known)


def colour(values: Any, **known: Any) -> DecodedImage:
    pixels = np.asarray(values, dtype=np.uint8)
    provenance = Provenance("PNG")
    return DecodedImage(pixels=pixels, value_range=(0, 255), id="x", provenance=provenance, made_for_eye=True, **known)


def window_for_features(image: DecodedImage, recipe: Preprocessing) -> Any:
    """The display values alone."""
    return windowed(image, recipe)[0]


def pixels_of(image: DecodedImage, recipe: Preprocessing) -> Any:
    return preprocess(image, recipe).pixels


def rule(image: DecodedImage) -> str:
    return windowed(image, WHOLE)[1]


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
    image = grey([[-2000, 40], [1500, -600]], modality="CT", unit="HU", windows=(Window(0, 1),))
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
    steps = np.diff(window_for_features(grey(hu, modality="CT", unit="HU"), WHOLE).ravel())
    assert steps.min() > 0


def test_ct_in_colour_has_one_window_per_channel() -> None:
    image = grey([[-2000, 40], [1500, 40]], modality="CT", unit="HU")
    lung, soft, bone = pixels_of(image, Preprocessing(size=2, crop=2, channels="rgb"))
    assert (soft[0, 1], lung[1, 0], soft[1, 0], bone[1, 0]) == (128, 255, 255, 255)
    assert lung[0, 1] == 236  # (40 + 600.5) / 1499 + 0.5 = 0.927
    assert bone[0, 1] == 77  # (40 - 399.5) / 1799 + 0.5 = 0.300


def test_a_ct_picture_that_is_no_hu_is_not_windowed_as_hu() -> None:
    image = grey([[0, 51], [102, 255]], form="PNG", value_range=(0, 255), modality="CT")
    assert pixels_of(image, WHOLE).ravel().tolist() == [0, 51, 102, 255]


def test_a_ct_image_outside_all_hu_windows_falls_back_to_its_own_window() -> None:
    image = grey([[2000, 2001], [2002, 2003]], modality="CT", unit="HU", windows=(Window(2002, 4),))
    assert window_for_features(image, WHOLE).ravel() == pytest.approx([0, 1 / 3, 2 / 3, 1])


@pytest.mark.parametrize("unit", [None, "stored values", "rescaled values"])
def test_ct_in_dicom_that_is_not_said_to_be_hu_is_shown_in_its_own_window(unit: str | None) -> None:
    # a perfusion map in seconds: through windows of HU, 0 to 40 would be one grey
    image = grey([[0, 10], [20, 40]], modality="CT", unit=unit, windows=(Window(20, 40, "LINEAR_EXACT"),))
    assert window_for_features(image, WHOLE).ravel().tolist() == [0, 0.25, 0.5, 1]
    assert rule(image) == "window LINEAR_EXACT"
    assert rule(replace(image, windows=())) == "percentiles 0.5-99.5"


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


def test_pet_in_suv_is_shown_from_0_to_10_whatever_the_header_says() -> None:
    image = grey([[0, 2.5], [5, 20]], modality="PT", unit="SUVbw", windows=(Window(1, 2),))
    assert window_for_features(image, WHOLE).ravel().tolist() == [0, 0.25, 0.5, 1]
    assert rule(image) == "suv 0-10"


def test_pet_in_other_units_is_shown_between_percentiles() -> None:
    image = grey([[0, 2500], [5000, 10000]], modality="PT", unit="Bq/ml")
    assert window_for_features(image, WHOLE).ravel().tolist() == [0, 0.25, 0.5, 1]
    assert rule(image) == "percentiles 0.5-99.5"


def test_pet_without_uptake_falls_back_to_what_it_has() -> None:
    assert rule(grey([[10, 11], [12, 14]], modality="PT", unit="SUVbw")) == "percentiles 0.5-99.5"


@pytest.mark.parametrize("form", ["NIfTI", "NRRD"])
@pytest.mark.parametrize("modality", [None, "MR", "PT"])
def test_a_slice_of_a_volume_is_shown_in_the_window_of_the_volume(form: str, modality: str | None) -> None:
    window = (Window(500, 1000, "LINEAR_EXACT"),)  # percentiles of the whole volume
    image = grey([[0, 250], [250, 500]], form=form, modality=modality, windows=window)
    assert window_for_features(image, WHOLE).ravel().tolist() == [0, 0.25, 0.25, 0.5]
    assert rule(image) == "window LINEAR_EXACT"


@pytest.mark.parametrize(("form", "unit"), [("DICOM", "HU"), ("NIfTI", "stored values"), ("NRRD", "stored values")])
def test_ct_is_windowed_as_hu_in_every_format_that_holds_hu(form: str, unit: str) -> None:
    # of a volume only a manifest can say that it is CT
    image = grey([[-2000, 40], [1500, -600]], form=form, unit=unit, modality="CT", windows=(Window(0, 10),))
    assert rule(image) == "ct lung, soft tissue, bone"
    assert window_for_features(image, WHOLE)[0, 1] == pytest.approx((0.9272 + 0.5 + 0.2999) / 3, abs=0.001)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (grey([[0, 1], [2, 3]], modality="DX", windows=(Window(1, 2, "SIGMOID"),)), "window SIGMOID"),
        (grey([[0, 1], [2, 3]], modality="DX", voi_lut=(0.0, np.array([0, 1], np.float32))), "voi lut"),
        (grey([[0, 1], [2, 3]], modality="US", value_range=(0, 255)), "value range"),
        (grey([[0, 0], [0, 7]] + [[0, 0]] * 500, modality="NM"), "extremes"),
    ],
)
def test_the_rule_has_a_name(image: DecodedImage, name: str) -> None:
    assert rule(image) == preprocess(image, WHOLE).window == name


def test_the_rule_of_colour_is_colour() -> None:
    assert preprocess(colour([[[9, 9, 9], [0, 0, 0]]]), WHOLE).window == "colour"


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
    assert pixels_of(image, WHOLE).ravel().tolist() == [0, 51, 102, 254]


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
        pixels_of(grey(np.full((4, 4), 7), **known), WHOLE)
    assert caught.value.outcome == "refused"


def test_a_constant_colour_and_an_image_of_padding_are_refused() -> None:
    with pytest.raises(BadImage, match="constant"):
        pixels_of(colour(np.full((4, 4, 3), (9, 8, 7))), WHOLE)
    with pytest.raises(BadImage, match="constant"):
        pixels_of(grey([[1, 2], [3, 4]], padding=np.ones((2, 2), dtype=bool)), WHOLE)


def test_values_that_are_not_numbers_stay_out() -> None:
    image = grey([[np.nan, 0], [500, 1000]], modality="MR", padding=np.array([[True, False], [False, False]]))
    assert pixels_of(image, WHOLE).ravel().tolist() == [0, 0, 128, 255]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_pixel_that_is_no_number_is_black_and_counts_for_nothing(value: float) -> None:
    image = grey([[value, 0], [500, 1000]], modality="MR")  # though no padding says so
    assert pixels_of(image, WHOLE).ravel().tolist() == [0, 0, 128, 255]


@pytest.mark.parametrize("modality", ["CT", "MR", "PT", "DX", None])
def test_an_image_of_no_numbers_is_refused(modality: str | None) -> None:
    with pytest.raises(BadImage, match="constant, or its values cannot be shown") as caught:
        preprocess(grey(np.full((3, 3), np.nan), modality=modality, windows=(Window(1, 2),)), WHOLE)
    assert caught.value.outcome == "refused"


@pytest.mark.parametrize("values", [[-3e38, 0, 1, 3e38], [0, 1e-38, 2e-38, 4e-38], [1e38, 2e38, 3e38, 3.4e38]])
def test_no_number_is_too_large_or_small(values: list[float]) -> None:
    shown = pixels_of(grey(np.reshape(values, (2, 2)), modality="MR"), WHOLE).ravel().tolist()
    assert shown == sorted(shown)
    assert (shown[0], shown[-1]) == (0, 255)


def test_what_is_no_number_has_no_place_in_a_voi_lut_and_is_black() -> None:
    table = np.array([0.2, 0.4, 1], dtype=np.float32)
    image = grey([[10, np.nan], [np.inf, 11]], modality="MG", voi_lut=(10.0, table))
    assert window_for_features(image, WHOLE).ravel() == pytest.approx([0.2, 0, 0, 0.4])


def test_an_image_that_is_constant_at_the_encoders_size_is_refused() -> None:
    speck = np.zeros((600, 600))
    speck[300, 300] = 1  # of 255: nothing of it is left among 50 x 50 pixels averaged
    with pytest.raises(BadImage, match="constant"):
        preprocess(grey(speck, value_range=(0, 255)), Preprocessing(size=12, crop=12))


# Regions of ultrasound

TOP_LEFT = (0, 0, 2, 1)  # left, top, right, bottom
REGIONS_ONLY = Preprocessing(size=2, crop=2, regions_only=True)


def test_outside_the_regions_all_is_black_when_so_wanted() -> None:
    image = colour([[[9, 8, 7], [255, 255, 255]], [[255, 255, 255], [200, 200, 200]]], regions=(TOP_LEFT,))
    assert pixels_of(image, REGIONS_ONLY)[0].tolist() == [[8, 255], [0, 0]]
    assert pixels_of(image, WHOLE)[0].tolist() == [[8, 255], [255, 200]]


def test_a_name_outside_the_regions_has_no_say_in_the_percentiles() -> None:
    image = grey([[0, 1000], [60000, 60000]], modality="MR", regions=(TOP_LEFT,))
    assert pixels_of(image, REGIONS_ONLY)[0].tolist() == [[0, 255], [0, 0]]


def test_every_region_is_kept_and_regions_may_leave_the_picture() -> None:
    pixels = [[10, 20, 30], [40, 50, 60]]
    image = grey(pixels, value_range=(0, 255), regions=((-5, -5, 1, 1), (2, 1, 99, 99)))
    shown = window_for_features(image, REGIONS_ONLY)
    assert shown.tolist() == pytest.approx(np.array(pixels) / 255)  # the display alone masks nothing
    recipe = Preprocessing(size=6, crop=6, regions_only=True)
    corners = pixels_of(image, recipe)[0]
    assert (corners[0, 0], corners[0, 5], corners[5, 0], corners[5, 5]) == (10, 0, 0, 60)


def test_where_no_region_is_known_nothing_is_masked() -> None:
    image = grey([[0, 100], [200, 255]], value_range=(0, 255))
    assert pixels_of(image, REGIONS_ONLY).ravel().tolist() == [0, 100, 200, 255]


def test_a_picture_with_nothing_in_its_regions_is_refused() -> None:
    with pytest.raises(BadImage, match="constant"):
        preprocess(grey([[5, 5], [5, 200]], value_range=(0, 255), regions=((0, 0, 1, 1),)), REGIONS_ONLY)


# Colour, size, crop


def test_colour_becomes_grey_by_luma() -> None:
    # 0.299, 0.587, 0.114 of 255
    image = colour([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]])
    assert pixels_of(image, WHOLE).ravel().tolist() == [76, 150, 29, 255]


def test_colour_stays_colour_and_grey_is_repeated_when_channels_are_rgb() -> None:
    rgb = Preprocessing(size=2, crop=2, channels="rgb")
    pixels = [[[255, 0, 7], [0, 255, 7]], [[0, 0, 255], [9, 9, 9]]]
    assert np.moveaxis(pixels_of(colour(pixels), rgb), 0, -1).tolist() == pixels
    red, green, blue = pixels_of(grey([[0, 1], [2, 3]], value_range=(0, 3)), rgb)
    assert red.tolist() == green.tolist() == blue.tolist() == [[0, 85], [170, 255]]


def test_the_result_has_the_shape_of_the_recipe() -> None:
    image = grey(np.arange(300 * 20).reshape(300, 20))
    assert pixels_of(image, Preprocessing()).shape == (1, 224, 224)
    assert pixels_of(image, Preprocessing(size=64, crop=64, channels="rgb")).shape == (3, 64, 64)
    assert pixels_of(image, Preprocessing()).dtype == np.uint8


def test_the_crop_is_the_centre_of_the_whole_resized_picture() -> None:
    rng = np.random.default_rng(0)
    image = grey(rng.integers(0, 256, (90, 70)), value_range=(0, 255))
    whole = pixels_of(image, Preprocessing(size=32, crop=32))[0]
    centre = pixels_of(image, Preprocessing(size=32, crop=20))[0]
    assert np.abs(centre.astype(int) - whole[6:26, 6:26]).max() <= 1


def test_shrinking_averages_and_skips_no_pixel() -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * 254
    board[:, 32:] //= 2  # a finer one beside it: means 127 and 63.5
    shown = pixels_of(grey(board, value_range=(0, 255)), Preprocessing(size=8, crop=4))[0].astype(int)
    assert np.abs(shown[:, 0] - 127).max() <= 1
    assert np.abs(shown[:, 3] - 64).max() <= 1


def test_resizing_is_bilinear() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (33, 47)).astype(np.float32)
    shown = pixels_of(grey(pixels, value_range=(0, 255)), Preprocessing(size=16, crop=16))[0]
    plain = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR))
    assert np.abs(shown - plain).max() <= 0.51


@pytest.mark.parametrize("shape", [(1, 2), (1, 5000), (5000, 1), (2, 1)])
def test_extreme_shapes_are_resized(shape: tuple[int, int]) -> None:
    image = grey(np.arange(shape[0] * shape[1]).reshape(shape))
    assert pixels_of(image, Preprocessing(size=8, crop=6)).shape == (1, 6, 6)


def test_one_pixel_is_refused() -> None:
    with pytest.raises(BadImage, match="constant"):
        preprocess(grey([[7]]), Preprocessing())


def test_a_kept_aspect_is_that_of_the_body() -> None:
    # 4 rows of 8 pixels, each twice as high as wide: 8 x 8 mm, a square
    image = grey(np.full((4, 8), 200) + np.arange(8), value_range=(0, 255), pixel_aspect=2.0)
    shown = pixels_of(image, Preprocessing(size=8, crop=8, aspect="kept"))[0]
    assert shown.min() >= 199  # no black beside it
    # with square pixels it is half as high as wide: two rows of black above and below
    flat = pixels_of(replace(image, pixel_aspect=1.0), Preprocessing(size=8, crop=8, aspect="kept"))[0]
    assert (flat.min(axis=1) > 0).tolist() == [False, False, True, True, True, True, False, False]
    assert flat[3].tolist() == list(range(200, 208))


def test_a_kept_aspect_of_a_high_picture_has_black_at_the_sides_and_is_cropped_last() -> None:
    image = grey(np.full((8, 2), 200) + np.array([0, 1]), value_range=(0, 255))
    shown = pixels_of(image, Preprocessing(size=8, crop=4, aspect="kept"))[0]
    assert shown.tolist() == [[0, 200, 201, 0]] * 4


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1)])
def test_the_thinnest_picture_keeps_one_line(shape: tuple[int, int]) -> None:
    shown = pixels_of(grey(np.arange(5000).reshape(shape)), Preprocessing(size=8, crop=8, aspect="kept"))[0]
    assert (shown > 0).any(axis=shape.index(5000) ^ 1).sum() >= 7  # a ramp: its black end is black


# The recipe


def test_a_recipe_survives_json() -> None:
    recipe = Preprocessing(size=64, crop=60, channels="rgb", percentiles=(1, 99), aspect="kept", regions_only=True)
    assert Preprocessing.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 1},
        {"version": 3},
        {"size": 8, "crop": 9},
        {"crop": 0},
        {"channels": "lab"},
        {"percentiles": (99, 1)},
        {"suv": (10, 0)},
        {"aspect": "squashed"},
        {"ct_windows": ((40, 400),)},
        {"ct_windows": ((40, 400), (40, 0), (1, 1))},
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Preprocessing(**wrong)
