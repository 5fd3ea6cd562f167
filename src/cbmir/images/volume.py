"""NIfTI and NRRD volumes become slices in the three anatomical planes, turned the way radiologists look at them:
axial and coronal with the patient's right on the left, front or head up; sagittal with the front on the left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from ..errors import BadImage
from ..privacy import Pseudonyms
from ..types import DecodedImage, Provenance, Window
from .limits import MAX_FRAMES, guarded
from .volumes import Array, Volume

PERCENTILES = (0.5, 99.5)
MAX_SORTED = 2**24  # voxels that are sorted for percentiles; of more, every n-th
OBLIQUE_DEGREES = 25.0
MAX_ASPECT = 50.0
DAMAGED = "The volume is truncated or damaged."


@dataclass(frozen=True)
class Plane:
    """axis: along which the slices follow each other; across, down: axes of the columns and rows (0, 1, 2: x, y, z).

    Columns and rows run against RAS+ in all three, as in DICOM's usual orientations: 1\\0\\0\\0\\1\\0 axial,
    1\\0\\0\\0\\0\\-1 coronal, 0\\1\\0\\0\\0\\-1 sagittal.
    """

    name: str
    axis: int
    across: int
    down: int


PLANES = (Plane("axial", 2, 0, 1), Plane("coronal", 1, 0, 2), Plane("sagittal", 0, 1, 2))


@dataclass(frozen=True)
class _Place:
    """One slice: its frame_index, its plane, its index along the plane's axis."""

    frame_index: int
    plane: Plane
    index: int


@dataclass(frozen=True)
class _Scan:
    """What the slices of one volume share. content: SHA-256 of the file's bytes."""

    volume: Volume
    content: bytes
    value_range: tuple[float, float]
    windows: tuple[Window, ...]
    provenance: Provenance


def read_volume(
    data: bytes, kind: Literal["nifti", "nrrd"], pseudonyms: Pseudonyms, only: int | None = None
) -> Iterator[DecodedImage]:
    """The slices of a volume: axial from the feet up, coronal from the back on, sagittal from the left on.

    frame_index counts on over the planes. Slices of one value tell nothing and are left out; how many is in the
    notes. A volume of one slice gives that one. only: that of this frame_index
    alone. Raises BadImage when there is no slice to show.
    """
    with guarded("corrupt", DAMAGED):
        stored = _read(data, kind)
        if sum(stored.voxels.shape[:3]) > MAX_FRAMES:
            raise BadImage("refused", f"The volume has more than {MAX_FRAMES} slices.")
        places, n_empty = _telling_places(volume := _canonical(stored))
        scan = _scan(volume, stored, hashlib.sha256(data).digest(), n_empty)
    for place in places if only is None else [place for place in places if place.frame_index == only]:
        with guarded("corrupt", DAMAGED):
            image = _image(scan, place, pseudonyms)
        yield image


def _read(data: bytes, kind: str) -> Volume:
    if kind == "nifti":
        from .nifti import read_nifti

        return read_nifti(data)
    from .nrrd import read_nrrd

    return read_nrrd(data)


def _canonical(volume: Volume) -> Volume:
    """The same voxels (a view) with axes that run nearest to right, front and up (RAS+)."""
    voxels, notes = volume.voxels, volume.notes
    if voxels.dtype.kind == "f" and np.isinf(voxels).any():
        voxels = np.where(np.isinf(voxels), np.nan, voxels)
    affine = _mended(volume.affine, voxels.shape)
    if affine is None:
        affine, notes = np.diag([-1.0, -1.0, 1.0, 1.0]), (*notes, "the stated orientation is damaged")
    turns = io_orientation(affine)
    return replace(
        volume,
        voxels=apply_orientation(voxels, turns),
        affine=affine @ inv_ornt_aff(turns, voxels.shape[:3]),
        notes=notes,
    )


def _mended(affine: Array, shape: tuple[int, ...]) -> Array | None:
    """The affine, with a thickness for a single slice that has none; None when it places no volume."""
    affine = np.array(affine, dtype=float)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        return None
    for axis in range(3):
        if shape[axis] == 1 and not affine[:3, axis].any():
            normal = np.cross(affine[:3, axis - 2], affine[:3, axis - 1])
            affine[:3, axis] = normal / (np.linalg.norm(normal) or 1)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        return None
    return affine


def _telling_places(volume: Volume) -> tuple[list[_Place], int]:
    """The slices with more than one value, and how many have only one. Planes that would be lines do not count."""
    shape = volume.voxels.shape
    planes = [plane for plane in PLANES if min(shape[plane.across], shape[plane.down]) > 1]
    places: list[_Place] = []
    first = 0
    for plane in planes:
        telling = _varies(volume.voxels, plane)
        places += [_Place(first + int(index), plane, int(index)) for index in np.flatnonzero(telling)]
        first += len(telling)
    if not places:
        raise BadImage("refused", "The volume has no slice with more than one value.")
    return places, first - len(places)


