"""MedMNIST files (X.npz) as data sets: one PNG an image and a manifest.

Source: Yang et al., MedMNIST v2, Scientific Data 10, 41 (2023); class names as in medmnist/info.py 2.1.
"""

from __future__ import annotations

import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import CbmirError, UsageError
from ..types import ImageRef, Int, Progress
from .splits import Counts, count, write_manifest

SIDES = (28, 224)
MAX_IMAGES = 1_000_000
MAX_BYTES = 2**35  # PathMNIST at 224 px has 2**33.9
MAX_HEADER = 10_000
PARTS: Mapping[str, tuple[str, int]] = MappingProxyType(
    {"train": ("train", 1), "val": ("train", 0), "test": ("test", -1)}
)
"""Part of the file -> side and fold. The official validation part is fold 0 of the train side, so that
`cbmir evaluate --folds 2 --fold 1` trains on train and measures on val."""


class _Official(NamedTuple):
    modality: str
    classes: tuple[str, ...]


_ORGANS = _Official(
    "CT",
    (
        "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left",
        "lung-right", "pancreas", "spleen",
    ),
)  # fmt: skip
OFFICIAL: Mapping[str, _Official] = MappingProxyType(
    {
        "pathmnist": _Official(
            "SM",
            (
                "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
                "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
            ),
        ),
        "dermamnist": _Official(
            "XC",
            (
                "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma",
                "benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions",
            ),
        ),
        "octmnist": _Official(
            "OPT", ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal")
        ),
        "pneumoniamnist": _Official("DX", ("normal", "pneumonia")),
        "retinamnist": _Official("OP", tuple(f"retinopathy grade {grade}" for grade in range(5))),
        "breastmnist": _Official("US", ("malignant", "normal, benign")),
        "bloodmnist": _Official(
            "GM",
            (
                "basophil", "eosinophil", "erythroblast", "immature granulocyte", "lymphocyte", "monocyte",
                "neutrophil", "platelet",
            ),
        ),
        "tissuemnist": _Official(
            "GM",
            (
                "Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells",
                "Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments",
                "Thick Ascending Limb",
            ),
        ),
        "organamnist": _ORGANS,
        "organcmnist": _ORGANS,
        "organsmnist": _ORGANS,
    }
)  # fmt: skip
"""Name of the file without its size -> modality (DICOM's words, PS3.3 C.7.3.1.1.1) and classes, by label from 0."""


class BadDataset(CbmirError):
    """A file that is no MedMNIST file, or one that cannot be a data set of one class an image."""


@dataclass(frozen=True)
class UnpackReport:
    """known_classes: is it an official set, whose classes have names."""

    manifest: Path
    counts: Counts
    known_classes: bool
    side: int

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "manifest": str(self.manifest)}


@dataclass(frozen=True)
class _Part:
    """One of train, val, test. shape: (n, side, side) or (n, side, side, 3). labels: int64 (n,)."""

    name: str
    shape: tuple[int, ...]
    labels: Int

    @property
    def image_bytes(self) -> int:
        return int(np.prod(self.shape[1:]))


def to_folder(npz: Path, out: Path, *, on_progress: Progress | None = None) -> UnpackReport:
    """Write every image of a MedMNIST file to out/CLASS/PART-000001.png, and out/manifest.csv.

    Images are read one at a time (PathMNIST at 224 px is 13.5 GB), nothing is unpickled. train and val become the side
    train (folds 1 and 0, see PARTS), test stays test. MedMNIST does not tell patients: the manifest names none, each
    image counts as its own, and the official split is taken on trust.
    Raises UsageError when there is no such file or out is not empty; BadDataset for anything but grey or RGB images of
    28 to 224 px with one label each: ChestMNIST has 14 findings an image, and a hit cannot be right by one class.
    """
    if not npz.is_file():
        raise UsageError("There is no such MedMNIST file.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty: choose another --out.")
    try:
        with zipfile.ZipFile(npz) as archive:
            return _unpack(archive, _name_of(npz), out.resolve(), on_progress)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OverflowError):
        raise BadDataset("The MedMNIST file is damaged: fetch it again and compare its MD5.") from None


def _name_of(npz: Path) -> str:
    """pathmnist_224.npz is pathmnist."""
    return re.sub(r"_(28|64|128|224)$", "", npz.stem.lower())


