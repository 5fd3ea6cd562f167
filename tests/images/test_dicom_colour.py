"""Every photometric interpretation that can be defined becomes RGB, eight bits each."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from cbmir.images.dicom.colour import expand_segments
from make_dicom import encapsulated, make_dicom
from reading import read_one, refusal, words

OF = "1.2.840.10008.1.2.4."
RED, GREY = [255, 0, 0], [128, 128, 128]
YBR_RED = [76, 85, 255]  # 0.299 x 255 = 76; 128 - 0.1687 x 255 = 85; 128 + 0.5 x 255, at most 255


def pixels(*colours: list[int], dtype: str = "u1") -> np.ndarray[Any, Any]:
    return np.array([colours], dtype=dtype)


def rgb_of(dataset: Dataset) -> list[list[int]]:
    image = read_one(dataset)
    assert image.pixels.dtype == np.uint8
    assert image.provenance.values == "colour"
    return image.pixels[0].tolist()


def close(found: list[list[int]], expected: list[list[int]], within: int = 1) -> bool:
    return bool(np.abs(np.array(found) - np.array(expected)).max() <= within)


# Native


def test_rgb_stays_rgb() -> None:
    assert rgb_of(make_dicom(pixels([255, 0, 7], [1, 2, 3]))) == [[255, 0, 7], [1, 2, 3]]


def test_planes_are_put_together() -> None:
    planes = {"PixelData": bytes([1, 2, 3, 4, 5, 6]), "PlanarConfiguration": 1}
    assert rgb_of(make_dicom(pixels([0, 0, 0], [0, 0, 0]), **planes)) == [[1, 3, 5], [2, 4, 6]]


@pytest.mark.parametrize("dtype", ["u2", "u4"])
def test_deep_colour_keeps_its_top_8_bits(dtype: str) -> None:
    top = 8 * (np.dtype(dtype).itemsize - 1)
    deep = pixels([0xFF, 0x12, 0], dtype=dtype) << np.dtype(dtype).type(top)
    assert rgb_of(make_dicom(deep)) == [[0xFF, 0x12, 0]]


def test_ybr_full_becomes_rgb() -> None:
    assert close(rgb_of(make_dicom(pixels(YBR_RED, GREY), PhotometricInterpretation="YBR_FULL")), [RED, GREY])


def test_two_pixels_share_their_colour_in_ybr_full_422() -> None:
    shared = {"PixelData": bytes([76, 128, 85, 255]), "PhotometricInterpretation": "YBR_FULL_422"}
    expected = rgb_of(make_dicom(pixels(YBR_RED, [128, 85, 255]), PhotometricInterpretation="YBR_FULL"))
    assert rgb_of(make_dicom(pixels([0] * 3, [0] * 3), **shared)) == expected


def test_ybr_full_422_that_shares_nothing_is_taken_as_ybr_full() -> None:
    image = read_one(make_dicom(pixels(YBR_RED, GREY), PhotometricInterpretation="YBR_FULL_422"))
    assert close(image.pixels[0].tolist(), [RED, GREY])
    assert any("YBR_FULL_422" in note for note in image.provenance.notes)


def test_partial_ybr_leaves_room_at_both_ends() -> None:
    """16 is black, 235 white."""
    shared = {"PixelData": bytes([16, 235, 128, 128]), "PhotometricInterpretation": "YBR_PARTIAL_422"}
    assert close(rgb_of(make_dicom(pixels([0] * 3, [0] * 3), **shared)), [[0, 0, 0], [255, 255, 255]])


def test_retired_hsv_is_understood() -> None:
    assert rgb_of(make_dicom(pixels([0, 255, 255], [0, 0, 128]), PhotometricInterpretation="HSV")) == [RED, GREY]


@pytest.mark.parametrize(
    ("name", "stored", "expected"),
    [("ARGB", [99, 255, 0, 7], [255, 0, 7]), ("CMYK", [0, 255, 255, 0], RED), ("CMYK", [9, 9, 9, 255], [0, 0, 0])],
)
def test_retired_interpretations_of_four_samples_are_understood(
    name: str, stored: list[int], expected: list[int]
) -> None:
    layout = {"SamplesPerPixel": 4, "PlanarConfiguration": 0, "PhotometricInterpretation": name}
    assert rgb_of(make_dicom(pixels(stored), **layout)) == [expected]


@pytest.mark.parametrize(
    "layout",
    [
        {"PhotometricInterpretation": "PLAID"},
        {"SamplesPerPixel": 2},
        {"SamplesPerPixel": 4, "PhotometricInterpretation": "RGB"},
    ],
)
def test_what_dicom_does_not_define_is_unsupported(layout: dict[str, Any]) -> None:
    assert refusal(make_dicom(pixels([1, 2, 3]), **layout)).outcome == "unsupported"


def test_one_sample_cannot_be_rgb() -> None:
    image = read_one(make_dicom(np.array([[1, 2]], np.uint8), PhotometricInterpretation="RGB"))
    assert image.pixels.tolist() == [[1, 2]]
    assert any("contradicts" in note for note in image.provenance.notes)


# Palettes


def palette(bits: int = 16, **tables: bytes) -> Dataset:
    dataset = make_dicom(np.array([[0, 1]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for channel in ("Red", "Green", "Blue"):
        setattr(dataset, f"{channel}PaletteColorLookupTableDescriptor", [2, 0, bits])
        setattr(dataset, f"{channel}PaletteColorLookupTableData", tables[channel])
    return dataset


def test_a_palette_becomes_rgb() -> None:
    dataset = palette(Red=words(0, 0xFF00), Green=words(0x8000, 0), Blue=words(0, 0x0100))
    assert rgb_of(dataset) == [[0, 0x80, 0], [0xFF, 0, 1]]


def test_a_palette_of_16_bits_may_hold_8() -> None:
    dataset = palette(Red=words(0, 255), Green=words(128, 0), Blue=words(0, 1))
    assert rgb_of(dataset) == [[0, 128, 0], [255, 0, 1]]


def test_a_palette_of_8_bits_may_lie_in_bytes() -> None:
    dataset = palette(8, Red=bytes([0, 255]), Green=bytes([128, 0]), Blue=bytes([0, 1]))
    assert rgb_of(dataset) == [[0, 128, 0], [255, 0, 1]]


def test_indices_beyond_a_palette_take_its_ends() -> None:
    dataset = palette(Red=words(0, 0xFF00), Green=words(0, 0), Blue=words(0, 0))
    dataset.PixelData = bytes([0, 9])
    for channel in ("Red", "Green", "Blue"):
        getattr(dataset, f"{channel}PaletteColorLookupTableDescriptor")[1] = 1
    assert rgb_of(dataset) == [[0, 0, 0], RED]


def test_a_segmented_palette_is_expanded() -> None:
    """Discrete 0; linear to 0xFF00 in two steps."""
    dataset = palette(Red=b"", Green=b"", Blue=b"")
    for channel in ("Red", "Green", "Blue"):
        delattr(dataset, f"{channel}PaletteColorLookupTableData")
        getattr(dataset, f"{channel}PaletteColorLookupTableDescriptor")[0] = 3
        setattr(dataset, f"Segmented{channel}PaletteColorLookupTableData", words(0, 1, 0, 1, 2, 0xFF00))
    dataset.PixelData = bytes([1, 2])
    assert rgb_of(dataset) == [[0x7F] * 3, [0xFF] * 3]


def test_segments_are_discrete_linear_or_repeated() -> None:
    discrete, linear, both_again = [0, 2, 10, 20], [1, 2, 40], [2, 2, 0, 0]
    once = [10, 20, 30, 40]
    assert expand_segments([*discrete, *linear], wide=True) == once
    assert expand_segments([*discrete, *linear, *both_again], wide=True) == [*once, 10, 20, 30, 40]
    assert expand_segments([*discrete, *linear, 2, 2, 0, 0, 0, 0], wide=False) == once + once


@pytest.mark.parametrize("data", [[1, 2, 40], [2, 1, 0, 0], [7, 1, 0], [0, 1, 5, 2, 1, 90, 0]])
def test_segments_that_lead_nowhere_are_corrupt(data: list[int]) -> None:
    with pytest.raises(Exception, match="palette"):
        expand_segments(data, wide=True)


def test_a_picture_without_its_palette_is_corrupt() -> None:
    dataset = make_dicom(np.array([[0, 1]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    assert refusal(dataset).outcome == "corrupt"


def test_a_supplemental_palette_leaves_the_picture_grey() -> None:
    dataset = palette(Red=words(0, 0xFF00), Green=words(0, 0), Blue=words(0, 0))
    dataset.PhotometricInterpretation, dataset.PixelPresentation = "MONOCHROME2", "MIXED"
    assert read_one(dataset).pixels.tolist() == [[0, 1]]


# Compressed

SMOOTH = np.dstack([np.add.outer(np.arange(64), np.arange(64)) * (k + 1) // 3 for k in range(3)]).astype(np.uint8)
LOSSLESS = {
    "JPEG lossless": (70, "RGB", lambda: imagecodecs.jpeg8_encode(SMOOTH, lossless=True, predictor=1)),
    "JPEG-LS": (80, "RGB", lambda: imagecodecs.jpegls_encode(SMOOTH)),
    "JPEG 2000": (90, "YBR_RCT", lambda: imagecodecs.jpeg2k_encode(SMOOTH, level=0, reversible=True, mct=True)),
    "HTJ2K": (201, "YBR_RCT", lambda: imagecodecs.htj2k_encode(SMOOTH)),
    "JPEG XL": (110, "XYB", lambda: imagecodecs.jpegxl_encode(SMOOTH, lossless=True)),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_colour_is_exact(name: str) -> None:
    number, photometric, encode = LOSSLESS[name]
    dataset = encapsulated(SMOOTH, f"{OF}{number}", [bytes(encode())], PhotometricInterpretation=photometric)
    assert np.array_equal(read_one(dataset).pixels, SMOOTH)


@pytest.mark.parametrize("planar", [0, 1])
def test_run_lengths_of_colour_are_exact(planar: int) -> None:
    dataset = make_dicom(SMOOTH)
    dataset.compress(UID("1.2.840.10008.1.2.5"), generate_instance_uid=False)
    dataset.PlanarConfiguration = planar  # the stream is planes in any case
    assert np.array_equal(read_one(dataset).pixels, SMOOTH)


@pytest.mark.parametrize("said", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("inside", ["RGB", "YCBCR"])
def test_what_a_jpeg_says_of_its_components_wins_over_the_header(said: str, inside: str) -> None:
    stream = imagecodecs.jpeg8_encode(SMOOTH, level=97, colorspace="RGB", outcolorspace=inside)
    dataset = encapsulated(SMOOTH, f"{OF}50", [bytes(stream)], PhotometricInterpretation=said)
    assert np.abs(read_one(dataset).pixels.astype(int) - SMOOTH).max() <= 6


def test_a_line_of_a_segmented_palette_is_straight() -> None:
    """From 0 to 100 in four steps."""
    assert expand_segments([0, 1, 0, 1, 4, 100], wide=True) == [0, 25, 50, 75, 100]


# Samples


@pytest.mark.parametrize("stated", [None, 1])
def test_three_samples_that_the_header_forgets_are_seen_by_the_bytes(stated: int | None) -> None:
    dataset = make_dicom(pixels([255, 0, 7], [1, 2, 3]), SamplesPerPixel=stated)
    assert rgb_of(dataset) == [[255, 0, 7], [1, 2, 3]]
    assert "SamplesPerPixel contradicts the pixels, taken as 3" in read_one(dataset).provenance.notes


def test_three_samples_that_the_header_forgets_are_seen_by_the_stream() -> None:
    colours = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    stream = bytes(imagecodecs.jpegls_encode(colours))
    dataset = encapsulated(colours, f"{OF}80", [stream], SamplesPerPixel=1)
    assert np.array_equal(read_one(dataset).pixels, colours)


def test_bytes_that_are_neither_one_nor_three_samples_are_corrupt() -> None:
    dataset = make_dicom(pixels(RED, RED, RED, RED), SamplesPerPixel=1, PixelData=bytes(8))
    assert refusal(dataset).outcome == "corrupt"


@pytest.mark.parametrize("photometric", ["MONOCHROME", "GRAYSCALE"])
def test_grey_by_another_name_is_grey_and_said(photometric: str) -> None:
    image = read_one(make_dicom(np.array([[1, 2]], np.uint8), PhotometricInterpretation=photometric))
    assert image.pixels.tolist() == [[1, 2]]
    assert any("taken as MONOCHROME2" in note for note in image.provenance.notes)
