"""Mutations of good files, seeded: the same number gives the same file on every machine.

Of bytes: flips in the header, the pixels or anywhere, cuts, pieces left out, doubled or filled with zeros, numbers
overwritten with extreme ones. Of DICOM besides: an element left out, doubled, with a length that lies, with another
value of its own length; and parsed datasets in which one to three header values are another's.
"""

from __future__ import annotations

import gzip
import io
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import tifffile
from numpy.random import Generator, default_rng
from PIL import Image

from fuzz_headers import change, with_less_pixels, written

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
LARGEST_SEED = 2**20  # bytes: larger files are as hostile and slower
HEADER_BYTES = 2048
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UN", b"UC", b"UR", b"UT", b"SV", b"UV")


@dataclass(frozen=True)
class Seed:
    """A good file. member: the name inside, when it is a zip archive."""

    name: str
    data: bytes
    member: str | None = None

    @property
    def is_dicom(self) -> bool:
        return self.data[128:132] == b"DICM"


@dataclass(frozen=True)
class Mutant:
    """A file made from a seed. is_cut: it holds nothing that the seed does not, only less."""

    seed: Seed
    mutation: str
    number: int
    data: bytes
    is_cut: bool = False

    @property
    def name(self) -> str:
        return f"{self.number:06d} {self.mutation} {self.seed.name}"


def dicom_seeds() -> list[Seed]:
    """pydicom's files; those with pixels three times, since that is where the work is."""
    seeds = []
    for path in sorted(BUNDLED.rglob("*")):
        if path.is_file() and 0 < path.stat().st_size <= LARGEST_SEED:
            seed = Seed(path.name, path.read_bytes())
            has_pixels = b"\xe0\x7f\x10\x00" in seed.data or b"\x7f\xe0\x00\x10" in seed.data
            seeds += [seed] * (3 if has_pixels else 1)
    return seeds


def other_seeds() -> list[Seed]:
    """One small file of every other format, drawn."""
    rng = default_rng(7)
    grey = (np.add.outer(np.arange(40), np.arange(48)) * 2 + rng.integers(0, 20, (40, 48))).astype(np.uint8)
    colour = np.stack([grey, grey[::-1], grey[:, ::-1]], axis=-1)
    seeds = [
        Seed(f"{name}.{suffix}", _picture(pixels, suffix, **options))
        for name, pixels in (("grey", grey), ("colour", colour))
        for suffix, options in PICTURE_FORMATS
    ]
    seeds += [
        Seed(f"{name}.tif", _tiff(pixels, compression=compression))
        for name, pixels, compression in (
            ("none", grey, None), ("lzw", colour, "lzw"), ("deflate", grey.astype(np.uint16) * 200, "zlib"),
            ("jpeg", colour, "jpeg"), ("packbits", grey, "packbits"), ("pages", np.stack([grey] * 3), None),
        )
    ]  # fmt: skip
    volume = rng.integers(-1000, 1000, (12, 14, 10)).astype(np.int16)
    nifti = nibabel.Nifti1Image(volume, np.diag([2.0, 2.0, 3.0, 1.0])).to_bytes()
    seeds += [Seed("volume.nii", nifti), Seed("volume.nii.gz", gzip.compress(nifti, mtime=0))]
    seeds += [Seed("raw.nrrd", nrrd_bytes(volume, "raw")), Seed("gzip.nrrd", nrrd_bytes(volume, "gzip"))]
    dicom = (BUNDLED / "MR_small.dcm").read_bytes()
    return [
        *seeds,
        Seed("dicom.gz", gzip.compress(dicom, mtime=0)),
        Seed("dicom.zip", zip_bytes("a.dcm", dicom), "a.dcm"),
    ]


PICTURE_FORMATS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("png", {}), ("jpeg", {}), ("jpeg", {"progressive": True}), ("gif", {}), ("bmp", {}), ("webp", {}), ("jp2", {}),
)  # fmt: skip


def _picture(pixels: np.ndarray, suffix: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, {"jp2": "JPEG2000"}.get(suffix, suffix.upper()), **options)
    return file.getvalue()


def _tiff(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    is_colour = pixels.shape[-1] == 3
    tifffile.imwrite(file, pixels, photometric="rgb" if is_colour else "minisblack", metadata=None, **options)
    return file.getvalue()


def nrrd_bytes(volume: np.ndarray, encoding: str) -> bytes:
    sizes = " ".join(str(side) for side in volume.shape)
    header = (
        f"NRRD0004\ntype: int16\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\n"
        f"space directions: (1,0,0) (0,1,0) (0,0,2)\nendian: little\nencoding: {encoding}\nspace origin: (0,0,0)\n\n"
    )
    data = volume.astype("<i2").tobytes(order="F")
    return header.encode() + (gzip.compress(data, mtime=0) if encoding == "gzip" else data)


def zip_bytes(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def mutants(seeds: list[Seed], n: int, seed: int = 0) -> Iterator[Mutant]:
    """n files, no two alike in what was done to them."""
    for number in range(n):
        rng = default_rng([seed, number])
        yield mutant(seeds[rng.integers(len(seeds))], number, rng)


def mutant(seed: Seed, number: int, rng: Generator) -> Mutant:
    kinds = {**OF_BYTES, **(OF_DICOM if seed.is_dicom else {})}
    kind = [*kinds][rng.integers(len(kinds))]
    return Mutant(seed, kind, number, kinds[kind](seed.data, rng), kind in CUTS)


def _cut(data: bytes, rng: Generator) -> bytes:
    lost = int(rng.integers(1, max(2, 65 if rng.random() < 0.3 else len(data))))
    return data[: max(len(data) - lost, 1)]


def _flip(data: bytes, rng: Generator, start: int, end: int, most: int) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, most + 1))):
        position = int(rng.integers(start, max(end, start + 1)))
        changed[min(position, len(data) - 1)] ^= int(rng.integers(1, 256))
    return bytes(changed)


