"""The viewer of the page draws what `cbmir render` draws: its TypeScript runs on the frames that the server sends."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbmir.display import render
from cbmir.types import DecodedImage
from cbmir.wire import on_the_wire
from make_dicom import make_dicom, sequence_item
from pictures import picture_bytes
from pictures import read_one as read_picture
from reading import PSEUDONYMS, read_one, words
from system_parts import REPOSITORY, system_part

FRONTEND = REPOSITORY / "frontend"
CT = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "HU"}


def slope(low: int, high: int, kind: str = "<i2") -> np.ndarray[Any, Any]:
    return np.linspace(low, high, 64 * 80).reshape(64, 80).astype(kind)


def ct(center: float, width: float, function: str, **more: Any) -> DecodedImage:
    elements: dict[str, Any] = {**CT, "WindowCenter": center, "WindowWidth": width, "VOILUTFunction": function, **more}
    return read_one(make_dicom(slope(0, 3000), **elements))


def colour() -> DecodedImage:
    red = slope(0, 255, "u1")
    return read_picture(picture_bytes(np.stack([red, red[::-1], 255 - red], axis=2)), PSEUDONYMS)


def with_table() -> DecodedImage:
    entries = [int(value) for value in np.linspace(0, 255, 256) ** 2 / 255]
    table = sequence_item(LUTDescriptor=[256, 100, 8], LUTData=words(*entries))
    return read_one(make_dicom(slope(0, 400), VOILUTSequence=[table]))


MADE: dict[str, Callable[[], DecodedImage]] = {
    "linear": lambda: ct(40, 400, "LINEAR"),
    "one wide": lambda: ct(40, 1, "LINEAR"),
    "linear exact": lambda: ct(40.5, 300, "LINEAR_EXACT"),
    "sigmoid": lambda: ct(100, 500, "SIGMOID"),
    "padded": lambda: ct(-600, 1500, "LINEAR", PixelPaddingValue=0),
    "monochrome1": lambda: ct(40, 400, "LINEAR", PhotometricInterpretation="MONOCHROME1"),
    "monochrome1, padded": lambda: ct(40, 400, "LINEAR", PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0),
    "no window": lambda: read_one(make_dicom(slope(-500, 9000), Modality="MR")),
    "many values": lambda: read_one(make_dicom(slope(0, 65535, "<u2"), Modality="MR")),
    "broken steps": lambda: read_one(make_dicom(slope(0, 4095), Modality="MR", RescaleSlope=0.37)),
    "nothing to see": lambda: read_one(make_dicom(np.full((8, 8), 7, "<i2"), Modality="MR")),
    "eight bits": lambda: read_picture(picture_bytes(slope(0, 255, "u1")), PSEUDONYMS),
    "table": with_table,
    "colour": colour,
}


def header(image: DecodedImage) -> dict[str, Any]:
    """What the viewer needs of X-Frame to draw."""
    wire = on_the_wire(image)
    named = ("rows", "columns", "channels", "dtype", "slope", "intercept", "padding", "window")
    told = {name: getattr(wire, name) for name in named}
    return {**told, "windows": [[*window, None] for window in wire.windows], "monochrome1": image.monochrome1}


def drawn(images: dict[str, DecodedImage], folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """RGB (rows, columns, 3) of each, as the viewer draws them."""
    node = system_part("node")
    if not (FRONTEND / "node_modules").is_dir() and os.environ.get("CI") != "true":
        pytest.skip("frontend/node_modules is missing: make page does that")
    for name, image in images.items():
        (folder / f"{name}.json").write_text(json.dumps(header(image)))
        (folder / f"{name}.frame").write_bytes(on_the_wire(image).octets)
    subprocess.run([node, "greys.mjs", folder], cwd=FRONTEND, check=True, timeout=120)
    return {name: rgb(folder / f"{name}.rgba", image) for name, image in images.items()}


def rgb(file: Path, image: DecodedImage) -> np.ndarray[Any, Any]:
    rows, columns = image.pixels.shape[:2]
    return np.frombuffer(file.read_bytes(), np.uint8).reshape(rows, columns, 4)[..., :3]


def test_the_viewer_draws_what_render_draws(tmp_path: Path) -> None:
    images = {name: make() for name, make in MADE.items()}
    for name, seen in drawn(images, tmp_path).items():
        wanted = render(images[name])
        wanted = wanted if wanted.ndim == 3 else np.repeat(wanted[..., None], 3, axis=2)
        apart = np.abs(seen.astype(int) - wanted)
        assert apart.max() <= 1, f"{name}: {apart.max()} grey levels apart"
        assert apart.mean() < 0.002, f"{name}: {apart.mean():.3f} of the pixels differ, more than rounding explains"
        assert name == "nothing to see" or wanted.max() > wanted.min(), f"{name} would prove nothing"
