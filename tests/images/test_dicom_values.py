"""Stored values become modality values: HU, dose, real world values; padding is marked, windows are collected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from cbmir.types import Window
from make_dicom import dicom_bytes, make_dicom, sequence_item
from reading import STORED, read, read_one, read_until_refused, words

IMPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"


def values(dataset: Dataset) -> tuple[list[list[float]], str | None]:
    image = read_one(dataset)
    return image.pixels.tolist(), image.provenance.values


# Modality LUT


def test_rescale_gives_hu() -> None:
    dataset = make_dicom(STORED, bits_stored=12, Modality="CT", RescaleSlope=2, RescaleIntercept=-1024)
    image = read_one(dataset)
    assert image.pixels.dtype == np.float32
    assert image.pixels.tolist() == [[-1024, -1022], [-1020, -1018]]
    assert image.value_range == (-1024, 4095 * 2 - 1024)
    assert image.provenance.values == "HU"


@pytest.mark.parametrize(
    ("elements", "phrase"),
    [
        ({"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "HU"}, "HU"),
        ({"Modality": "CT", "RescaleSlope": 2, "RescaleIntercept": 0, "RescaleType": "US"}, "rescaled values"),
        ({"Modality": "CT"}, "stored values"),
        ({"Modality": "MR"}, "stored values"),
        ({"Modality": "MR", "RescaleSlope": 1, "RescaleIntercept": 0}, "stored values"),
        ({"Modality": "MR", "RescaleSlope": 3, "RescaleIntercept": 0}, "rescaled values"),
    ],
)
def test_provenance_says_what_the_values_are(elements: dict[str, Any], phrase: str) -> None:
    assert read_one(make_dicom(STORED, **elements)).provenance.values == phrase


def test_signed_values_stay_signed() -> None:
    image = read_one(make_dicom(np.array([[-5, 7]], dtype=np.int16), bits_stored=12))
    assert image.pixels.tolist() == [[-5, 7]]
    assert image.value_range == (-2048, 2047)


@pytest.mark.parametrize(("slope", "intercept"), [("", ""), ("0", "0"), (None, None)])
def test_a_rescale_that_says_nothing_is_the_identity(slope: Any, intercept: Any) -> None:
    assert values(make_dicom(STORED, RescaleSlope=slope, RescaleIntercept=intercept))[0] == STORED.tolist()


def test_a_decimal_comma_is_a_point() -> None:
    dataset = make_dicom(STORED, RescaleSlope="0.5", RescaleIntercept="0")
    data = dicom_bytes(dataset).replace(b"0.5 ", b"0,5 ")
    assert read_one(data).pixels.tolist() == [[0, 0.5], [1, 1.5]]


@pytest.mark.parametrize("transfer_syntax", [None, IMPLICIT, BIG])
def test_a_modality_lut_is_looked_up(transfer_syntax: str | None) -> None:
    data = np.array([10, 20, 40, 80]).astype(">u2" if transfer_syntax == BIG else "<u2").tobytes()
    table = sequence_item(LUTDescriptor=[4, 0, 16], LUTData=data, ModalityLUTType="US")
    dataset = make_dicom(STORED, ModalityLUTSequence=[table])
    if transfer_syntax:
        dataset.file_meta.TransferSyntaxUID = type(dataset.file_meta.TransferSyntaxUID)(transfer_syntax)
    if transfer_syntax == BIG:
        dataset.PixelData = STORED.astype(">u2").tobytes()
    assert values(dataset) == ([[10, 20], [40, 80]], "modality LUT")


def test_values_beyond_a_lut_take_its_ends() -> None:
    table = sequence_item(LUTDescriptor=[2, 1, 16], LUTData=words(10, 20), ModalityLUTType="US")
    assert values(make_dicom(STORED, ModalityLUTSequence=[table]))[0] == [[10, 10], [20, 20]]


@pytest.mark.parametrize("modality", ["XA", "DX"])
def test_a_lut_back_to_x_ray_intensities_is_left(modality: str) -> None:
    table = sequence_item(LUTDescriptor=[4, 0, 16], LUTData=words(10, 20, 40, 80), ModalityLUTType="US")
    dataset = make_dicom(STORED, Modality=modality, PixelIntensityRelationship="LOG", ModalityLUTSequence=[table])
    assert values(dataset) == (STORED.tolist(), "stored values")


def test_large_integers_lose_nothing_before_the_rescale() -> None:
    stored = np.array([[2**24 + 1, 2**24]], dtype=np.uint32)
    assert values(make_dicom(stored, RescaleSlope=1, RescaleIntercept=-(2**24)))[0] == [[1, 0]]


# Enhanced objects: per frame, else shared, else the dataset


def group(slope: int, center: int) -> Dataset:
    rescale = sequence_item(RescaleSlope=slope, RescaleIntercept=0)
    voi = sequence_item(WindowCenter=center, WindowWidth=10)
    return sequence_item(PixelValueTransformationSequence=[rescale], FrameVOILUTSequence=[voi])


def test_frames_have_their_own_rescale_and_window() -> None:
    frames = np.full((2, 1, 2), 3, dtype=np.uint16)
    shared = {"SharedFunctionalGroupsSequence": [group(7, 70)], "RescaleSlope": 9, "RescaleIntercept": 0}
    per_frame = [group(1, 50), group(2, 60)]
    first, second = read(make_dicom(frames, frames=True, PerFrameFunctionalGroupsSequence=per_frame, **shared))
    assert (first.pixels[0, 0], second.pixels[0, 0]) == (3, 6)
    assert (first.windows[0].center, second.windows[0].center) == (50, 60)


def test_shared_groups_hold_where_a_frame_has_none() -> None:
    frames = np.ones((2, 1, 2), np.uint16)
    elements = {
        "SharedFunctionalGroupsSequence": [group(7, 70)],
        "PerFrameFunctionalGroupsSequence": [group(2, 60)],  # one is missing
    }
    assert [image.pixels[0, 0] for image in read(make_dicom(frames, frames=True, **elements))] == [2, 7]


# Objects that are no pictures


def test_a_dose_grid_is_in_gray() -> None:
    dataset = make_dicom(STORED, Modality="RTDOSE", DoseUnits="GY", DoseGridScaling="0.5")
    image = read_one(dataset)
    assert (image.kind, image.provenance.values) == ("dose grid", "dose in Gy")
    assert image.pixels.tolist() == [[0, 0.5], [1, 1.5]]


def test_a_segmentation_keeps_its_bits() -> None:
    mask = np.array([[0, 1, 1, 0, 1], [1, 0, 0, 0, 1]])
    packed = np.packbits(mask.reshape(-1).astype(np.uint8), bitorder="little").tobytes()
    layout = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": packed}
    image = read_one(make_dicom(mask.astype(np.uint8), Modality="SEG", **layout))
    assert (image.kind, image.pixels.tolist()) == ("segmentation", mask.tolist())


def test_frames_of_single_bits_begin_inside_a_byte() -> None:
    masks = np.array([[[1, 0, 1]], [[0, 1, 1]], [[1, 1, 0]]], dtype=np.uint8)
    packed = np.packbits(masks.reshape(-1), bitorder="little").tobytes()
    layout = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": packed}
    images = read(make_dicom(masks, frames=True, Modality="SEG", **layout))
    assert [image.pixels.tolist() for image in images] == masks.tolist()


PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"


def test_a_parametric_map_of_integers_has_real_world_values() -> None:
    mapping = sequence_item(RealWorldValueSlope=0.5, RealWorldValueIntercept=10.0)
    dataset = make_dicom(STORED, SOPClassUID=PARAMETRIC_MAP, RealWorldValueMappingSequence=[mapping])
    image = read_one(dataset)
    assert (image.kind, image.provenance.values) == ("parametric map", "real world values")
    assert image.pixels.tolist() == [[10, 10.5], [11, 11.5]]


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_floats_are_read_and_what_is_no_number_is_padding(keyword: str, dtype: str) -> None:
    numbers = np.array([[0.5, np.nan], [-2, np.inf]])
    dataset = make_dicom(STORED, SOPClassUID=PARAMETRIC_MAP)
    del dataset.PixelData
    setattr(dataset, keyword, numbers.astype(dtype).tobytes())
    image = read_one(dataset)
    assert (image.pixels[0, 0], image.pixels[1, 0]) == (0.5, -2)
    assert image.padding is not None
    assert image.padding.tolist() == [[False, True], [False, True]]
    assert image.value_range == (-2, 1)


# Padding


def padding_of(dataset: Dataset) -> list[list[bool]] | None:
    padding = read_one(dataset).padding
    return None if padding is None else padding.tolist()


def padded(stored: Any, vr: str = "US", **elements: Any) -> Dataset:
    dataset = make_dicom(stored, **elements)
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if keyword in elements:
            dataset[keyword].VR = vr
    return dataset


def test_padding_is_marked_on_stored_values() -> None:
    dataset = padded(STORED, PixelPaddingValue=2, RescaleSlope=1, RescaleIntercept=-2)
    assert padding_of(dataset) == [[False, False], [True, False]]


@pytest.mark.parametrize(("value", "limit"), [(3, 2), (2, 3)])
def test_padding_may_be_a_range_from_either_end(value: int, limit: int) -> None:
    dataset = padded(STORED, PixelPaddingValue=value, PixelPaddingRangeLimit=limit)
    assert padding_of(dataset) == [[False, False], [True, True]]


@pytest.mark.parametrize(("vr", "value"), [("SS", -3), ("US", 65533)])
def test_padding_has_the_sign_of_the_pixels_whatever_its_own(vr: str, value: int) -> None:
    dataset = padded(np.array([[-3, 7]], dtype=np.int16), vr, PixelPaddingValue=value)
    assert padding_of(dataset) == [[True, False]]


def test_old_ct_outside_the_field_of_view_is_padding() -> None:
    assert padding_of(make_dicom(np.array([[-2000, 7]], dtype=np.int16), Modality="CT")) == [[True, False]]
    assert padding_of(make_dicom(np.array([[-2000, 7]], dtype=np.int16), Modality="MR")) is None


# Windows


def test_window_candidates_are_collected() -> None:
    dataset = make_dicom(STORED, WindowCenter=[40, 400], WindowWidth=[350, 1800], VOILUTFunction="SIGMOID")
    assert read_one(dataset).windows == (Window(40, 350, "SIGMOID"), Window(400, 1800, "SIGMOID"))


@pytest.mark.parametrize(
    "elements",
    [{"WindowCenter": 40}, {"WindowCenter": 40, "WindowWidth": 0}, {"WindowCenter": "", "WindowWidth": ""}],
)
def test_windows_without_a_width_are_none(elements: dict[str, Any]) -> None:
    assert read_one(make_dicom(STORED, **elements)).windows == ()


def test_a_voi_lut_becomes_a_table_between_0_and_1() -> None:
    item = sequence_item(LUTDescriptor=[3, 5, 8], LUTData=words(0, 51, 255))
    image = read_one(make_dicom(STORED, VOILUTSequence=[item]))
    assert image.voi_lut is not None
    first, table = image.voi_lut
    assert first == 5
    assert table == pytest.approx([0, 0.2, 1])


def test_a_voi_lut_of_bytes_is_as_good() -> None:
    item = sequence_item(LUTDescriptor=[4, 0, 8], LUTData=bytes([0, 51, 102, 255]))
    image = read_one(make_dicom(STORED, VOILUTSequence=[item]))
    assert image.voi_lut is not None
    assert image.voi_lut[1] == pytest.approx([0, 0.2, 0.4, 1])


def test_a_voi_lut_may_begin_below_zero() -> None:
    item = sequence_item(LUTDescriptor=[2, 65536 - 1000, 8], LUTData=words(0, 255))
    dataset = make_dicom(STORED, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=[item])
    image = read_one(dataset)
    assert image.voi_lut is not None
    assert image.voi_lut[0] == -1000


@pytest.mark.parametrize(
    ("elements", "inverted"),
    [
        ({}, False),
        ({"PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"PresentationLUTShape": "INVERSE"}, True),
        ({"PresentationLUTShape": "IDENTITY"}, False),
        ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, True),
    ],
)
def test_monochrome1_is_flagged_and_not_applied(elements: dict[str, Any], inverted: bool) -> None:
    image = read_one(make_dicom(STORED, **elements))
    assert image.monochrome1 is inverted
    assert image.pixels.tolist() == STORED.tolist()


def test_a_small_rescale_slope_does_not_make_a_12_bit_slice_one_for_the_eye() -> None:
    deep = read_one(make_dicom(STORED, bits_stored=12, Modality="PT", RescaleSlope="0.05", RescaleIntercept="0"))
    shallow = read_one(make_dicom(STORED.astype(np.uint8), Modality="PT", RescaleSlope="0.05", RescaleIntercept="0"))
    assert (deep.made_for_eye, shallow.made_for_eye) == (False, True)


def test_a_frame_without_its_own_rescale_is_left_out_and_said() -> None:
    own = sequence_item(
        PixelValueTransformationSequence=[sequence_item(RescaleSlope="2", RescaleIntercept="0", RescaleType="US")]
    )
    dataset = make_dicom(np.ones((3, 2, 2), np.uint16), frames=True)
    dataset.PerFrameFunctionalGroupsSequence = [own, own]
    images, error = read_until_refused(dataset)
    assert [(image.frame_index, image.pixels[0, 0]) for image in images] == [(0, 2), (1, 2)]
    assert (error.outcome, "1 of 3 frames" in error.reason) == ("partial", True)


@pytest.mark.parametrize(("limit", "padded"), [(None, [False, True, False]), (-5.0, [False, True, True])])
def test_floats_have_a_padding_value_of_their_own(limit: float | None, padded: list[bool]) -> None:
    dataset = make_dicom(np.zeros((1, 3), np.uint32), FloatPixelData=np.array([1, -9, -7], "<f4").tobytes())
    del dataset.PixelData
    dataset.FloatPixelPaddingValue = -9.0
    if limit is not None:
        dataset.FloatPixelPaddingRangeLimit = limit
    image = read_one(dataset)
    assert image.padding is not None
    assert image.padding[0].tolist() == padded
