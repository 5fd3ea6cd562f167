"""NIfTI-1 and NIfTI-2 in one file: the header through nibabel, the voxels as a view of the file's bytes.

Source: nifti1.h and nifti2.h of the NIfTI Data Format Working Group.
"""

from __future__ import annotations

import logging
from typing import Any

import nibabel
import numpy as np

from ..errors import BadImage
from .limits import check_size
from .volumes import Array, Volume, first_volume

logging.getLogger("nibabel").addHandler(logging.NullHandler())  # its remarks on headers are ours to make

HEADER_SIZES = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
LABELS = 1002  # intent code of a segmentation
MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}
COLOURS = {("R", "G", "B"), ("R", "G", "B", "A")}
DAMAGED = "The NIfTI header is damaged."


def read_nifti(data: bytes) -> Volume:
    """The volume of a NIfTI file; of several (time points, directions), the first.

    Raises BadImage; other exceptions, too, on headers no one foresaw.
    """
    header = _header(data)
    notes: list[str] = []
    shape = _shape(header)
    voxels = _voxels(data, header, shape)
    slope, intercept = _scaling(header, notes)
    return Volume(
        voxels=first_volume(_colours(voxels), shape, notes),
        affine=_affine(header, notes),
        slope=slope,
        intercept=intercept,
        format="NIfTI",
        decoder="nibabel",
        kind="segmentation" if int(header["intent_code"]) == LABELS else "picture",
        notes=tuple(notes),
    )


def _header(data: bytes) -> Any:
    if data[344:348] == b"ni1\0" or data[4:8] == b"ni2\0":
        raise BadImage(
            "unsupported", "The file is one half of a NIfTI pair (.hdr and .img): join them into a .nii file."
        )
    sizes = {int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big")} & HEADER_SIZES.keys()
    if not sizes:
        raise BadImage("corrupt", DAMAGED)
    size = sizes.pop()
    return HEADER_SIZES[size](data[:size], check=False)


def _shape(header: Any) -> tuple[int, ...]:
    """The sizes of all axes, three at least; from the fourth on they count volumes."""
    n_axes = int(header["dim"][0])
    if not 1 <= n_axes <= 7:
        raise BadImage("corrupt", DAMAGED)
    shape = [int(size) for size in header["dim"][1 : n_axes + 1]]
    if min(shape) < 1:
        raise BadImage("corrupt", "The header says that the volume has no voxels.")
    return tuple(shape + [1] * (3 - n_axes))


def _voxels(data: bytes, header: Any, shape: tuple[int, ...]) -> Array:
    """All volumes, (x, y, z, ...), not copied. Their number is bounded by the bytes that are there."""
    dtype = _dtype(header)
    check_size(shape[0], shape[1], 1, shape[2] * dtype.itemsize)
    count = 1
    for size in shape:
        count *= size
    offset = float(header["vox_offset"])
    if not 0 <= offset <= len(data):
        raise BadImage("corrupt", DAMAGED)
    start = int(offset) or int(header["sizeof_hdr"]) + 4
    if count * dtype.itemsize > len(data) - start:
        raise BadImage("corrupt", "The volume is truncated: the file has fewer bytes than its header says.")
    return np.frombuffer(data, dtype, count, start).reshape(shape, order="F")


def _dtype(header: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except Exception:
        raise BadImage("unsupported", "The NIfTI file has a data type that is not read.") from None
    if dtype.itemsize < 1 or (dtype.kind not in "iuf" and dtype.names not in COLOURS) or dtype.itemsize > 8:
        raise BadImage("unsupported", "The NIfTI file has a data type that is not read.")
    return dtype


def _colours(voxels: Array) -> Array:
    """RGB as a last axis of three; alpha says where a label is shown, and is dropped."""
    if voxels.dtype.names is None:
        return voxels
    return np.stack([voxels[name] for name in "RGB"], axis=-1)


def _scaling(header: Any, notes: list[str]) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or (np.isnan(slope) and np.isnan(intercept)):
        return 1.0, 0.0  # the standard's way to say that values are not scaled
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        notes.append("a scaling that is no number was left out")
        return 1.0, 0.0
    return slope, intercept


def _affine(header: Any, notes: list[str]) -> Array:
    """Voxel indices to mm, RAS+."""
    if not (int(header["sform_code"]) or int(header["qform_code"])):
        notes.append("the orientation is not stated")
    try:
        affine = np.asarray(header.get_best_affine(), dtype=float)
    except Exception:  # a quaternion that is none
        notes.append("the stated orientation is damaged")
        affine = np.asarray(header.get_base_affine(), dtype=float)
    affine[:3] *= MM_PER_UNIT.get(header.get_xyzt_units()[0], 1.0)
    return affine
