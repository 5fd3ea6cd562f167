"""NIfTI and NRRD volumes become slices in three planes, turned as radiologists look at them, with their values."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib

import nibabel
import numpy as np
import pytest

from cbmir.images import decode
from cbmir.privacy import Pseudonyms
from cbmir.types import DecodedImage
from pictures import nifti_bytes, nrrd_bytes, read_one, refusal

X, Y, Z = 4, 5, 6
RAMP = np.arange(X * Y * Z, dtype=np.int16).reshape(X, Y, Z)
RAS = np.diag([2.0, 3.0, 4.0, 1.0])  # mm per voxel, as nifti_bytes writes it


LPS = ("space: left-posterior-superior", "space directions: (2,0,0) (0,3,0) (0,0,4)", "space origin: (0,0,0)")


def slices(data: bytes, pseudonyms: Pseudonyms) -> list[DecodedImage]:
    return list(decode(data, pseudonyms))


def named(images: list[DecodedImage], plane: str) -> list[DecodedImage]:
    return [image for image in images if image.attributes["plane"] == plane]


# Planes


def test_a_volume_gives_slices_in_three_planes(pseudonyms: Pseudonyms) -> None:
    images = slices(nifti_bytes(RAMP), pseudonyms)
    assert [image.frame_index for image in images] == list(range(X + Y + Z))
    assert [len(named(images, plane)) for plane in ("axial", "coronal", "sagittal")] == [Z, Y, X]
    assert [image.pixels.shape for image in (images[0], images[Z], images[-1])] == [(Y, X), (Z, X), (Z, Y)]
    assert len({image.id for image in images}) == X + Y + Z


def test_slices_are_turned_as_radiologists_look_at_them(pseudonyms: Pseudonyms) -> None:
    """Axes run to the patient's right, front and top; one voxel is marked at their far end."""
    voxels = np.zeros((X, Y, Z), np.int16)
    voxels[X - 1, Y - 1, Z - 1] = 1000  # right, front, top
    voxels[0, 0, 0] = 1  # left, back, bottom: nothing is constant
    images = slices(nifti_bytes(voxels), pseudonyms)
    top, front, right = (named(images, plane)[-1] for plane in ("axial", "coronal", "sagittal"))
    assert top.pixels[0, 0] == 1000  # the right on the left, the front up
    assert front.pixels[0, 0] == 1000  # the right on the left, the head up
    assert right.pixels[0, 0] == 1000  # the front on the left, the head up
    bottom, back, left = (named(images, plane)[0] for plane in ("axial", "coronal", "sagittal"))
    assert [image.pixels[-1, -1] for image in (bottom, back, left)] == [1, 1, 1]


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PIR", "SRA", "ILP"])
def test_however_a_volume_is_stored_its_slices_are_the_same(pseudonyms: Pseudonyms, codes: str) -> None:
    turns = nibabel.orientations.axcodes2ornt(codes)
    expected = slices(nifti_bytes(RAMP), pseudonyms)
    stored = nibabel.Nifti1Image(RAMP, RAS).as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), turns)
    )
    found = slices(nifti_bytes(np.asarray(stored.dataobj), stored.affine), pseudonyms)
    assert len(found) == len(expected)
    for image, other in zip(found, expected, strict=True):
        assert np.array_equal(image.pixels, other.pixels)
        assert image.attributes == other.attributes
        assert image.pixel_aspect == pytest.approx(other.pixel_aspect)


def test_a_slice_knows_where_it_lies_and_the_shape_of_its_pixels(pseudonyms: Pseudonyms) -> None:
    affine = RAS.copy()
    affine[:3, 3] = (-10, -20, -30)
    images = slices(nifti_bytes(RAMP, affine), pseudonyms)
    positions = {plane: named(images, plane)[1].attributes["slice_position_mm"] for plane in ("axial", "sagittal")}
    assert positions == {"axial": "-26.000", "sagittal": "-8.000"}
    # DICOM counts to the back: its normal of a coronal slice points there.
    assert [image.attributes["slice_position_mm"] for image in named(images, "coronal")[:2]] == ["20.000", "17.000"]
    aspects = {plane: named(images, plane)[0].pixel_aspect for plane in ("axial", "coronal", "sagittal")}
    assert aspects == pytest.approx({"axial": 3 / 2, "coronal": 4 / 2, "sagittal": 4 / 3})


