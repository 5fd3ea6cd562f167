"""A small archive of drawn DICOM files for tests of upkeep: patients with studies and series, and a gallery of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cbmir import sources
from cbmir.encoder import Encoded
from cbmir.gallery import Gallery
from cbmir.ingest import IndexReport, index_source
from cbmir.preprocess import Preprocessing
from cbmir.privacy import Pseudonyms
from make_dicom import make_dicom, save_dicom

SIDE = 12


class SketchEncoder:
    """A layer of 144 grey values, and one of 36; classes by the mean. turned: another encoder, it sees upside down."""

    precision = "f32"
    layers: Mapping[str, int] = {"sketch": SIDE * SIDE, "small": 36}
    classes = ("bright", "dark")
    preprocessing = Preprocessing(size=SIDE, crop=SIDE)
    calibration: Mapping[str, Any] = {}

    def __init__(self, turned: bool = False) -> None:
        self.turned = turned
        self.name = "turned" if turned else "sketch"
        self.fingerprint = f"{self.name}-0001"

    def encode(self, batch: Any) -> Any:
        pixels = batch.reshape(len(batch), SIDE, SIDE).astype(np.float32) / 255
        if self.turned:
            pixels = pixels[:, ::-1, ::-1]
        mean = pixels.mean(axis=(1, 2))
        posterior = np.stack([mean, 1 - mean], axis=1).astype(np.float32)
        small = pixels[:, ::2, ::2].reshape(len(batch), 36)
        features = {
            "sketch": np.ascontiguousarray(pixels.reshape(len(batch), -1)),
            "small": np.ascontiguousarray(small),
        }
        return Encoded(features, posterior[:, ::-1] if self.turned else posterior)


def draw(seed: int) -> np.ndarray[Any, Any]:
    """uint8 (SIDE, SIDE), no two alike."""
    return np.random.default_rng(seed).integers(0, 200 + seed % 50, (SIDE, SIDE), np.uint8)


def write_ward(folder: Path, patients: int = 3) -> Path:
    """PATIENT/SERIES-NUMBER.dcm: of each patient one study, with two series of two images and one of three frames."""
    for patient in range(patients):
        place = folder / f"Miller^{patient}"
        place.mkdir(parents=True)
        for series in range(2):
            for number in range(2):
                write_image(place / f"{series}-{number}.dcm", patient, series, number)
        frames = np.stack([draw(1000 * patient + 100 + frame) for frame in range(3)])
        save_dicom(place / "cine.dcm", make_dicom(frames, frames=True, **identity(patient, 9, 0)))
    return folder


def write_image(path: Path, patient: int, series: int, number: int, *, seed: int | None = None) -> Path:
    pixels = draw(1000 * patient + 10 * series + number if seed is None else seed)
    return save_dicom(path, make_dicom(pixels, **identity(patient, series, number)))


def identity(patient: int, series: int, number: int) -> dict[str, str]:
    return {
        "PatientID": f"MRN-{patient}",
        "StudyInstanceUID": f"1.2.{patient + 1}",
        "SeriesInstanceUID": f"1.2.{patient + 1}.{series + 1}",
        "SOPInstanceUID": f"1.2.{patient + 1}.{series + 1}.{number + 1}",
    }


def index_ward(folder: Path, gallery: Gallery, pseudonyms: Pseudonyms, encoder: Any = None) -> IndexReport:
    return index_source(
        sources.open_source(folder), gallery, encoder or SketchEncoder(), pseudonyms, workers=0, memory_bytes=None
    )


def every_byte(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
