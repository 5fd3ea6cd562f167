"""Images leave a gallery for good: no byte of them is left in any file, and no index run brings them back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from cbmir.errors import BadGallery
from cbmir.gallery import Gallery
from cbmir.privacy import Pseudonyms
from cbmir.store import Store
from cbmir.upkeep import removal as removals
from cbmir.upkeep import remove, what_would_go
from cbmir.upkeep.reindexing import reindex
from wards import SketchEncoder, every_byte, index_ward, write_image

ENCODER = cast(Any, SketchEncoder())
PER_PATIENT = 7


@pytest.fixture
def gallery(ward: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> Iterable[Gallery]:
    with Gallery.create(tmp_path / "gallery", ENCODER, pseudonyms) as gallery:
        (ward / "Miller^0" / "torn.dcm").write_bytes((ward / "Miller^0" / "0-0.dcm").read_bytes()[:-90])
        index_ward(ward, gallery, pseudonyms)
        for record_id in gallery.ids()[:2]:
            gallery.search_id(record_id)  # so that there are matrices
            gallery.search_id(record_id, layer="small")
        yield gallery


def left_behind(gallery: Gallery, ids: Iterable[str]) -> Callable[[], list[str]]:
    """Says afterwards, by a search of its own, what is left of these images in the files of the gallery."""
    wanted: dict[bytes, str] = {}
    for record in gallery.records(list(ids)).values():
        file = gallery.store.file_of(record.id)
        assert file is not None
        for name in (record.id, record.patient, record.study, record.series, record.pixel_digest, file.name):
            assert name is not None
            wanted |= {name.encode(): f"text {name}", bytes.fromhex(name): f"bytes of {name}"}
        wanted |= {file.handle.encode(): "handle", file.place: "place"}
    for layer in gallery.layers:
        for row in gallery.store.rows(layer, list(ids)).features:
            wanted |= {row[start : start + 8].tobytes(): f"row of {layer}" for start in range(0, len(row) - 8, 8)}

    def look() -> list[str]:
        files = every_byte(gallery.directory)
        return sorted(
            {f"{what} in {path}" for path, data in files.items() for one, what in wanted.items() if one in data}
        )

    return look


def of_patient(gallery: Gallery, number: int, pseudonyms: Pseudonyms) -> list[str]:
    return gallery.store.ids_of("patient", [pseudonyms.of("patient", f"MRN-{number}")])


def test_a_patient_leaves_no_byte_in_any_file(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    theirs = of_patient(gallery, 1, pseudonyms)
    assert len(theirs) == PER_PATIENT
    look = left_behind(gallery, theirs)
    assert len({what.split(" in ")[0].split()[0] for what in look()}) == 4  # the search does find what is there
    removal = remove(gallery, "patient", ["MRN-1"], pseudonyms)
    assert look() == []
    assert (removal.records, removal.files, removal.before) == (PER_PATIENT, 5, 0)
    assert removal.proof.found == []
    assert removal.proof.looked_for["ids"] == 2 * PER_PATIENT
    assert removal.proof.looked_for["features"] >= 2 * PER_PATIENT
    assert removal.proof.looked_for["handles"] == removal.proof.looked_for["sealed places"] == 5
    assert removal.proof.bytes > 10_000
    assert gallery.verify() == {"ok": True, "records": 2 * PER_PATIENT, "problems": []}


def test_the_others_stay_as_they_were(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    others = of_patient(gallery, 0, pseudonyms) + of_patient(gallery, 2, pseudonyms)
    before = gallery.store.rows("sketch", others).features.tobytes(), gallery.records(others)
    remove(gallery, "patient", ["MRN-1"], pseudonyms)
    assert (gallery.store.rows("sketch", others).features.tobytes(), gallery.records(others)) == before
    assert gallery.ids() == sorted(others)
    hits = gallery.search_id(others[0], 100, hide="none")
    assert {hit.id for hit in hits} == set(others[1:])


@pytest.mark.parametrize(("what", "value", "n_gone"), [("study", "1.2.2", 7), ("series", "1.2.2.1", 2)])
def test_a_study_or_a_series_is_named_by_its_uid_or_by_its_pseudonym(
    what: Any, value: str, n_gone: int, gallery: Gallery, pseudonyms: Pseudonyms
) -> None:
    by_pseudonym = what_would_go(gallery, what, [pseudonyms.of(what, value)], pseudonyms)
    assert by_pseudonym == what_would_go(gallery, what, [value], pseudonyms)
    assert by_pseudonym["would_remove"]["records"] == n_gone
    look = left_behind(gallery, by_pseudonym["ids"]) if what == "study" else list
    removal = remove(gallery, what, [pseudonyms.of(what, value)], pseudonyms)
    assert (removal.records, removal.proof.found, look()) == (n_gone, [], [])


def test_one_frame_of_a_file_goes_and_its_patient_stays(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    cine = gallery.store.ids_of("series", [pseudonyms.of("series", "1.2.1.10")])
    removal = remove(gallery, "id", cine[:1], pseudonyms)
    assert (removal.records, removal.files, removal.proof.found) == (1, 0, [])
    assert removal.proof.shared["pseudonyms"] >= 3  # patient, study and series have other images
    assert gallery.store.ids_of("series", [pseudonyms.of("series", "1.2.1.10")]) == cine[1:]


def test_an_index_run_does_not_bring_them_back(gallery: Gallery, ward: Path, pseudonyms: Pseudonyms) -> None:
    remove(gallery, "patient", ["MRN-1"], pseudonyms)
    write_image(ward / "Miller^1" / "new.dcm", 1, 3, 0)  # another image of the same patient
    write_image(ward / "Miller^2" / "new.dcm", 2, 3, 0)
    report = index_ward(ward, gallery, pseudonyms)
    assert (report.added, gallery.count) == (1, 2 * PER_PATIENT + 1)
    assert of_patient(gallery, 1, pseudonyms) == []
    assert index_ward(ward, gallery, pseudonyms).added == 0
    known = [file for file in gallery.store.files() if not file.place]
    assert len(known) == 6  # remembered, so that they are not read again, and not where they are


def test_an_image_that_was_removed_alone_lets_others_of_its_patient_in(
    gallery: Gallery, ward: Path, pseudonyms: Pseudonyms
) -> None:
    one = pseudonyms.image("1.2.2.1.1", 0)
    remove(gallery, "id", [one], pseudonyms)
    write_image(ward / "Miller^1" / "new.dcm", 1, 3, 0)
    assert index_ward(ward, gallery, pseudonyms).added == 1
    assert one not in gallery.ids()


def test_readmitted_they_come_back(gallery: Gallery, ward: Path, pseudonyms: Pseudonyms) -> None:
    before = gallery.ids()
    remove(gallery, "patient", ["MRN-1"], pseudonyms)
    index_ward(ward, gallery, pseudonyms)
    assert gallery.store.readmit() == PER_PATIENT + 1
    assert index_ward(ward, gallery, pseudonyms).added == PER_PATIENT
    assert gallery.ids() == before


def test_a_value_that_names_nobody_removes_nothing(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    for values in (["MRN-7"], ["MRN-1", "MRN-7"]):
        for attempt in (what_would_go, remove):
            with pytest.raises(BadGallery, match="no image of this patient") as caught:
                attempt(gallery, "patient", values, pseudonyms)
            assert "MRN" not in str(caught.value)
    assert gallery.count == 3 * PER_PATIENT


def test_removing_again_is_no_error(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    remove(gallery, "patient", ["MRN-1"], pseudonyms)
    again = remove(gallery, "patient", ["MRN-1", "MRN-2"], pseudonyms)
    assert (again.records, again.before, again.proof.found) == (PER_PATIENT, 1, [])


def test_the_key_is_asked_for(gallery: Gallery) -> None:
    with pytest.raises(BadGallery, match="pseudonym key"):
        remove(gallery, "patient", ["MRN-1"], Pseudonyms(b"another key, 32 bytes long......"))


def test_a_dry_run_changes_nothing(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    gallery.search_id(gallery.ids()[0])
    before = every_byte(gallery.directory)
    told = what_would_go(gallery, "patient", ["MRN-1", "MRN-2"], pseudonyms)
    assert told["would_remove"] == {"records": 14, "patients": 2, "studies": 2, "series": 6}
    assert every_byte(gallery.directory) == before


def test_run_reports_that_name_them_go_too(gallery: Gallery, ward: Path, pseudonyms: Pseudonyms) -> None:
    """Reports name what failed and what was brought twice."""
    twin = ward / "Miller^1" / "again.dcm"
    twin.write_bytes((ward / "Miller^1" / "0-0.dcm").read_bytes())
    report = index_ward(ward, gallery, pseudonyms)
    assert report.duplicates == 1
    twin.unlink()
    write_image(ward / "Miller^2" / "new.dcm", 2, 3, 0)
    kept = index_ward(ward, gallery, pseudonyms)
    report.html.write_text("the page of " + json.loads(report.report.read_text())["duplicate_images"][0])
    removal = remove(gallery, "patient", ["MRN-1"], pseudonyms)
    assert removal.reports >= 1
    assert removal.proof.found == []
    assert not report.report.exists()
    assert not report.html.exists()
    assert kept.report.exists()


def test_files_that_waited_behind_theirs_are_looked_for_too(
    gallery: Gallery, ward: Path, pseudonyms: Pseudonyms
) -> None:
    """A copy of a file gives no image, and is known all the same."""
    (ward / "Miller^1" / "again.dcm").write_bytes((ward / "Miller^1" / "0-0.dcm").read_bytes())
    before = {file.name for file in gallery.store.files()}
    index_ward(ward, gallery, pseudonyms)
    [copy] = [file for file in gallery.store.files() if file.name not in before]
    (gallery.directory / "notes.txt").write_text(f"see {copy.handle}")
    removal = remove(gallery, "patient", ["MRN-1"], pseudonyms)
    assert (removal.files, removal.proof.looked_for["handles"]) == (6, 6)
    assert [one["file"] for one in removal.proof.found] == ["notes.txt"]


def test_reports_on_files_that_stay_stay(gallery: Gallery, ward: Path, pseudonyms: Pseudonyms) -> None:
    """A file of which one frame goes is still known, and may be named."""
    cine = gallery.store.ids_of("series", [pseudonyms.of("series", "1.2.2.10")])
    file = gallery.store.file_of(cine[0])
    assert file is not None
    report = gallery.directory / "reports" / "index-1.json"
    report.write_text(file.handle)
    assert remove(gallery, "id", cine[:1], pseudonyms).reports == 0
    assert report.exists()
    assert remove(gallery, "id", cine[1:], pseudonyms).reports == 1
    assert not report.exists()


def test_what_a_killed_run_left_of_its_report_goes_and_what_is_no_report_is_found(
    gallery: Gallery, pseudonyms: Pseudonyms
) -> None:
    one = of_patient(gallery, 1, pseudonyms)[0]
    reports = gallery.directory / "reports"
    for name in ("index-1.json.new", "index-2.html.new", "notes.txt"):
        (reports / name).write_text(one)
    removal = remove(gallery, "patient", ["MRN-1"], pseudonyms)
    assert [one["file"] for one in removal.proof.found] == ["reports/notes.txt"]
    assert not list(reports.glob("*.new"))


def test_a_damaged_record_of_somebody_else_hides_nothing(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    other = of_patient(gallery, 0, pseudonyms)[0]
    with closing(sqlite3.connect(gallery.directory / "gallery.sqlite")) as connection, connection:
        connection.execute("UPDATE record SET patient = 'x', study = 'no digits' WHERE id = ?", (other,))
    (gallery.directory / "notes.txt").write_text(f"see {pseudonyms.of('patient', 'MRN-1')}")
    found = remove(gallery, "patient", ["MRN-1"], pseudonyms).proof.found
    assert [one["file"] for one in found] == ["notes.txt"]


def test_what_lies_in_the_folder_beside_is_found(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    """The proof looks at every file, also at those that no one knows of."""
    record = gallery.record(of_patient(gallery, 1, pseudonyms)[0])
    row = gallery.store.rows("sketch", [record.id]).features.tobytes()
    (gallery.directory / "notes.txt").write_text(f"see {record.patient}")
    (gallery.directory / "old.copy").write_bytes(b"xyz" + row)
    (gallery.directory / "matrix" / "old.copy").write_bytes(row)  # but what lies there is the gallery's, and goes
    removal = remove(gallery, "patient", ["MRN-1"], pseudonyms)
    found = [(one["file"], one["what"]) for one in removal.proof.found]
    assert found == [("notes.txt", "pseudonyms"), ("old.copy", "features")]


def test_the_same_picture_of_somebody_else_is_no_trace(gallery: Gallery, ward: Path, pseudonyms: Pseudonyms) -> None:
    write_image(ward / "Miller^2" / "same.dcm", 2, 4, 0, seed=1000)  # what 0-0 of patient 1 shows
    index_ward(ward, gallery, pseudonyms)
    removal = remove(gallery, "patient", ["MRN-1"], pseudonyms)
    assert removal.proof.found == []
    assert removal.proof.shared["pixel digests"] == 1
    assert removal.proof.shared["features"] >= 2


@pytest.mark.parametrize("step", ["compact", "_delete_reports", "scrub", "_prove"])
def test_cut_short_the_same_call_goes_on(
    step: str, gallery: Gallery, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = left_behind(gallery, of_patient(gallery, 1, pseudonyms))

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store if step == "scrub" else removals, step, cut)
        with pytest.raises(KeyboardInterrupt):
            remove(gallery, "patient", ["MRN-1"], pseudonyms)
    with Gallery.open(gallery.directory) as again:
        removal = remove(again, "patient", ["MRN-1"], pseudonyms)
    assert (removal.records, removal.before, removal.proof.found, look()) == (0, 1, [], [])
    if step != "_prove":
        assert removal.proof.looked_for["ids"] == 2 * PER_PATIENT  # the log still told them


def test_features_of_other_encoders_go_too(gallery: Gallery, ward: Path, pseudonyms: Pseudonyms) -> None:
    reindex(gallery, cast(Any, SketchEncoder(turned=True)), pseudonyms)
    with Gallery.open(gallery.directory) as turned:
        theirs = of_patient(turned, 1, pseudonyms)
        rows = [turned.store.rows("sketch", theirs, state).features for state in ("current", "previous")]
        removal = remove(turned, "patient", ["MRN-1"], pseudonyms)
        assert removal.proof.found == []
        blob = b"".join(every_byte(turned.directory).values())
        for features in rows:
            assert not any(row[start : start + 8].tobytes() in blob for row in features for start in range(0, 136, 8))


def test_a_reader_that_keeps_the_log_is_told_and_can_be_waited_for(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    with Store.open(gallery.directory) as reader:
        with reader.snapshot():
            assert reader.count() == 3 * PER_PATIENT
            with pytest.raises(BadGallery, match="reading"):
                remove(gallery, "patient", ["MRN-1"], pseudonyms)
        assert gallery.count == 2 * PER_PATIENT
        assert remove(gallery, "patient", ["MRN-1"], pseudonyms).proof.found == []


def test_numbers_of_many_images_are_bounded(gallery: Gallery, pseudonyms: Pseudonyms, monkeypatch: Any) -> None:
    """Of very many rows fewer pieces each are looked for, but of each row one."""
    monkeypatch.setattr("cbmir.upkeep.evidence.MOST_PIECES", 1)
    removal = remove(gallery, "patient", ["MRN-1"], pseudonyms)
    assert removal.proof.looked_for["features"] == 2 * PER_PATIENT
    assert removal.proof.found == []