@pytest.mark.parametrize(("degrees", "plane"), [(20, "axial"), (30, "oblique")])
def test_a_volume_that_is_tilted_is_oblique(pseudonyms: Pseudonyms, degrees: float, plane: str) -> None:
    tilt = np.radians(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    images = slices(nifti_bytes(RAMP, nibabel.affines.from_matvec(turn)), pseudonyms)
    assert images[0].attributes["plane"] == plane
    assert images[-1].attributes["plane"] == "sagittal"  # turned in itself


def test_a_single_slice_is_one_image(pseudonyms: Pseudonyms) -> None:
    for voxels in (RAMP[:, :, 0], RAMP[:, :, :1]):
        image = read_one(nifti_bytes(voxels), pseudonyms)
        assert (image.attributes["plane"], image.pixels.shape) == ("axial", (Y, X))
    assert read_one(nifti_bytes(RAMP[:1]), pseudonyms).attributes["plane"] == "sagittal"
    assert read_one(nrrd_bytes(RAMP[:, :, 0]), pseudonyms).pixels.shape == (Y, X)


# Values


def test_what_is_known_of_a_slice(pseudonyms: Pseudonyms) -> None:
    data = nifti_bytes(RAMP)
    image = slices(data, pseudonyms)[3]
    digest = hashlib.sha256(data)
    assert image.id == pseudonyms.image(digest.digest(), 3)
    assert (image.series, image.patient) == (pseudonyms.of("series", digest.hexdigest()), None)
    assert (image.value_range, image.padding, image.kind) == ((0, 119), None, "picture")
    provenance = image.provenance
    assert (provenance.format, provenance.decoder, provenance.values) == ("NIfTI", "nibabel", "stored values")
    assert provenance.notes == ()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_every_type_of_number_keeps_its_values(pseudonyms: Pseudonyms, version: int, order: str, dtype: str) -> None:
    kinds = {1: nibabel.Nifti1Image, 2: nibabel.Nifti2Image}
    stored = kinds[version](RAMP.astype(order + dtype), RAS)
    if order == ">":
        header = stored.header.as_byteswapped(">")
        data = bytes(header.binaryblock) + bytes(4) + RAMP.astype(">" + dtype).tobytes(order="F")
        header["vox_offset"] = header.sizeof_hdr + 4
        data = bytes(header.binaryblock) + data[header.sizeof_hdr :]
    else:
        data = stored.to_bytes()
    image = slices(data, pseudonyms)[2]
    assert np.array_equal(image.pixels, RAMP[::-1, ::-1, 2].T)


def test_scaling_is_applied(pseudonyms: Pseudonyms) -> None:
    image = slices(nifti_bytes(RAMP, scl_slope=2, scl_inter=-1024), pseudonyms)[0]
    assert image.pixels.dtype == np.float32
    assert np.array_equal(image.pixels, RAMP[::-1, ::-1, 0].T * 2.0 - 1024)
    assert image.value_range == (-1024, 119 * 2 - 1024)
    negative = slices(nifti_bytes(RAMP, scl_slope=-1, scl_inter=0), pseudonyms)[0]
    assert negative.value_range == (-119, 0)


@pytest.mark.parametrize(("slope", "intercept"), [(0, 7), (np.nan, np.nan), (np.inf, 0), (1, np.nan)])
def test_a_scaling_that_says_nothing_is_none(pseudonyms: Pseudonyms, slope: float, intercept: float) -> None:
    image = slices(nifti_bytes(RAMP, scl_slope=slope, scl_inter=intercept), pseudonyms)[0]
    assert np.array_equal(image.pixels, RAMP[::-1, ::-1, 0].T)


def test_the_window_is_of_the_whole_volume(pseudonyms: Pseudonyms) -> None:
    voxels = np.random.default_rng(0).integers(0, 1000, (20, 20, 20)).astype(np.int16)
    voxels[0, 0, 0] = 30000
    (window,) = {window for image in slices(nifti_bytes(voxels), pseudonyms) for window in image.windows}
    low, high = np.percentile(voxels, [0.5, 99.5], method="nearest")
    assert (window.center, window.width, window.function) == ((low + high) / 2, high - low, "LINEAR_EXACT")


def test_what_is_no_number_is_padding(pseudonyms: Pseudonyms) -> None:
    voxels = RAMP.astype(np.float32)
    voxels[0, 0, 0], voxels[1, 0, 0] = np.nan, np.inf
    image = slices(nifti_bytes(voxels), pseudonyms)[0]
    assert image.padding is not None
    assert np.argwhere(image.padding).tolist() == [[Y - 1, X - 2], [Y - 1, X - 1]]
    assert image.value_range == (1, 119)


def test_slices_of_one_value_are_left_out_and_counted(pseudonyms: Pseudonyms) -> None:
    voxels = RAMP.copy()
    voxels[:, :, :2] = 7
    images = slices(nifti_bytes(voxels), pseudonyms)
    assert [image.frame_index for image in images] == list(range(2, X + Y + Z))
    assert images[0].provenance.notes == ("2 slices of one value left out",)


def test_a_volume_that_tells_nothing_is_refused(pseudonyms: Pseudonyms) -> None:
    for voxels in (np.zeros((3, 4, 5)), np.full((3, 4, 5), np.nan), np.zeros((1, 1, 1)), np.arange(9).reshape(1, 1, 9)):
        error = refusal(nifti_bytes(voxels.astype(np.float32)), pseudonyms)
        assert error.outcome == "refused"


def test_of_several_volumes_the_first_is_read(pseudonyms: Pseudonyms) -> None:
    several = np.stack([RAMP, RAMP + 1000], axis=-1)
    images = slices(nifti_bytes(several), pseudonyms)
    assert len(images) == X + Y + Z
    assert images[0].value_range == (0, 119)
    assert images[0].provenance.notes == ("the first of 2 volumes",)


def test_colours_stay_colours(pseudonyms: Pseudonyms) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (X, Y, Z, 3), dtype=np.uint8)
    voxels = np.ascontiguousarray(colours).view([("R", "u1"), ("G", "u1"), ("B", "u1")]).reshape(X, Y, Z)
    image = slices(nifti_bytes(voxels), pseudonyms)[0]
    assert np.array_equal(image.pixels, colours[::-1, ::-1, 0].swapaxes(0, 1))


