"""Decoding, per transfer syntax and size: our workers beside pydicom in the same process with its fastest plugin.

python benchmarks/bench_decode.py

The frames are generated: smooth like anatomy, with a scanner's noise. What is measured is the work of one core from a
file to modality values: a worker process of cbmir against `dcmread`, `pixel_array` and `apply_rescale`, in seconds of
the processor, which other programs disturb less than those of the clock. Then how much more two workers do than one,
preprocessing included, by the clock.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels import apply_rescale, get_decoder
from pydicom.uid import UID

from measure import CORES, REPOSITORY, Row, table

sys.path.insert(0, str(REPOSITORY / "tests"))  # where DICOM files are made

from cbmir.images import read_image
from cbmir.images.worker import Decoded, Reader, decode_all
from cbmir.preprocess import Preprocessing
from cbmir.privacy import Pseudonyms
from cbmir.types import ImageRef
from decode_only import decode_only
from make_dicom import make_dicom, save_dicom
from transfer_syntaxes import ENCODINGS, encode

SIDES = (512, 1024, 2048)
NAMES = (
    "little endian",
    "big endian",
    "deflated",
    "RLE",
    "JPEG baseline",
    "JPEG extended",
    "JPEG lossless SV1",
    "JPEG-LS",
    "JPEG-LS near-lossless",
    "JPEG 2000 lossless",
    "JPEG 2000",
    "HTJ2K lossless",
)
PER_CORE_TARGET = 0.8
TWO_WORKERS_TARGET = 1.6
LOSSY_SHARE = 0.01
"""How far lossy pixels may be from the original on average, as a share of its range; a wrong decoder is further."""

TURN_S = 0.25
FEWEST, MOST = 4, 60
"""Each side is timed for so long, between so many times, in two turns that take turns with the other's."""

MIXED_S = 6.0
WARM_UP = 8
KEY = Pseudonyms(b"a key for benchmarks, 32 bytes..")


@dataclass(frozen=True)
class Case:
    """One file of one frame. plugin: pydicom's fastest that reads it right; plugin_s: how long it took at first."""

    name: str
    side: int
    path: Path
    plugin: str
    plugin_s: float


def anatomy(side: int, bits: int) -> npt.NDArray[np.uint16]:
    """(side, side), 0 up to 2**bits - 1: a body of soft blobs on an empty background, noise of 0.3 % of the range
    (12 HU of a CT's 4096).
    """
    random = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    body = np.where(x**2 / 0.7 + y**2 / 0.5 < 1, np.float32(0.35), np.float32(0))
    for x0, y0, size, height in random.uniform((-0.6, -0.5, 0.03, -0.3), (0.6, 0.5, 0.2, 0.5), (24, 4)):
        body += np.where(body > 0, np.float32(height) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / size**2), 0)
    noise = random.normal(0, 0.003, (side, side)).astype(np.float32)
    return np.rint(np.clip(body + noise, 0, 1) * (2**bits - 1)).astype(np.uint16)


def make_case(name: str, side: int, folder: Path) -> Case:
    """A CT of that syntax: 12 bits in use of 16, or as many as the syntax has."""
    bits = ENCODINGS[name].deepest
    pixels = anatomy(side, min(bits, 12)).astype(np.uint8 if bits == 8 else np.uint16)
    dataset = make_dicom(pixels, bits_stored=bits, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024)
    path = save_dicom(folder / f"{name} {side}.dcm", encode(dataset, name))
    expected = pixels - 1024.0
    check(read_image(path, KEY)[0].pixels, expected, exact=ENCODINGS[name].exact)  # also registers our own plugin
    plugin, plugin_s = fastest_plugin(path, expected, ENCODINGS[name].exact)
    return Case(name, side, path, plugin, plugin_s)


def check(values: npt.NDArray[Any], expected: npt.NDArray[Any], *, exact: bool) -> None:
    """Raises ValueError when a decoder read something else than was written."""
    error = np.abs(values - expected)
    if error.max() > 0 if exact else error.mean() > LOSSY_SHARE * np.ptp(expected):
        raise ValueError("the decoder gives other pixels than were encoded")


def fastest_plugin(path: Path, expected: npt.NDArray[Any], exact: bool) -> tuple[str, float]:
    """Of the plugins that are installed and read the file right; "" for native pixels, which need none."""
    right = [plugin for plugin in available_plugins(path) if reads(path, plugin, expected, exact)]
    rounds = [[timed(partial(pydicom_values, path, plugin)) for plugin in right] for _ in range(3)]
    times = dict(zip(right, np.min(rounds, axis=0).tolist(), strict=True))
    best = min(right, key=times.__getitem__)
    return best, times[best]


