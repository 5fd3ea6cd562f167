"""Worker processes: one bad file neither stops the others nor takes the program down."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cbmir import sources
from cbmir.errors import CbmirError
from cbmir.images.limits import UNEXPECTED
from cbmir.images.worker import Decoded, decode_all, decode_one
from cbmir.preprocess import VERSION, Preprocessing
from cbmir.privacy import Pseudonyms
from cbmir.types import ImageRef
from make_dicom import make_dicom, save_dicom

SMALL = Preprocessing(size=8, crop=8)
RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8)


def make_pictures(folder: Path, n: int) -> list[ImageRef]:
    for index in range(n):
        Image.fromarray(RAMP + index).save(folder / f"{index:03d}.png")
    return list(sources.folder(folder))


def mischief(ref: ImageRef, preprocessing: Preprocessing, pseudonyms: Pseudonyms) -> Decoded:
    """A reader that does to its process what a native decoder does on a bad file, as the file's name says."""
    if "segfault" in ref.shown:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in ref.shown:
        time.sleep(60)
    if "raise" in ref.shown:
        raise RuntimeError("a bug")
    return decode_one(ref, preprocessing, pseudonyms)


def heavy_imports(ref: ImageRef, preprocessing: Preprocessing, pseudonyms: Pseudonyms) -> Decoded:
    decode_one(ref, preprocessing, pseudonyms)
    found = sorted({"torch", "matplotlib", "openvino"} & set(sys.modules))
    return Decoded(ref, "decoded", f"{found} {os.environ['OMP_NUM_THREADS']}")


def outcomes(results: Iterator[Decoded]) -> dict[str, str]:
    return {result.ref.shown: result.outcome for result in results}


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_the_order_given(tmp_path: Path, pseudonyms: Pseudonyms, workers: int) -> None:
    refs = make_pictures(tmp_path, 40)
    results = list(decode_all(refs, SMALL, pseudonyms, workers=workers))
    assert [result.ref for result in results] == refs
    assert [int(result.images[0].pixels[0, 0, 0]) for result in results] == list(range(40))
    assert {result.outcome for result in results} == {"decoded"}


