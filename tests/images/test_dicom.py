"""A DICOM file is known by its content, its header is mended or refused, and it gives pseudonyms instead of names."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, ImplicitVRLittleEndian

from cbmir.images import read_image
from cbmir.images.dicom import read_dicom
from cbmir.images.dicom.nested import count_nested
from cbmir.privacy import Pseudonyms
from make_dicom import dicom_bytes, encapsulated, make_dicom
from reading import PSEUDONYMS, STORED, read, read_one, refusal
from transfer_syntaxes import ENCODINGS

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
OF = "1.2.840.10008.1.2.4."
EXPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
PIXELS = np.random.default_rng(0).integers(0, 4096, (32, 48), dtype=np.uint16)
SHALLOW = (PIXELS >> 4).astype(np.uint8)


def parts(dataset: Dataset) -> tuple[bytes, bytes]:
    """The file header of a file, and what follows it."""
    data = dicom_bytes(dataset)
    end = 144 + int.from_bytes(data[140:144], "little")
    return data[:end], data[end:]


def element(group: int, number: int, vr: bytes, length: int, value: bytes = b"") -> bytes:
    return struct.pack("<HH2sHI", group, number, vr, 0, length) + value


# Known by content


def test_a_file_without_the_dicom_mark_is_read_when_it_is_an_image() -> None:
    dataset = make_dicom(STORED)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    _, body = parts(dataset)
    image = read_one(body)
    assert image.pixels.tolist() == STORED.tolist()
    assert "transfer syntax guessed from the encoding" in image.provenance.notes
    assert "read without the DICOM file header" in image.provenance.notes


def test_a_file_header_without_its_preamble_is_enough() -> None:
    assert read_one(dicom_bytes(make_dicom(STORED))[132:]).pixels.tolist() == STORED.tolist()


@pytest.mark.parametrize("data", [b"\0", b"plain text, no picture", b"\x08\x00\x05\x00CS", b"\0" * 128 + b"DICM"])
def test_bytes_that_are_no_image_are_refused(data: bytes) -> None:
    assert refusal(data).outcome == "not_an_image"


def test_an_object_without_pixels_is_not_an_image() -> None:
    dataset = make_dicom(STORED)
    del dataset.PixelData, dataset.Rows
    assert refusal(dataset).outcome == "not_an_image"


def test_a_picture_whose_pixels_are_missing_is_corrupt() -> None:
    dataset = make_dicom(STORED)
    del dataset.PixelData
    assert refusal(dataset).outcome == "corrupt"


@pytest.mark.parametrize("number", ["100", "102.1", "103", "107"])
def test_videos_are_refused_by_name(number: str) -> None:
    error = refusal(encapsulated(SHALLOW, f"{OF}{number}", [b"\0\0\1\xb3"], NumberOfFrames=500))
    assert (error.outcome, "video" in error.reason) == ("refused", True)


@pytest.mark.parametrize("elements", [{"TotalPixelMatrixColumns": 4, "TotalPixelMatrixRows": 2}, {"NumberOfFrames": 2}])
def test_whole_slides_are_refused_by_name(elements: dict[str, Any]) -> None:
    error = refusal(make_dicom(STORED, SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6", **elements))
    assert (error.outcome, "whole-slide" in error.reason) == ("refused", True)


def test_the_label_of_a_whole_slide_is_a_picture() -> None:
    one_tile = {"TotalPixelMatrixColumns": 2, "TotalPixelMatrixRows": 2}
    assert len(read(make_dicom(STORED, SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6", **one_tile))) == 1


@pytest.mark.parametrize("syntax", [f"{OF}94", "1.2.3.4.5"])
def test_a_transfer_syntax_nobody_reads_is_unsupported(syntax: str) -> None:
    error = refusal(encapsulated(SHALLOW, syntax, [b"\xff\xd8"]))
    assert (error.outcome, "1.2.3" in error.reason) == ("unsupported", False)


# Transfer syntax


def without_syntax(dataset: Dataset) -> bytes:
    meta, body = parts(dataset)
    at = meta.find(b"\x02\x00\x10\x00UI")
    length = int.from_bytes(meta[at + 6 : at + 8], "little")
    return meta[:at] + meta[at + 8 + length :] + body


def test_a_missing_syntax_is_that_of_native_pixels_when_they_fit() -> None:
    image = read_one(without_syntax(make_dicom(PIXELS)))
    assert np.array_equal(image.pixels, PIXELS)
    assert image.provenance.transfer_syntax == EXPLICIT
    assert "transfer syntax guessed from the encoding" in image.provenance.notes


@pytest.mark.parametrize("columns", [47, 49])
def test_a_missing_syntax_is_not_guessed_when_native_pixels_do_not_fit(columns: int) -> None:
    assert refusal(without_syntax(make_dicom(PIXELS, Columns=columns))).outcome == "corrupt"


@pytest.mark.parametrize(
    ("name", "inferred"),
    [
        ("JPEG baseline", f"{OF}50"),
        ("JPEG lossless", f"{OF}70"),
        ("JPEG-LS", f"{OF}80"),
        ("JPEG 2000 lossless", f"{OF}91"),
        ("HTJ2K lossless", f"{OF}203"),
    ],
)
def test_a_missing_syntax_is_that_of_the_stream(name: str, inferred: str) -> None:
    encode = ENCODINGS[name].encode
    assert encode is not None
    image = read_one(without_syntax(encapsulated(SHALLOW, ENCODINGS[name].uid, [encode(SHALLOW, 8)])))
    assert image.provenance.transfer_syntax == inferred
    assert "transfer syntax guessed from the compressed data" in image.provenance.notes
    assert np.abs(image.pixels - SHALLOW).max() <= (40 if name == "JPEG baseline" else 0)


def test_a_missing_syntax_may_be_run_lengths() -> None:
    dataset = make_dicom(PIXELS)
    dataset.compress(UID("1.2.840.10008.1.2.5"), generate_instance_uid=False)
    assert np.array_equal(read_one(without_syntax(dataset)).pixels, PIXELS)


def test_a_missing_syntax_is_not_guessed_from_an_unknown_stream() -> None:
    assert refusal(without_syntax(encapsulated(SHALLOW, f"{OF}50", [b"what is this?" * 9]))).outcome == "corrupt"


def test_native_pixels_under_a_compressed_syntax_are_read_when_they_fit() -> None:
    meta, body = parts(make_dicom(PIXELS))
    at = meta.find(b"\x02\x00\x10\x00UI")
    stated = f"{OF}70".encode()
    image = read_one(meta[:at] + b"\x02\x00\x10\x00UI" + struct.pack("<H", len(stated)) + stated + body)
    assert np.array_equal(image.pixels, PIXELS)
    assert image.provenance.transfer_syntax == EXPLICIT


def deflated(body: bytes, header: bytes = b"") -> bytes:
    """header: of zlib, which some writers add."""
    dataset = make_dicom(STORED)
    dataset.file_meta.TransferSyntaxUID = UID(DEFLATED)
    meta, _ = parts(dataset)
    packer = zlib.compressobj(9, wbits=15 if header else -15)
    return meta + packer.compress(body) + packer.flush()


@pytest.mark.parametrize("header", [b"", b"zlib"])
def test_a_deflated_file_is_read(header: bytes) -> None:
    _, body = parts(make_dicom(STORED))
    assert read_one(deflated(body, header)).pixels.tolist() == STORED.tolist()


def test_a_deflated_bomb_is_refused() -> None:
    _, body = parts(make_dicom(STORED))
    assert refusal(deflated(body + bytes(2**28))).outcome == "refused"


# Limits of the header


@pytest.mark.parametrize(
    ("elements", "outcome"),
    [
        ({"Rows": 65535, "Columns": 65535}, "refused"),
        ({"Rows": 20000, "Columns": 20000, "BitsAllocated": 8, "BitsStored": 8}, "refused"),  # 1.5 GiB as floats
        ({"NumberOfFrames": 2**31 - 1}, "refused"),
        ({"NumberOfFrames": -1}, "corrupt"),
        ({"Rows": 0}, "corrupt"),
        ({"Rows": None}, "corrupt"),
        ({"BitsAllocated": 17}, "unsupported"),
    ],
)
def test_sizes_are_checked_before_anything_is_decoded(elements: dict[str, Any], outcome: str) -> None:
    assert refusal(make_dicom(STORED, **elements)).outcome == outcome


@pytest.mark.parametrize(
    ("missing", "note"),
    [
        ("SamplesPerPixel", "SamplesPerPixel missing, taken as 1"),
        ("PhotometricInterpretation", "PhotometricInterpretation missing, taken as MONOCHROME2"),
        ("PixelRepresentation", "PixelRepresentation missing, taken as unsigned"),
        ("BitsStored", None),
        ("HighBit", None),
    ],
)
def test_what_the_header_forgets_is_filled_in_and_said(missing: str, note: str | None) -> None:
    dataset = make_dicom(STORED)
    delattr(dataset, missing)
    image = read_one(dataset)
    assert image.pixels.tolist() == STORED.tolist()
    assert image.provenance.notes == ((note,) if note else ())


def test_sequences_within_sequences_without_end_are_corrupt() -> None:
    meta, body = parts(make_dicom(STORED))
    level = element(0x0008, 0x1140, b"SQ", 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    assert refusal(meta + level * 5000 + body).outcome == "corrupt"


def test_a_private_element_that_swallows_the_rest_is_corrupt() -> None:
    meta, body = parts(make_dicom(STORED))
    assert refusal(meta + element(0x0009, 0x1001, b"OB", 2**31) + body).outcome == "corrupt"


def test_a_cut_plan_is_still_no_image() -> None:
    dataset = make_dicom(STORED, SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5", Modality="RTPLAN")
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(dataset, keyword)
    dataset.StudyDescription = "a plan"
    meta, body = parts(dataset)
    assert refusal(meta + body[:-4]).outcome == "not_an_image"


def test_more_elements_than_any_header_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.images.dicom.parse.MAX_ELEMENTS", 10)
    error = refusal(make_dicom(STORED))
    assert (error.outcome, "10 elements" in error.reason) == ("refused", True)


def test_more_items_than_any_header_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.images.dicom.parse.MAX_ITEMS", 10)
    meta, body = parts(make_dicom(STORED))
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 11
    error = refusal(meta + element(0x0008, 0x1140, b"SQ", len(items), items) + body)
    assert (error.outcome, "10 items" in error.reason) == ("refused", True)


def test_more_fragments_than_any_file_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.images.dicom.parse.MAX_FRAGMENTS", 3)
    frames = np.stack([SHALLOW] * 3)
    dataset = encapsulated(frames, f"{OF}80", [b"\xff\xd8"] * 3, frames=True)
    assert refusal(dataset).outcome == "refused"


# Patients first


def test_ids_are_of_the_uid_and_the_key() -> None:
    one = make_dicom(STORED, SOPInstanceUID="1.2.3.4")
    same = make_dicom(STORED + 1, SOPInstanceUID="1.2.3.4")
    (other,) = read_dicom(dicom_bytes(one), Pseudonyms(b"another key, just as secret"))
    image_id = read_one(one).id
    assert image_id == read_one(same).id
    assert image_id != other.id
    assert "1.2.3.4" not in image_id


def test_without_a_uid_the_id_is_of_the_content() -> None:
    dataset = make_dicom(STORED)
    del dataset.SOPInstanceUID
    data = io.BytesIO()
    dataset.save_as(data, implicit_vr=False, little_endian=True)
    image = read_one(data.getvalue())
    assert image.id == PSEUDONYMS.image(hashlib.sha256(data.getvalue()).digest(), 0)


def test_patient_study_and_series_are_pseudonyms_or_nothing() -> None:
    image = read_one(make_dicom(STORED, PatientID="P 7", StudyInstanceUID="1.2"))
    assert image.patient == PSEUDONYMS.of("patient", "P 7")
    assert image.study == PSEUDONYMS.of("study", "1.2")
    assert image.series is None


def test_attributes_are_white_listed() -> None:
    dataset = make_dicom(
        STORED,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
        Modality="CT",
        BodyPartExamined="KNEE",
        PatientAge="045Y",
        StudyDate="20200229",
        PixelSpacing=[0.5, 0.5],
        InstanceNumber="3",
        StudyDescription="knee of somebody",
    )
    kept = read_one(dataset).attributes
    assert kept["instance_number"] == "3"
    assert (kept["age_band"], kept["study_year"], kept["pixel_spacing"]) == ("40-49", "2020", "0.5\\0.5")
    assert "somebody" not in " ".join(kept.values())


CANARY = "CANARY^ZEBEDEE"


BROKEN: list[dict[str, Any]] = [
    {"Rows": 500},
    {"PhotometricInterpretation": "ZEBEDEE"},
    {"NumberOfFrames": 9},
    {"Columns": None},
]


def canary_dicom(**elements: Any) -> Dataset:
    return make_dicom(
        STORED,
        **{
            "PatientName": CANARY,
            "PatientID": "ZEBEDEE01",
            "StudyDescription": CANARY,
            "BodyPartExamined": "ZEBEDEE KNEE",
            "ImageComments": CANARY,
            "AccessionNumber": "ZEBEDEE02",
            **elements,
        },
    )


def test_a_patients_name_never_reaches_an_image() -> None:
    image = read_one(canary_dicom())
    told = " ".join(str(getattr(image, field.name)) for field in fields(image) if field.name != "pixels")
    assert "ZEBEDEE" not in told.upper()
    assert "CANARY" not in told.upper()


@pytest.mark.parametrize(
    "elements", [{"Rows": 500}, {"PhotometricInterpretation": "ZEBEDEE"}, {"NumberOfFrames": 9}, {"Columns": None}]
)
def test_a_patients_name_never_reaches_an_error(elements: dict[str, Any]) -> None:
    error = refusal(canary_dicom(**elements))
    assert "ZEBEDEE" not in repr(error).upper()
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


# The real files that come with pydicom (test_bundled.py has them all)


def test_the_same_pixels_in_other_syntaxes_are_the_same() -> None:
    names = ("implicit", "bigendian", "expb", "RLE", "jp2klossless", "jpeg_ls_lossless", "padded")
    (plain,) = read_image(BUNDLED / "MR_small.dcm", PSEUDONYMS)
    for name in names:
        (image,) = read_image(BUNDLED / f"MR_small_{name}.dcm", PSEUDONYMS)
        assert np.array_equal(image.pixels, plain.pixels), name


def test_a_real_cut_file_gives_its_picture_and_says_so() -> None:
    images = []
    with pytest.raises(Exception, match=r"0\.8 % of the pixels") as caught:
        images.extend(read_dicom((BUNDLED / "MR_truncated.dcm").read_bytes(), PSEUDONYMS))
    assert getattr(caught.value, "outcome", None) == "partial"
    assert images[0].padding.sum() == 31


@pytest.mark.parametrize(
    ("name", "kind", "n_images"),
    [
        ("CT_small.dcm", "picture", 1),
        ("JPEG-lossy.dcm", "picture", 1),
        ("badVR.dcm", "dose grid", 15),
        ("rtdose_rle.dcm", "dose grid", 15),
        ("liver_1frame.dcm", "segmentation", 1),
        ("image_dfl.dcm", "picture", 1),
    ],
)
def test_a_real_file_is_read(name: str, kind: str, n_images: int) -> None:
    images = read((BUNDLED / name).read_bytes())
    assert (len(images), {image.kind for image in images}) == (n_images, {kind})


def test_a_real_stream_of_another_precision_is_as_pydicom_has_it() -> None:
    for name in ("J2K_pixelrep_mismatch.dcm", "693_J2KI.dcm"):
        (image,) = read((BUNDLED / name).read_bytes())
        dataset = pydicom.dcmread(BUNDLED / name)
        expected = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        assert np.array_equal(image.pixels, expected), name


# Sequences before there is too much of them


def with_private(sequence: bytes) -> bytes:
    """A file with a private sequence before its pixels."""
    data = dicom_bytes(make_dicom(STORED))
    at = data.find(b"\x28\x00\x02\x00")
    return data[:at] + sequence + data[at:]


def nested(content: bytes, length: int | None = None) -> bytes:
    """A private sequence of one item."""
    item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(content)) + content
    end = b"\xfe\xff\xdd\xe0\0\0\0\0" if length is None else b""
    return element(0x0009, 0x1000, b"SQ", 0xFFFFFFFF if length is None else len(item), item + end)


@pytest.mark.parametrize("length", [None, 0])
def test_elements_in_sequences_are_counted(length: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = b"".join(struct.pack("<HH2sH", 0x0011, 0x1000 + n, b"CS", 0) for n in range(30))
    data = with_private(nested(nested(empty), length))
    assert len(read(data)) == 1
    monkeypatch.setattr("cbmir.images.dicom.parse.MAX_ITEMS", 10)
    monkeypatch.setattr("cbmir.images.dicom.parse.MAX_NESTED", 20)
    assert refusal(data).outcome == "refused"


def test_a_sequence_is_counted_to_its_end_and_no_further() -> None:
    """Sequences once were each counted to the end of the file, pixels and all."""
    inner = nested(element(0x0011, 0x1000, b"OB", 8, b"\xfe\xff\x00\xe0" * 2))
    data = nested(inner) + b"\xfe\xff\x00\xe0\0\0\0\0" * 1000
    assert count_nested(data, 12, None, little=True) == (2, 2)
    assert count_nested(b"\xff\xfe\xe0\x00\0\0\0\0" * 3, 0, 24, little=False) == (3, 0)


@pytest.mark.parametrize("depth", [1, 200, 250])
def test_a_picture_behind_deep_sequences_is_read(depth: int) -> None:
    content = b""
    for _ in range(depth):
        content = nested(content)
    assert read_one(with_private(content)).pixels.tolist() == STORED.tolist()


def test_sequences_deeper_than_python_goes_are_corrupt() -> None:
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    opened = element(0x0009, 0x1000, b"SQ", 0xFFFFFFFF) + item
    assert refusal(with_private(opened * 50_000)).outcome == "corrupt"


def test_a_private_syntax_whose_pixels_are_as_many_as_native_ones_is_taken_for_native() -> None:
    data = dicom_bytes(make_dicom(STORED))
    uid, private = b"1.2.840.10008.1.2.1\0", b"1.3.46.670589.33.1.4"
    image = read_one(data.replace(uid, private))
    assert image.pixels.tolist() == STORED.tolist()
    assert "transfer syntax guessed from the encoding" in image.provenance.notes
    assert refusal(data.replace(uid, private)[:-2]).outcome == "unsupported"