def reads(path: Path, plugin: str, expected: npt.NDArray[Any], exact: bool) -> bool:
    try:
        check(pydicom_values(path, plugin), expected, exact=exact)
    except (RuntimeError, ValueError) as error:
        print(f"  {path.stem}: {plugin} does not read it ({type(error).__name__})", file=sys.stderr)
        return False
    return True


def available_plugins(path: Path) -> tuple[str, ...]:
    decoder = get_decoder(UID(pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID))
    return tuple(decoder.available_plugins) if decoder.is_encapsulated else ("",)


def pydicom_values(path: Path, plugin: str) -> npt.NDArray[Any]:
    """Modality values of a file with one frame, the way pydicom's documentation shows."""
    dataset = pydicom.dcmread(path)
    if plugin:
        dataset.pixel_array_options(decoding_plugin=plugin)
    return np.asarray(apply_rescale(dataset.pixel_array, dataset))


def timed(call: Callable[[], object]) -> float:
    """Seconds of the processor."""
    started = time.process_time()
    call()
    return time.process_time() - started


def results(refs: Iterable[ImageRef], workers: int, reader: Reader | None = None) -> Iterator[Decoded]:
    """Raises ValueError when a file is not decoded."""
    for done in decode_all(refs, Preprocessing(), KEY, workers=workers, reader=reader):
        if done.outcome != "decoded":
            raise ValueError(f"a file of the benchmark was not decoded: {done.reason}")
        yield done


def worker_seconds(path: Path, repeats: int) -> list[float]:
    """What one worker needs of the processor for a file, again and again; the first time does not count."""
    marks = [done.mtime_ns for done in results([ImageRef(path, path.name)] * (repeats + 1), 1, decode_only)]
    return [ns / 1e9 for ns in np.diff(marks).tolist()]


def n_repeats(case: Case) -> int:
    return round(min(max(TURN_S / case.plugin_s, FEWEST), MOST))


def compare(case: Case) -> tuple[float, float]:
    """Median seconds of our worker and of pydicom, of the processor."""
    repeats = n_repeats(case)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(2):
        ours += worker_seconds(case.path, repeats)
        theirs += [timed(partial(pydicom_values, case.path, case.plugin)) for _ in range(repeats)]
    return median(ours), median(theirs)


def per_core(name: str, cases: list[Case]) -> Row:
    """Our worker beside pydicom, for one transfer syntax."""
    parts, ratios = [], []
    for case in cases:
        ours_s, theirs_s = compare(case)
        megapixels = case.side**2 / 1e6
        ratios.append(theirs_s / ours_s)
        by = f" {case.plugin}" if case.plugin else ""
        parts.append(f"{case.side}²: {megapixels / ours_s:.0f} / {megapixels / theirs_s:.0f}{by} = {ratios[-1]:.2f} x")
    return Row(
        f"decode {name}, megapixels per processor second of a worker / of pydicom in process",
        "; ".join(parts),
        f">= {PER_CORE_TARGET:g} x",
        min(ratios) >= PER_CORE_TARGET,
    )


def scaling(cases: list[Case]) -> Row:
    """Files of all syntaxes in turn, decoded and preprocessed: the rate of two workers over that of one."""
    n_rounds = max(3, round(MIXED_S / sum(case.plugin_s for case in cases)))
    refs = [ImageRef(case.path, case.path.name) for case in cases] * n_rounds
    one, two = (rate(refs, workers) for workers in (1, 2))
    return Row(
        f"{len(refs)} files of {cases[0].side}², all syntaxes, decoded and preprocessed: 2 workers / 1, files/s",
        f"{two:.0f} / {one:.0f} = {two / one:.2f} x",
        f">= {TWO_WORKERS_TARGET:g} x",
        two >= TWO_WORKERS_TARGET * one if CORES >= 2 else None,
    )


def rate(refs: list[ImageRef], workers: int) -> float:
    """Files per second of the clock, once the workers are at work."""
    times = [time.perf_counter() for _ in results(refs, workers)]
    return (len(times) - WARM_UP) / (times[-1] - times[WARM_UP - 1])


def prepared(name: str, cases: list[Case]) -> Row:
    """What one worker makes ready for the network in a second."""
    parts = []
    for case in cases:
        refs = [ImageRef(case.path, case.path.name)] * (WARM_UP + n_repeats(case))
        parts.append(f"{case.side}²: {rate(refs, 1):.0f}")
    return Row(f"decode and preprocess {name}, files/s of a worker", "; ".join(parts))


def rows(sides: tuple[int, ...] = SIDES, names: tuple[str, ...] = NAMES) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        cases = {name: [make_case(name, side, Path(folder)) for side in sides] for name in names}
        found = [per_core(name, cases[name]) for name in names]
        found.append(scaling([several[0] for several in cases.values()]))
        found += [prepared(name, cases[name]) for name in names if name in ("little endian", "JPEG-LS")]
    return found


if __name__ == "__main__":
    print(table(rows()))