def test_labels_are_no_picture(pseudonyms: Pseudonyms) -> None:
    images = slices(nifti_bytes(RAMP, intent_code=1002), pseudonyms)
    assert {image.kind for image in images} == {"segmentation"}


def test_a_gzipped_volume_is_read(pseudonyms: Pseudonyms) -> None:
    images = slices(gzip.compress(nifti_bytes(RAMP)), pseudonyms)
    assert len(images) == X + Y + Z
    assert images[0].provenance.notes == ("inflated from gzip",)


# Orientations that say nothing


BAD_AFFINES = {
    "zero": np.zeros((4, 4)),
    "no number": np.full((4, 4), np.nan),
    "flat": np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
}


@pytest.mark.parametrize("name", BAD_AFFINES)
def test_an_orientation_that_places_nothing_is_left_out_and_said(pseudonyms: Pseudonyms, name: str) -> None:
    rows = {f"srow_{axis}": BAD_AFFINES[name][row] for row, axis in enumerate("xyz")}
    images = slices(nifti_bytes(RAMP, sform_code=1, qform_code=0, **rows), pseudonyms)
    assert len(images) == X + Y + Z
    assert "the stated orientation is damaged" in images[0].provenance.notes
    assert images[0].pixel_aspect == 1


def test_an_orientation_that_is_not_stated_is_said(pseudonyms: Pseudonyms) -> None:
    images = slices(nifti_bytes(RAMP, sform_code=0, qform_code=0), pseudonyms)
    assert images[0].provenance.notes == ("the orientation is not stated",)
    assert images[0].pixel_aspect == pytest.approx(3 / 2)


def test_axes_that_are_not_perpendicular_are_read(pseudonyms: Pseudonyms) -> None:
    sheared = np.array([[2, 0.5, 0, 0], [0, 3, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1.0]])
    images = slices(nifti_bytes(RAMP, sheared, qform_code=0), pseudonyms)
    assert images[0].attributes["plane"] == "axial"


# NRRD


@pytest.mark.parametrize("encoding", ["raw", "gzip", "ascii"])
def test_an_nrrd_is_read_as_the_nifti_is(pseudonyms: Pseudonyms, encoding: str) -> None:
    images = slices(nrrd_bytes(RAMP, *LPS, encoding=encoding), pseudonyms)
    expected = slices(nifti_bytes(RAMP, np.diag([-2.0, -3.0, 4.0, 1.0])), pseudonyms)
    assert len(images) == len(expected)
    for image, other in zip(images, expected, strict=True):
        assert np.array_equal(image.pixels, other.pixels)
        assert (image.attributes, image.windows) == (other.attributes, other.windows)
    assert (images[0].provenance.format, images[0].provenance.notes) == ("NRRD", ())


