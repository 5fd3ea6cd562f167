"""What we read and show, beside independent programs: DCMTK for grey levels, SimpleITK for values and places, encoders
for bits.

The files are real where that matters: those that come with pydicom, and some of organ24 where it is at hand. Each is
compared; what cannot be is named here, with the reason.
"""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset

from cbmir.display import render
from cbmir.errors import BadImage
from cbmir.images import decode, read_image
from cbmir.privacy import Pseudonyms
from cbmir.types import DecodedImage
from make_dicom import dicom_bytes, make_dicom, save_dicom, sequence_item
from references import NotRead, dcmtk_colours, dcmtk_grey_levels, simpleitk_lps, simpleitk_values, transfer_syntax
from transfer_syntaxes import ENCODINGS, encode

Array = npt.NDArray[Any]

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
KEY = Pseudonyms(b"a key for tests, 32 bytes long..")
PER_GROUP = 4  # the transfer syntaxes of organ24 take turns, four of them


@cache
def pictures(path: Path) -> tuple[DecodedImage, ...]:
    """The pictures of a file; none when it holds none."""
    try:
        return tuple(image for image in read_image(path, KEY) if image.kind == "picture")
    except BadImage:
        return ()


def bundled(*, colour: bool) -> list[Path]:
    """The DICOM files that come with pydicom and give pictures. (Not those that it fetches from the network.)"""
    found = [path for path in sorted(BUNDLED.rglob("*")) if path.is_file() and path.suffix != ".gz" and pictures(path)]
    return [path for path in found if pictures(path)[0].is_colour == colour]


