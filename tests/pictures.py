"""Small pictures and collections of them for tests: classes that differ by eye, drawn, never copied."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from cbmir.errors import BadImage
from cbmir.images import decode
from cbmir.privacy import Pseudonyms
from cbmir.types import DecodedImage

SMOOTH = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)
MM = np.diag([2.0, 3.0, 4.0, 1.0])  # a voxel's size; axes to the right, front and top
COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], dtype=np.uint8)


def draw(kind: str, seed: int, side: int = 48) -> np.ndarray:
    """A noisy disc or stripes, uint8 (side, side)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    if kind == "disc":
        radius, cy, cx = side * rng.uniform(0.2, 0.4), *(side * rng.uniform(0.4, 0.6, 2))
        bright = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
    else:
        bright = (x // rng.integers(3, 8)) % 2 == 0
    return (bright * 180 + rng.integers(0, 40, (side, side))).astype(np.uint8)


def draw_folder(root: Path, per_class: int = 8, kinds: tuple[str, ...] = ("disc", "stripes")) -> Path:
    """root/KIND/NN.png, one folder a class."""
    for number, kind in enumerate(kinds):
        (root / kind).mkdir(parents=True)
        for index in range(per_class):
            Image.fromarray(draw(kind, 1000 * number + index)).save(root / kind / f"{index:02d}.png")
    return root


def picture_bytes(picture: Any, form: str = "PNG", **options: Any) -> bytes:
    """A file of Pillow's, from an array or a picture."""
    file = io.BytesIO()
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(np.asarray(picture))
    picture.save(file, form, **options)
    return file.getvalue()


def tiff_bytes(*pages: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        for page in pages:
            tiff.write(np.asarray(page), **options)
    return file.getvalue()


def zip_bytes(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def read_one(data: bytes, pseudonyms: Pseudonyms) -> DecodedImage:
    (image,) = decode(data, pseudonyms)
    return image


def refusal(data: bytes, pseudonyms: Pseudonyms) -> BadImage:
    with pytest.raises(BadImage) as caught:
        list(decode(data, pseudonyms))
    return caught.value


def nifti_bytes(voxels: Any, affine: Any = MM, *, version: int = 1, **fields: Any) -> bytes:
    """A NIfTI file; fields: of its header, set last."""
    kinds = {1: nibabel.Nifti1Image, 2: nibabel.Nifti2Image}
    image = kinds[version](np.asarray(voxels), affine)
    image.header.set_xyzt_units("mm")
    data = bytearray(image.to_bytes())
    header = type(image.header)(bytes(data[: image.header.sizeof_hdr]), check=False)
    for name, value in fields.items():
        header[name] = value
    return bytes(header.binaryblock) + bytes(data[image.header.sizeof_hdr :])


def nrrd_bytes(voxels: Any, *lines: str, encoding: str = "raw", kind: str = "short") -> bytes:
    """An NRRD file with its data attached, x fastest."""
    voxels = np.asarray(voxels)
    sizes = " ".join(str(size) for size in voxels.shape)
    header = ["NRRD0004", f"type: {kind}", f"dimension: {voxels.ndim}", f"sizes: {sizes}", "endian: little"]
    content = voxels.tobytes(order="F")
    if encoding == "gzip":
        content = gzip.compress(content)
    elif encoding == "ascii":
        content = " ".join(str(value) for value in voxels.ravel(order="F")).encode()
    return "\n".join([*header, f"encoding: {encoding}", *lines, "", ""]).encode() + content
