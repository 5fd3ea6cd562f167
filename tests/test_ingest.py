"""An index run: what is done stays, what is unchanged is not touched, what fails is reported and tried again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from cbmir import sources
from cbmir.errors import BadGallery
from cbmir.gallery import Gallery
from cbmir.ingest import IndexReport, index_source
from cbmir.privacy import Pseudonyms
from make_dicom import make_dicom, save_dicom
from toys import ToyEncoder

ENCODER = cast(Any, ToyEncoder())


def write_image(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8), np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(6):
        write_image(tmp_path / "data" / f"{number}.png", number)
    return tmp_path / "data"


@pytest.fixture
def gallery(tmp_path: Path, pseudonyms: Pseudonyms) -> Iterable[Gallery]:
    with Gallery.create(tmp_path / "gallery", ENCODER, pseudonyms) as gallery:
        yield gallery


@pytest.fixture
def run(gallery: Gallery, folder: Path, pseudonyms: Pseudonyms) -> Any:
    def run(source: Path = folder, **options: Any) -> IndexReport:
        return index_source(sources.open_source(source), gallery, ENCODER, pseudonyms, workers=0, **options)

    return run


def test_every_image_of_a_folder_becomes_a_record(run: Any, gallery: Gallery) -> None:
    report = run()
    assert (report.added, report.unchanged, report.vanished) == (6, 0, 0)
    assert report.outcomes == {
        "decoded": 6, "partial": 0, "not_an_image": 0, "unsupported": 0,
        "corrupt": 0, "refused": 0, "crashed": 0, "timed_out": 0,
    }  # fmt: skip
    assert gallery.count == 6
    assert gallery.verify()["ok"]


def test_a_second_run_decodes_nothing(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr(ENCODER, "encode", lambda batch: pytest.fail("decoded again"), raising=False)
    report = run()
    assert (report.added, report.unchanged) == (0, 6)
    assert sum(report.outcomes.values()) == 0


def test_a_file_of_another_time_but_the_same_content_is_unchanged(run: Any, folder: Path) -> None:
    run()
    os.utime(folder / "3.png", ns=(1, 1))
    report = run()
    assert (report.added, report.unchanged) == (0, 6)


def test_new_content_replaces_the_old_record(run: Any, folder: Path, gallery: Gallery) -> None:
    run()
    before = set(gallery.ids())
    write_image(folder / "3.png", 33)
    report = run()
    assert (report.added, report.unchanged) == (1, 5)
    assert len(before - set(gallery.ids())) == len(set(gallery.ids()) - before) == 1
    assert gallery.verify()["ok"]


def test_a_file_that_has_gone_is_counted_and_its_images_stay(run: Any, folder: Path, gallery: Gallery) -> None:
    run()
    (folder / "3.png").unlink()
    report = run()
    assert (report.unchanged, report.vanished) == (5, 1)
    assert json.loads(report.report.read_text())["vanished_files"] == ["3.png"]
    assert gallery.count == 6


def test_one_file_of_a_folder_says_nothing_about_the_others(run: Any, folder: Path) -> None:
    run()
    report = run(folder / "3.png")
    assert (report.unchanged, report.vanished) == (1, 0)


def test_a_file_that_fails_is_reported_and_tried_again(run: Any, folder: Path, gallery: Gallery) -> None:
    (folder / "3.png").write_text("no picture")
    report = run()
    assert report.added == 5
    assert report.outcomes["not_an_image"] == 1
    assert [(entry["path"], entry["outcome"]) for entry in report.failed] == [("3.png", "not_an_image")]
    assert [(entry["path"], entry["outcome"]) for entry in run().failed] == [("3.png", "not_an_image")]
    write_image(folder / "3.png", 3)
    assert (run().added, gallery.count) == (1, 6)


def test_a_file_that_becomes_unreadable_keeps_the_images_it_gave(run: Any, folder: Path, gallery: Gallery) -> None:
    run()
    (folder / "3.png").write_text("half a copy")
    report = run()
    assert [entry["path"] for entry in report.failed] == ["3.png"]
    assert gallery.count == 6
    assert gallery.verify()["ok"]


def write_partial(path: Path) -> None:
    """Three frames, of which the middle one is refused."""
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
    save_dicom(path, make_dicom(np.stack([ramp, np.zeros_like(ramp), ramp.T]), frames=True))


def test_a_file_read_in_part_is_tried_again_and_keeps_what_it_gave(run: Any, folder: Path, gallery: Gallery) -> None:
    write_partial(folder / "cine.dcm")
    assert (run().added, gallery.count) == (8, 8)
    kept = gallery.ids()
    again = run()
    assert (again.outcomes["partial"], again.added, again.unchanged) == (1, 0, 6)
    assert [(entry["path"], entry["outcome"]) for entry in again.failed] == [("cine.dcm", "partial")]
    assert gallery.ids() == kept


def test_a_file_read_in_part_gains_what_can_be_read_later(
    run: Any, folder: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_partial(folder / "cine.dcm")
    run()
    monkeypatch.setattr("cbmir.images.worker.preprocess", lambda image, _: np.full((1, 8, 8), 9, np.uint8))
    report = run()
    assert (report.outcomes["decoded"], gallery.count) == (1, 9)
    assert gallery.verify()["ok"]
    assert run().unchanged == 7


def test_unreadable_are_images_that_could_not_be_read_whole(run: Any, folder: Path) -> None:
    write_partial(folder / "cine.dcm")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:40])
    (folder / "note.txt").write_text("no picture")
    report = run()
    assert [entry["outcome"] for entry in report.failed] == ["partial", "corrupt", "not_an_image"]
    assert report.unreadable == 2


def test_a_name_that_is_no_utf8_is_indexed_like_any_other(run: Any, folder: Path, gallery: Gallery) -> None:
    strange = folder / os.fsdecode(b"\xff.png")
    strange.write_bytes(write_image(folder / "plain.png", 7).read_bytes())
    (folder / "plain.png").unlink()
    assert run().added == 7
    assert run().unchanged == 7
    assert strange in {gallery.image_path(record_id) for record_id in gallery.ids()}
    assert run(folder / "3.png").vanished == 0
    strange.unlink()
    assert json.loads(run().report.read_text())["vanished_files"] == [r"\xff.png"]


def test_a_folder_that_is_no_utf8_is_indexed_like_any_other(run: Any, tmp_path: Path, gallery: Gallery) -> None:
    picture = write_image(tmp_path / "plain.png", 7)
    strange = tmp_path / os.fsdecode(b"\xff")
    strange.mkdir()
    os.replace(picture, strange / "7.png")
    assert run(strange).added == 1
    assert run(strange).unchanged == 1
    assert gallery.image_path(gallery.ids()[0]) == strange / "7.png"


def test_a_folder_that_cannot_be_read_is_reported_and_stops_nothing(
    run: Any, folder: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(folder / "locked" / "7.png", 7)
    assert run().added == 7
    scandir = os.scandir

    def guarded(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    report = run()
    assert (report.unchanged, report.vanished, report.unreadable) == (6, 0, 1)
    assert [(entry["path"], entry["outcome"]) for entry in report.failed] == [("locked", "corrupt")]
    assert "cannot be read" in report.failed[0]["reason"]
    assert gallery.count == 7


def test_the_same_image_twice_is_kept_once_and_noted(run: Any, folder: Path, gallery: Gallery) -> None:
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    report = run()
    assert (report.added, report.duplicates, gallery.count) == (6, 1, 6)
    (twice,) = json.loads(report.report.read_text())["duplicate_images"]
    assert gallery.image_path(twice) == folder / "0.png"
    assert "copy.png" not in report.report.read_text()
    assert run().unchanged == 7


def test_when_the_first_of_two_copies_changes_the_other_takes_its_place(
    run: Any, folder: Path, gallery: Gallery
) -> None:
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    run()
    write_image(folder / "0.png", 99)
    run()
    report = run()
    assert (report.added, gallery.count) == (1, 7)


def test_labels_of_a_manifest_reach_the_records_also_later(run: Any, folder: Path, gallery: Gallery) -> None:
    run()
    rows = [f"{number}.png,{'knee' if number < 2 else 'lung'},axial,p{number}" for number in range(6)]
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(["path,class,view,patient", *rows]) + "\n")
    report = run(manifest)
    assert (report.added, report.unchanged) == (6, 0)
    assert gallery.info()["by_class"] == {"knee": 2, "lung": 4}
    assert gallery.info()["patients"] == 6
    assert run(manifest).unchanged == 6
    record = gallery.record(gallery.ids()[0])
    assert record.labels["view"] == "axial"
    assert record.patient not in {None, "p0", "p1", "p2", "p3", "p4", "p5"}


def test_the_report_lies_in_the_gallery(run: Any, gallery: Gallery) -> None:
    report = run()
    saved = json.loads(report.report.read_text())
    assert report.report.parent == gallery.directory / "reports"
    assert saved["added"] == 6
    assert saved["encoder"] == "toy-0001"
    assert saved.keys() >= json.loads(json.dumps(report.as_dict())).keys()


def test_progress_counts_every_file(run: Any) -> None:
    seen: list[tuple[int, int]] = []
    run(on_progress=lambda done, total, outcomes: seen.append((done, total)))
    assert seen[0] == (0, 6)
    assert seen[-1] == (6, 6)


def test_another_encoder_or_key_is_refused_before_any_work(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    other = ToyEncoder()
    other.fingerprint = "toy-0002"
    with pytest.raises(BadGallery, match=r"toy-0001.*toy-0002"):
        index_source([], gallery, cast(Any, other), pseudonyms)
    with pytest.raises(BadGallery, match="key"):
        index_source([], gallery, ENCODER, Pseudonyms(b"another key, 32 bytes long......"))


def test_a_second_run_beside_is_told_in_one_sentence(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    with (
        Gallery.open(gallery.directory) as other,
        other.writing(),
        pytest.raises(BadGallery, match="another process is writing"),
    ):
        index_source([], gallery, ENCODER, pseudonyms)


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from toys import ToyEncoder
from cbmir import ingest, sources
from cbmir.gallery import Gallery
from cbmir.privacy import Pseudonyms

class Slow(ToyEncoder):
    def encode(self, batch):
        time.sleep(0.05)
        return super().encode(batch)

ingest._COMMIT_IMAGES = 2
tell = lambda done, total, outcomes: print(done, flush=True)
with Gallery.open(Path({gallery!r})) as gallery:
    ingest.index_source(
        sources.open_source(Path({folder!r})), gallery, Slow(), Pseudonyms({key!r}),
        workers=0, batch_size=2, on_progress=tell,
    )
"""


def test_a_killed_run_loses_nothing_it_has_acknowledged_and_goes_on(
    tmp_path: Path, folder: Path, gallery: Gallery, pseudonyms: Pseudonyms, run: Any
) -> None:
    for number in range(6, 60):
        write_image(folder / f"{number}.png", number)
    code = KILLED.format(
        tests=str(Path(__file__).parent), gallery=str(gallery.directory), folder=str(folder), key=pseudonyms.key
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = 0
        while acknowledged < 10:
            acknowledged = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(line) for line in process.stdout)])
    assert process.returncode == -signal.SIGKILL
    kept = gallery.count
    assert 10 <= acknowledged <= kept < 60
    assert gallery.verify()["ok"]

    report = run()

    assert (report.unchanged, report.added) == (kept, 60 - kept)
    assert gallery.count == 60
    assert gallery.verify()["ok"]
