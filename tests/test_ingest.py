"""An index run: what is done stays, what is unchanged is not touched, what fails is reported and remembered."""

from __future__ import annotations

import json
import os
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from cbmir import sources
from cbmir.errors import BadGallery, BadImage, Outcome
from cbmir.gallery import Gallery
from cbmir.images.limits import guarded
from cbmir.images.worker import Decoded, decode_one
from cbmir.ingest import IndexReport, index_source
from cbmir.ingest.tally import Tally, find_total
from cbmir.privacy import Pseudonyms
from cbmir.store import Added, Entry, StoredFile
from cbmir.types import ImageRef, Record
from make_dicom import dicom_bytes, make_dicom, save_dicom
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


@pytest.fixture
def handle(folder: Path, pseudonyms: Pseudonyms) -> Callable[[str], str]:
    """How reports name a file of the folder."""
    return lambda shown: pseudonyms.handle(str(folder), shown)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were decoded, in order."""
    seen: list[str] = []

    def noted(ref: ImageRef, *others: Any) -> Decoded:
        seen.append(ref.shown)
        return decode_one(ref, *others)

    monkeypatch.setattr("cbmir.images.worker.decode_one", noted)
    return seen


def failures(report: IndexReport) -> list[tuple[str, str]]:
    return [(file["path"], file["outcome"]) for file in report.failed]


def places(gallery: Gallery, pseudonyms: Pseudonyms) -> list[Path | None]:
    """Where each image can be found."""
    refs = [gallery.image_ref(record_id, pseudonyms) for record_id in gallery.ids()]
    return sorted(ref.path for ref in refs if ref) + [None for ref in refs if ref is None]


def test_every_image_of_a_folder_becomes_a_record(run: Any, gallery: Gallery) -> None:
    report = run()
    assert (report.added, report.unchanged, report.vanished) == (6, 0, 0)
    assert report.outcomes == {
        "decoded": 6, "partial": 0, "not_an_image": 0, "unsupported": 0,
        "corrupt": 0, "refused": 0, "crashed": 0, "timed_out": 0,
    }  # fmt: skip
    assert gallery.count == 6
    assert gallery.verify()["ok"]


def test_a_second_run_looks_at_nothing(run: Any, looked_at: list[str]) -> None:
    run()
    assert len(looked_at) == 6
    report = run()
    assert len(looked_at) == 6
    assert (report.added, report.unchanged) == (0, 6)
    assert sum(report.outcomes.values()) == 0


def test_a_file_of_another_time_but_the_same_content_is_unchanged(run: Any, folder: Path) -> None:
    run()
    os.utime(folder / "3.png", ns=(1, 1))
    report = run()
    assert (report.added, report.unchanged) == (0, 6)
    (folder / "3.png").write_bytes(b"x" * (folder / "3.png").stat().st_size)
    os.utime(folder / "3.png", ns=(1, 1))  # the new time was remembered: nobody opens a file of this time and size
    assert run().unchanged == 6


def test_new_content_replaces_the_old_record(run: Any, folder: Path, gallery: Gallery) -> None:
    run()
    before = set(gallery.ids())
    write_image(folder / "3.png", 33)
    report = run()
    assert (report.added, report.unchanged) == (1, 5)
    assert len(before - set(gallery.ids())) == len(set(gallery.ids()) - before) == 1
    assert gallery.verify()["ok"]


def test_a_file_that_has_gone_is_counted_and_its_images_stay(
    run: Any, folder: Path, gallery: Gallery, handle: Callable[[str], str]
) -> None:
    run()
    (folder / "3.png").unlink()
    report = run()
    assert (report.unchanged, report.vanished) == (5, 1)
    assert json.loads(report.report.read_text())["vanished_files"] == [handle("3.png")]
    assert gallery.count == 6
    assert run().vanished == 1


def test_a_file_of_a_manifest_that_has_gone_is_counted_once(run: Any, folder: Path, gallery: Gallery) -> None:
    (folder / "manifest.csv").write_text("path\n" + "".join(f"{number}.png\n" for number in range(6)))
    run()
    (folder / "3.png").unlink()
    report = run()
    assert (report.unchanged, report.vanished, report.failed, gallery.count) == (5, 1, (), 6)


def test_a_file_that_gave_no_images_and_has_gone_is_forgotten(run: Any, folder: Path, gallery: Gallery) -> None:
    (folder / "note.txt").write_text("no picture")
    run()
    assert gallery.info()["files"] == {"decoded": 6, "not_an_image": 1}
    (folder / "note.txt").unlink()
    assert run().vanished == 1
    assert gallery.info()["files"] == {"decoded": 6}


def test_one_file_of_a_folder_says_nothing_about_the_others(run: Any, folder: Path) -> None:
    run()
    report = run(folder / "3.png")
    assert (report.unchanged, report.vanished) == (1, 0)


def test_a_file_that_fails_is_reported_and_not_looked_at_again_while_it_is_the_same(
    run: Any, folder: Path, gallery: Gallery, looked_at: list[str], handle: Callable[[str], str]
) -> None:
    (folder / "3.png").write_text("no picture")
    first = run()
    assert (first.added, first.outcomes["not_an_image"]) == (5, 1)
    assert failures(first) == [(handle("3.png"), "not_an_image")]
    looked_at.clear()
    again = run()
    os.utime(folder / "3.png", ns=(1, 1))
    assert looked_at == []
    assert again.failed == run().failed == first.failed
    assert (again.outcomes["not_an_image"], again.unchanged) == (1, 5)
    write_image(folder / "3.png", 3)
    assert (run().added, gallery.count, looked_at) == (1, 6, ["3.png"])


def test_another_version_of_the_program_looks_again_at_what_failed_only(
    run: Any, folder: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "3.png").write_text("no picture")
    run()
    looked_at.clear()
    monkeypatch.setattr("cbmir.ingest.READER", "next/9")
    run()
    run()
    assert looked_at == ["3.png"]


@pytest.mark.parametrize("outcome", ["crashed", "timed_out"])
def test_what_crashes_the_decoder_is_tried_twice_and_then_left_alone_until_it_changes(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, handle: Callable[[str], str], outcome: Outcome
) -> None:
    tried = []

    def crashing(ref: ImageRef, *others: Any) -> Decoded:
        if ref.shown != "3.png":
            return decode_one(ref, *others)
        tried.append(ref.shown)
        return Decoded(ref, outcome, "The decoder crashed on this file.")

    monkeypatch.setattr("cbmir.images.worker.decode_one", crashing)
    assert [failures(run()) for _ in range(4)] == [[(handle("3.png"), outcome)]] * 4
    assert len(tried) == 2
    assert "tried 2 times" in run().failed[0]["reason"]
    os.utime(folder / "3.png", ns=(1, 1))
    run()
    run()
    run()
    assert len(tried) == 4


def test_what_cannot_be_read_is_always_tried_again(
    run: Any, folder: Path, gallery: Gallery, handle: Callable[[str], str]
) -> None:
    (folder / "manifest.csv").write_text("path\n0.png\nlater.png\n")
    assert [failures(run()) for _ in range(3)] == [[(handle("later.png"), "corrupt")]] * 3
    write_image(folder / "later.png", 9)
    report = run()
    assert (report.added, report.failed, gallery.count) == (1, (), 2)


def test_a_file_that_cannot_be_read_for_a_while_is_unchanged_afterwards(
    run: Any, looked_at: list[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    run()
    with monkeypatch.context() as patch:
        patch.setattr("cbmir.ingest.plan.told_of", lambda *_: "something else")  # all files are looked at again ...
        patch.setattr(
            "cbmir.images.worker.decode_one", lambda ref, *_: Decoded(ref, "corrupt", "The file cannot be read.")
        )
        assert run().outcomes["corrupt"] == 6  # ... and cannot be read
    looked_at.clear()
    report = run()
    assert (report.unchanged, looked_at) == (6, [])


def test_a_file_that_becomes_unreadable_keeps_the_images_it_gave(run: Any, folder: Path, gallery: Gallery) -> None:
    run()
    (folder / "3.png").write_text("half a copy")
    assert [len(run().failed) for _ in range(2)] == [1, 1]
    assert gallery.count == 6
    assert gallery.verify()["ok"]
    write_image(folder / "3.png", 3)
    assert (run().failed, gallery.count) == ((), 6)


def write_partial(path: Path) -> None:
    """Three frames, of which the middle one is refused."""
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
    save_dicom(path, make_dicom(np.stack([ramp, np.zeros_like(ramp), ramp.T]), frames=True))


def test_a_file_read_in_part_keeps_what_it_gave_and_is_told_again(
    run: Any, folder: Path, gallery: Gallery, looked_at: list[str], handle: Callable[[str], str]
) -> None:
    write_partial(folder / "cine.dcm")
    assert (run().added, gallery.count) == (8, 8)
    looked_at.clear()
    again = run()
    assert (again.outcomes["partial"], again.added, again.unchanged) == (1, 0, 6)
    assert failures(again) == [(handle("cine.dcm"), "partial")]
    assert (looked_at, gallery.count) == ([], 8)


def test_a_file_read_in_part_gains_what_another_version_can_read(
    run: Any, folder: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_partial(folder / "cine.dcm")
    run()
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
    whole = make_dicom(np.stack([ramp, ramp + 1, ramp.T]), frames=True)
    monkeypatch.setattr("cbmir.ingest.READER", "next/9")
    monkeypatch.setattr("cbmir.images.worker.read_ref", lambda ref: dicom_bytes(whole))
    report = run()
    assert (report.outcomes["decoded"], gallery.count) == (1, 9)
    assert gallery.verify()["ok"]


def test_unreadable_are_images_that_could_not_be_read_whole(run: Any, folder: Path) -> None:
    write_partial(folder / "cine.dcm")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:40])
    (folder / "note.txt").write_text("no picture")
    report = run()
    assert [entry["outcome"] for entry in report.failed] == ["partial", "corrupt", "not_an_image"]
    assert report.unreadable == 2


def test_a_name_that_is_no_utf8_is_indexed_like_any_other(
    run: Any, folder: Path, gallery: Gallery, pseudonyms: Pseudonyms
) -> None:
    strange = folder / os.fsdecode(b"\xff.png")
    strange.write_bytes(write_image(folder / "plain.png", 7).read_bytes())
    (folder / "plain.png").unlink()
    assert run().added == 7
    assert run().unchanged == 7
    assert strange in places(gallery, pseudonyms)
    assert run(folder / "3.png").vanished == 0
    strange.unlink()
    assert run().vanished == 1


def test_a_folder_that_is_no_utf8_is_indexed_like_any_other(
    run: Any, tmp_path: Path, gallery: Gallery, pseudonyms: Pseudonyms
) -> None:
    picture = write_image(tmp_path / "plain.png", 7)
    strange = tmp_path / os.fsdecode(b"\xff")
    strange.mkdir()
    os.replace(picture, strange / "7.png")
    assert run(strange).added == 1
    assert run(strange).unchanged == 1
    assert places(gallery, pseudonyms) == [strange / "7.png"]


def test_a_folder_that_cannot_be_read_is_reported_and_stops_nothing(
    run: Any, folder: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch, handle: Callable[[str], str]
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
    assert failures(report) == [(handle("locked"), "corrupt")]
    assert "cannot be read" in report.failed[0]["reason"]
    assert gallery.count == 7


def test_the_same_image_twice_is_kept_once_and_noted(
    run: Any, folder: Path, gallery: Gallery, pseudonyms: Pseudonyms
) -> None:
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    report = run()
    assert (report.added, report.duplicates, report.conflicts, gallery.count) == (6, 1, 0, 6)
    (twice,) = json.loads(report.report.read_text())["duplicate_images"]
    assert gallery.image_ref(twice, pseudonyms) == ImageRef(folder / "0.png", "0.png")
    assert run().unchanged == 7


def test_when_the_first_of_two_copies_goes_the_other_takes_its_place(
    run: Any, folder: Path, gallery: Gallery, pseudonyms: Pseudonyms
) -> None:
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    run()
    (folder / "0.png").unlink()
    assert (run().vanished, gallery.count) == (1, 6)
    report = run()
    assert (report.moved, report.added, report.vanished, gallery.count) == (1, 0, 0, 6)
    assert folder / "copy.png" in places(gallery, pseudonyms)
    assert run().unchanged == 6


def slice_of(path: Path, seed: int, uid: str | None = None) -> None:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8), np.uint8)
    save_dicom(path, make_dicom(pixels, **({"SOPInstanceUID": uid} if uid else {})))


def test_one_uid_with_other_pixels_is_a_conflict_and_the_first_stays(run: Any, tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("other", 2), ("same", 1)):
        slice_of(tmp_path / "uids" / f"{name}.dcm", seed, "1.2.3")
    report = run(tmp_path / "uids")
    assert (report.added, report.duplicates, report.conflicts) == (1, 2, 1)
    assert len(json.loads(report.report.read_text())["conflicting_images"]) == 1


def test_the_same_pixels_under_another_uid_are_counted_and_kept(run: Any, tmp_path: Path, gallery: Gallery) -> None:
    for name, seed in (("first", 1), ("other", 2), ("same", 1)):
        slice_of(tmp_path / "uids" / f"{name}.dcm", seed)
    report = run(tmp_path / "uids")
    assert (report.added, report.pixel_duplicates, gallery.count) == (3, 1, 3)
    ((later, first),) = json.loads(report.report.read_text())["images_of_same_pixels"]
    assert gallery.record(later).pixel_digest == gallery.record(first).pixel_digest


def test_the_same_pixels_under_another_uid_are_left_out_when_asked(run: Any, tmp_path: Path, gallery: Gallery) -> None:
    for name, seed in (("first", 1), ("other", 2), ("same", 1)):
        slice_of(tmp_path / "uids" / f"{name}.dcm", seed)
    report = run(tmp_path / "uids", duplicates="skip")
    assert (report.added, report.pixel_duplicates, gallery.count) == (2, 1, 2)
    assert run(tmp_path / "uids", duplicates="skip").unchanged == 3


def test_a_file_of_another_name_takes_its_images_along(
    run: Any, folder: Path, gallery: Gallery, pseudonyms: Pseudonyms
) -> None:
    run()
    ids = gallery.ids()
    (folder / "3.png").rename(folder / "new.png")
    report = run()
    assert (report.moved, report.added, report.unchanged, report.vanished, report.duplicates) == (1, 0, 5, 0, 0)
    assert gallery.ids() == ids
    assert folder / "new.png" in places(gallery, pseudonyms)
    assert run().unchanged == 6
    assert gallery.verify()["ok"]


def test_a_folder_of_another_name_takes_its_images_along(
    run: Any, folder: Path, gallery: Gallery, pseudonyms: Pseudonyms
) -> None:
    run()
    new = folder.rename(folder.parent / "moved")
    assert (run(new).moved, gallery.count) == (6, 6)
    assert places(gallery, pseudonyms) == sorted(new.iterdir())
    assert gallery.info()["files"] == {"decoded": 6}


def archive(path: Path, **seeds: int) -> None:
    with zipfile.ZipFile(path, "w") as members:
        for name, seed in seeds.items():
            members.write(write_image(path.parent.parent / "draft.png", seed), f"{name}.png")


def test_members_of_an_archive_are_files_like_others(
    run: Any,
    tmp_path: Path,
    gallery: Gallery,
    looked_at: list[str],
    pseudonyms: Pseudonyms,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cbmir.ingest.plan.file_sha256", lambda path: pytest.fail("read whole for one member"))
    (tmp_path / "zips").mkdir()
    path = tmp_path / "zips" / "a.zip"
    archive(path, x=1, y=2)
    assert (run(tmp_path / "zips").added, looked_at) == (2, ["a.zip/x.png", "a.zip/y.png"])
    assert (run(tmp_path / "zips").unchanged, len(looked_at)) == (2, 2)
    generation = gallery._store.generation()
    archive(path, x=1, y=2)
    os.utime(path, ns=(1, 1))
    run(tmp_path / "zips")  # looks at all members, and finds them the same
    assert (gallery._store.generation(), len(looked_at)) == (generation, 4)
    assert run(tmp_path / "zips").unchanged == 2
    archive(path, y=2, z=3)
    report = run(tmp_path / "zips")
    assert (report.added, report.vanished, gallery.count) == (1, 1, 3)
    assert json.loads(report.report.read_text())["vanished_files"] == [
        pseudonyms.handle(str(tmp_path / "zips"), "a.zip/x.png")
    ]
    assert gallery.verify()["ok"]


def test_a_file_without_a_picture_is_listed_and_not_looked_at_again(
    run: Any, folder: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch, handle: Callable[[str], str]
) -> None:
    def segmentation(ref: ImageRef, *others: Any) -> Decoded:
        decoded = decode_one(ref, *others)
        return Decoded(ref, "decoded", "A segmentation.", (), decoded.content_hash, decoded.size, decoded.mtime_ns)

    monkeypatch.setattr("cbmir.images.worker.decode_one", segmentation)
    first = run(folder / "3.png")
    assert first.not_indexed == ({"path": handle("3.png"), "outcome": "decoded", "reason": "A segmentation."},)
    assert (first.failed, first.outcomes["decoded"], gallery.count) == ((), 1, 0)
    monkeypatch.undo()
    again = run(folder / "3.png")
    assert (again.not_indexed, again.unchanged) == (first.not_indexed, 1)


def test_images_that_may_show_text_are_counted() -> None:
    tally = Tally(None)
    records = Record("a", attributes={"burned_in": "stated"}), Record("b", attributes={"modality": "US"})
    file = StoredFile("name", "folder", "handle", b"", 1, 2, "aa", "", "decoded")
    tally.commit([Entry(file, records)], Added(added=2))
    assert (tally.burned_in, tally.added) == (1, 2)


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


def test_no_report_names_a_file_or_folder(run: Any, tmp_path: Path, gallery: Gallery) -> None:
    data = tmp_path / "Canary"
    for name in ("Ann", "Bob"):
        write_image(data / "in" / f"{name}.png", 1)
    (data / "in" / "Cid.txt").write_text("no picture")
    run(data)
    (data / "in" / "Ann.png").unlink()
    run(data)
    reports = list((gallery.directory / "reports").iterdir())
    assert len(reports) == 2
    for report in reports:
        assert [word for word in ("Canary", "Ann", "Bob", "Cid", str(tmp_path)) if word in report.read_text()] == []


def test_a_run_tells_how_long_it_took(run: Any) -> None:
    started = time.monotonic()
    report = run()
    assert 0 < report.seconds <= time.monotonic() - started + 0.001
    assert report.rate == pytest.approx(6 / report.seconds, rel=0.05)


def test_progress_counts_every_file(folder: Path, gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    (folder / "note.txt").write_text("no picture")
    refs = list(sources.open_source(folder))
    seen: list[tuple[int, int | None]] = []

    def tell(done: int, total: int | None, _: Any) -> None:
        seen.append((done, total))

    index_source(refs, gallery, ENCODER, pseudonyms, workers=0, on_progress=tell)
    assert (seen[0], seen[-1]) == ((0, 7), (7, 7))
    seen.clear()
    index_source(refs, gallery, ENCODER, pseudonyms, workers=0, on_progress=tell)
    assert seen == [(0, 7), (7, 7)]


def test_the_total_of_what_is_drawn_one_by_one_is_not_known(run: Any) -> None:
    seen: list[int | None] = []
    run(on_progress=lambda done, total, _: seen.append(total))
    run(on_progress=lambda done, total, _: seen.append(total), total=6)
    assert seen == [None, None, 6, 6]


def test_the_total_is_known_as_soon_as_somebody_has_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.ingest.tally._COUNTING_DELAY_S", 0)
    may_count = threading.Event()
    counted, uncountable = Tally(None), Tally(None)
    find_total(iter([]), lambda: may_count.wait() and 6, counted)
    find_total(iter([]), lambda: 1 // 0, uncountable)
    assert counted.total is None
    may_count.set()
    deadline = time.monotonic() + 30
    while any(thread.name == "cbmir-count" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (counted.total, uncountable.total) == (6, None)


def test_what_progress_tells_is_durable(
    run: Any, folder: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbmir.ingest._COMMIT_IMAGES", 2)
    seen: list[tuple[int, int]] = []
    with Gallery.open(gallery.directory) as other:
        run(on_progress=lambda done, total, _: seen.append((done, other.count)))
    assert seen == [(0, 0), (2, 2), (4, 4), (6, 6)]


def test_a_source_is_drawn_as_far_as_the_decoders_take(
    folder: Path, gallery: Gallery, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbmir.ingest.plan.CHUNK", 4)
    monkeypatch.setattr("cbmir.ingest._COMMIT_IMAGES", 2)
    for number in range(6, 60):
        write_image(folder / f"{number}.png", number)
    drawn = 0
    when: list[tuple[int, int]] = []

    def refs() -> Iterator[ImageRef]:
        nonlocal drawn
        for ref in sources.open_source(folder):
            drawn += 1
            yield ref

    index_source(
        refs(), gallery, ENCODER, pseudonyms, workers=0, batch_size=2,
        on_progress=lambda done, total, _: when.append((done, drawn)),
    )  # fmt: skip
    assert when[-1] == (60, 60)
    assert max(drawn - done for done, drawn in when) <= 16


def test_many_chunks_are_like_one(run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.ingest.plan.CHUNK", 2)
    assert run().added == 6
    (folder / "1.png").unlink()
    (folder / "4.png").unlink()
    report = run()
    assert (report.unchanged, report.vanished) == (4, 2)


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


def rename(folder: Path, *names: tuple[str, str]) -> None:
    """All at once: a name that is given may be one that is taken."""
    for old, new in names:
        (folder / old).rename(folder / f"{new}.tmp")
    for _, new in names:
        (folder / f"{new}.tmp").rename(folder / new)


@pytest.mark.parametrize("step", [1, -1])
def test_renumbered_files_keep_all_their_images_in_one_run(
    run: Any, folder: Path, gallery: Gallery, step: int, pseudonyms: Pseudonyms
) -> None:
    for number in range(6):
        os.utime(folder / f"{number}.png", ns=(number, number))
    run()
    ids = gallery.ids()
    rename(folder, *[(f"{number}.png", f"{(number + step) % 6}.png") for number in range(6)])
    report = run()
    assert gallery.ids() == ids
    assert (report.duplicates, report.vanished) == (0, 0)
    assert places(gallery, pseudonyms) == sorted(folder.iterdir())
    assert (run().unchanged, gallery.ids()) == (6, ids)
    assert gallery.verify()["ok"]


def test_two_files_that_swap_names_keep_both_images(run: Any, folder: Path, gallery: Gallery) -> None:
    run()
    ids = gallery.ids()
    os.utime(folder / "0.png", ns=(1, 1))
    rename(folder, ("0.png", "1.png"), ("1.png", "0.png"))
    run()
    assert gallery.ids() == ids
    assert run().unchanged == 6


def test_an_archive_written_anew_and_renumbered_keeps_the_images_that_are_in_it(
    run: Any, tmp_path: Path, gallery: Gallery
) -> None:
    (tmp_path / "zips").mkdir()
    path = tmp_path / "zips" / "a.zip"
    archive(path, a=1, b=2, c=3, d=4, e=5)
    run(tmp_path / "zips")
    ids = set(gallery.ids())
    archive(path, a=2, b=3, c=4, d=5)
    os.utime(path, ns=(1, 1))
    run(tmp_path / "zips")
    assert gallery.count == 4  # the image of 1 was replaced by that of 2, where it was
    assert set(gallery.ids()) < ids
    assert gallery.verify()["ok"]


def test_the_first_of_two_copies_stays_when_only_its_time_changes(
    run: Any, folder: Path, gallery: Gallery, pseudonyms: Pseudonyms
) -> None:
    run()
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    os.utime(folder / "0.png", ns=(1, 1))
    report = run()
    assert (report.moved, report.duplicates, report.unchanged) == (0, 1, 6)
    assert folder / "0.png" in places(gallery, pseudonyms)
    assert run().unchanged == 7


def test_images_kept_with_the_pixels_of_others_are_not_skipped(run: Any, tmp_path: Path) -> None:
    for name in ("first", "other", "third"):
        slice_of(tmp_path / "uids" / f"{name}.dcm", 1)
    kept = run(tmp_path / "uids")
    assert (kept.skipped, kept.pixel_duplicates, kept.added) == (0, 2, 3)


def test_who_was_left_out_for_its_pixels_takes_over_when_the_first_has_gone(
    run: Any, tmp_path: Path, gallery: Gallery, looked_at: list[str], pseudonyms: Pseudonyms
) -> None:
    folder = tmp_path / "uids"
    for name in ("first", "second", "third"):
        slice_of(folder / f"{name}.dcm", 1)
    report = run(folder, duplicates="skip")
    assert (report.added, report.skipped, report.duplicates) == (1, 2, 0)
    (folder / "first.dcm").unlink()
    assert run(folder, duplicates="skip").vanished == 1
    looked_at.clear()
    report = run(folder, duplicates="skip")
    assert (report.moved, report.added, report.skipped, gallery.count) == (1, 0, 1, 1)
    assert places(gallery, pseudonyms) == [folder / "second.dcm"]
    looked_at.clear()
    assert (run(folder, duplicates="skip").unchanged, looked_at) == (2, [])
    assert gallery.info()["files"] == {"decoded": 2}


def limited(outcome: Outcome, tried: list[str], reason: str = "Its reason.") -> Callable[..., Decoded]:
    def look(ref: ImageRef, *others: Any) -> Decoded:
        tried.append(ref.shown)
        status = ref.path.stat()
        return Decoded(ref, outcome, reason, size=status.st_size, mtime_ns=status.st_mtime_ns)

    return look


@pytest.mark.parametrize(
    ("outcome", "more", "option"),
    [
        ("timed_out", {"timeout_s": 61}, "--timeout"),
        ("crashed", {"memory_bytes": 2**33}, "--memory"),
        ("crashed", {"memory_bytes": None}, "--memory"),
        ("refused", {"memory_bytes": 2**33}, "--memory"),
    ],
)
def test_what_failed_under_limits_is_tried_again_under_larger_ones_only(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome, more: dict[str, Any], option: str
) -> None:
    tried: list[str] = []
    with pytest.raises(BadImage) as caught, guarded("crashed", ""):
        raise MemoryError
    monkeypatch.setattr("cbmir.images.worker.decode_one", limited(outcome, tried, caught.value.reason))
    path = folder / "3.png"
    for _ in range(3):
        run(path)
    so_far = len(tried)
    assert so_far == (1 if outcome == "refused" else 2)
    assert option in run(path).failed[0]["reason"]
    run(path, timeout_s=10, memory_bytes=2**28)
    assert len(tried) == so_far
    for _ in range(4):
        run(path, **more)
    assert len(tried) == 2 * so_far
    run(path)
    assert len(tried) == 2 * so_far


def test_more_time_is_no_reason_to_look_at_what_is_damaged(run: Any, folder: Path, looked_at: list[str]) -> None:
    (folder / "3.png").write_text("no picture")
    run()
    looked_at.clear()
    run(timeout_s=600, memory_bytes=None)
    assert looked_at == []


@pytest.mark.parametrize("outcome", ["refused", "partial"])
def test_more_memory_is_no_reason_to_look_at_what_never_lacked_it(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    def read(ref: ImageRef, *others: Any) -> Decoded:
        tried.append(ref.shown)
        return replace(decode_one(ref, *others), outcome=outcome, reason="The file is a video.", images=())

    tried: list[str] = []
    monkeypatch.setattr("cbmir.images.worker.decode_one", read)
    run(folder / "3.png")
    run(folder / "3.png", memory_bytes=None)
    assert tried == ["3.png"]


def test_files_that_are_not_read_at_all_are_remembered_while_they_are_the_same(
    run: Any, tmp_path: Path, looked_at: list[str]
) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    (folder / "empty.dcm").touch()
    os.mkfifo(folder / "pipe")
    with zipfile.ZipFile(folder / "a.zip", "w") as members:
        members.writestr("../out.dcm", b"x")
    first = run(folder)
    assert sorted(file["outcome"] for file in first.failed) == ["not_an_image", "refused", "refused"]
    looked_at.clear()
    assert (run(folder).failed, looked_at) == (first.failed, [])
    write_image(folder / "new.png", 1)
    (folder / "new.png").replace(folder / "empty.dcm")
    assert (run(folder).added, looked_at) == (1, ["empty.dcm"])


def test_a_file_that_was_empty_when_it_was_read_and_is_filled_during_the_run_is_looked_at_again(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_before_it_was_copied(ref: ImageRef, *others: Any) -> Decoded:
        decoded = decode_one(ref, *others)
        write_image(ref.path, 9)
        return decoded

    (folder / "3.png").write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setattr("cbmir.images.worker.decode_one", read_before_it_was_copied)
        assert run(folder / "3.png").outcomes["not_an_image"] == 1
    assert run(folder / "3.png").added == 1


def test_a_file_that_has_become_empty_keeps_its_images_and_is_remembered(
    run: Any, folder: Path, gallery: Gallery, looked_at: list[str]
) -> None:
    run()
    (folder / "3.png").write_bytes(b"")
    assert len(run().failed) == 1
    looked_at.clear()
    assert (len(run().failed), looked_at, gallery.count) == (1, [], 6)


def test_a_folder_that_can_be_read_again_is_no_failed_file_any_more(
    run: Any, folder: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(folder / "locked" / "7.png", 7)
    (folder / "cut.zip").write_bytes(b"PK\x03\x04 cut off")
    scandir = os.scandir

    def guarded_scandir(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", guarded_scandir)
        assert len(run().failed) == 2
        assert len(run().failed) == 2  # and it stays one while it cannot be read
    assert sum(gallery.info()["files"].values()) == 8
    archive(folder / "cut.zip", x=1)
    report = run()
    assert (report.failed, report.vanished) == ((), 0)
    assert gallery.info()["files"] == {"decoded": 8}


def test_failed_files_of_a_folder_that_has_another_name_are_forgotten(run: Any, folder: Path, gallery: Gallery) -> None:
    (folder / "note.txt").write_text("no picture")
    run()
    new = folder.rename(folder.parent / "moved")
    run(new)
    assert gallery.info()["files"] == {"decoded": 6, "not_an_image": 1}


def test_a_seal_that_is_damaged_stops_no_run(run: Any, folder: Path, gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    run()
    gallery._store._connection.execute("UPDATE file SET place = x'00'")
    rename(folder, ("3.png", "new.png"))
    assert (run().moved, gallery.count) == (1, 6)
    assert [place.path for place in gallery.files(pseudonyms)].count(None) == 5


def test_a_gallery_inside_its_source_is_not_part_of_it(folder: Path, pseudonyms: Pseudonyms, tmp_path: Path) -> None:
    with Gallery.create(folder / "gallery", ENCODER, pseudonyms) as inside:
        for _ in range(2):
            report = index_source(sources.open_source(folder), inside, ENCODER, pseudonyms, workers=0)
            assert report.failed == ()
        assert inside.info()["files"] == {"decoded": 6}


def test_a_tally_appends_and_copies_nothing() -> None:
    tally = Tally(None)
    lists = tally.duplicates, tally.conflicts, tally.pixel_duplicates
    for number in range(3):
        tally.commit([], Added(1, 1, 1, 1, ((f"{number}", "handle"),), ("c",), (("a", "b"),)))
    assert (tally.duplicates, len(tally.conflicts), len(tally.pixel_duplicates)) == (["0", "1", "2"], 3, 3)
    assert (tally.added, tally.moved, tally.skipped) == (3, 3, 3)
    assert all(now is before for now, before in zip(
        (tally.duplicates, tally.conflicts, tally.pixel_duplicates), lists, strict=True
    ))  # fmt: skip
