"""Hostile files through real workers: a typed outcome each, in bounded memory and time, and nothing else is harmed.

Every one is made here. Memory is what the worker's resident set grew by at most (the kernel's high-water mark).
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom.config import disable_value_validation

from cbmir import sources
from cbmir.images.worker import Decoded, decode_all, decode_one
from cbmir.preprocess import Preprocessing
from cbmir.privacy import Pseudonyms
from cbmir.types import ImageRef
from fuzz_headers import plain_dicom
from hostile_files import (
    DEFLATED,
    JPEG_2000,
    JPEG_BASELINE,
    RAMP,
    RLE,
    cine,
    deflated_bomb,
    dicom,
    encapsulated,
    float_map,
    gif,
    gif_frames,
    gzip_bomb,
    gzip_of,
    huge_length,
    jpeg,
    jpeg_2000,
    lying_zip,
    many_elements,
    many_items,
    nested,
    nested_defined,
    one_bit,
    png,
    png_bomb,
    rle,
    tiff,
    tiff_cycle,
    without_meta,
    zip_bomb,
    zip_of,
)  # fmt: skip
from make_dicom import dicom_bytes, make_dicom

SMALL = Preprocessing(size=8, crop=8)
MIB = 2**20
BOMB = 200 * MIB
NAN = np.full((8, 8), np.nan, np.float32)
SOME_NAN = np.where(np.arange(64).reshape(8, 8) == 9, np.inf, np.arange(64, dtype=np.float32).reshape(8, 8))


@dataclass(frozen=True)
class Case:
    """What is made of a file. outcomes: any of these; n_images: None where it does not matter."""

    make: Callable[[], bytes]
    outcomes: str
    n_images: int | None = 0
    growth_mib: int = 64
    seconds: float = 5.0
    member: str | None = None


CASES: dict[str, Case] = {
    # what the file is: by content, never by name
    "empty": Case(bytes, "not_an_image"),
    "one-byte": Case(lambda: b"\0", "not_an_image"),
    "readme": Case(lambda: b"Read me.\n" * 20, "not_an_image"),
    "zeros": Case(lambda: bytes(100_000), "not_an_image"),
    "jpeg-renamed": Case(lambda: jpeg(32, 32), "decoded", 1),
    "dicom-behind-a-tiff-preamble": Case(lambda: b"II*\0" + dicom()[4:], "decoded", 1),
    "no-preamble-and-no-syntax": Case(without_meta, "decoded", 1),
    # bombs
    "deflated-dicom-bomb": Case(lambda: deflated_bomb(BOMB), "refused", growth_mib=200),
    "gzip-bomb": Case(lambda: gzip_bomb(BOMB), "refused", growth_mib=200),
    "zip-bomb": Case(lambda: zip_bomb(BOMB), "refused", growth_mib=200, member="a.dcm"),
    "zip-with-a-lying-size": Case(lambda: lying_zip(BOMB), "refused corrupt", growth_mib=200, member="a.dcm"),
    "zip-in-a-zip": Case(lambda: zip_of(zip_of(dicom())), "refused", member="a.dcm"),
    "gzip-in-a-gzip": Case(lambda: gzip_of(gzip_of(dicom())), "refused"),
    "png-bomb": Case(lambda: png_bomb(14_000), "refused"),
    "png-of-one-bit-bomb": Case(lambda: png(60_000, 60_000, 1, b""), "refused"),
    "png-cut": Case(lambda: png(3000, 3000, 8, b""), "corrupt"),
    "tiff-bomb": Case(lambda: tiff(60_000, 60_000, compression=8, strip=b"x" * 100), "refused"),
    "tiff-large-and-empty": Case(lambda: tiff(20_000, 20_000, compression=8, strip=b"x" * 100), "corrupt refused"),
    "tiff-whose-next-page-is-itself": Case(tiff_cycle, "partial corrupt refused", None),
    "jpeg-2000-bomb": Case(lambda: jpeg_2000(60_000, 60_000), "refused corrupt"),
    "jpeg-2000-large-and-empty": Case(lambda: jpeg_2000(30_000, 30_000), "refused corrupt"),
    "jpeg-bomb": Case(lambda: jpeg(65_500, 65_500), "refused"),
    "jpeg-large-and-empty": Case(lambda: jpeg(13_000, 13_000), "corrupt refused", growth_mib=1000),
    "gif-bomb": Case(lambda: gif(65_535, 65_535), "refused"),
    "gif-of-100000-frames": Case(lambda: gif_frames(100_000), "refused", growth_mib=300, seconds=20),
    "dicom-jpeg-2000-bomb": Case(
        lambda: encapsulated(jpeg_2000(60_000, 60_000), JPEG_2000, 60_000, 60_000), "refused corrupt"
    ),
    "dicom-jpeg-2000-large-and-empty": Case(
        lambda: encapsulated(jpeg_2000(30_000, 30_000), JPEG_2000, 30_000, 30_000), "refused corrupt"
    ),
    "dicom-jpeg-2000-larger-than-it-says": Case(
        lambda: encapsulated(jpeg_2000(60_000, 60_000), JPEG_2000, 32, 32), "refused corrupt"
    ),
    "dicom-jpeg-large-and-empty": Case(
        lambda: encapsulated(jpeg(30_000, 30_000), JPEG_BASELINE, 30_000, 30_000), "refused corrupt"
    ),
    "dicom-jpeg-larger-than-it-says": Case(
        lambda: encapsulated(jpeg(65_500, 65_500), JPEG_BASELINE, 32, 32), "refused corrupt"
    ),
    "dicom-runs-that-lie": Case(lambda: encapsulated(bytes(100), RLE, 30_000, 30_000), "corrupt refused"),
    # headers that lie
    "rows-and-columns-65535": Case(lambda: dicom(Rows=65535, Columns=65535), "refused corrupt"),
    "rows-0": Case(lambda: dicom(Rows=0), "corrupt"),
    "frames-2147483647": Case(lambda: dicom(NumberOfFrames=2**31 - 1), "refused corrupt"),
    "frames-minus-1": Case(lambda: dicom(NumberOfFrames=-1), "corrupt"),
    "frames-0": Case(lambda: dicom(NumberOfFrames=0), "decoded", 1),
    "frames-more-than-there-are": Case(lambda: dicom_bytes(cine(10, NumberOfFrames=12)), "partial", 10),
    "frames-5001": Case(lambda: dicom_bytes(cine(5001)), "refused"),
    "two-gib-in-an-element": Case(huge_length, "corrupt refused"),
    "sequences-5000-deep": Case(lambda: nested(5000), "refused corrupt"),
    "sequences-5000-deep-with-lengths": Case(lambda: nested_defined(5000), "refused corrupt decoded", None),
    "elements-100000": Case(lambda: many_elements(10**5), "decoded refused", None, growth_mib=300, seconds=10),
    "elements-1000000": Case(lambda: many_elements(10**6), "refused", growth_mib=400, seconds=10),
    "items-1000000": Case(lambda: many_items(10**6), "refused corrupt", growth_mib=400, seconds=10),
    "deflated-and-is-not": Case(lambda: encapsulated(b"x" * 50, DEFLATED), "corrupt"),
    # what tells nothing
    "constant": Case(lambda: dicom(np.full((8, 8), 7, np.uint8)), "refused"),
    "all-padding": Case(lambda: dicom(np.full((8, 8), 7, np.uint8), PixelPaddingValue=7), "refused"),
    "padding-and-one-value": Case(
        lambda: dicom(np.where(RAMP < 30, 7, 9).astype(np.uint8), PixelPaddingValue=7), "refused"
    ),
    "no-numbers": Case(lambda: float_map(NAN), "refused"),
    "infinite": Case(lambda: float_map(np.full((8, 8), np.inf, np.float32)), "refused"),
    "some-are-no-numbers": Case(lambda: float_map(SOME_NAN), "decoded", None),
    # shapes
    "1x1": Case(lambda: dicom(np.array([[7]], np.uint8)), "refused"),
    "1x5000": Case(lambda: dicom((np.arange(5000) % 251).astype(np.uint8)[None]), "decoded", 1),
    "5000x1": Case(lambda: dicom((np.arange(5000) % 251).astype(np.uint8)[:, None]), "decoded", 1),
    "20000x20000-of-one-bit": Case(lambda: one_bit(20_000), "decoded refused", None, growth_mib=3600, seconds=30),
    "20000x20000-of-runs": Case(lambda: rle(20_000, 20_000), "decoded refused", None, growth_mib=3600, seconds=30),
    "5000-frames": Case(lambda: dicom_bytes(cine(5000)), "decoded", 5000, seconds=20),
    # text and numbers
    "uid-with-a-path": Case(lambda: dicom(SOPInstanceUID="../../../etc/passwd"), "decoded", 1),
    "uid-of-500-characters": Case(lambda: dicom(SOPInstanceUID="1." * 250 + "1"), "decoded", 1),
    "uid-with-zeros": Case(lambda: dicom(SOPInstanceUID="1.2\0\0.3"), "decoded", 1),
    "odd-dates-and-ages": Case(
        lambda: dicom(StudyDate="00000000", PatientBirthDate="00000000", PatientAge="999Y"), "decoded", 1
    ),
    "dates-after-2038": Case(lambda: dicom(StudyDate="20991231", PatientBirthDate="18000101"), "decoded", 1),
}


def measured(ref: ImageRef, preprocessing: Preprocessing, pseudonyms: Pseudonyms) -> Decoded:
    """decode_one, and beside the file what it took."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
    before, begin = resident_mib("VmRSS"), time.monotonic()
    result = decode_one(ref, preprocessing, pseudonyms)
    took = {"growth_mib": resident_mib("VmHWM") - before, "seconds": time.monotonic() - begin}
    Path(f"{ref.path}.took").write_text(json.dumps(took))
    return result


