"""A clinic of drawn patients under the encoder that comes with cbmir, served by a real process, for tests of the page.

Every name it may give itself (of the gallery, a class, a source, a report, a folder, and whatever DICOM can hold) is
markup that would run if it were taken for markup.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom.config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from canary import text_tags
from make_dicom import make_dicom, save_dicom
from pictures import draw
from serving import tokens

EVIL = "<img src=x onerror=ran(1)>"
SIDE = 96
SQUARE = slice(40, 56)
"""Rows and columns, in the middle of a slice, that hold one value."""
WINDOW = {"WindowCenter": 40, "WindowWidth": 400}
N_SLICES = {"first": 12, "second": 7}


def square_hu(number: int) -> int:
    """The value in the square of a slice, from 0; all lie well inside of WINDOW."""
    return -120 + 25 * number


def ct_slice(number: int, *, width: float = 0.8, height: float = 0.6) -> np.ndarray[Any, Any]:
    """HU: a body with two lungs that grow from slice to slice, int16 (SIDE, SIDE)."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    hu = np.where((x / width) ** 2 + (y / height) ** 2 < 1, 40, -1000)
    for middle in (-0.35, 0.35):
        hu[(x - middle) ** 2 + y**2 < (0.1 + 0.015 * number) ** 2] = -700
    hu[SQUARE, SQUARE] = square_hu(number)
    return hu.astype("<i2")


def ct_dicom(number: int, patient: int, **shape: float) -> Dataset:
    """A slice of the one series of a patient, 2 mm from the next."""
    return make_dicom(
        ct_slice(number, **shape) + 1024,
        Modality="CT",
        RescaleSlope=1,
        RescaleIntercept=-1024,
        RescaleType="HU",
        **WINDOW,
        PixelSpacing=[0.8, 0.8],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        ImagePositionPatient=[0, 0, 2 * number],
        InstanceNumber=number + 1,
        BodyPartExamined="CHEST",
        PatientAge="054Y",
        **identity(patient, number),
    )


def identity(patient: int, number: int = 0) -> dict[str, str]:
    return {
        "PatientID": f"patient {patient}",
        "StudyInstanceUID": f"2.25.{patient}",
        "SeriesInstanceUID": f"2.25.{patient}.1",
        "SOPInstanceUID": f"2.25.{patient}.1.{number + 1}",
    }


def evil_dicom(pixels: Any) -> Dataset:
    """The payload in every text attribute that an image does not need to be one, and in private ones."""
    dataset = make_dicom(pixels)
    with pydicom.config.disable_value_validation():
        for tag, vr in text_tags():
            dataset[tag] = DataElement(Tag(tag), vr, EVIL)
        block = dataset.private_block(0x0011, EVIL, create=True)
        block.add_new(1, "UT", EVIL)
    return dataset


