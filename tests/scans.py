"""The drawn scans that docs/search.md is about; their UIDs are fixed, and so are the ids under a fixed key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from make_dicom import make_dicom, save_dicom

KEY = "00" * 32
"""In the file of CBMIR_KEY_FILE, for the examples to give the same ids everywhere."""


def body(width: float, height: float, slope: float) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An ellipse whose grey rises from left to right, uint8 (64, 64)."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    grey = 60 + 90 * (1 + slope * x)
    return np.where((x / width) ** 2 + (y / height) ** 2 < 1, grey, 0).astype(np.uint8)


def write_scans(root: Path) -> Path:
    """root/archive is indexed, root/today is searched by."""
    for folder in ("archive", "today"):
        (root / folder).mkdir(parents=True)
    chest = {"Modality": "CT", "BodyPartExamined": "CHEST"}
    for number in range(3):
        pixels = body(0.8, 0.6 + 0.02 * number, 0.3)
        save(root / "archive", f"a-{number + 1}", pixels, "1.1", 1, **chest, PatientAge="054Y", Manufacturer="SIEMENS")
        pixels = body(0.7, 0.5 + 0.02 * number, 0.5)
        save(root / "archive", f"b-{number + 1}", pixels, "2.1", 2, **chest, PatientAge="067Y", Manufacturer="GE")
    brain = {"Modality": "MR", "BodyPartExamined": "BRAIN"}
    for number in range(2):
        pixels = body(0.5, 0.6 + 0.03 * number, -0.4)
        save(root / "archive", f"c-{number + 1}", pixels, "3.1", 3, **brain, PatientAge="038Y", Manufacturer="SIEMENS")
    frames = np.stack([body(0.55, 0.55 + 0.03 * number, -0.2) for number in range(3)])
    save(root / "archive", "d", frames, "4.1", 4, **brain, PatientAge="045Y", Manufacturer="PHILIPS")
    save(root / "archive", "e", body(0.9, 0.9, 0.1), "5.1", 5, Modality="CR", BodyPartExamined="CHEST")
    save(root / "today", "new", body(0.78, 0.58, 0.35), "6.1", 6, **chest)
    frames = np.stack([body(0.52, 0.56 + 0.03 * number, -0.3) for number in range(2)])
    save(root / "today", "cine", frames, "7.1", 7, **brain)
    return root


def save(folder: Path, name: str, pixels: Any, series: str, patient: int, **elements: Any) -> None:
    frames = {"frames": True} if pixels.ndim == 3 else {}
    uids = {
        "SOPInstanceUID": f"2.25.{int.from_bytes(f'{folder.name}/{name}'.encode(), 'big')}",
        "SeriesInstanceUID": f"2.25.{series}",
        "StudyInstanceUID": f"2.25.{patient}",
        "PatientID": f"patient {patient}",
    }
    save_dicom(folder / f"{name}.dcm", make_dicom(pixels, **frames, **uids, **elements))