def resident_mib(which: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(which))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Decoded, dict[str, float]]]]:
    """What became of every case, and what it took; all in one run of two workers."""
    folder = tmp_path_factory.mktemp("hostile")
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        for name, case in CASES.items():
            (folder / name).write_bytes(case.make())
    refs = [ImageRef(folder / name, name, member=case.member) for name, case in CASES.items()]
    files = list(decode_all(refs, SMALL, Pseudonyms(bytes(32)), workers=2, reader=measured))
    yield {file.ref.shown: (file, took_of(file)) for file in files}
    for file in files:
        file.ref.path.unlink()


def took_of(file: Decoded) -> dict[str, float]:
    note = Path(f"{file.ref.path}.took")
    return json.loads(note.read_text()) if note.exists() else {}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_has_a_typed_outcome(results: dict[str, tuple[Decoded, dict[str, float]]], name: str) -> None:
    file, case = results[name][0], CASES[name]
    assert file.outcome in case.outcomes.split(), file.reason
    assert case.n_images is None or len(file.images) == case.n_images
    assert file.images or (file.reason and file.reason.endswith("."))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks /proc")
@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_takes_bounded_memory_and_time(
    results: dict[str, tuple[Decoded, dict[str, float]]], name: str
) -> None:
    _, took = results[name]
    assert took["growth_mib"] <= CASES[name].growth_mib
    assert took["seconds"] <= CASES[name].seconds