def _unpack(archive: zipfile.ZipFile, name: str, out: Path, on_progress: Progress | None) -> UnpackReport:
    parts = [_read_part(archive, part) for part in PARTS]
    official = OFFICIAL.get(name)
    names = _class_names(parts, official)
    _check_sizes(parts, out)
    new = out.with_name(out.name + ".part")
    shutil.rmtree(new, ignore_errors=True)
    try:
        refs, sides, folds = _write_images(archive, parts, names, official, name if official else "", new, on_progress)
        write_manifest(refs, sides, new / "manifest.csv", folds)
        if out.exists():
            out.rmdir()
        new.replace(out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    counts = count(refs, sides, [None] * len(refs))
    return UnpackReport(out / "manifest.csv", counts, official is not None, parts[0].shape[1])


def _read_part(archive: zipfile.ZipFile, name: str) -> _Part:
    shape, dtype = _header_of(archive, f"{name}_images.npy")
    if len(shape) not in (3, 4) or dtype != np.uint8 or (len(shape) == 4 and shape[3] != 3):
        raise BadDataset(
            f"The {name} images are no grey or RGB pictures of eight bits (the volumes of 3-D MedMNIST are not read)."
        )
    low, high = SIDES
    if shape[1] != shape[2] or not low <= shape[1] <= high or not 0 < shape[0] <= MAX_IMAGES:
        raise BadDataset(f"The {name} images are not square pictures of {low} to {high} px, or too many.")
    labels = _labels(archive, name)
    if len(labels) != shape[0]:
        raise BadDataset(f"There are {shape[0]} {name} images and {len(labels)} labels.")
    return _Part(name, shape, labels)


def _labels(archive: zipfile.ZipFile, name: str) -> Int:
    member = f"{name}_labels.npy"
    shape, dtype = _header_of(archive, member)
    if len(shape) == 2 and shape[1] > 1:
        raise BadDataset(
            f"An image has {shape[1]} labels here, as in ChestMNIST: cbmir needs one class an image, and to choose one "
            "of several would be our doing, not the data's."
        )
    n = int(np.prod(shape))
    if dtype.kind not in "iu" or len(shape) not in (1, 2) or n > MAX_IMAGES:
        raise BadDataset(f"The {name} labels are no whole numbers, one an image.")
    with archive.open(member) as file:
        _read_header(file)
        values = np.frombuffer(_exactly(file, n * dtype.itemsize), dtype=dtype)
    return values.astype(np.int64)


def _header_of(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array of the file; its bytes are those that the shape needs, no more."""
    try:
        info = archive.getinfo(member)
    except KeyError:
        raise BadDataset(f"This is no MedMNIST file: it has no {member.removesuffix('.npy')}.") from None
    with archive.open(info) as file:
        shape, dtype = _read_header(file)
        if (
            min(shape, default=0) < 0
            or info.file_size - file.tell() != int(np.prod(shape, dtype=object)) * dtype.itemsize
        ):
            raise BadDataset(f"{member.removesuffix('.npy')} is damaged: its size is not that of its shape.")
    return shape, dtype


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The header of an .npy file, left at its first value. An array of objects would have to be unpickled."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(file)
        shape, fortran, dtype = read[version](file, max_header_size=MAX_HEADER)
    except (ValueError, KeyError, SyntaxError):
        raise BadDataset("An array of the file is not in NumPy's format 1 or 2.") from None
    if (fortran and len(shape) > 1) or dtype.hasobject:
        raise BadDataset("An array of the file holds Python objects, or is in Fortran order; neither is read.")
    return shape, dtype


def _exactly(file: IO[bytes], n: int) -> bytes:
    data = file.read(n)
    if len(data) != n:
        raise EOFError
    return data


def _class_names(parts: Sequence[_Part], official: _Official | None) -> tuple[str, ...]:
    """By label. Of an unknown set the numbers are the names."""
    lowest = min(int(part.labels.min()) for part in parts)
    highest = max(int(part.labels.max()) for part in parts)
    n = len(official.classes) if official else min(highest + 1, MAX_IMAGES)
    if lowest < 0 or highest >= n:
        raise BadDataset(f"The labels run from {lowest} to {highest}: the set of this name has 0 to {n - 1}.")
    return official.classes if official else tuple(f"{label:0{len(str(highest))}d}" for label in range(n))


def _check_sizes(parts: Sequence[_Part], out: Path) -> None:
    if len({part.shape[1:] for part in parts}) > 1:
        raise BadDataset("The parts of the file have pictures of different sizes.")
    home = next((folder for folder in (out, *out.absolute().parents) if folder.is_dir()), None)
    if home is None or home.absolute() not in (out.absolute(), out.absolute().parent):
        raise UsageError(f"There is no folder to make {out.name} in.")
    needed = sum(part.image_bytes * part.shape[0] for part in parts)
    if needed > MAX_BYTES:
        raise BadDataset(f"The pictures would take {needed / 2**30:.0f} GiB; up to {MAX_BYTES / 2**30:.0f} are read.")
    if shutil.disk_usage(home).free < needed:
        raise CbmirError(f"The disk is too full: the pictures may take up to {needed / 1e6:.0f} MB.")


def _write_images(
    archive: zipfile.ZipFile,
    parts: Sequence[_Part],
    names: Sequence[str],
    official: _Official | None,
    source: str,
    out: Path,
    on_progress: Progress | None,
) -> tuple[list[ImageRef], list[str], list[int]]:
    """References below out, with their sides and folds."""
    from PIL import Image

    folders = [re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") for name in names]
    for label in sorted({int(label) for part in parts for label in part.labels}):
        (out / folders[label]).mkdir(parents=True)
    refs: list[ImageRef] = []
    sides: list[str] = []
    folds: list[int] = []
    total = sum(part.shape[0] for part in parts)
    for part in parts:
        side, fold = PARTS[part.name]
        for number, (pixels, label) in enumerate(zip(_images(archive, part), part.labels, strict=True), start=1):
            shown = f"{folders[label]}/{part.name}-{number:06d}.png"
            Image.fromarray(pixels).save(out / shown, compress_level=1)
            modality = official.modality if official else None
            labels = {"class": names[label]}
            refs.append(
                ImageRef((out / shown).absolute(), shown, labels=labels, modality=modality, source=source or None)
            )
            sides.append(side)
            folds.append(fold)
            if on_progress:
                on_progress(len(refs), total)
    return refs, sides, folds


def _images(archive: zipfile.ZipFile, part: _Part) -> Iterator[npt.NDArray[np.uint8]]:
    """One at a time, uint8 (side, side) or (side, side, 3)."""
    with archive.open(f"{part.name}_images.npy") as file:
        _read_header(file)
        for _ in range(part.shape[0]):
            yield np.frombuffer(_exactly(file, part.image_bytes), dtype=np.uint8).reshape(part.shape[1:])
