"""Removal: what is removed is in no table and, after a scrub, in no byte; it does not come back unless it is let in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cbmir.errors import BadGallery
from cbmir.files import GALLERY_DATABASE
from cbmir.store import Entry, Store
from cbmir.types import Record
from stores import bytes_of, entry, ids_of, is_due, new_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "gallery") as store:
        yield store


def of_image(record: Record) -> Sequence[str]:
    return [f"digest of {record.id}"]


def of_nothing(record: Record) -> Sequence[str]:
    return ()


def of_patient(record: Record) -> Sequence[str]:
    return [f"digest of {record.patient}"]


def of_both(record: Record) -> Sequence[str]:
    return [*of_image(record), *of_patient(record)]


def names(store: Store) -> set[str]:
    return {file.name for file in store.files()}


def test_an_image_is_removed_with_its_file_when_that_has_no_other(store: Store) -> None:
    store.add([entry("1", "a"), entry("2", "b", "c")])
    removed = store.remove("id", ["b", "a"], of_image)
    assert (removed.ids, removed.handles) == (("a", "b"), ("1.dcm",))
    assert (removed.n_records, removed.n_files, removed.unknown) == (2, 1, ())
    assert (ids_of(store), ids_of(store, "corner"), names(store)) == (["c"], ["c"], {"2"})
    assert store.problems() == []


@pytest.mark.parametrize(("unit", "value", "left"), [("patient", "p", ["c"]), ("study", "s", ["b", "c"]),
                                                      ("series", "r", ["a", "c"])])  # fmt: skip
def test_all_images_of_a_patient_a_study_or_a_series_are_removed(
    unit: str, value: str, left: list[str], store: Store
) -> None:
    store.add([entry("1", "a", patient="p", study="s"), entry("2", "b", patient="p", series="r"), entry("3", "c")])
    assert store.ids_of(unit, [value]) == sorted({"a", "b", "c"} - set(left))  # type: ignore[arg-type]
    store.remove(unit, [value], of_image)  # type: ignore[arg-type]
    assert store.ids() == left


def test_what_is_not_there_is_told_and_changes_nothing(store: Store) -> None:
    store.add([entry("1", "a")])
    removed = store.remove("patient", ["nobody"], of_patient)
    assert (removed.n_records, removed.unknown, store.generation()) == (0, ("nobody",), 1)
    assert store.remove("id", ["a", "x"], of_image).unknown == ("x",)


def test_one_removes_by_known_units_only(store: Store) -> None:
    with pytest.raises(ValueError, match="removed by modality"):
        store.remove("modality", ["CT"], of_image)  # type: ignore[arg-type]


def test_any_number_of_images_is_removed_at_once(store: Store) -> None:
    store.add([entry("1", *(f"{number:04}" for number in range(1300)))])
    assert store.remove("id", [f"{number:04}" for number in range(1200)], of_image).n_records == 1200
    assert store.count() == 100


def test_what_was_removed_does_not_come_back(store: Store) -> None:
    store.add([entry("1", "a")])
    store.remove("id", ["a"], of_image)
    added = store.add([entry("2", "a", "b")], erased=of_both)
    assert (added.added, added.erased, store.ids()) == (1, 1, ["b"])
    assert store.add([entry("3", "a")], erased=of_patient).added == 1  # no digest of its patient was kept


def test_whether_something_was_removed_is_told_by_its_digest(store: Store) -> None:
    store.add([entry("1", "a")])
    store.remove("id", ["a"], of_image)
    assert store.are_erased(["other", "digest of a"])
    assert not store.are_erased(["digest of b"])
    assert not store.are_erased([])


def test_nor_does_another_image_of_a_patient_who_was_removed(store: Store) -> None:
    store.add([entry("1", "a", patient="p")])
    store.remove("patient", ["p"], of_patient)
    added = store.add([entry("2", "new", patient="p"), entry("3", "other", patient="q")], erased=of_both)
    assert (added.added, added.erased, store.ids()) == (1, 1, ["other"])


def test_a_file_with_nothing_but_removed_images_is_known_without_its_place(store: Store) -> None:
    """So it is not read again at each run, and nobody finds it by what the gallery keeps."""
    store.add([entry("1", "a")])
    store.remove("id", ["a"], of_image)
    store.add([entry("1", "a")], erased=of_image)
    (file,) = store.files()
    assert (file.name, file.place, file.mtime_ns) == ("1", b"", 20)
    with store.survey() as survey:
        assert survey.without_images("folder") is None  # it does not stand for its folder


def test_readmitted_images_come_back_with_the_next_run(store: Store) -> None:
    store.add([entry("1", "a"), entry("2", "b", "c"), entry("3", "d")])
    store.remove("id", ["a", "b"], of_image)
    store.add([entry("1", "a")], erased=of_image)
    assert store.readmit() == 2
    assert [is_due(store, name) for name in "123"] == [True, True, False]
    store.add([entry("1", "a"), entry("2", "b", "c")], erased=of_image)
    assert store.ids() == ["a", "b", "c", "d"]
    assert store.readmit() == 0
    assert not is_due(store, "1")


def test_an_erased_image_in_a_file_that_is_looked_at_again_makes_it_due_when_readmitted(store: Store) -> None:
    store.add([entry("1", "a", "b")])
    store.remove("id", ["a"], of_image)
    assert store.add([entry("1", "a", "b")], erased=of_image).erased == 1
    store.add([entry("1", outcome="corrupt")], erased=of_image)  # keeps what it gave
    store.readmit()
    assert is_due(store, "1")


def test_files_that_waited_behind_a_removed_image_go_too_or_are_looked_at_again(store: Store) -> None:
    store.add([entry("1", "a"), entry("copy", "a"), entry("more", "a", "b")])
    removed = store.remove("id", ["a"], of_image)
    assert removed.handles == ("1.dcm", "copy.dcm")
    assert names(store) == {"more"}
    assert is_due(store, "more")
    assert store.add([entry("copy", "a"), entry("more", "a", "b")], erased=of_image).erased == 2
    assert store.problems() == []


def test_an_image_that_was_left_out_for_the_pixels_of_a_removed_one_comes_in(store: Store) -> None:
    store.add([entry("1", "a", pixels="x")])
    store.add([entry("2", "b", pixels="x")], skip_same_pixels=True)
    store.remove("id", ["a"], of_image)
    assert store.add([entry("2", "b", pixels="x")], skip_same_pixels=True, erased=of_image).added == 1


def test_the_rows_of_every_encoder_go(store: Store) -> None:
    store.add([entry("1", "a"), entry("2", "b")])
    store.begin_next({"name": "two"}, {"flat": 1})
    one = entry("1", "a")
    store.put_next([replace(one, features={"flat": np.ones((1, 1), np.float32)})])
    store.remove("id", ["a"], of_image)
    assert store.rows("flat", ["a"], "next").ids == ()
    assert (store.audit_next(), store.problems()) == (["b"], [])


SECRET = "5ec12e7" * 4
FEATURE = np.float32(1234.5678).tobytes()


def traces(directory: Path) -> list[str]:
    """Which traces of SECRET are in any file."""
    whole = bytes_of(directory)
    looked_for = {
        "text": SECRET.encode(), "bytes": bytes.fromhex(SECRET), "features": FEATURE * 2, "place": b"sealed place"
    }  # fmt: skip
    return [name for name, trace in looked_for.items() if trace in whole]


def secret_entries() -> Iterator[Entry]:
    """Many others, between which SQLite moves the secret ones about while it splits and joins pages."""
    draw = np.random.default_rng(0)
    for number in draw.permutation(3000).tolist():
        secret = number % 500 == 0
        one = entry(
            f"{number:05}", f"{SECRET}{number}" if secret else draw.bytes(16).hex(),
            patient=SECRET if secret else draw.bytes(16).hex(), study=draw.bytes(16).hex(),
            value=1234.5678 if secret else float(draw.random()),
        )  # fmt: skip
        yield replace(one, file=one.file._replace(place=b"sealed place")) if secret else one


def test_after_the_database_is_written_anew_no_byte_of_what_was_removed_is_left_in_any_file(store: Store) -> None:
    entries = list(secret_entries())
    for start in range(0, len(entries), 50):
        store.add(entries[start : start + 50])
    assert traces(store.directory) == ["text", "features", "place"]
    removed = store.remove("patient", [SECRET], lambda record: ["a digest under another key"])
    assert removed.n_records == 6
    store.add([entry(f"later {number}", f"later {number}") for number in range(200)])
    store.scrub(store.generation(), smaller=True)
    assert traces(store.directory) == []
    assert (store.count(), store.problems()) == (3194, [])


def test_pieces_that_sqlite_left_where_it_moved_rows_are_gone_too(store: Store) -> None:
    """When it splits or joins pages it copies rows, and the old bytes stay between those of the page; this draw has
    some of them. They are no longer what was deleted, and are not written over with it.
    """
    draw = np.random.default_rng(13)

    def name() -> str:
        return draw.bytes(16).hex()

    entries = [
        entry(name(), name(), patient=name(), study=name(), value=float(draw.random())) for _ in range(2000)
    ]  # fmt: skip
    secret = entries[::10]
    with store.writing():
        for start in range(0, 2000, 50):
            store.add(entries[start : start + 50])
        for start in range(0, 200, 20):
            store.remove("id", [one.records[0].id for one in secret[start : start + 20]], of_nothing)
    store.scrub(store.generation(), smaller=True)
    whole = bytes_of(store.directory)
    for one in secret:
        record = one.records[0]
        for trace in (one.file.name, record.id, record.patient, record.study):
            assert trace is not None
            assert trace.encode() not in whole


def test_a_scrub_forgets_the_changes_it_is_told_to(store: Store) -> None:
    store.add([entry("1", "a")])
    store.add([entry("2", "b")])
    store.scrub()
    assert store.changes_since(0) == ["a", "b"]
    store.scrub(1)
    assert (store.changes_since(0), store.changes_since(1)) == (None, ["b"])


def test_a_scrub_tells_when_somebody_goes_on_reading_and_can_be_done_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbmir.store.database._BUSY_S", 0.05)
    store.add([entry("1", "a")])
    with Store.open(store.directory) as reader, Store.open(store.directory) as scrubbing:
        with reader.snapshot():
            assert reader.ids() == ["a"]
            scrubbing.remove("id", ["a"], of_image)
            with pytest.raises(BadGallery, match="somebody goes on reading"):
                scrubbing.scrub()
            assert reader.ids() == ["a"]
        scrubbing.scrub()
    assert b"patient of a" not in bytes_of(store.directory)


def test_removal_finds_its_rows_by_indexes(store: Store) -> None:
    """Else each image would cost a walk through the gallery."""
    store.add([entry("1", "a")])
    seen: list[str] = []
    with closing(sqlite3.connect(store.directory / GALLERY_DATABASE)) as plain:
        store._connection.set_trace_callback(seen.append)
        store.remove("study", ["s"], of_image)
        store.remove("id", ["a"], of_image)
        for sql in seen:
            if sql.split()[0] in ("SELECT", "DELETE", "UPDATE") and " meta" not in sql:
                plan = [step[-1] for step in plain.execute(f"EXPLAIN QUERY PLAN {sql}")]
                assert not any(step.startswith("SCAN") and "CONSTANT" not in step for step in plan), (sql, plan)


def test_every_connection_writes_over_what_it_deletes(store: Store) -> None:
    with store.survey() as survey:
        for connection in (store._connection, survey._connection):
            assert connection.execute("PRAGMA secure_delete").fetchone() == (1,)


def test_the_database_gets_smaller_when_that_is_asked_for(store: Store) -> None:
    def size() -> int:
        return (store.directory / GALLERY_DATABASE).stat().st_size

    store.add([entry(f"{number}", f"{number}") for number in range(3000)])
    store.remove("id", [f"{number}" for number in range(2990)], of_image)
    store.scrub()
    before = size()
    store.scrub(smaller=True)
    assert size() < before / 2
    assert (store.count(), store.problems()) == (10, [])
