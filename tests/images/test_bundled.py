"""The 176 files that come with pydicom, one of each oddity its authors met: every one ends in its typed outcome.

The folder is walked: pydicom's own function for its test files goes to the network.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom
import pytest

from cbmir.errors import BadImage
from cbmir.images import read_image
from cbmir.images.worker import Decoded, decode_all
from cbmir.preprocess import Preprocessing
from cbmir.privacy import Pseudonyms
from cbmir.types import DecodedImage, ImageRef

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"
NO_CARD = re.compile(r"small_odd|jpeg\.dcm|jpeg_(app14_)?dcmd")
TEST_CARDS = [path.name for path in sorted(FOLDER.glob("SC_rgb*")) if not NO_CARD.search(path.name)]
SMALL = Preprocessing(size=32, crop=32)


@lru_cache(1)
def results() -> tuple[dict[str, Decoded], float]:
    """What becomes of every file through two workers, and how many seconds it took."""
    files = [path for path in sorted(FOLDER.rglob("*")) if path.is_file()]
    refs = [ImageRef(path, path.relative_to(FOLDER).as_posix()) for path in files]
    begin = time.monotonic()
    found = {file.ref.shown: file for file in decode_all(refs, SMALL, Pseudonyms(bytes(32)), workers=2)}
    return found, time.monotonic() - begin


def images(name: str) -> list[DecodedImage]:
    return read_image(FOLDER / name, Pseudonyms(bytes(32)))


def pixels(name: str) -> np.ndarray:
    """(frames, rows, columns) or (frames, rows, columns, 3)."""
    return np.stack([image.pixels for image in images(name)])


def test_the_set_is_the_one_this_was_written_for() -> None:
    assert len(results()[0]) == 176


def test_what_can_be_decoded_is_and_nothing_crashes_or_hangs() -> None:
    outcomes = Counter(file.outcome for file in results()[0].values())
    assert outcomes["decoded"] >= 91
    assert outcomes["partial"] == 1
    assert outcomes["crashed"] == outcomes["timed_out"] == 0


def test_the_whole_folder_takes_seconds() -> None:
    assert results()[1] < 30


@pytest.mark.parametrize(
    ("name", "outcome", "start"),
    [
        ("MR_truncated.dcm", "partial", "The file is cut"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", "corrupt", "The "),
        ("meta_missing_tsyntax.dcm", "corrupt", "The DICOM header"),
        ("nested_priv_SQ.dcm", "corrupt", "The DICOM header"),
        ("test-SR.dcm", "not_an_image", "The DICOM object holds no pixels"),
        ("rtplan_truncated.dcm", "not_an_image", "The DICOM object holds no pixels"),
        ("dicomdirtests/DICOMDIR", "not_an_image", "The DICOM object holds no pixels"),
        ("no_meta.dcm", "not_an_image", "The file is neither"),
        ("crayons.icc", "not_an_image", "The file is neither"),
        ("liver_1frame.dcm", "decoded", "The file is a segmentation, which is not indexed"),
        ("rtdose.dcm", "decoded", "The file is a dose grid, which is not indexed"),
        ("badVR.dcm", "decoded", "The file is a dose grid, which is not indexed"),
    ],
)
def test_a_file_that_gives_no_image_says_why(name: str, outcome: str, start: str) -> None:
    file = results()[0][name]
    assert file.outcome == outcome
    assert file.reason is not None
    assert file.reason.startswith(start)


def test_every_file_that_is_not_indexed_whole_has_a_sentence() -> None:
    for file in results()[0].values():
        if file.outcome != "decoded" or not file.images:
            assert file.reason is not None
            assert file.reason[0].isupper()
            assert file.reason.endswith(".")
        else:
            assert file.reason is None


def test_no_reason_holds_a_name_of_the_file() -> None:
    reasons = " ".join(file.reason or "" for file in results()[0].values())
    assert not [name for name in ("dicomdirtests", ".dcm", "README", "Doe", "CompressedSamples") if name in reasons]


@pytest.mark.parametrize(
    ("reference", "others"),
    [
        (
            "MR_small.dcm",
            "MR_small_RLE.dcm MR_small_bigendian.dcm MR_small_expb.dcm MR_small_implicit.dcm MR_small_jp2klossless.dcm "
            "MR_small_jpeg_ls_lossless.dcm MR_small_padded.dcm zipMR.gz",
        ),
        ("rtdose.dcm", "rtdose_expb.dcm rtdose_rle.dcm"),
        ("rtdose_1frame.dcm", "rtdose_expb_1frame.dcm rtdose_rle_1frame.dcm"),
        ("liver_1frame.dcm", "liver_expb_1frame.dcm"),
        ("SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm"),
        ("SC_rgb_rle.dcm", "SC_rgb_jpeg_gdcm.dcm SC_rgb_rle_16bit.dcm SC_rgb_rle_32bit.dcm"),
        ("SC_rgb_rle_2frame.dcm", "SC_rgb_rle_16bit_2frame.dcm SC_rgb_rle_32bit_2frame.dcm"),
    ],
)
def test_a_lossless_file_equals_its_sibling_bit_for_bit(reference: str, others: str) -> None:
    expected = pixels(reference)
    for name in others.split():
        found = pixels(name)
        assert found.dtype == expected.dtype, name
        assert np.array_equal(found, expected), name


@pytest.mark.parametrize(("name", "slope", "intercept"), [("MR_small.dcm", 1, 0), ("CT_small.dcm", 1, -1024)])
def test_native_pixels_are_the_bytes_of_the_file_rescaled(name: str, slope: float, intercept: float) -> None:
    stored = np.frombuffer(pydicom.dcmread(FOLDER / name).PixelData, "<i2").reshape(pixels(name).shape)
    assert np.array_equal(pixels(name), stored.astype(np.float32) * slope + intercept)


def test_the_colours_of_the_test_card_are_known() -> None:
    card = pixels("SC_rgb_rle.dcm")[0]
    column = [tuple(int(value) for value in card[row, 50]) for row in (5, 15, 25, 35, 45, 55, 65, 75, 85, 95)]
    red_to_blue = [(255, 0, 0), (255, 128, 128), (0, 255, 0), (128, 255, 128), (0, 0, 255), (128, 128, 255)]
    assert column == [*red_to_blue, (0, 0, 0), (64, 64, 64), (192, 192, 192), (255, 255, 255)]


@pytest.mark.parametrize("name", TEST_CARDS)
def test_every_test_card_looks_alike(name: str) -> None:
    """Whatever the syntax, the colour space and the loss, within what JPEG takes."""
    card = pixels(name)[0]
    expected = pixels("SC_rgb_rle.dcm")[0][5::10, 50].astype(int)
    assert np.abs(card[5::10, 50].astype(int) - expected).max() <= 5


@pytest.mark.parametrize(
    ("name", "n_frames", "shape", "modality", "low", "high"),
    [
        ("JPGExtended.dcm", 1, (1024, 256), "NM", 0, 264),
        ("JPEG2000.dcm", 1, (1024, 256), "NM", -30, 245),
        ("693_J2KI.dcm", 1, (512, 512), "CT", -3995, 1812),
        ("image_dfl.dcm", 1, (512, 512), "OT", 0, 255),
        ("examples_overlay.dcm", 1, (300, 484), "MR", 0, 1123),
        ("examples_palette.dcm", 1, (350, 800, 3), "US", 0, 255),
        ("examples_ybr_color.dcm", 30, (240, 320, 3), "US", 0, 220),
        ("ExplVR_BigEnd.dcm", 1, (60, 80, 3), "US", 0, 255),
        ("rtdose.dcm", 15, (10, 10), "RTDOSE", 0.795, 1.254),
    ],
)
def test_shapes_and_extremes_are_known(
    name: str, n_frames: int, shape: tuple[int, ...], modality: str, low: float, high: float
) -> None:
    found = images(name)
    assert (len(found), found[0].pixels.shape, found[0].modality) == (n_frames, shape, modality)
    first = found[0].pixels
    assert (float(first.min()), float(first.max())) == pytest.approx((low, high), abs=1e-3)


def test_what_a_cut_file_lacks_is_marked_and_never_passed_off_as_black() -> None:
    (whole,), (cut,) = images("MR_small.dcm"), images("MR_truncated.dcm")
    assert cut.padding is not None
    assert int(cut.padding.sum()) == 31  # 62 of 8192 bytes are not there
    assert np.array_equal(cut.pixels[~cut.padding], whole.pixels[~cut.padding])


def test_a_damaged_stream_is_no_image() -> None:
    with pytest.raises(BadImage):
        images("JPEG2000-embedded-sequence-delimiter.dcm")