def _varies(voxels: Array, plane: Plane) -> Array:
    """Per slice, whether its known voxels (not NaN) differ in some channel."""
    axes = (plane.across, plane.down)
    low, high = np.fmin.reduce(voxels, axis=axes), np.fmax.reduce(voxels, axis=axes)
    varies: Array = (low < high).reshape(len(low), -1).any(axis=1)
    return varies


def _scan(volume: Volume, stored: Volume, content: bytes, n_empty: int) -> _Scan:
    """stored: the voxels in the order of the file, which can be sampled without copying them."""
    notes = volume.notes
    if n_empty:
        notes = (*notes, f"{n_empty} slices of one value left out")
    ramp: tuple[float, ...] = (0.0, 255.0)
    windows: tuple[Window, ...] = ()
    if volume.voxels.ndim == 3:
        black, low, high, white = ramp = _levels(volume, stored.voxels)
        if high > low:
            windows = (Window((low + high) / 2, high - low, "LINEAR_EXACT"),)
        ramp = (black, white)
    values = "stored values" if volume.voxels.ndim == 3 else "colours"
    provenance = Provenance(format=volume.format, decoder=volume.decoder, values=values, notes=notes)
    return _Scan(volume, content, (ramp[0], ramp[1]), windows, provenance)


def _levels(volume: Volume, stored: Array) -> tuple[float, float, float, float]:
    """Least value, percentiles, greatest value of the whole volume."""
    flat = stored.ravel(order="K")
    sample = flat[:: -(-flat.size // MAX_SORTED)]
    if sample.dtype.kind == "f":
        sample = sample[np.isfinite(sample)]
    least, greatest = np.fmin.reduce(volume.voxels, axis=None), np.fmax.reduce(volume.voxels, axis=None)
    low, high = least, greatest
    if sample.size:
        ranks = [round(percent / 100 * (sample.size - 1)) for percent in PERCENTILES]
        low, high = np.partition(sample, ranks)[ranks]
    levels = sorted(volume.slope * float(level) + volume.intercept for level in (least, low, high, greatest))
    black, low, high, white = (float(np.float32(level)) for level in levels)
    return black, low, high, white


def _image(scan: _Scan, place: _Place, pseudonyms: Pseudonyms) -> DecodedImage:
    volume = scan.volume
    pixels = _pixels(volume, place)
    unknown = ~np.isfinite(pixels)
    name, position, aspect = _geometry(volume, place)
    return DecodedImage(
        pixels=pixels,
        value_range=scan.value_range,
        id=pseudonyms.image(scan.content, place.frame_index),
        provenance=scan.provenance,
        frame_index=place.frame_index,
        padding=unknown if pixels.ndim == 2 and unknown.any() else None,
        windows=scan.windows,
        pixel_aspect=aspect,
        kind=volume.kind,
        series=pseudonyms.of("series", scan.content.hex()),
        attributes={"plane": name, "slice_position_mm": f"{position:.3f}"},
    )


def _pixels(volume: Volume, place: _Place) -> Array:
    """float32 values (rows, columns), or RGB uint8 (rows, columns, 3)."""
    cut = volume.voxels[(slice(None),) * place.plane.axis + (place.index,)]  # (across, down[, 3])
    picture = cut[::-1, ::-1].swapaxes(0, 1)
    if picture.ndim == 3:
        return np.ascontiguousarray(picture)
    small = picture.dtype.itemsize <= 2 or picture.dtype.newbyteorder("=") == np.float32
    values: Array = picture.astype(np.float32 if small else np.float64, order="C")
    if volume.slope != 1 or volume.intercept != 0:
        values *= volume.slope
        values += volume.intercept
    return values.astype(np.float32, copy=False)


def _geometry(volume: Volume, place: _Place) -> tuple[str, float, float]:
    """Name of the plane, position of the slice along its normal in mm (as DICOM's), height of a pixel over its width.

    The normal is the cross product of the directions of rows and columns (PS3.3 C.7.6.2.1.1).
    """
    plane, affine = place.plane, volume.affine
    across, down = -affine[:3, plane.across], -affine[:3, plane.down]
    normal = np.cross(across, down)
    normal /= np.linalg.norm(normal)
    corner = np.ones(4)
    corner[plane.axis] = place.index
    corner[[plane.across, plane.down]] = [volume.voxels.shape[axis] - 1 for axis in (plane.across, plane.down)]
    aspect = float(np.linalg.norm(down) / np.linalg.norm(across))
    tilt = np.degrees(np.arccos(min(1.0, abs(normal[plane.axis]))))
    return (
        "oblique" if tilt > OBLIQUE_DEGREES else plane.name,
        float(np.dot((affine @ corner)[:3], normal)),
        aspect if 1 / MAX_ASPECT < aspect < MAX_ASPECT else 1.0,
    )