def sample(organ24: Path) -> list[Path]:
    """Some DICOM files of every source, modality and class."""
    groups: dict[tuple[str, ...], list[Path]] = {}
    with (organ24 / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["path"].endswith(".dcm"):
                key = (row["source"], row["modality"], row["class"])
                groups.setdefault(key, []).append(organ24 / row["path"])
    return [path for paths in groups.values() for path in paths[:PER_GROUP]]


def rewritten(name: str, folder: Path, **elements: Any) -> Path:
    """A bundled file with some elements of its header changed."""
    dataset = pydicom.dcmread(BUNDLED / name)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return save_dicom(folder / name, dataset)


# Grey levels, beside DCMTK (dcm2pnm)

HALF = 0.5 + 1 / 257
"""We show the nearest whole grey level, so it lies within a half of the exact one; DCMTK's steps are 1/257."""

NOT_FOR_DCMTK = {
    **{f"1.2.840.10008.1.2.4.{n}": "DCMTK has no decoder for JPEG 2000" for n in (90, 91, 201, 202, 203)},
    "badVR.dcm": "the number of frames is no number, and DCMTK asks for it",
    "MR_truncated.dcm": "DCMTK gives the file up",
}
"""Transfer syntax or file -> why dcm2pnm does not read it."""

WHOLE_NUMBERS = "DCMTK holds modality values as whole numbers, too coarse for a window below 255 wide"
LINEAR_EXACT = "DCMTK 3.6.7 does not know the function and takes LINEAR"


def window_of(image: DecodedImage) -> tuple[float, float]:
    """The first of the header, else from the lowest value to the highest."""
    if image.windows:
        return image.windows[0].center, image.windows[0].width
    low, high = float(image.pixels.min()), float(image.pixels.max())
    return round((low + high) / 2), max(round(high - low), 1)


def difference(dcmtk: Path, path: Path) -> tuple[float, float] | str:
    """How far our grey levels are from DCMTK's at most, and may be; or why they cannot be compared.

    Shown as the header wants it, and where it does not say, in one window that both are told. Padding is left out:
    it is black with us, DCMTK windows it like any value.
    """
    image = pictures(path)[0]
    (center, width), whole = window_of(image), np.array_equal(image.pixels, np.rint(image.pixels))
    if not whole and width < 255:
        return WHOLE_NUMBERS
    if image.windows and image.windows[0].function == "LINEAR_EXACT":
        return LINEAR_EXACT
    try:
        if image.windows:
            ours, theirs = render(image), dcmtk_grey_levels(dcmtk, path, "--use-window", "1")
        else:
            ours = render(image, (center, width))
            theirs = dcmtk_grey_levels(dcmtk, path, "--set-window", str(center), str(width))
    except NotRead:
        return NOT_FOR_DCMTK.get(transfer_syntax(path)) or NOT_FOR_DCMTK[path.name]
    known = np.ones(ours.shape, bool) if image.padding is None else ~image.padding
    return float(np.abs(ours - theirs)[known].max()), HALF + (0 if whole else 255 / width)


def compared_with_dcmtk(dcmtk: Path, paths: Iterable[Path]) -> int:
    """How many files were compared and found alike."""
    found = {path.name: difference(dcmtk, path) for path in paths}
    measured = {name: pair for name, pair in found.items() if not isinstance(pair, str)}
    assert {name: pair for name, pair in measured.items() if pair[0] > pair[1]} == {}
    return len(measured)


def test_grey_files_are_shown_with_the_grey_levels_of_dcmtk(dcmtk: Path) -> None:
    assert compared_with_dcmtk(dcmtk, bundled(colour=False)) >= 45


def test_organ24_is_shown_with_the_grey_levels_of_dcmtk(dcmtk: Path, organ24: Path) -> None:
    assert compared_with_dcmtk(dcmtk, sample(organ24)) >= 60


INVERTED = [
    {"PhotometricInterpretation": "MONOCHROME1"},
    {"PresentationLUTShape": "INVERSE"},
    {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
]


@pytest.mark.parametrize("elements", INVERTED, ids=["MONOCHROME1", "INVERSE", "both"])
@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPGExtended.dcm"]
)
def test_inverted_files_are_shown_with_the_grey_levels_of_dcmtk(
    dcmtk: Path, name: str, elements: dict[str, str], tmp_path: Path
) -> None:
    path = rewritten(name, tmp_path, WindowCenter=300, WindowWidth=900, **elements)
    found = difference(dcmtk, path)
    assert not isinstance(found, str)
    assert found[0] <= HALF
    assert render(pictures(path)[0]).min() < render(pictures(path)[0]).max()


def test_bundled_files_that_are_monochrome1_are_shown_with_the_grey_levels_of_dcmtk(dcmtk: Path) -> None:
    inverted = [path for path in bundled(colour=False) if pictures(path)[0].monochrome1]
    assert compared_with_dcmtk(dcmtk, inverted) == 3


@pytest.mark.parametrize("window", [(40, 400), (-600, 1500), (300.5, 33.25), (100, 2), (100, 1), (0, 4000)])
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "examples_overlay.dcm"])
def test_a_window_is_that_of_dcmtk(dcmtk: Path, name: str, window: tuple[float, float]) -> None:
    center, width = window
    theirs = dcmtk_grey_levels(dcmtk, BUNDLED / name, "--set-window", str(center), str(width))
    assert np.abs(render(pictures(BUNDLED / name)[0], window) - theirs).max() <= HALF


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_a_sigmoid_is_that_of_dcmtk(dcmtk: Path, name: str, tmp_path: Path) -> None:
    path = rewritten(name, tmp_path, WindowCenter=300, WindowWidth=900, VOILUTFunction="SIGMOID")
    theirs = dcmtk_grey_levels(dcmtk, path, "--use-window", "1", "--sigmoid-function")
    assert np.abs(render(pictures(path)[0]) - theirs).max() <= HALF


def test_the_window_of_a_pet_in_suv_is_that_of_dcmtk_in_activity(dcmtk: Path, tmp_path: Path) -> None:
    """80 kg and 160 MBq: an SUV of 1 is 2000 Bq/ml, and the header's window of 3000 Bq/ml is 1.5 SUV wide."""
    dose = sequence_item(RadionuclideTotalDose="160000000")
    known = {"Modality": "PT", "Units": "BQML", "DecayCorrection": "ADMIN", "PatientWeight": "80"}
    window = {"WindowCenter": 2000, "WindowWidth": 3000}
    activity = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    pet = make_dicom(activity, RadiopharmaceuticalInformationSequence=[dose], **known, **window)
    path = save_dicom(tmp_path / "pet.dcm", pet)
    (image,) = pictures(path)
    assert image.provenance.values == "SUVbw"
    assert np.abs(render(image) - dcmtk_grey_levels(dcmtk, path, "--use-window", "1")).max() <= HALF