@pytest.mark.parametrize("space", ["right-anterior-superior", "RAS"])
def test_the_space_of_an_nrrd_turns_it(pseudonyms: Pseudonyms, space: str) -> None:
    images = slices(nrrd_bytes(RAMP, f"space: {space}", *LPS[1:]), pseudonyms)
    assert np.array_equal(images[0].pixels, RAMP[::-1, ::-1, 0].T)


def test_an_nrrd_without_a_space_says_so(pseudonyms: Pseudonyms) -> None:
    images = slices(nrrd_bytes(RAMP, "spacings: 2 3 4"), pseudonyms)
    assert images[0].provenance.notes == ("the orientation is not stated",)
    assert images[0].pixel_aspect == pytest.approx(3 / 2)
    assert np.array_equal(images[0].pixels, RAMP[:, :, 0].T)  # axes as DICOM's


@pytest.mark.parametrize("space", ["space dimension: 3", "space: scanner-xyz", "space: 3D-right-handed"])
def test_an_nrrd_whose_space_is_not_the_patients_keeps_its_spacing(pseudonyms: Pseudonyms, space: str) -> None:
    # directions of 2, 3 and 5 mm, whatever their axes are
    images = slices(nrrd_bytes(RAMP, space, "space directions: (0,2,0) (3,0,0) (0,3,4)"), pseudonyms)
    assert images[0].provenance.notes == ("the orientation is not stated",)
    assert [images[first].pixel_aspect for first in (0, Z, Z + Y)] == pytest.approx([3 / 2, 5 / 2, 5 / 3])
    assert images[1].attributes["slice_position_mm"] == "5.000"
    assert np.array_equal(images[0].pixels, RAMP[:, :, 0].T)  # axes as DICOM's


def test_of_an_nrrd_with_directions_the_first_volume_is_read(pseudonyms: Pseudonyms) -> None:
    several = np.stack([RAMP, RAMP + 1000])
    directions = ("space: left-posterior-superior", "space directions: none (2,0,0) (0,3,0) (0,0,4)")
    images = slices(nrrd_bytes(several, *directions, "kinds: list domain domain domain"), pseudonyms)
    assert (len(images), images[0].value_range) == (X + Y + Z, (0, 119))
    assert images[0].provenance.notes == ("the first of 2 volumes",)


def test_a_colour_nrrd_stays_colour(pseudonyms: Pseudonyms) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (3, X, Y, Z), dtype=np.uint8)
    directions = ("space: RAS", "space directions: none (2,0,0) (0,3,0) (0,0,4)")
    data = nrrd_bytes(colours, *directions, "kinds: RGB-color domain domain domain", kind="uchar")
    image = slices(data, pseudonyms)[0]
    assert np.array_equal(image.pixels, np.moveaxis(colours, 0, -1)[::-1, ::-1, 0].swapaxes(0, 1))


@pytest.mark.parametrize("field", ["data file: /etc/passwd", "datafile: secret.raw", "DATA FILE: LIST"])
def test_an_nrrd_never_opens_another_file(pseudonyms: Pseudonyms, field: str) -> None:
    error = refusal(nrrd_bytes(RAMP, field), pseudonyms)
    assert error.outcome == "refused"
    assert "names another file" in error.reason


def test_a_detached_nrrd_header_is_refused(pseudonyms: Pseudonyms) -> None:
    data = b"NRRD0004\ntype: short\ndimension: 1\nsizes: 4\nencoding: raw\ndata file: x.raw\n"
    assert refusal(data, pseudonyms).outcome == "refused"


# What is damaged, or asks for too much


