"""The content of a file decides who reads it; what is not read is named; an archive inside an archive stays shut."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import nibabel
import numpy as np
import pytest

from cbmir import images
from cbmir.errors import BadImage
from cbmir.images import decode, read_image, read_ref
from cbmir.images.kinds import kind_of
from cbmir.privacy import Pseudonyms
from cbmir.types import ImageRef
from pictures import SMOOTH, picture_bytes, read_one, refusal, tiff_bytes, zip_bytes

PNG = picture_bytes(SMOOTH)
NIFTI = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4)).to_bytes()

# Whose file it is


def test_the_content_decides_and_not_the_suffix(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    path = tmp_path / "picture.dcm"
    path.write_bytes(PNG)
    (image,) = read_image(path, pseudonyms, patient="7", modality="MR")
    assert image.provenance.format == "PNG"
    assert (image.patient, image.modality) == (pseudonyms.of("patient", "7"), "MR")


def test_each_reader_knows_its_files() -> None:
    assert kind_of(PNG) == kind_of(picture_bytes(SMOOTH, "WEBP")) == "picture"
    assert kind_of(picture_bytes(SMOOTH, "JPEG2000")) == "jpeg 2000"
    assert kind_of(tiff_bytes(SMOOTH)) == "tiff"
    assert kind_of(NIFTI) == "nifti"
    assert kind_of(b"NRRD0004\ntype: short\n") == "nrrd"
    assert kind_of(b"II*\0" + bytes(124) + b"DICM") == "dicom"  # a preamble that makes it a TIFF file too
    assert kind_of(b"\x08\0\x05\0") == "dicom"  # nothing else fits: it may be DICOM without a preamble


VIDEOS = {
    "MP4": b"\0\0\0\x20ftypisom\0\0\2\0",
    "QuickTime": b"\0\0\0\x14ftypqt  ",
    "old QuickTime": b"\0\0\0\x08moov\0\0\0\0",
    "AVI": b"RIFF\0\0\1\0AVI LIST",
    "Matroska": b"\x1aE\xdf\xa3\x93B\x82\x88matroska",
    "MPEG program stream": b"\0\0\1\xba\x44\0",
    "MPEG video": b"\0\0\1\xb3\x16\0",
    "MPEG transport stream": (b"G" + bytes(187)) * 6,
    "Blu-ray stream": (bytes(4) + b"G" + bytes(187)) * 6,
    "Windows Media": b"0&\xb2u\x8ef\xcf\x11\xa6\xd9",
}


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_is_refused_as_one(pseudonyms: Pseudonyms, name: str) -> None:
    error = refusal(VIDEOS[name], pseudonyms)
    assert error.outcome == "refused"
    assert "is a video" in error.reason


ANALYZE = (348).to_bytes(4, "little") + bytes(34) + b"r" + bytes(309)
OTHERS = {
    "PDF file": b"%PDF-1.7\n",
    "HDF5 file": b"\x89HDF\r\n\x1a\n",
    "MetaImage file": b"ObjectType = Image\nNDims = 3\n",
    "header of an Analyze image": ANALYZE,
    "MINC": b"CDF\1\0\0",
    "HEIF": b"\0\0\0\x18ftypheic",
    "7z archive": b"7z\xbc\xaf\x27\x1c\0\4",
    "tar archive": b"name" + bytes(253) + b"ustar\0" + bytes(249),
    "netpbm": b"P5\n2 2\n255\n0000",
    "JPEG XL": b"\xff\x0a\0\0",
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_read_is_named(pseudonyms: Pseudonyms, name: str) -> None:
    error = refusal(OTHERS[name], pseudonyms)
    assert error.outcome == "unsupported"
    assert name in error.reason


def test_text_is_no_image(pseudonyms: Pseudonyms) -> None:
    for data in (b"a", b"\0", b"# README\n", bytes(1000), b"RIFF\0\0\1\0WAVE", b"BMI of patients"):
        assert refusal(data, pseudonyms).outcome == "not_an_image"


# gzip


def test_a_gzip_file_is_what_it_holds(pseudonyms: Pseudonyms) -> None:
    image = read_one(gzip.compress(PNG), pseudonyms)
    assert np.array_equal(image.pixels, SMOOTH)
    assert image.id == read_one(PNG, pseudonyms).id
    assert image.provenance.notes == ("inflated from gzip",)


def test_a_gzip_file_in_parts_is_read_whole(pseudonyms: Pseudonyms) -> None:
    parts = gzip.compress(PNG[:100]) + gzip.compress(PNG[100:])
    assert np.array_equal(read_one(parts, pseudonyms).pixels, SMOOTH)


@pytest.mark.parametrize("inner", [gzip.compress(PNG), zip_bytes({"a.png": PNG}), b"x" * 257 + b"ustar\0"])
def test_a_gzip_file_holds_no_archive(pseudonyms: Pseudonyms, inner: bytes) -> None:
    error = refusal(gzip.compress(inner), pseudonyms)
    assert error.outcome == "refused"
    assert "archive inside an archive" in error.reason


def test_a_damaged_an_empty_and_a_growing_gzip_file_have_an_outcome(pseudonyms: Pseudonyms) -> None:
    assert refusal(gzip.compress(PNG)[:-20], pseudonyms).outcome == "corrupt"
    assert refusal(gzip.compress(b""), pseudonyms).outcome == "not_an_image"
    assert refusal(gzip.compress(bytes(80 * 2**20)), pseudonyms).outcome == "refused"


# Files and members of archives


def test_missing_empty_and_huge_files_have_an_outcome(
    tmp_path: Path, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome(path: Path) -> str:
        with pytest.raises(BadImage) as caught:
            read_image(path, pseudonyms)
        assert str(tmp_path) not in caught.value.reason
        return caught.value.outcome

    (tmp_path / "empty").touch()
    (tmp_path / "huge").write_bytes(bytes(100))
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 99)
    assert outcome(tmp_path / "missing") == "corrupt"
    assert outcome(tmp_path / "no\0path") == "corrupt"
    assert outcome(tmp_path) == "corrupt"
    assert outcome(tmp_path / "empty") == "not_an_image"
    assert outcome(tmp_path / "huge") == "refused"


def ref_of(tmp_path: Path, name: str, content: bytes) -> ImageRef:
    path = tmp_path / "a.zip"
    path.write_bytes(zip_bytes({name: content}))
    return ImageRef(path, f"a.zip/{name}", member=name)


def test_a_member_is_read_as_a_file_is(tmp_path: Path) -> None:
    assert read_ref(ref_of(tmp_path, "x/y.png", PNG)) == PNG
    (tmp_path / "y.png").write_bytes(PNG)
    assert read_ref(ImageRef(tmp_path / "y.png", "y.png")) == PNG


def test_what_the_source_refuses_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="leads out") as caught:
        read_ref(ImageRef(tmp_path / "missing", "x", refused="The path leads out."))
    assert caught.value.outcome == "refused"


@pytest.mark.parametrize("inner", [zip_bytes({"a.png": PNG}), gzip.compress(PNG)])
def test_an_archive_in_a_zip_archive_stays_shut(tmp_path: Path, inner: bytes) -> None:
    with pytest.raises(BadImage, match="archive inside an archive") as caught:
        read_ref(ref_of(tmp_path, "inner", inner))
    assert caught.value.outcome == "refused"


def test_a_gzipped_volume_in_a_zip_archive_is_read(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    data = read_ref(ref_of(tmp_path, "brain.nii.gz", gzip.compress(NIFTI)))
    assert {image.provenance.format for image in decode(data, pseudonyms)} == {"NIfTI"}
    with pytest.raises(BadImage) as caught:
        read_ref(ref_of(tmp_path, "brain.nii.gz", b"\x1f\x8b" + bytes(50)))
    assert caught.value.outcome == "corrupt"


def test_a_zip_archive_that_comes_as_a_file_says_how_it_is_opened(pseudonyms: Pseudonyms) -> None:
    error = refusal(zip_bytes({"a.png": PNG}), pseudonyms)
    assert error.outcome == "unsupported"
    assert "ends in .zip" in error.reason


def test_a_damaged_and_an_empty_zip_archive_are_told_apart(pseudonyms: Pseudonyms) -> None:
    assert refusal(zip_bytes({"a.png": PNG})[:-30], pseudonyms).outcome == "corrupt"
    assert refusal(zip_bytes({}), pseudonyms).outcome == "not_an_image"
    assert len(io.BytesIO(zip_bytes({})).getvalue()) == 22