def checker(seed: int) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[:SIDE, :SIDE]
    return ((x // 12 + y // 12) % 2 * 190 + np.random.default_rng(seed).integers(0, 20, (SIDE, SIDE))).astype(np.uint8)


def save_evil(path: Path, pixels: Any) -> None:
    with pydicom.config.disable_value_validation():
        save_dicom(path, evil_dicom(pixels))


def write_archive(folder: Path) -> Path:
    """The manifest of what is indexed: CT slices without a label, which are of whatever class is predicted for them;
    labelled pictures of other kinds; a class that is markup; and two files that are no images.
    """
    folder.mkdir(parents=True)
    rows: list[dict[str, str]] = []

    def save(name: str, dataset: Dataset, **told: str) -> None:
        save_dicom(folder / name, dataset)
        rows.append({"path": name, **told})

    for number in range(N_SLICES["first"]):
        save(f"first-{number:02d}.dcm", ct_dicom(number, 1))
    for number in range(N_SLICES["second"]):
        save(f"second-{number:02d}.dcm", ct_dicom(number, 2, width=0.75, height=0.65))
    for number in range(5):
        dataset = make_dicom(draw("disc", number, SIDE), Modality="MR", **identity(10 + number))
        save(f"disc-{number}.dcm", dataset, **{"class": "brain"}, source="east")
    for number in range(4):
        dataset = make_dicom(draw("stripes", number, SIDE), Modality="US", **identity(20 + number))
        save(f"stripes-{number}.dcm", dataset, **{"class": "lungs"}, source="west")
    for number in range(3):
        save_evil(folder / f"checker-{number}.dcm", checker(number))
        rows.append({"path": f"checker-{number}.dcm", "class": EVIL, "source": EVIL, "finding": EVIL})
    for name, content in {"notes.txt": b"Not an image.", "cut.dcm": b"\0" * 128 + b"DICM"}.items():
        (folder / name).write_bytes(content)
        rows.append({"path": name})
    return _write_manifest(folder / "manifest.csv", rows)


def write_measured(folder: Path) -> Path:
    """The manifest of an evaluation: three kinds on two sides, one of them called by the payload."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(6):
        pictures = {"brain": draw("disc", 50 + number, SIDE), "lungs": draw("stripes", 50 + number, SIDE)}
        for kind, (label, pixels) in enumerate({**pictures, EVIL: checker(50 + number)}.items()):
            name = f"{kind}-{number}.dcm"
            save_dicom(folder / name, make_dicom(pixels, Modality="MR", **identity(100 + 10 * kind + number)))
            rows.append({"path": name, "class": label, "split": "train" if number < 4 else "test"})
    return _write_manifest(folder / "manifest.csv", rows)


def _write_manifest(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        table.writeheader()
        table.writerows(rows)
    return path


@dataclass(frozen=True)
class Clinic:
    """home: a folder for the key and all files; environment: of every process that works for the clinic."""

    home: Path
    environment: Mapping[str, str]

    @property
    def gallery(self) -> Path:
        return self.home / f"drawn {EVIL}"

    @cached_property
    def today(self) -> Path:
        """A CT slice of a patient the gallery does not know."""
        return save_dicom(self.home / "today.dcm", ct_dicom(6, 3, width=0.78, height=0.62))

    @property
    def archive(self) -> Path:
        return self.home / "archive"

    def run(self, *words: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cbmir", *map(str, words)],
            cwd=self.home, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def serving(self, *, with_tokens: bool = False) -> Iterator[Server]:
        """`cbmir serve` in a process of its own."""
        config = self.home / f"cbmir-{'tokens' if with_tokens else 'open'}.toml"
        config.write_text(self._settings(with_tokens), encoding="utf-8")
        with (self.home / "server.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "cbmir", "serve", "--config", str(config), "--json"],
                cwd=self.home, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        try:
            assert process.stdout is not None
            told = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
            yield Server(told["url"].rstrip("/"))
        finally:
            process.terminate()
            rest, _ = process.communicate(timeout=60)
        assert (process.returncode, rest) == (0, "")

    def _settings(self, with_tokens: bool) -> str:
        lines = ["[web]", f"gallery = {json.dumps(str(self.gallery))}", "port = 0", 'reports = ["report"]']
        if with_tokens:
            for token in tokens():
                lines += ["[[web.tokens]]", *(f"{name} = {json.dumps(told)}" for name, told in token)]
        return "\n".join([*lines, "[web.roots]", 'incoming = "incoming"', ""])


@dataclass(frozen=True)
class Server:
    url: str

    def ask(self, method: str, path: str, **body: Any) -> Any:
        answer = httpx.request(method, f"{self.url}/api/v1{path}", json=body or None, timeout=60)
        assert answer.is_success, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        return self.ask("GET", path)

    def search(self, **asked: Any) -> Any:
        return self.ask("POST", "/search", **asked)

    def records(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/records?limit=200")["records"]
        return found

    def stack(self, n_slices: int) -> list[str]:
        """The ids of the CT series that has so many slices, from the first."""
        for record in self.records():
            told = self.get(f"/records/{record['id']}/series")
            if len(told["slices"]) == n_slices:
                return [one["id"] for one in told["slices"]]
        raise AssertionError(f"no series has {n_slices} slices")


def open_clinic(home: Path, cache: Path) -> Clinic:
    """Draws, indexes and measures, in the folder `home`. cache: for what is derived of the network; it takes long."""
    environment = {**os.environ, "CBMIR_KEY_FILE": str(home / "key"), "XDG_CACHE_HOME": str(cache)}
    environment |= {"PYTHONWARNINGS": "default", "TMPDIR": str(home)}
    clinic = Clinic(home, environment)
    clinic.run("index", write_archive(clinic.archive), "--gallery", clinic.gallery, "--workers", 0)
    measured = write_measured(home / "measured")
    clinic.run("evaluate", measured, "--out", home / "report", "--gate", "off", "--gate", "hard", "--workers", 0)
    incoming = home / "incoming" / EVIL
    incoming.mkdir(parents=True)
    for number in range(2):
        save_dicom(incoming / f"{number}.dcm", make_dicom(draw("stripes", 70 + number, SIDE), **identity(70 + number)))
    return clinic
