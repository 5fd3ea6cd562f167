"""Independent readers that tests compare with: DCMTK's programs and SimpleITK."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK
from PIL import Image
from pydicom.filereader import read_file_meta_info

Float64 = npt.NDArray[np.float64]

JPEG_LS = {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}
JPEG = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70)}

SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)


class NotRead(Exception):
    """The reference does not read this file."""


def transfer_syntax(path: Path) -> str:
    return str(read_file_meta_info(path).TransferSyntaxUID)


def dcmtk_grey_levels(dcm2pnm: Path, path: Path, *options: str) -> Float64:
    """The first frame as DCMTK renders it, (rows, columns), 0 to 255 in steps of 1/257.

    DCMTK cuts the fraction off where we round, so its 8-bit output is up to a whole grey level darker than the exact
    value; its 16-bit output is so by 1/257 at most.
    """
    levels: Float64 = _dcmtk_picture(dcm2pnm, path, *options, "--write-16-bit-png").astype(np.float64) / 257
    return levels


def dcmtk_colours(dcm2pnm: Path, path: Path) -> npt.NDArray[Any]:
    """The first frame as RGB, uint8 (rows, columns, 3)."""
    return _dcmtk_picture(dcm2pnm, path, "--write-raw-pnm")


def _dcmtk_picture(dcm2pnm: Path, path: Path, *options: str) -> npt.NDArray[Any]:
    """Without the overlays."""
    syntax = transfer_syntax(path)
    program = "dcml2pnm" if syntax in JPEG_LS else "dcmj2pnm" if syntax in JPEG else "dcm2pnm"
    command = [dcm2pnm.with_name(program), *options, "--no-overlays", path]
    done = subprocess.run(command, capture_output=True, timeout=60)
    if done.returncode or not done.stdout:
        raise NotRead
    return np.asarray(Image.open(io.BytesIO(done.stdout)))


def simpleitk_values(path: Path) -> npt.NDArray[Any]:
    """The frames as SimpleITK reads them, (n, rows, columns) with the rescale applied, or (n, rows, columns, 3)."""
    try:
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    except RuntimeError:
        raise NotRead from None


def simpleitk_lps(path: Path) -> SimpleITK.Image:
    """A volume whose array is [slice to the head, row to the back, column to the patient's left]."""
    return SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