def test_no_id_or_attribute_holds_what_a_hostile_header_says(
    results: dict[str, tuple[Decoded, dict[str, float]]],
) -> None:
    for name in ("uid-with-a-path", "uid-of-500-characters", "uid-with-zeros", "odd-dates-and-ages"):
        (image,) = results[name][0].images
        assert len(image.record.id) == 32
        assert int(image.record.id, 16) >= 0
        assert "999" not in str(image.record.attributes)
        assert "0000" not in str(image.record.attributes)


CHARACTER_SETS = (
    "",
    "ISO_IR 100",
    "\\ISO 2022 IR 87",
    "ISO 2022 IR 149",
    "GB18030",
    "GBK",
    "ISO_IR 192",
    "ISO_IR 999",
    "x",
)


@pytest.mark.parametrize("charset", CHARACTER_SETS)
@pytest.mark.parametrize(
    "name", [b"\x1b$B;3ED\x1b(J^\xff\xfe", b"\x1b(Z\x1b$)C", b"\xc3\x28", b"<script>alert(1)</script>"]
)
def test_text_in_any_character_set_is_read_over(
    tmp_path: Path, pseudonyms: Pseudonyms, charset: str, name: bytes
) -> None:
    data = dicom(PatientName="N" * len(name), SeriesDescription="N" * len(name), SpecificCharacterSet="ISO_IR 6")
    data = data.replace(b"N" * len(name), name)
    cell = charset.encode().ljust(8 if len(charset) <= 8 else len(charset) + len(charset) % 2)
    start = data.index(b"\x08\0\x05\0CS")
    data = data[: start + 6] + len(cell).to_bytes(2, "little") + cell + data[start + 16 :]
    path = tmp_path / "a.dcm"
    path.write_bytes(data)
    result = decode_one(ImageRef(path, "a.dcm"), SMALL, pseudonyms)
    assert (result.outcome, len(result.images)) == ("decoded", 1)
    assert b"script" not in pickle.dumps(result)


