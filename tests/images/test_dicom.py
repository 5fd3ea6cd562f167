"""DICOM files become images in modality values, with what is needed to show them; or a typed outcome."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from cbmir.errors import BadImage
from cbmir.images import decode, read_image
from cbmir.preprocess import Preprocessing, preprocess
from cbmir.privacy import Pseudonyms
from cbmir.types import DecodedImage, Window
from make_dicom import dicom_bytes, make_dicom, save_dicom, sequence_item

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
STORED = np.array([[0, 1], [2, 3]], dtype=np.uint16)


def read(dataset: Dataset, pseudonyms: Pseudonyms, **known: str) -> list[DecodedImage]:
    return list(decode(dicom_bytes(dataset), pseudonyms, **known))


def read_one(dataset: Dataset, pseudonyms: Pseudonyms, **known: str) -> DecodedImage:
    (image,) = read(dataset, pseudonyms, **known)
    return image


def words(*values: int) -> bytes:
    return np.array(values, dtype="<u2").tobytes()


def refusal(data: bytes, pseudonyms: Pseudonyms) -> BadImage:
    with pytest.raises(BadImage) as caught:
        list(decode(data, pseudonyms))
    return caught.value


# Modality values


def test_rescale_gives_hu(pseudonyms: Pseudonyms) -> None:
    dataset = make_dicom(STORED, bits_stored=12, Modality="CT", RescaleSlope=2, RescaleIntercept=-1024)
    image = read_one(dataset, pseudonyms)
    assert image.pixels.dtype == np.float32
    assert image.pixels.tolist() == [[-1024, -1022], [-1020, -1018]]
    assert image.value_range == (-1024, 4095 * 2 - 1024)
    assert image.modality == "CT"


def test_signed_values_stay_signed(pseudonyms: Pseudonyms) -> None:
    image = read_one(make_dicom(np.array([[-5, 7]], dtype=np.int16), bits_stored=12), pseudonyms)
    assert image.pixels.tolist() == [[-5, 7]]
    assert image.value_range == (-2048, 2047)


@pytest.mark.parametrize(("slope", "intercept"), [("", ""), ("0", "0"), (None, None)])
def test_a_rescale_that_says_nothing_is_the_identity(pseudonyms: Pseudonyms, slope: Any, intercept: Any) -> None:
    dataset = make_dicom(STORED, RescaleSlope=slope, RescaleIntercept=intercept)
    assert read_one(dataset, pseudonyms).pixels.tolist() == STORED.tolist()


def test_a_modality_lut_is_looked_up(pseudonyms: Pseudonyms) -> None:
    table = sequence_item(LUTDescriptor=[4, 0, 16], LUTData=words(10, 20, 40, 80), ModalityLUTType="US")
    image = read_one(make_dicom(STORED, ModalityLUTSequence=[table]), pseudonyms)
    assert image.pixels.tolist() == [[10, 20], [40, 80]]


def test_padding_is_marked_on_stored_values(pseudonyms: Pseudonyms) -> None:
    dataset = make_dicom(STORED, PixelPaddingValue=2, RescaleSlope=1, RescaleIntercept=-2)
    dataset["PixelPaddingValue"].VR = "US"
    image = read_one(dataset, pseudonyms)
    assert image.padding is not None
    assert image.padding.tolist() == [[False, False], [True, False]]


def test_padding_may_be_a_range(pseudonyms: Pseudonyms) -> None:
    dataset = make_dicom(STORED, PixelPaddingValue=3, PixelPaddingRangeLimit=2)
    dataset["PixelPaddingValue"].VR = dataset["PixelPaddingRangeLimit"].VR = "US"
    image = read_one(dataset, pseudonyms)
    assert image.padding is not None
    assert image.padding.tolist() == [[False, False], [True, True]]


def test_old_ct_outside_the_field_of_view_is_padding(pseudonyms: Pseudonyms) -> None:
    image = read_one(make_dicom(np.array([[-2000, 7]], dtype=np.int16), Modality="CT"), pseudonyms)
    assert image.padding is not None
    assert image.padding.tolist() == [[True, False]]


# Windows


def test_window_candidates_are_collected(pseudonyms: Pseudonyms) -> None:
    dataset = make_dicom(STORED, WindowCenter=[40, 400], WindowWidth=[350, 1800], VOILUTFunction="SIGMOID")
    assert read_one(dataset, pseudonyms).windows == (Window(40, 350, "SIGMOID"), Window(400, 1800, "SIGMOID"))


def test_windows_without_a_width_are_none(pseudonyms: Pseudonyms) -> None:
    assert read_one(make_dicom(STORED, WindowCenter=40), pseudonyms).windows == ()
    assert read_one(make_dicom(STORED, WindowCenter=40, WindowWidth=0), pseudonyms).windows == ()
    assert read_one(make_dicom(STORED, WindowCenter="", WindowWidth=""), pseudonyms).windows == ()


def test_a_voi_lut_becomes_a_table_between_0_and_1(pseudonyms: Pseudonyms) -> None:
    item = sequence_item(LUTDescriptor=[3, 5, 8], LUTData=words(0, 51, 255))
    image = read_one(make_dicom(STORED, VOILUTSequence=[item]), pseudonyms)
    assert image.voi_lut is not None
    first, table = image.voi_lut
    assert first == 5
    assert table == pytest.approx([0, 0.2, 1])


@pytest.mark.parametrize(
    ("elements", "inverted"),
    [
        ({}, False),
        ({"PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"PresentationLUTShape": "INVERSE"}, True),
        ({"PresentationLUTShape": "IDENTITY"}, False),
        ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, True),
    ],
)
def test_monochrome1_is_flagged_and_not_applied(
    pseudonyms: Pseudonyms, elements: dict[str, Any], inverted: bool
) -> None:
    image = read_one(make_dicom(STORED, **elements), pseudonyms)
    assert image.monochrome1 is inverted
    assert image.pixels.tolist() == STORED.tolist()


# Frames


def test_a_multi_frame_file_gives_one_image_per_frame(pseudonyms: Pseudonyms) -> None:
    frames = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    images = read(make_dicom(frames, frames=True), pseudonyms)
    assert [image.frame_index for image in images] == [0, 1, 2]
    assert [image.pixels[0, 0] for image in images] == [0, 4, 8]
    assert len({image.id for image in images}) == 3
    assert len({image.series for image in images}) == 1


def test_enhanced_frames_have_their_own_rescale_and_window(pseudonyms: Pseudonyms) -> None:
    def group(slope: int, center: int) -> Dataset:
        rescale = sequence_item(RescaleSlope=slope, RescaleIntercept=0)
        voi = sequence_item(WindowCenter=center, WindowWidth=10)
        return sequence_item(PixelValueTransformationSequence=[rescale], FrameVOILUTSequence=[voi])

    frames = np.full((2, 1, 2), 3, dtype=np.uint16)
    dataset = make_dicom(frames, frames=True, PerFrameFunctionalGroupsSequence=[group(1, 50), group(2, 60)])
    first, second = read(dataset, pseudonyms)
    assert (first.pixels[0, 0], second.pixels[0, 0]) == (3, 6)
    assert (first.windows[0].center, second.windows[0].center) == (50, 60)


def test_shared_groups_hold_for_every_frame(pseudonyms: Pseudonyms) -> None:
    rescale = sequence_item(RescaleSlope=1, RescaleIntercept=-1000)
    shared = sequence_item(PixelValueTransformationSequence=[rescale])
    dataset = make_dicom(np.ones((2, 1, 2), np.uint16), frames=True, SharedFunctionalGroupsSequence=[shared])
    assert [image.pixels[0, 0] for image in read(dataset, pseudonyms)] == [-999, -999]


# Colour


def test_rgb_stays_rgb(pseudonyms: Pseudonyms) -> None:
    pixels = np.array([[[255, 0, 7], [1, 2, 3]]], dtype=np.uint8)
    image = read_one(make_dicom(pixels), pseudonyms)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.tolist() == pixels.tolist()


def test_deep_colour_keeps_its_top_8_bits(pseudonyms: Pseudonyms) -> None:
    pixels = np.array([[[0xFFFF, 0x1234, 0]]], dtype=np.uint16)
    assert read_one(make_dicom(pixels), pseudonyms).pixels.tolist() == [[[0xFF, 0x12, 0]]]


def test_a_palette_becomes_rgb(pseudonyms: Pseudonyms) -> None:
    dataset = make_dicom(np.array([[0, 1]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for name, data in (("Red", [0, 0xFF00]), ("Green", [0x8000, 0]), ("Blue", [0, 0x0100])):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [2, 0, 16])
        setattr(dataset, f"{name}PaletteColorLookupTableData", words(*data))
    assert read_one(dataset, pseudonyms).pixels.tolist() == [[[0, 0x80, 0], [0xFF, 0, 1]]]


# Transfer syntaxes


@pytest.mark.parametrize(
    ("syntax", "decoder"),
    [(RLELossless, "pylibjpeg"), (JPEGLSLossless, "pyjpegls"), (JPEG2000Lossless, "pylibjpeg")],
)
def test_lossless_syntaxes_are_exact(pseudonyms: Pseudonyms, syntax: Any, decoder: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (32, 48), dtype=np.uint16)
    dataset = make_dicom(pixels, bits_stored=12)
    dataset.compress(syntax, generate_instance_uid=False)
    image = read_one(dataset, pseudonyms)
    assert np.array_equal(image.pixels, pixels)
    assert image.provenance.transfer_syntax == syntax
    assert image.provenance.decoder == decoder


def jpeg(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def jpeg_dicom(streams: list[bytes], pixels: np.ndarray[Any, Any], **elements: Any) -> Dataset:
    dataset = make_dicom(pixels, PixelData=encapsulate(streams), **elements)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset["PixelData"].VR = "OB"
    return dataset


SMOOTH = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)


def test_jpeg_is_close(pseudonyms: Pseudonyms) -> None:
    image = read_one(jpeg_dicom([jpeg(SMOOTH)], SMOOTH), pseudonyms)
    assert np.abs(image.pixels - SMOOTH).max() <= 3


def test_twelve_bit_jpeg_is_read_through_imagecodecs(pseudonyms: Pseudonyms) -> None:
    (image,) = read_image(BUNDLED / "JPEG-lossy.dcm", pseudonyms)
    assert image.provenance.decoder == "imagecodecs"
    assert image.pixels.max() <= 4095


def test_frames_that_cannot_be_decoded_are_left_out_and_said(pseudonyms: Pseudonyms) -> None:
    good = jpeg(SMOOTH)
    dataset = jpeg_dicom([good, b"\xff\xd8 no jpeg", good], SMOOTH, NumberOfFrames=3)
    reader = decode(dicom_bytes(dataset), pseudonyms)
    assert [next(reader).frame_index, next(reader).frame_index] == [0, 2]
    with pytest.raises(BadImage, match="1 of 3 frames") as caught:
        next(reader)
    assert caught.value.outcome == "partial"


def test_read_image_gives_the_frames_that_can_be_had(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    dataset = jpeg_dicom([jpeg(SMOOTH), b"\xff\xd8 no jpeg"], SMOOTH, NumberOfFrames=2)
    assert len(read_image(save_dicom(tmp_path / "a.dcm", dataset), pseudonyms)) == 1


def test_a_file_without_the_dicom_mark_is_read_when_it_is_an_image(pseudonyms: Pseudonyms) -> None:
    dataset = make_dicom(STORED)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    file = io.BytesIO()
    del dataset.file_meta
    dataset.save_as(file, implicit_vr=True, little_endian=True)
    (image,) = decode(file.getvalue(), pseudonyms)
    assert image.pixels.tolist() == STORED.tolist()
    assert "transfer syntax guessed from the encoding" in image.provenance.notes


# What is not an image


def test_truncated_pixels_are_refused_and_never_filled(pseudonyms: Pseudonyms) -> None:
    data = dicom_bytes(make_dicom(np.ones((16, 16), np.uint16)))
    assert refusal(data[:-10], pseudonyms).outcome == "corrupt"


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_truncated_streams_are_refused(pseudonyms: Pseudonyms, syntax: Any) -> None:
    dataset = make_dicom(np.random.default_rng(0).integers(0, 4096, (64, 64), dtype=np.uint16), bits_stored=12)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.PixelData = encapsulate([next(pydicom.encaps.generate_frames(dataset.PixelData))[:2000]])
    assert refusal(dicom_bytes(dataset), pseudonyms).outcome == "corrupt"


def test_a_decoder_that_panics_is_followed_by_the_next(pseudonyms: Pseudonyms) -> None:
    """pylibjpeg's RLE decoder panics (a BaseException) when a run is longer than the image; pydicom's cuts it."""
    two_segments = np.array([2, 64, 66] + [0] * 13, dtype="<u4").tobytes()
    run_of_128_for_4_pixels = bytes([129, 7])
    stream = two_segments + run_of_128_for_4_pixels * 2
    dataset = make_dicom(np.zeros((2, 2), np.uint16), PixelData=encapsulate([stream]))
    dataset.file_meta.TransferSyntaxUID = RLELossless
    image = read_one(dataset, pseudonyms)
    assert image.provenance.decoder == "pydicom"
    assert image.pixels.tolist() == [[0x0707] * 2] * 2


def test_a_truncated_jpeg_is_refused(pseudonyms: Pseudonyms) -> None:
    stream = jpeg(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    dataset = jpeg_dicom([stream[: len(stream) // 2]], SMOOTH)
    assert refusal(dicom_bytes(dataset), pseudonyms).outcome == "corrupt"


@pytest.mark.parametrize(("modality", "kind"), [("SEG", "segmentation"), ("RTDOSE", "dose grid")])
def test_segmentations_and_doses_are_no_pictures(pseudonyms: Pseudonyms, modality: str, kind: str) -> None:
    error = refusal(dicom_bytes(make_dicom(STORED, Modality=modality)), pseudonyms)
    assert (error.outcome, kind in error.reason) == ("not_an_image", True)


def test_an_object_without_pixels_is_not_an_image(pseudonyms: Pseudonyms) -> None:
    dataset = make_dicom(STORED)
    del dataset.PixelData
    assert refusal(dicom_bytes(dataset), pseudonyms).outcome == "not_an_image"


@pytest.mark.parametrize("data", [b"\0", b"plain text, no picture", b"\x08\x00\x05\x00CS", b"\0" * 128 + b"DICM"])
def test_bytes_that_are_no_image_are_refused(pseudonyms: Pseudonyms, data: bytes) -> None:
    assert refusal(data, pseudonyms).outcome == "not_an_image"


@pytest.mark.parametrize(
    ("elements", "outcome"),
    [
        ({"Rows": 65535, "Columns": 65535}, "refused"),
        ({"NumberOfFrames": 2**31 - 1}, "refused"),
        ({"NumberOfFrames": -1}, "corrupt"),
        ({"Rows": 0}, "corrupt"),
        ({"Rows": None}, "corrupt"),
    ],
)
def test_sizes_are_checked_before_anything_is_decoded(
    pseudonyms: Pseudonyms, elements: dict[str, Any], outcome: str
) -> None:
    assert refusal(dicom_bytes(make_dicom(STORED, **elements)), pseudonyms).outcome == outcome


def test_a_transfer_syntax_nobody_knows_is_unsupported(pseudonyms: Pseudonyms) -> None:
    dataset = jpeg_dicom([b"\xff\xd8"], SMOOTH)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2
    assert refusal(dicom_bytes(dataset), pseudonyms).outcome == "unsupported"


# Patients first


def test_ids_are_of_the_uid_and_the_key(pseudonyms: Pseudonyms) -> None:
    one = make_dicom(STORED, SOPInstanceUID="1.2.3.4")
    same = make_dicom(STORED + 1, SOPInstanceUID="1.2.3.4")
    other_key = Pseudonyms(b"another key, just as secret")
    image_id = read_one(one, pseudonyms).id
    assert image_id == read_one(same, pseudonyms).id
    assert image_id != read_one(one, other_key).id
    assert "1.2.3.4" not in image_id


def test_without_a_uid_the_id_is_of_the_content(pseudonyms: Pseudonyms) -> None:
    dataset = make_dicom(STORED)
    del dataset.SOPInstanceUID
    data = io.BytesIO()
    dataset.save_as(data, implicit_vr=False, little_endian=True)
    (image,) = decode(data.getvalue(), pseudonyms)
    assert image.id == pseudonyms.image(hashlib.sha256(data.getvalue()).digest(), 0)


def test_patient_study_and_series_are_pseudonyms_or_nothing(pseudonyms: Pseudonyms) -> None:
    image = read_one(make_dicom(STORED, PatientID="P 7", StudyInstanceUID="1.2"), pseudonyms)
    assert image.patient == pseudonyms.of("patient", "P 7")
    assert image.study == pseudonyms.of("study", "1.2")
    assert image.series is None


def test_what_a_manifest_says_wins(pseudonyms: Pseudonyms) -> None:
    image = read_one(make_dicom(STORED, PatientID="7"), pseudonyms, patient="from manifest", modality="MR")
    assert image.patient == pseudonyms.of("patient", "from manifest")
    assert image.modality == "MR"


def test_attributes_are_white_listed(pseudonyms: Pseudonyms) -> None:
    dataset = make_dicom(
        STORED,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
        Modality="CT",
        BodyPartExamined="KNEE",
        PatientAge="045Y",
        StudyDate="20200229",
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        PixelSpacing=[0.5, 0.5],
        StudyDescription="knee of somebody",
    )
    assert read_one(dataset, pseudonyms).attributes == {
        "age_band": "40-49",
        "body_part_examined": "KNEE",
        "columns": "2",
        "image_type": "ORIGINAL\\PRIMARY\\AXIAL",
        "modality": "CT",
        "photometric_interpretation": "MONOCHROME2",
        "pixel_spacing": "0.5\\0.5",
        "rows": "2",
        "sop_class": "CT Image Storage",
        "study_year": "2020",
    }


CANARY = "CANARY^ZEBEDEE"


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


def test_a_patients_name_never_reaches_an_image(pseudonyms: Pseudonyms) -> None:
    image = read_one(canary_dicom(), pseudonyms)
    told = " ".join(str(getattr(image, field.name)) for field in fields(image) if field.name != "pixels")
    assert "ZEBEDEE" not in told.upper()
    assert "CANARY" not in told.upper()


@pytest.mark.parametrize("elements", [{"Rows": 500}, {"PhotometricInterpretation": "ZEBEDEE"}, {"NumberOfFrames": 9}])
def test_a_patients_name_never_reaches_an_error(pseudonyms: Pseudonyms, elements: dict[str, Any]) -> None:
    error = refusal(dicom_bytes(canary_dicom(**elements)), pseudonyms)
    assert "ZEBEDEE" not in repr(error).upper()
    assert error.__cause__ is None
    assert error.__suppress_context__


# The real files that come with pydicom


@pytest.fixture(scope="module")
def bundled() -> dict[str, tuple[str, str, int]]:
    """Outcome, reason and number of images of each file; codecs may say something on stderr."""
    told = {}
    pseudonyms = Pseudonyms(b"a key for tests, 32 bytes long..")
    for path in sorted(path for path in BUNDLED.rglob("*") if path.is_file()):
        try:
            outcome = ("decoded", "", len(read_image(path, pseudonyms)))
        except BadImage as error:
            outcome = (error.outcome, error.reason, 0)
        told[path.relative_to(BUNDLED).as_posix()] = outcome
    return told


def test_every_bundled_image_is_read(bundled: dict[str, tuple[str, str, int]]) -> None:
    """91 can be decoded; 9 of these are doses and segmentations, which are no pictures to index."""
    outcomes = Counter(outcome for outcome, _, _ in bundled.values())
    not_pictures = [name for name, (_, reason, _) in bundled.items() if "not a picture to index" in reason]
    assert len(bundled) >= 176
    assert outcomes["decoded"] + len(not_pictures) >= 91
    assert set(outcomes) <= {"decoded", "not_an_image", "corrupt", "unsupported"}
    assert outcomes["corrupt"] <= 4


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("CT_small.dcm", "decoded"),
        ("JPEG-lossy.dcm", "decoded"),
        ("MR_truncated.dcm", "corrupt"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", "corrupt"),
        ("nested_priv_SQ.dcm", "corrupt"),
        ("reportsi.dcm", "not_an_image"),
        ("rtdose.dcm", "not_an_image"),
        ("no_meta.dcm", "not_an_image"),
        ("README.txt", "not_an_image"),
        ("zipMR.gz", "unsupported"),
    ],
)
def test_a_bundled_file_has_its_outcome(bundled: dict[str, tuple[str, str, int]], name: str, outcome: str) -> None:
    assert bundled[name][0] == outcome


def test_the_same_pixels_in_other_syntaxes_are_the_same(pseudonyms: Pseudonyms) -> None:
    names = ("MR_small_implicit", "MR_small_bigendian", "MR_small_RLE", "MR_small_jp2klossless", "MR_small_padded")
    (plain,) = read_image(BUNDLED / "MR_small.dcm", pseudonyms)
    for name in names:
        (image,) = read_image(BUNDLED / f"{name}.dcm", pseudonyms)
        assert np.array_equal(image.pixels, plain.pixels), name


def test_a_small_rescale_slope_does_not_make_a_12_bit_slice_one_for_the_eye(pseudonyms: Pseudonyms) -> None:
    pixels = np.arange(16, dtype=np.uint16).reshape(4, 4) * 100
    slice_, shown = (
        read_one(
            make_dicom(values, bits_stored=bits, Modality="PT", RescaleSlope="0.05", RescaleIntercept="0"), pseudonyms
        )
        for values, bits in ((pixels, 12), (pixels.astype(np.uint8), 8))
    )
    assert (slice_.made_for_eye, shown.made_for_eye) == (False, True)
    assert preprocess(slice_, Preprocessing(size=4, crop=4)).max() == 255