def voi_lut(bits: int, first: int) -> list[Dataset]:
    """A parabola over 2000 modality values; DCMTK and we read its entries as 16-bit words."""
    entries = np.rint((np.arange(2000) / 1999) ** 2 * (2**bits - 1)).astype("<u2")
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [2000, first, bits])
    item.add_new("LUTData", "OW", entries.tobytes())
    return [item]


@pytest.mark.parametrize(("bits", "first"), [(8, 0), (12, 0), (16, 0), (16, 100), (16, -900)])
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_a_voi_lut_is_looked_up_as_by_dcmtk(dcmtk: Path, name: str, bits: int, first: int, tmp_path: Path) -> None:
    path = rewritten(name, tmp_path, VOILUTSequence=voi_lut(bits, first))
    ours, theirs = render(pictures(path)[0]), dcmtk_grey_levels(dcmtk, path, "--use-voi-lut", "1")
    spread = 255 / 2**bits  # DCMTK gives the highest of 2**bits entries one step less than white
    assert np.abs(ours - theirs).max() <= HALF + spread
    assert np.unique(ours).size > 50


# Modality values and colour, beside SimpleITK

DEEP_RLE_COLOUR = [f"SC_rgb_rle_{bits}bit{frames}.dcm" for bits in (16, 32) for frames in ("", "_2frame")]

NOT_FOR_SIMPLEITK = {
    "badVR.dcm": "the number of frames is no number; SimpleITK takes the first of 15",
    "JPEG2000-embedded-sequence-delimiter.dcm": "SimpleITK gives the codestream up",
    "MR_truncated.dcm": "SimpleITK fills what is missing with zeros",
    **dict.fromkeys(DEEP_RLE_COLOUR, "SimpleITK mixes up the bytes of deep RLE colour; DCMTK reads it"),
}
"""File -> why its values are not compared."""

LOSSY_LEVELS = 3
"""What decoders of lossy colour may differ by: each rounds its own cosines and colour conversion."""
LOSSY = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91"}


def expected_grey(values: Array, image: DecodedImage) -> Array:
    """SimpleITK's values in our convention: it turns MONOCHROME1 over, within what Bits Stored can hold, and does not
    know SUV, which is proportional to what it reads."""
    if pydicom_photometric(image) == "MONOCHROME1":
        return sum(image.value_range) - values
    if image.provenance.values == "SUVbw":
        return values * (float(image.pixels.max()) / float(values.max()))
    return values


def pydicom_photometric(image: DecodedImage) -> str:
    return image.attributes.get("photometric_interpretation", "")


def slope_of(path: Path) -> float:
    return abs(float(pydicom.dcmread(path, stop_before_pixels=True).get("RescaleSlope") or 1))


def wrong_values(path: Path) -> float | None:
    """The largest error of any frame when it is too large, as a multiple of what it may be: 1e-3 of a stored step, or
    where float32 is coarser than that, two of its own (one for the product, one for the sum)."""
    images, values = pictures(path), simpleitk_values(path)
    assert len(images) == len(values)
    worst = 0.0
    for image, theirs in zip(images, values, strict=True):
        expected = expected_grey(theirs.astype(np.float64), image)
        allowed = np.maximum(1e-3 * slope_of(path), 2 * np.spacing(np.abs(expected).astype(np.float32)))
        worst = max(worst, float((np.abs(image.pixels - expected) / allowed).max()))
    return worst if worst > 1 else None


def compared_with_simpleitk(paths: Iterable[Path]) -> int:
    comparable = [path for path in paths if path.name not in NOT_FOR_SIMPLEITK]
    assert {path.name: wrong for path in comparable if (wrong := wrong_values(path))} == {}
    return len(comparable)


def test_the_values_of_grey_files_are_those_of_simpleitk() -> None:
    assert compared_with_simpleitk(bundled(colour=False)) >= 49


