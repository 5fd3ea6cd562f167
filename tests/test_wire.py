"""What a browser makes of a frame that is sent to it is what `render` draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbmir.display import render
from cbmir.images import read_image
from cbmir.privacy import Pseudonyms
from cbmir.types import DecodedImage, Provenance, Window
from cbmir.wire import PADDING, Wire, on_the_wire
from make_dicom import make_dicom, save_dicom

RANDOM = np.random.default_rng(24)


def grey(values: Any, *, unit: str | None = None, **known: Any) -> DecodedImage:
    known.setdefault("value_range", (0.0, 4095.0))
    pixels = np.atleast_2d(np.asarray(values, np.float32))
    return DecodedImage(pixels=pixels, id="x", provenance=Provenance("DICOM", values=unit), **known)


def browser(wire: Wire, monochrome1: bool) -> np.ndarray[Any, Any]:
    """As the viewer does it, by the words of the standard (PS3.3 C.11.2.1.2, C.11.2.1.3), in numbers of 64 bits."""
    if wire.channels == 3:
        return np.frombuffer(wire.octets, np.uint8).reshape(wire.rows, wire.columns, 3)
    stored = np.frombuffer(wire.octets, "<i2").reshape(wire.rows, wire.columns)
    x = stored.astype(np.float64) * wire.slope + wire.intercept
    assert wire.window is not None
    center, width = wire.window
    function = next((name for c, w, name in wire.windows if (c, w) == wire.window), "LINEAR_EXACT")
    if function == "LINEAR":
        shown = np.where(x > center - 0.5, 1.0, 0.0) if width == 1 else (x - (center - 0.5)) / (width - 1) + 0.5
    elif function == "LINEAR_EXACT":
        shown = (x - center) / width + 0.5
    else:
        shown = 1 / (1 + np.exp(-4 * (x - center) / width))
    shown = np.clip(shown, 0, 1)
    shown = 1 - shown if monochrome1 else shown
    if wire.padding is not None:
        shown[stored == wire.padding] = 0
    return np.floor(shown * 255 + 0.5)


def differs(image: DecodedImage) -> float:
    drawn = browser(on_the_wire(image), image.monochrome1)
    return float(np.abs(drawn - render(image).astype(float)).max())


WHOLE = RANDOM.integers(-1024, 3000, (40, 30))
WIDE = RANDOM.integers(0, 65536, (40, 30))
SCALED = RANDOM.integers(0, 4096, (40, 30)) * np.float32(0.0371) - np.float32(12.5)
ANY = RANDOM.normal(0, 1e-4, (40, 30))
HOLES = RANDOM.random((40, 30)) < 0.2
TABLE = np.linspace(0, 1, 200, dtype=np.float32) ** 2


@pytest.mark.parametrize("monochrome1", [False, True])
@pytest.mark.parametrize("padding", [None, HOLES])
@pytest.mark.parametrize(
    ("values", "known"),
    [
        (WHOLE, {}),
        (WHOLE, {"windows": (Window(40, 400), Window(-600, 1500))}),
        (WHOLE, {"windows": (Window(40, 1),)}),
        (WHOLE, {"windows": (Window(40, 0.5), Window(300.5, 77.5, "LINEAR_EXACT"))}),
        (WHOLE, {"windows": (Window(40, 400, "SIGMOID"),)}),
        (WHOLE % 256, {"made_for_eye": True, "value_range": (0.0, 255.0)}),
        (WHOLE, {"voi_lut": (-500.0, TABLE), "windows": (Window(40, 400),)}),
        (WIDE, {}),
        (WIDE, {"windows": (Window(30000, 5000),)}),
        (SCALED, {}),
        (SCALED, {"unit": "SUVbw"}),
        (ANY, {}),
        (ANY * 1e30, {}),
        (np.full((40, 30), 7), {}),
    ],
)  # fmt: skip
def test_a_browser_draws_what_render_draws(values: Any, known: dict[str, Any], padding: Any, monochrome1: bool) -> None:
    assert differs(grey(values, padding=padding, monochrome1=monochrome1, **known)) <= 1


def test_what_is_no_number_is_padding() -> None:
    values = WHOLE.astype(np.float32)
    values[3, 4], values[5, 6] = np.nan, np.inf
    image = grey(values, windows=(Window(40, 400),))
    wire = on_the_wire(image)
    stored = np.frombuffer(wire.octets, "<i2").reshape(40, 30)
    assert (wire.padding, np.count_nonzero(stored == PADDING)) == (PADDING, 2)
    assert differs(image) <= 1


def test_an_image_of_padding_alone_is_black() -> None:
    image = grey(WHOLE, padding=np.ones((40, 30), np.bool_), monochrome1=True)
    assert differs(image) == 0


@pytest.mark.parametrize(
    ("values", "slope", "intercept", "numbers"),
    [
        ([-1024, 0, 3000], 1, 0, [-1024, 0, 3000]),
        ([40000, 40001, 60000], 1, 72768, [-32768, -32767, -12768]),
        ([0, 0.5, 2], 0.5, 16384, [-32768, -32767, -32764]),
        ([7, 7, 7], 1, 7, [0, 0, 0]),
    ],
)
def test_whole_and_scaled_values_fit_exactly(
    values: list[float], slope: float, intercept: float, numbers: list[int]
) -> None:
    wire = on_the_wire(grey(values))
    assert np.frombuffer(wire.octets, "<i2").tolist() == numbers
    assert (wire.slope, wire.intercept, wire.error) == (slope, intercept, 0)


def test_others_are_told_with_half_a_step_of_65536_levels() -> None:
    values = np.array([0, 1, np.pi, 100_000], np.float32)
    wire = on_the_wire(grey(values))
    step = 100_000 / 65535
    told = np.frombuffer(wire.octets, "<i2") * wire.slope + wire.intercept
    assert wire.slope == pytest.approx(step)
    assert 0 < wire.error <= step / 2
    assert np.abs(told - values).max() == pytest.approx(wire.error)


def test_padding_keeps_a_number_of_its_own_when_values_need_all_others() -> None:
    image = grey([[0, 1, 65534], [0, 0, 9]], padding=np.array([[True, False, False], [False] * 3]))
    wire = on_the_wire(image)
    assert np.frombuffer(wire.octets, "<i2").tolist() == [PADDING, -32766, 32767, -32767, -32767, -32758]
    assert wire.error == 0


def test_windows_that_cannot_be_are_left_out_and_the_function_is_told() -> None:
    wire = on_the_wire(grey(WHOLE, windows=(Window(1, 0), Window(40, 400, "SIGMOID"), Window(50, 350))))
    assert wire.windows == ((40, 400, "SIGMOID"), (50, 350, "LINEAR"))
    assert wire.window == (40, 400)
    assert wire.rule == "window SIGMOID"


def test_colour_is_sent_as_it_is() -> None:
    pixels = RANDOM.integers(0, 256, (4, 5, 3), np.uint8)
    wire = on_the_wire(DecodedImage(pixels, (0.0, 255.0), "x", Provenance("PNG")))
    assert (wire.octets, wire.dtype, wire.channels, wire.window) == (pixels.tobytes(), "uint8", 3, None)


def test_files_as_scanners_write_them(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    """Signed CT with padding and a slope; a radiograph that is inverted."""
    stored = RANDOM.integers(0, 4096, (20, 16)).astype(np.uint16)
    stored[:4] = 63536
    ct = make_dicom(
        stored, Modality="CT", RescaleSlope="1", RescaleIntercept="-1024", PixelPaddingValue=63536,
        WindowCenter=["40", "-600"], WindowWidth=["400", "1500"],
    )  # fmt: skip
    dx = make_dicom(stored % 4096, bits_stored=12, Modality="DX", PhotometricInterpretation="MONOCHROME1")
    for name, dataset in (("ct", ct), ("dx", dx)):
        [image] = read_image(save_dicom(tmp_path / f"{name}.dcm", dataset), pseudonyms)
        assert differs(image) <= 1
        assert on_the_wire(image).error == 0
        assert differs(replace(image, windows=())) <= 1
