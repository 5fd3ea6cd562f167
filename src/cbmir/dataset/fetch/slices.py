"""A downloaded series: is it whole, and which of its files are the slices that the plan takes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .plan import Draw
from .recipe import Part

BYTES_OFF = 1000
"""By how much the size of a whole series may differ from the index, which has it to the byte."""
ORDER_TAGS = (
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImageType",
    "InstanceNumber",
    "Rows",
    "SOPInstanceUID",
)


def is_whole(folder: Path, draw: Draw) -> bool:
    """Are all files of the series there, with the bytes that the index promises?"""
    files = list(folder.glob("*.dcm")) if folder.is_dir() else []
    size = sum(file.stat().st_size for file in files)
    return len(files) == draw.n_instances and abs(size - draw.mb * 1e6) <= BYTES_OFF


def choose(folder: Path, draw: Draw) -> list[Path]:
    """The files to take, in the order of the body; fewer than draw.take where fewer are pictures."""
    files = in_order(sorted(folder.glob("*.dcm")))
    return [files[i] for i in spread(len(files), draw.take, draw.part)]


def spread(n: int, take: int, part: Part = (0.0, 1.0)) -> list[int]:
    """`take` of n positions, evenly spread over the middle of a part: spread(10, 2) is [2, 7].

    Where the part has too few, it grows to the whole.
    """
    take = min(take, n)
    low, high = part[0] * n, part[1] * n
    if high - low < take:
        low, high = 0, n
    return [math.floor(low + (i + 0.5) * (high - low) / take) for i in range(take)]


def in_order(files: Sequence[Path]) -> list[Path]:
    """The pictures among them, along the body: from the feet up, from right to left, or from front to back.

    By position along the normal of the plane (PS3.3 C.7.6.2.1.1), else by instance number. Localizers and files that
    cannot be read are left out.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of values that are not quite what the standard wants
        found = [(place, file) for file in files if (place := _place(file)) is not None]
    return [file for _, file in sorted(found)]


def _place(file: Path) -> tuple[float, float, str] | None:
    """What sorts a slice: millimetres along the normal, instance number, UID. None for what is no picture."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(file, stop_before_pixels=True, specific_tags=list(ORDER_TAGS))
        if "LOCALIZER" in (header.get("ImageType") or ()) or not header.get("Rows"):
            return None
        return _along(header), float(header.get("InstanceNumber") or 0), str(header.get("SOPInstanceUID", ""))
    except (InvalidDicomError, OSError, ValueError, TypeError):
        return None


def _along(header: Any) -> float:
    """Position along the normal, rounded to 0.01 mm; the normal points left, back or up. 0 where it is not told."""
    position, orientation = header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")
    if not position or not orientation or len(position) != 3 or len(orientation) != 6:
        return 0.0
    cosines = np.array(orientation, dtype=float)
    normal = np.cross(cosines[:3], cosines[3:])
    normal *= np.sign(normal[np.abs(normal).argmax()])
    along = float(normal @ np.array(position, dtype=float))
    return round(along, 2) if math.isfinite(along) else 0.0