def test_the_values_of_organ24_are_those_of_simpleitk(organ24: Path) -> None:
    assert compared_with_simpleitk(sample(organ24)) >= 80


def test_the_colours_of_colour_files_are_those_of_simpleitk() -> None:
    wrong, paths = {}, [path for path in bundled(colour=True) if path.name not in NOT_FOR_SIMPLEITK]
    for path in paths:
        ours = np.stack([image.pixels for image in pictures(path)]).astype(int)
        worst = int(np.abs(ours - simpleitk_values(path).reshape(ours.shape).astype(int)).max())
        if worst > (LOSSY_LEVELS if transfer_syntax(path) in LOSSY else 0):
            wrong[path.name] = worst
    assert wrong == {}
    assert len(paths) >= 29


@pytest.mark.parametrize("name", DEEP_RLE_COLOUR)
def test_deep_colour_is_that_of_dcmtk(dcmtk: Path, name: str) -> None:
    assert np.array_equal(pictures(BUNDLED / name)[0].pixels, dcmtk_colours(dcmtk, BUNDLED / name))


# Lossless bits, beside encoders

DEPTHS = [("u1", 8), ("i1", 8), ("u2", 12), ("i2", 12), ("u2", 16), ("i2", 16)]


def noise(dtype: str, bits: int) -> Array:
    """Every bit in use, sides odd."""
    low = 0 if dtype.startswith("u") else -(2 ** (bits - 1))
    return np.random.default_rng(0).integers(low, low + 2**bits, (33, 47)).astype(dtype)


@pytest.mark.parametrize(("dtype", "bits"), DEPTHS)
@pytest.mark.parametrize("name", [name for name, encoding in ENCODINGS.items() if encoding.exact])
def test_lossless_files_are_read_bit_for_bit(name: str, dtype: str, bits: int) -> None:
    pixels = noise(dtype, bits)
    (image,) = decode(dicom_bytes(encode(make_dicom(pixels, bits_stored=bits), name)), KEY)
    assert image.provenance.transfer_syntax == ENCODINGS[name].uid
    assert np.array_equal(image.pixels, pixels)


@pytest.mark.parametrize(
    ("name", "allowed"), [("JPEG baseline", 2), ("JPEG extended", 2), ("JPEG-LS near-lossless", 2), ("JPEG 2000", 2)]
)
def test_lossy_files_are_read_closely(name: str, allowed: int) -> None:
    smooth = np.add.outer(np.arange(33), np.arange(47)).astype(np.uint8)
    (image,) = decode(dicom_bytes(encode(make_dicom(smooth), name)), KEY)
    assert np.abs(image.pixels - smooth).max() <= allowed


def test_signed_values_whose_unused_high_bits_are_clear_stay_signed() -> None:
    pixels = noise("i2", 12)
    cleared = (pixels.view("u2") & 0x0FFF).view("i2")
    (image,) = decode(dicom_bytes(make_dicom(cleared, bits_stored=12)), KEY)
    assert np.array_equal(image.pixels, pixels)


ENCODERS = [
    ["dcmcjpeg", "--encode-lossless-sv1"],
    *(["dcmcjpeg", "--encode-lossless", "--selection-value", str(value)] for value in (1, 4, 7)),
    ["dcmcjpls", "--encode-lossless"],
    ["dcmcrle"],
    ["dcmconv", "--write-xfer-deflated"],
    ["dcmconv", "--write-xfer-big"],
    ["dcmconv", "--write-xfer-implicit"],
]


@pytest.mark.parametrize("encoder", ENCODERS, ids=" ".join)
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "examples_overlay.dcm", "SC_rgb_small_odd.dcm"])
def test_what_dcmtk_encodes_is_read_bit_for_bit(dcmtk: Path, name: str, encoder: list[str], tmp_path: Path) -> None:
    program, *options = encoder
    encoded = tmp_path / "encoded.dcm"
    subprocess.run([dcmtk.with_name(program), *options, BUNDLED / name, encoded], check=True, capture_output=True)
    assert np.array_equal(pictures(encoded)[0].pixels, pictures(BUNDLED / name)[0].pixels)


# Volumes, beside SimpleITK