def _flip_header(data: bytes, rng: Generator) -> bytes:
    return _flip(data, rng, 0, min(len(data), HEADER_BYTES), 8)


def _flip_pixels(data: bytes, rng: Generator) -> bytes:
    return _flip(data, rng, len(data) // 2, len(data), 16)


def _flip_anywhere(data: bytes, rng: Generator) -> bytes:
    return _flip(data, rng, 0, len(data), 64)


def _piece(data: bytes, rng: Generator) -> tuple[int, int]:
    start = int(rng.integers(0, len(data)))
    return start, start + int(rng.integers(1, max(2, min(len(data) - start, 4096))))


def _leave_out(data: bytes, rng: Generator) -> bytes:
    start, end = _piece(data, rng)
    return data[:start] + data[end:] or b"\0"


def _double(data: bytes, rng: Generator) -> bytes:
    start, end = _piece(data, rng)
    return data[:end] + data[start:]


def _zero(data: bytes, rng: Generator) -> bytes:
    start, end = _piece(data, rng)
    end = min(end, len(data))
    return data[:start] + bytes(end - start) + data[end:]


def _extreme(data: bytes, rng: Generator) -> bytes:
    """A number of two or four bytes, of either order, somewhere in the header."""
    changed = bytearray(data)
    code = ("<H", ">H", "<I", ">I")[rng.integers(4)]
    value = EXTREMES[rng.integers(len(EXTREMES))] & (0xFFFF if code[1] == "H" else 0xFFFFFFFF)
    position = int(rng.integers(0, min(len(data), HEADER_BYTES)))
    changed[position : position + struct.calcsize(code)] = struct.pack(code, value)
    return bytes(changed)


OF_BYTES: dict[str, Callable[[bytes, Generator], bytes]] = {
    "flip header": _flip_header,
    "flip pixels": _flip_pixels,
    "flip anywhere": _flip_anywhere,
    "leave out": _leave_out,
    "double": _double,
    "zero": _zero,
    "extreme": _extreme,
    "cut": _cut,
}


@dataclass(frozen=True)
class Span:
    """Where a top-level element of an explicit little endian file lies; its length is length_size bytes, 2 or 4."""

    start: int
    length_at: int
    length_size: int
    value: int
    end: int


def spans(data: bytes) -> list[Span]:
    """The top-level elements as far as they can be told; all files of this set have an explicit file header."""
    found, position = [], 132
    while position + 8 <= len(data):
        vr = data[position + 4 : position + 6]
        if not vr.isalpha():
            break
        long = vr in LONG_VRS
        length_at = position + (8 if long else 6)
        value = length_at + (4 if long else 2)
        length = int.from_bytes(data[length_at:value], "little")
        end = value + length if length != 0xFFFFFFFF else len(data)
        found.append(Span(position, length_at, value - length_at, value, min(end, len(data))))
        position = end
    return found


def _element(data: bytes, rng: Generator) -> Span:
    found = spans(data)
    return found[rng.integers(len(found))] if found else Span(132, 138, 2, 140, min(148, len(data)))


def _leave_element_out(data: bytes, rng: Generator) -> bytes:
    span = _element(data, rng)
    return data[: span.start] + data[span.end :]


def _double_element(data: bytes, rng: Generator) -> bytes:
    span = _element(data, rng)
    return data[: span.end] + data[span.start :]


def _lie_about_length(data: bytes, rng: Generator) -> bytes:
    span = _element(data, rng)
    true = span.end - span.value
    lies = (*EXTREMES, true + 1, max(true - 1, 0), true + 2, true * 2, true // 2)
    lie = lies[rng.integers(len(lies))] & (256**span.length_size - 1)
    return data[: span.length_at] + lie.to_bytes(span.length_size, "little") + data[span.value :]


def _scramble_value(data: bytes, rng: Generator) -> bytes:
    span = _element(data, rng)
    end = min(span.end, span.value + 64)
    return data[: span.value] + rng.bytes(max(end - span.value, 0)) + data[end:]


def _change_headers(data: bytes, rng: Generator) -> bytes:
    """A dataset whose values are others; bytes are flipped instead where it cannot be parsed or written."""
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data), force=True)
            for _ in range(int(rng.integers(1, 4))):
                change(dataset, rng)
            return written(dataset)
    except Exception:
        return _flip_header(data, rng)


def _cut_pixels(data: bytes, rng: Generator) -> bytes:
    """The pixel element, or its last frame, is shorter, and every length in the file says so."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return with_less_pixels(pydicom.dcmread(io.BytesIO(data), force=True), rng)
    except Exception:
        return _cut(data, rng)


CUTS = ("cut", "cut pixels")
OF_DICOM: dict[str, Callable[[bytes, Generator], bytes]] = {
    "leave element out": _leave_element_out,
    "double element": _double_element,
    "lie about length": _lie_about_length,
    "scramble value": _scramble_value,
    "cut pixels": _cut_pixels,
    "change headers": _change_headers,
    "change headers more": _change_headers,
}
