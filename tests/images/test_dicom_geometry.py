"""Where a picture lies in the patient, the shape of its pixels, its scan regions, and the risk of names in it."""

from __future__ import annotations

from math import cos, radians, sin
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from make_dicom import make_dicom, sequence_item
from reading import RAMP, STORED, read, read_one

CT = "1.2.840.10008.5.1.4.1.1.2"
AXIAL, CORONAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]


def attributes(**elements: Any) -> dict[str, str]:
    return dict(read_one(make_dicom(STORED, **{"SOPClassUID": CT, **elements})).attributes)


def tilted(degrees: float) -> list[float]:
    return [1, 0, 0, 0, round(cos(radians(degrees)), 6), round(sin(radians(degrees)), 6)]


@pytest.mark.parametrize(
    ("orientation", "plane"),
    [
        (AXIAL, "axial"),
        (CORONAL, "coronal"),
        (SAGITTAL, "sagittal"),
        ([-1, 0, 0, 0, -1, 0], "axial"),
        (tilted(24), "axial"),
        (tilted(26), "oblique"),
        (tilted(45), "oblique"),
        (tilted(80), "coronal"),
        ([1, 0, 0, 1, 0, 0], None),
        ([0, 0, 0, 0, 0, 0], None),
        ([1, 0, 0], None),
    ],
)
def test_the_normal_tells_the_plane(orientation: list[float], plane: str | None) -> None:
    assert attributes(ImageOrientationPatient=orientation).get("plane") == plane


def test_the_position_is_along_the_normal() -> None:
    """The normal of an axial slice points to the head, of a coronal one to the back."""
    assert attributes(ImageOrientationPatient=AXIAL, ImagePositionPatient=[1, 2, 3.5])["slice_position_mm"] == "3.500"
    assert attributes(ImageOrientationPatient=CORONAL, ImagePositionPatient=[1, 2, 3])["slice_position_mm"] == "2.000"


def test_without_an_orientation_there_is_no_position() -> None:
    assert "slice_position_mm" not in attributes(ImagePositionPatient=[1, 2, 3])


def test_frames_have_their_own_place() -> None:
    def group(orientation: list[float], height: float) -> Dataset:
        return sequence_item(
            PlaneOrientationSequence=[sequence_item(ImageOrientationPatient=orientation)],
            PlanePositionSequence=[sequence_item(ImagePositionPatient=[0, 0, height])],
        )

    groups = [group(AXIAL, 5), group(AXIAL, 7.5), group(SAGITTAL, 9)]
    frames = np.ones((3, 2, 2), np.uint16)
    places = [
        image.attributes for image in read(make_dicom(frames, frames=True, PerFrameFunctionalGroupsSequence=groups))
    ]
    assert [place["plane"] for place in places] == ["axial", "axial", "sagittal"]
    assert [place["slice_position_mm"] for place in places] == ["5.000", "7.500", "0.000"]


@pytest.mark.parametrize(("value", "told"), [("12", "12"), ("-1", None), ("", None), ("12345678901", None)])
def test_the_instance_number_is_a_number(value: str, told: str | None) -> None:
    assert attributes(InstanceNumber=value).get("instance_number") == told


def test_an_instance_number_that_is_the_patients_number_is_left_out() -> None:
    assert "instance_number" not in attributes(InstanceNumber="4711", PatientID="4711")
    assert attributes(InstanceNumber="4711", PatientID="4712")["instance_number"] == "4711"


# The shape of a pixel


@pytest.mark.parametrize(
    ("elements", "aspect"),
    [
        ({}, 1),
        ({"PixelSpacing": [2, 1]}, 2),  # rows are 2 mm apart, columns 1 mm
        ({"ImagerPixelSpacing": [1, 2]}, 0.5),
        ({"NominalScannedPixelSpacing": [3, 1]}, 3),
        ({"PixelAspectRatio": [1, 2]}, 0.5),
        ({"PixelSpacing": [1, 1], "PixelAspectRatio": [1, 2]}, 1),
        ({"PixelSpacing": [0, 1], "PixelAspectRatio": [1, 2]}, 0.5),
        ({"PixelSpacing": ""}, 1),
        ({"PixelSpacing": [1, 1000]}, 1),  # no pixel is like that
    ],
)
def test_height_over_width(elements: dict[str, Any], aspect: float) -> None:
    assert read_one(make_dicom(STORED, **elements)).pixel_aspect == aspect


def test_the_spacing_of_an_enhanced_object_is_in_its_groups() -> None:
    measures = sequence_item(PixelMeasuresSequence=[sequence_item(PixelSpacing=[2, 1])])
    assert read_one(make_dicom(STORED, SharedFunctionalGroupsSequence=[measures])).pixel_aspect == 2


# Ultrasound regions


def region(*corners: int, **elements: Any) -> Dataset:
    names = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
    return sequence_item(**dict(zip(names, corners, strict=False)), **elements)


def regions(*items: Dataset) -> tuple[tuple[int, int, int, int], ...]:
    return read_one(make_dicom(RAMP, Modality="US", SequenceOfUltrasoundRegions=list(items))).regions


def test_the_last_pixel_belongs_to_a_region() -> None:
    assert regions(region(0, 1, 2, 3)) == ((0, 1, 3, 4),)


def test_regions_are_cut_to_the_picture_and_empty_ones_dropped() -> None:
    assert regions(region(1, 1, 900, 900), region(7, 7, 9, 9), region(3, 3, 1, 1)) == ((1, 1, 4, 4),)


def test_graphics_and_regions_without_corners_hold_no_scan() -> None:
    assert regions(region(0, 0, 3, 3, RegionSpatialFormat=5), region(0, 0)) == ()


# Names in the pixels


@pytest.mark.parametrize(
    ("elements", "risk"),
    [
        ({}, None),
        ({"BurnedInAnnotation": "YES"}, "stated"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, "secondary capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.4"}, None),
        ({"ConversionType": "DF"}, "secondary capture"),
        ({"ConversionType": "DF", "BurnedInAnnotation": "NO"}, None),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"], "BurnedInAnnotation": "NO"}, "screen save"),
        ({"Modality": "US"}, "ultrasound without regions"),
        ({"Modality": "US", "SequenceOfUltrasoundRegions": [region(0, 0, 1, 1)]}, None),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, None),
    ],
)
def test_the_risk_of_burned_in_text_is_said(elements: dict[str, Any], risk: str | None) -> None:
    assert attributes(**elements).get("burned_in") == risk
