"""Where a picture lies in the patient and how its pixels lie in the picture (PS3.3 C.7.6.2, C.7.6.16.2, C.8.5.5)."""

from __future__ import annotations

from math import cos, isclose, radians

import numpy as np
from pydicom.dataset import Dataset

from ...types import Rectangle
from .elements import functional_group, has, items_of, numbers_of, text_of, whole_of
from .header import Layout

PLANES = ("sagittal", "coronal", "axial")  # normal along x (to the left), y (to the back), z (to the head)
WITHIN = cos(radians(25))
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
MAX_ASPECT = 20.0  # beyond, a header is wrong, and the picture would be stretched to nothing
GRAPHICS = 5  # region format without a scan

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SCREEN_WORDS = ("SCREEN", "SAVE")
ULTRASOUND = frozenset({"US", "IVUS"})


def plane_of(orientation: list[float]) -> str | None:
    """The plane of six direction cosines, of a row and of a column; None when they are none."""
    if len(orientation) != 6:
        return None
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    usable = all(isclose(float(np.linalg.norm(v)), 1, abs_tol=0.05) for v in (row, column))
    if not usable or abs(float(row @ column)) > 0.05:
        return None
    normal = np.abs(np.cross(row, column))
    axis = int(normal.argmax())
    return PLANES[axis] if normal[axis] >= WITHIN else "oblique"


def slice_place(dataset: Dataset, index: int) -> dict[str, str]:
    """The attributes plane and slice_position_mm of a frame, as far as they are known."""
    attributes: dict[str, str] = {}
    orientation = _numbers(functional_group(dataset, index, "PlaneOrientationSequence"), "ImageOrientationPatient")
    position = _numbers(functional_group(dataset, index, "PlanePositionSequence"), "ImagePositionPatient")
    plane = plane_of(orientation)
    if plane:
        attributes["plane"] = plane
        if len(position) == 3:
            along = float(np.dot(position, np.cross(orientation[:3], orientation[3:])))
            attributes["slice_position_mm"] = f"{along + 0.0:.3f}"
    return attributes


def pixel_aspect(dataset: Dataset, index: int) -> float:
    """Height of a pixel over its width; 1 when nothing usable is said."""
    group = functional_group(dataset, index, "PixelMeasuresSequence")
    for source, keyword in ((group, "PixelSpacing"), *((dataset, keyword) for keyword in SPACINGS)):
        numbers = _numbers(source, keyword)
        if len(numbers) == 2 and min(numbers) > 0:
            aspect = numbers[0] / numbers[1]
            return aspect if 1 / MAX_ASPECT <= aspect <= MAX_ASPECT else 1.0
    return 1.0


def _numbers(dataset: Dataset, keyword: str) -> list[float]:
    numbers = numbers_of(dataset, keyword, default=np.nan)
    return [] if np.isnan(numbers).any() else numbers


def scan_regions(dataset: Dataset, layout: Layout) -> tuple[Rectangle, ...]:
    """The calibrated regions of an ultrasound picture that show a scan, cut to the picture."""
    regions = []
    for item in items_of(dataset, "SequenceOfUltrasoundRegions"):
        corners = [
            whole_of(item, f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")
        ]  # the last pixel belongs to the region
        if None in corners or whole_of(item, "RegionSpatialFormat") == GRAPHICS:
            continue
        left, top, right, bottom = (corner or 0 for corner in corners)
        left, top = max(left, 0), max(top, 0)
        right, bottom = min(right + 1, layout.columns), min(bottom + 1, layout.rows)
        if left < right and top < bottom:
            regions.append((left, top, right, bottom))
    return tuple(regions)


def burned_in_risk(dataset: Dataset, regions: tuple[Rectangle, ...]) -> str | None:
    """Why a patient's name may be in the pixels; None when nothing says so."""
    stated = text_of(dataset, "BurnedInAnnotation").upper()
    if stated == "YES":
        return "stated"
    image_type = text_of(dataset, "ImageType").upper()
    if any(word in image_type for word in SCREEN_WORDS):
        return "screen save"
    if stated == "NO":
        return None
    sop_class = text_of(dataset, "SOPClassUID")
    if (
        sop_class == SECONDARY_CAPTURE
        or sop_class.startswith(SECONDARY_CAPTURE + ".")
        or has(dataset, "ConversionType")
    ):
        return "secondary capture"
    if text_of(dataset, "Modality").upper() in ULTRASOUND and not regions:
        return "ultrasound without regions"
    return None