@pytest.mark.parametrize(
    "elements",
    [
        {"RescaleSlope": "0", "RescaleIntercept": ""},
        {"RescaleSlope": "1,5", "RescaleIntercept": "-1024"},
        {"RescaleSlope": "1e400"},
        {"WindowCenter": "40", "WindowWidth": "0"},
        {"WindowCenter": "NaN", "WindowWidth": "NaN"},
        {"WindowCenter": "1e400", "WindowWidth": "-5"},
        {"PixelSpacing": "0\\0"},
        {"PixelAspectRatio": "0\\0"},
        {"PatientAge": "old!"},
        {"NumberOfFrames": ""},
    ],
    ids=str,
)
def test_numbers_that_are_none_are_read_over(tmp_path: Path, pseudonyms: Pseudonyms, elements: dict[str, str]) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(plain_dicom(elements))
    result = decode_one(ImageRef(path, "a.dcm"), SMALL, pseudonyms)
    assert (result.outcome, len(result.images)) == ("decoded", 1)


def outcome_of(path: Path, pseudonyms: Pseudonyms) -> str:
    (result,) = decode_all([ImageRef(path, path.name)], SMALL, pseudonyms, workers=1, timeout_s=5)
    return result.outcome


def test_a_pipe_a_socket_and_a_device_are_not_opened(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.dcm"))
        assert outcome_of(tmp_path / "pipe.dcm", pseudonyms) == "refused"
        assert outcome_of(Path("/dev/zero"), pseudonyms) == "refused"
        assert outcome_of(tmp_path / "socket.dcm", pseudonyms) in ("refused", "corrupt")  # the system will not open it
    assert [ref.shown for ref in sources.folder(tmp_path)] == ["pipe.dcm", "socket.dcm"]  # counted, never lost


def test_a_link_to_a_device_is_not_followed(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    (tmp_path / "zero.dcm").symlink_to("/dev/zero")
    assert {result.outcome for result in decode_all(sources.folder(tmp_path), SMALL, pseudonyms)} <= {"refused"}


def test_links_that_lead_nowhere_or_to_themselves_are_outcomes(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    (tmp_path / "self.dcm").symlink_to(tmp_path / "self.dcm")
    (tmp_path / "nowhere.dcm").symlink_to(tmp_path / "gone")
    (tmp_path / "up").symlink_to(tmp_path)
    for name in ("self.dcm", "nowhere.dcm"):
        assert outcome_of(tmp_path / name, pseudonyms) == "corrupt"
    assert len(list(sources.folder(tmp_path))) <= 2


def test_a_folder_with_the_name_of_a_file_is_an_outcome(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    (tmp_path / "x.dcm").mkdir()
    assert outcome_of(tmp_path / "x.dcm", pseudonyms) in ("corrupt", "refused")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_an_outcome(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom())
    path.chmod(0)
    assert outcome_of(path, pseudonyms) == "corrupt"


@pytest.mark.parametrize("growing", [True, False], ids=["growing", "shrinking"])
def test_a_file_that_changes_while_it_is_read_is_an_outcome(
    tmp_path: Path, pseudonyms: Pseudonyms, growing: bool
) -> None:
    whole = dicom(np.add.outer(np.arange(1000), np.arange(1000)).astype(np.uint16))
    path, stop = tmp_path / "a.dcm", threading.Event()
    path.write_bytes(whole)

    def change() -> None:
        size = 0
        while not stop.is_set():
            size = (size + 40_000) % len(whole)
            with path.open("r+b") as file:
                file.truncate(0 if growing else len(whole) - size)
                file.write(whole[:size] if growing else whole[: len(whole) - size])

    writer = threading.Thread(target=change)
    writer.start()
    try:
        refs = [ImageRef(path, str(index)) for index in range(60)]
        results = list(decode_all(refs, SMALL, pseudonyms, workers=1, timeout_s=20))
    finally:
        stop.set()
        writer.join()
    assert {result.outcome for result in results} <= {"decoded", "partial", "corrupt", "not_an_image"}
    assert len(results) == 60


def test_thousands_of_frames_that_fail_hold_no_memory(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    """An exception that is kept keeps the pixels of its frame: 200 of them would be 250 MiB or more."""
    frames = np.zeros((200, 512, 512), np.uint8)
    frames[:, 0, 0] = 1
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_bytes(make_dicom(frames, frames=True, PixelPaddingValue=1)))
    (result,) = decode_all([ImageRef(path, "a.dcm")], SMALL, pseudonyms, workers=1, reader=measured)
    assert (result.outcome, len(result.images)) == ("refused", 0)
    assert took_of(result)["growth_mib"] < 2 * 50 + 64


@pytest.mark.long
def test_10000_decodes_leave_memory_flat(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    """In one worker, good and bad files of several syntaxes; the second half takes no more than the first."""
    kinds = {
        "native": dicom(np.add.outer(np.arange(256), np.arange(256)).astype(np.uint16)),
        "jpeg": encapsulated(jpeg(32, 32), JPEG_BASELINE, 32, 32),
        "jpeg-2000": encapsulated(jpeg_2000(32, 32), JPEG_2000, 32, 32),
        "runs": rle(256, 256),
        "cut": encapsulated(jpeg(32, 32)[:200], JPEG_BASELINE, 32, 32),
        "picture": jpeg(32, 32),
        "deep": nested(300),
    }
    for name, data in kinds.items():
        (tmp_path / name).write_bytes(data)
    paths = [tmp_path / name for name in kinds]
    refs = (ImageRef(paths[index % len(paths)], str(index)) for index in range(10_000))
    resident = [
        float(result.reason or 0) for result in decode_all(refs, SMALL, pseudonyms, workers=1, reader=resident_after)
    ]
    early, late = max(resident[1000:2000]), max(resident[-1000:])
    print(f"\nresident after 2,000 decodes {early:.1f} MiB, after 10,000 {late:.1f} MiB")
    assert late < early + 20


def resident_after(ref: ImageRef, preprocessing: Preprocessing, pseudonyms: Pseudonyms) -> Decoded:
    return Decoded(ref, decode_one(ref, preprocessing, pseudonyms).outcome, str(resident_mib("VmRSS")))