def test_what_is_known_of_a_file_ends_in_its_record(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    path = save_dicom(tmp_path / "a.dcm", make_dicom(RAMP, Modality="OT", PatientID="7", StudyInstanceUID="1.2"))
    ref = ImageRef(path, "a.dcm", labels={"class": "knee"}, patient="manifest's", modality="MR", source="here")
    result = decode_one(ref, SMALL, pseudonyms)
    (image,) = result.images
    assert (result.outcome, result.reason, result.size) == ("decoded", None, path.stat().st_size)
    assert result.mtime_ns == path.stat().st_mtime_ns
    assert len(result.content_hash) == 64
    assert image.pixels.shape == (1, 8, 8)
    record = image.record
    assert (record.label, record.modality, record.source) == ("knee", "MR", "here")
    assert record.patient == pseudonyms.of("patient", "manifest's")
    assert record.study == pseudonyms.of("study", "1.2")
    assert (record.predicted, record.probability) == (None, None)
    assert record.provenance["format"] == "DICOM"
    assert record.provenance["window"] == "value range"
    assert record.provenance["pipeline"] == VERSION


def test_a_bad_file_is_an_outcome(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "readme.txt").write_text("no picture")
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(tmp_path / "constant.png")
    refs = [*sources.folder(tmp_path), ImageRef(tmp_path / "gone.dcm", "gone.dcm")]
    assert outcomes(decode_all(refs, SMALL, pseudonyms, workers=0)) == {
        "constant.png": "refused",
        "empty.png": "not_an_image",
        "gone.dcm": "corrupt",
        "readme.txt": "not_an_image",
    }


def test_frames_that_are_refused_make_a_file_partial(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    frames = np.stack([RAMP, np.zeros_like(RAMP), RAMP])
    save_dicom(tmp_path / "a.dcm", make_dicom(frames, frames=True))
    (result,) = decode_all(sources.folder(tmp_path), SMALL, pseudonyms, workers=0)
    assert result.outcome == "partial"
    assert result.reason is not None
    assert result.reason.startswith("1 of 3 images were left out: The image is constant")
    assert [image.record.frame_index for image in result.images] == [0, 2]


def test_equal_pixels_have_equal_digests_whatever_file_they_are_in(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    noisy = RAMP.copy()
    noisy[0, 0] += 1
    for name, pixels in (("a", RAMP), ("b", RAMP), ("c", noisy), ("d", RAMP.reshape(4, 16))):
        save_dicom(tmp_path / f"{name}.dcm", make_dicom(pixels))
    files = decode_all(sources.folder(tmp_path), SMALL, pseudonyms, workers=0)
    first, same, other, reshaped = (file.images[0].record.pixel_digest for file in files)
    assert first == same
    assert len({first, other, reshaped}) == 3
    with_another_key = decode_one(ImageRef(tmp_path / "a.dcm", "a.dcm"), SMALL, Pseudonyms(b"another key, secret"))
    assert with_another_key.images[0].record.pixel_digest != first


def test_what_is_no_picture_is_decoded_and_has_no_images(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    save_dicom(tmp_path / "a.dcm", make_dicom(RAMP, Modality="SEG"))
    (result,) = decode_all(sources.folder(tmp_path), SMALL, pseudonyms, workers=0)
    assert (result.outcome, result.images) == ("decoded", ())
    assert result.reason == "The file is a segmentation, which is not indexed."
    assert len(result.content_hash) == 64


def test_a_file_that_its_source_refuses_is_not_read(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    (ref,) = make_pictures(tmp_path, 1)
    (result,) = decode_all([replace(ref, refused="The link leads out.")], SMALL, pseudonyms, workers=0)
    assert (result.outcome, result.reason, result.content_hash) == ("refused", "The link leads out.", "")


def test_more_images_than_fit_make_a_file_partial(
    tmp_path: Path, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbmir.images.worker.MAX_PREPARED_BYTES", 2 * 64)
    save_dicom(tmp_path / "a.dcm", make_dicom(np.stack([RAMP] * 5), frames=True))
    (result,) = decode_all(sources.folder(tmp_path), SMALL, pseudonyms, workers=0)
    assert (result.outcome, len(result.images)) == ("partial", 2)
    assert result.reason == "Only the first 2 images were taken: the rest would not fit."


def test_a_fault_of_the_reader_is_an_outcome_that_asks_for_a_report(
    tmp_path: Path, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RecursionError("ZEBEDEE")

    monkeypatch.setattr("cbmir.images.worker.decode", broken)
    (result,) = decode_all(make_pictures(tmp_path, 1), SMALL, pseudonyms, workers=0)
    assert (result.outcome, result.reason) == ("crashed", UNEXPECTED)


def test_a_file_that_does_not_fit_into_the_memory_of_a_worker_is_refused(
    tmp_path: Path, pseudonyms: Pseudonyms
) -> None:
    rows = np.arange(8000, dtype=np.uint16)
    save_dicom(tmp_path / "large.dcm", make_dicom(np.add.outer(rows, rows)))
    save_dicom(tmp_path / "small.dcm", make_dicom(RAMP))
    limited = decode_all(sources.folder(tmp_path), SMALL, pseudonyms, workers=1, memory_bytes=400 * 2**20)
    assert [result.outcome for result in limited] == ["refused", "decoded"]
    (unlimited, _) = decode_all(sources.folder(tmp_path), SMALL, pseudonyms, workers=1, memory_bytes=None)
    assert unlimited.outcome == "decoded"


def test_a_worker_that_crashes_takes_one_file_with_it(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    refs = make_pictures(tmp_path, 30)
    refs[3] = ImageRef(refs[3].path, "segfault")
    refs[17] = ImageRef(refs[17].path, "raise")
    results = list(decode_all(refs, SMALL, pseudonyms, workers=2, reader=mischief))
    assert [result.ref for result in results] == refs
    bad = {index: result.outcome for index, result in enumerate(results) if result.outcome != "decoded"}
    assert bad == {3: "crashed", 17: "crashed"}
    assert results[3].reason == "The decoder crashed on this file."


def test_a_worker_that_hangs_is_killed_and_the_batch_goes_on(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    refs = make_pictures(tmp_path, 12)
    refs[5] = ImageRef(refs[5].path, "hang")
    begin = time.monotonic()
    results = list(decode_all(refs, SMALL, pseudonyms, workers=2, timeout_s=2, reader=mischief))
    assert time.monotonic() - begin < 30
    assert [result.outcome for result in results] == ["decoded"] * 5 + ["timed_out"] + ["decoded"] * 6
    assert results[5].reason == "Decoding took longer than 2 s."


def test_workers_are_light_and_single_threaded(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    refs = make_pictures(tmp_path, 1)
    (result,) = decode_all(refs, SMALL, pseudonyms, workers=1, reader=heavy_imports)
    assert result.reason == "[] 1"


def test_a_caller_who_stops_early_leaves_no_worker_behind(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    results = decode_all(make_pictures(tmp_path, 40), SMALL, pseudonyms, workers=2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "cbmir-decode"]


def test_files_are_drawn_only_a_little_ahead(
    tmp_path: Path, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbmir.images.pool.LOOK_AHEAD", 4)
    refs = make_pictures(tmp_path, 40)
    drawn = []

    def watched() -> Iterator[ImageRef]:
        for ref in refs:
            drawn.append(ref)
            yield ref

    results = decode_all(watched(), SMALL, pseudonyms, workers=2)
    assert len(list(islice(results, 2))) == 2
    time.sleep(0.5)
    assert len(drawn) <= 2 + 2 * 4 + 2
    assert len(list(results)) == 38


def test_large_results_hold_back_new_files_and_lose_none(
    tmp_path: Path, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbmir.images.pool.HELD_BYTES", 1)
    refs = make_pictures(tmp_path, 20)
    assert len(list(decode_all(refs, SMALL, pseudonyms, workers=2))) == 20


def test_an_error_of_the_source_reaches_the_caller(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    def broken() -> Iterator[ImageRef]:
        yield from make_pictures(tmp_path, 1)
        raise CbmirError("The source broke.")

    with pytest.raises(CbmirError, match="The source broke"):
        list(decode_all(broken(), SMALL, pseudonyms, workers=1))


def test_workers_that_do_not_start_are_an_error(
    tmp_path: Path, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = make_pictures(tmp_path, 1)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CbmirError, match="do not start"):
        list(decode_all(refs, SMALL, pseudonyms, workers=1))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(CbmirError, match="cannot be started"):
        list(decode_all(refs, SMALL, pseudonyms, workers=1))


def test_no_files_need_no_workers(pseudonyms: Pseudonyms) -> None:
    assert list(decode_all([], SMALL, pseudonyms, workers=2)) == []


def test_a_canary_name_reaches_no_result(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    dataset = make_dicom(RAMP, PatientName="CANARY^ZEBEDEE", PatientID="ZEBEDEE", BodyPartExamined="ZEBEDEE")
    save_dicom(tmp_path / "good.dcm", dataset)
    dataset.PhotometricInterpretation = "ZEBEDEE"
    dataset.Rows = 999
    save_dicom(tmp_path / "bad.dcm", dataset)
    results = list(decode_all(sources.folder(tmp_path), SMALL, pseudonyms, workers=0))
    assert {result.outcome for result in results} == {"unsupported", "decoded"}
    assert b"ZEBEDEE" not in pickle.dumps(results).upper()


def test_organ24_decodes(organ24: Path, pseudonyms: Pseudonyms) -> None:
    refs = sources.labelled(organ24)[::40]
    assert set(outcomes(decode_all(refs, Preprocessing(), pseudonyms, workers=2)).values()) == {"decoded"}