@pytest.mark.parametrize(
    "data",
    [
        nifti_bytes(RAMP)[:-1],
        nifti_bytes(RAMP)[:400],
        nifti_bytes(RAMP)[:348],
        nifti_bytes(RAMP, dim=[3, 0, 5, 6, 1, 1, 1, 1]),
        nifti_bytes(RAMP, dim=[3, -4, 5, 6, 1, 1, 1, 1]),
        nifti_bytes(RAMP, dim=[3, 400, 500, 600, 1, 1, 1, 1]),
        nifti_bytes(RAMP, dim=[7, 4, 5, 6, 32000, 32000, 32000, 32000]),
        nifti_bytes(RAMP, vox_offset=1e30),
        nifti_bytes(RAMP, vox_offset=np.nan),
        nifti_bytes(RAMP, vox_offset=-352),
        nifti_bytes(RAMP, sizeof_hdr=12),
        nrrd_bytes(RAMP, *LPS)[:-1],
        nrrd_bytes(RAMP, *LPS, encoding="gzip")[:-9],
        nrrd_bytes(RAMP, *LPS, encoding="ascii")[:-40],
        nrrd_bytes(RAMP).replace(b"sizes: 4 5 6", b"sizes: 4 5 -6"),
        nrrd_bytes(RAMP).replace(b"sizes: 4 5 6", b"sizes: 4 5"),
        nrrd_bytes(RAMP).replace(b"sizes: 4 5 6", b"sizes: a b c"),
        nrrd_bytes(RAMP).replace(b"type: short\n", b""),
        nrrd_bytes(RAMP, "byte skip: 100000"),
        nrrd_bytes(RAMP, "line skip: 100000"),
        nrrd_bytes(RAMP, "byte skip: -5"),
        b"NRRD0004\n" + b"#" * 100,
    ],
)
def test_a_damaged_volume_is_corrupt(pseudonyms: Pseudonyms, data: bytes) -> None:
    assert refusal(data, pseudonyms).outcome == "corrupt"


@pytest.mark.parametrize(
    "data",
    [
        nifti_bytes(RAMP, dim=[3, 32000, 32000, 32000, 1, 1, 1, 1]),
        nifti_bytes(RAMP, version=2, dim=[3, 2**40, 2**40, 2**40, 1, 1, 1, 1]),
        nrrd_bytes(RAMP).replace(b"sizes: 4 5 6", b"sizes: 99999 99999 99999"),
        nifti_bytes(np.arange(6000, dtype=np.int16).reshape(2, 1, 3000).repeat(2, axis=1).repeat(2, axis=2)),
    ],
)
def test_a_volume_that_asks_for_too_much_is_refused(pseudonyms: Pseudonyms, data: bytes) -> None:
    assert refusal(data, pseudonyms).outcome == "refused"


def test_a_bomb_in_an_nrrd_is_refused(pseudonyms: Pseudonyms) -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = stream.compress(bytes(80 * 2**20)) + stream.flush()
    head = nrrd_bytes(RAMP, *LPS, encoding="gzip").split(b"\n\n", 1)[0]
    assert refusal(head + b"\n\n" + bomb, pseudonyms).outcome == "refused"


@pytest.mark.parametrize(
    "data",
    [
        nifti_bytes(RAMP).replace(b"n+1\0", b"ni1\0"),
        nifti_bytes(RAMP, datatype=32, bitpix=64),  # complex
        nifti_bytes(RAMP, datatype=1, bitpix=1),  # single bits
        nifti_bytes(RAMP, datatype=999),
        nrrd_bytes(RAMP).replace(b"encoding: raw", b"encoding: bz2"),
        nrrd_bytes(RAMP).replace(b"type: short", b"type: block"),
    ],
)
def test_what_is_not_read_is_unsupported(pseudonyms: Pseudonyms, data: bytes) -> None:
    assert refusal(data, pseudonyms).outcome == "unsupported"


def test_half_of_a_pair_says_what_to_do(pseudonyms: Pseudonyms) -> None:
    assert "join them into a .nii file" in refusal(nifti_bytes(RAMP).replace(b"n+1\0", b"ni1\0"), pseudonyms).reason


def test_messages_hold_nothing_of_the_header(pseudonyms: Pseudonyms) -> None:
    for data in (nifti_bytes(RAMP, descrip=b"DOE^JOHN", dim=[3, 0, 5, 6, 1, 1, 1, 1]), nrrd_bytes(RAMP, "DOE JOHN")):
        assert "DOE" not in refusal(data, pseudonyms).reason


def test_the_volume_is_not_copied(pseudonyms: Pseudonyms) -> None:
    from cbmir.images.nifti import read_nifti

    data = nifti_bytes(RAMP)
    voxels = read_nifti(data).voxels
    assert not voxels.flags.owndata
    assert struct.unpack_from("<h", data, 352 + 2) == (int(voxels[1, 0, 0]),)