DIRECTIONS: dict[str, Callable[[], Array]] = {
    "left, back, up": lambda: np.diag([1.0, 1, 1]),
    "right, front, up": lambda: np.diag([-1.0, -1, 1]),
    "sagittal": lambda: np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "coronal, downwards": lambda: np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "tilted by 10 degrees": lambda: rotation(np.deg2rad(10)),
}
"""Where the three axes of a volume point, in DICOM's patient coordinates (left, back, up), as columns."""


def rotation(angle: float) -> Array:
    return np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])


def volume(direction: Array, path: Path) -> Path:
    """Noise of 5 x 6 x 7 voxels of unequal sides, every value once, written by SimpleITK."""
    values = np.random.default_rng(0).permutation(5 * 6 * 7).reshape(7, 6, 5).astype(np.int16)
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing((0.5, 1.0, 2.0))
    image.SetOrigin((-20.0, 35.0, 7.0))
    image.SetDirection(direction.ravel().tolist())
    SimpleITK.WriteImage(image, str(path))
    return path


def planes(volume_lps: Array) -> dict[str, list[Array]]:
    """The slices as radiologists look at them: patient's right on the left, from the feet; front on the left; head up.

    volume_lps: [slice to the head, row to the back, column to the patient's left].
    """
    axial = [volume_lps[k] for k in range(volume_lps.shape[0])]
    coronal = [volume_lps[::-1, j] for j in range(volume_lps.shape[1])]
    sagittal = [volume_lps[::-1, :, i] for i in range(volume_lps.shape[2])]
    return {"axial": axial, "coronal": coronal, "sagittal": sagittal}


def position_in(found: list[Array], picture: Array) -> int:
    matches = [index for index, each in enumerate(found) if np.array_equal(each, picture)]
    assert len(matches) == 1, "a slice is there once, the right way round"
    return matches[0]


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "nrrd"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_slices_of_a_volume_are_those_of_simpleitk(direction: str, suffix: str, tmp_path: Path) -> None:
    path = volume(DIRECTIONS[direction](), tmp_path / f"volume.{suffix}")
    images = read_image(path, KEY)
    expected = planes(SimpleITK.GetArrayFromImage(simpleitk_lps(path)))
    assert len(images) == sum(map(len, expected.values()))
    assert [image.frame_index for image in images] == list(range(len(images)))
    for plane, slices in expected.items():
        found = [image.pixels for image in images if plane_of(image, direction) == plane]
        order = [position_in(found, each) for each in slices]
        assert order in (sorted(order), sorted(order, reverse=True)), "neighbours stay neighbours"


def plane_of(image: DecodedImage, direction: str) -> str:
    return image.attributes["plane"]


def test_a_marked_point_of_the_patient_is_at_its_place_in_each_plane(tmp_path: Path) -> None:
    """The voxel at the patient's far left, back and top, in a volume whose axes run the other way."""
    path = volume(DIRECTIONS["right, front, up"](), tmp_path / "volume.nii")
    image = SimpleITK.ReadImage(str(path))
    index = image.TransformPhysicalPointToIndex((-20.0, 35.0, 7.0 + 6 * 2.0))
    marked = image.GetPixel(index)
    at = {
        picture.attributes["plane"]: tuple(int(n) for n in np.argwhere(picture.pixels == marked)[0])
        for picture in read_image(path, KEY)
        if (picture.pixels == marked).any()
    }
    assert at == {"axial": (5, 4), "coronal": (0, 4), "sagittal": (0, 5)}


def test_the_scaling_of_a_nifti_file_is_that_of_simpleitk(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    nifti = nibabel.Nifti1Image(values, np.diag([-1.0, -1, 1, 1]))
    nifti.header.set_slope_inter(0.5, -1000)
    nibabel.save(nifti, tmp_path / "scaled.nii")
    (expected,) = SimpleITK.GetArrayFromImage(simpleitk_lps(tmp_path / "scaled.nii"))[:1]
    found = [image.pixels for image in read_image(tmp_path / "scaled.nii", KEY)]
    assert position_in(found, expected.astype(np.float32)) >= 0
