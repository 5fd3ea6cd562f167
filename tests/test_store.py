"""The store: what add has returned from stays, whole; one writer, many readers; sentences when something is wrong."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cbmir.errors import BadGallery
from cbmir.files import GALLERY_DATABASE
from cbmir.store import Entry, Store, StoredFile
from cbmir.store.database import page_size
from cbmir.store.schema import MIGRATIONS
from cbmir.store.writing import TWINS, Writer
from cbmir.types import Record
from stores import LAYERS, bytes_of, entry, file_named, ids_of, is_due, new_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "gallery") as store:
        yield store


def test_a_record_comes_back_as_it_went_in(store: Store) -> None:
    record = Record(
        id="a", patient="p", study="s", series="r", frame_index=3, modality="CT", source="x",
        labels={"class": "knee", "view": "axial"}, predicted="lung", probability=0.25,
        attributes={"rows": "512"}, provenance={"format": "DICOM", "notes": ["mended"]}, pixel_digest="d",
    )  # fmt: skip
    features = {layer: np.zeros((1, dim), np.float32) for layer, dim in LAYERS.items()}
    file = StoredFile("name", "folder", "handle.dcm", b"\0sealed", 1, 2, "aa", "t", "partial", "Cut off.", 3, "0.1/2")
    store.add([Entry(file, (record,), features)])
    assert store.record("a") == record
    assert store.records(["b", "a"]) == {"a": record}
    assert store.record("b") is None
    assert store.file_of("a") == file
    assert list(store.files()) == list(store.files(["handle.dcm", "other"])) == [file]
    assert list(store.files(["other"])) == []
    assert store.files_named(["name", "other"]) == {"name": file}
    assert store.posterior("a") is None


def test_features_come_back_to_the_bit_by_class_and_id(store: Store) -> None:
    values = np.random.default_rng(0).standard_normal((2, 2)).astype(np.float32)
    store.add([entry("1", "z"), entry("2", "y", label="brain")])
    two = entry("3", "c", "b")
    store.add([Entry(two.file, two.records, {**two.features, "mean": values}, two.posterior)])
    (block,) = store.blocks("mean")
    assert block.ids == ("y", "b", "c", "z")
    assert block.groups == ("brain", "knee", "knee", "knee")
    assert block.owners["patient"][1] == "patient of b"
    assert np.array_equal(block.features[1:3], values[::-1])


def test_features_are_read_in_blocks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add([entry("1", *"abcde")])
    monkeypatch.setattr("cbmir.store.reading._BLOCK_BYTES", 2 * 4 * 2)
    assert [block.ids for block in store.blocks("mean")] == [("a", "b"), ("c", "d"), ("e",)]


def test_reading_a_layer_in_order_sorts_nothing(store: Store) -> None:
    """Else SQLite would copy every feature to a temporary file first."""
    seen: list[str] = []
    store._connection.set_trace_callback(seen.append)
    list(store.blocks("mean"))
    plan = store._connection.execute(f"EXPLAIN QUERY PLAN {seen[-1]}").fetchall()
    assert not any("TEMP B-TREE" in step[-1] for step in plan)


def test_a_record_without_label_is_of_its_predicted_class(store: Store) -> None:
    one = entry("1", "a")
    records = (Record(id="a", predicted="lung"),)
    store.add([Entry(one.file, records, one.features)])
    assert store.counts("class") == {"lung": 1}


def test_adding_moves_the_generation_and_touching_does_not(store: Store) -> None:
    assert store.generation() == 0
    store.add([entry("1", "a")])
    assert store.generation() == 1
    store.add([entry("2", outcome="corrupt")])
    store.touch([file_named("1", size=11, mtime_ns=99)])
    assert store.generation() == 1
    assert {file.name: (file.size, file.mtime_ns) for file in store.files()} == {"1": (11, 99), "2": (10, 20)}
    assert store.outcomes() == {"corrupt": 1, "decoded": 1}


def test_a_file_known_before_loses_its_old_records(store: Store) -> None:
    store.add([entry("1", "a", "b"), entry("2", "c")])
    added = store.add([entry("1", "d")])
    assert (added.added, added.replaced) == (1, 2)
    assert ids_of(store) == ids_of(store, "corner") == ["c", "d"]
    assert store.problems() == []


def test_a_file_that_cannot_be_read_any_more_keeps_the_records_it_gave(store: Store) -> None:
    store.add([entry("1", "a"), entry("2", "b")])
    added = store.add([entry("1", outcome="corrupt"), entry("2")])
    assert (added.added, added.replaced, ids_of(store)) == (0, 1, ["a"])  # the second is read, and shows no picture
    assert store.outcomes() == {"corrupt": 1, "decoded": 1}
    assert store.problems() == []


def owner_of(store: Store, record_id: str) -> str | None:
    file = store.file_of(record_id)
    return file and file.name


def test_the_first_of_two_images_with_one_id_stays(store: Store) -> None:
    store.add([entry("1", "a")])
    added = store.add([entry("2", "a", "b")])
    assert added.added == 1
    assert added.duplicates == (("a", "2.dcm"),)
    assert owner_of(store, "a") == "1"


def test_one_id_with_other_pixels_is_a_conflict_and_the_first_stays(store: Store) -> None:
    store.add([entry("1", "a", pixels="x"), entry("2", "b"), entry("3", "c", pixels="z")])
    added = store.add([entry("4", "a", pixels="y"), entry("5", "b", pixels="y"), entry("6", "c", pixels="z")])
    assert added.conflicts == ("a",)  # nothing is known of the pixels of b, and those of c are the same
    assert [record_id for record_id, _ in added.duplicates] == ["a", "b", "c"]
    assert store.records(["a"])["a"].pixel_digest == "x"


def test_the_same_pixels_under_another_id_are_noted_and_both_kept(store: Store) -> None:
    added = store.add([entry("1", "a", pixels="x"), entry("2", "b", pixels="x"), entry("3", "c"), entry("4", "d")])
    assert added.pixel_duplicates == (("b", "a"),)
    assert (added.added, store.count()) == (4, 4)


def test_the_same_pixels_under_another_id_are_left_out_when_asked(store: Store) -> None:
    store.add([entry("1", "a", pixels="x")])
    added = store.add([entry("2", "b", pixels="x"), entry("3", "c", pixels="y")], skip_same_pixels=True)
    assert added.pixel_duplicates == (("b", "a"),)
    assert (added.added, ids_of(store)) == (1, ["a", "c"])
    store.add([entry("1", "new")])
    assert is_due(store, "2")
    assert not is_due(store, "3")


def test_same_pixels_are_looked_up_in_an_index(store: Store) -> None:
    plan = store._all(f"EXPLAIN QUERY PLAN {TWINS}", ("x",))
    assert "record_by_pixels" in plan[0][-1]
    assert not any("TEMP B-TREE" in step[-1] for step in plan)  # the first is found without the others


def test_images_of_a_file_that_is_gone_go_over_to_the_file_that_brings_them(store: Store) -> None:
    store.add([entry("old", "a", "b"), entry("there", "c")])
    added = store.add(
        [entry("new", "a", label="lung"), entry("copy", "c")], gone=lambda file: file.name in ("old", "new")
    )
    assert (added.added, added.moved, added.duplicates) == (0, 1, (("c", "copy.dcm"),))
    assert owner_of(store, "a") == "new"
    assert store.records(["a"])["a"].label == "lung"
    assert {file.name for file in store.files()} == {"old", "new", "there", "copy"}
    assert store.add([entry("new", "a", "b")], gone=lambda file: True).moved == 1  # b; a was of this file already
    assert {file.name for file in store.files()} == {"new", "there", "copy"}
    assert ids_of(store) == ids_of(store, "corner") == ["a", "b", "c"]
    assert store.problems() == []


def test_when_the_first_goes_the_file_that_waited_behind_it_is_due_again(store: Store) -> None:
    store.add([entry("1", "a"), entry("2", "a")])
    assert not is_due(store, "2")
    store.add([entry("1", "new")])
    assert is_due(store, "2")


def test_a_survey_finds_what_is_known_and_what_was_not_asked_for(store: Store) -> None:
    store.add([entry(name, f"of {name}") for name in "abc"])
    store.add([Entry(file_named("d", folder="other"))])
    with store.survey() as survey:
        assert survey.lookup(["a", "x"]) == {"a": file_named("a")}
        store.add([entry("later", "of later")])
        assert [file.name for file in survey.unseen("folder")] == ["b", "c"]
        assert [file.name for file in survey.unseen("other")] == ["d"]
    with store.survey() as survey:  # another begins anew
        assert [file.name for file in survey.unseen("folder")] == ["a", "b", "c", "later"]


def test_a_survey_goes_through_any_number_of_files(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.store.survey._UNSEEN_AT_ONCE", 2)
    names = [f"{number:04}" for number in range(1207)]
    store.add([Entry(file_named(name)) for name in names])
    with store.survey() as survey:
        assert len(survey.lookup(names[7:])) == 1200  # more than SQLite takes parameters
        assert [file.name for file in survey.unseen("folder")] == names[:7]


def test_a_survey_may_be_made_in_another_thread_and_writes_beside_the_store(store: Store) -> None:
    store.add([entry("1", "a")])
    with store.writing(), store.survey() as survey, ThreadPoolExecutor(1) as thread:
        assert thread.submit(survey.lookup, ["1"]).result() == {"1": file_named("1")}
        thread.submit(survey.touch, [file_named("1", mtime_ns=99)]).result()
        store.add([entry("2", "b")])
    assert [file.mtime_ns for file in store.files()] == [99, 20]


def test_files_that_are_gone_are_forgotten_unless_they_gave_images(store: Store) -> None:
    store.add([entry("1", "a"), entry("2", outcome="corrupt"), entry("copy", "a"), entry("4", "b")])
    with store.survey() as survey:
        survey.settle([file_named("1"), file_named("2")])
    assert {file.name for file in store.files()} == {"1", "copy", "4"}
    assert [is_due(store, name) for name in ("1", "copy", "4")] == [False, True, False]
    assert ids_of(store) == ["a", "b"]


def test_a_batch_is_whole_or_not_there(store: Store) -> None:
    bad = entry("2", "b", value=float("nan"))
    with pytest.raises(BadGallery, match="finite"):
        store.add([entry("1", "a"), bad])
    assert store.count() == 0
    assert store.outcomes() == {}


def test_every_layer_is_wanted_with_its_dim(store: Store) -> None:
    one = entry("1", "a")
    with pytest.raises(BadGallery, match="3 features of layer corner"):
        store.add([Entry(one.file, one.records, {"mean": one.features["mean"]}, one.posterior)])


def test_a_reader_sees_one_moment_while_another_writes(store: Store) -> None:
    store.add([entry("1", "a")])
    with Store.open(store.directory) as reader:
        with reader.snapshot():
            assert reader.generation() == 1
            store.add([entry("2", "b")])
            assert ids_of(reader) == ["a"]
        assert ids_of(reader) == ["a", "b"]
        assert reader.meta()["note"] == "mine"
        assert reader.card() == {"name": "toy"}


def test_a_second_writer_is_told_in_one_sentence(store: Store) -> None:
    with Store.open(store.directory) as other:
        with store.writing(), store.writing():
            with pytest.raises(BadGallery, match="another process is writing"):
                other.add([entry("1", "a")])
            assert other.count() == 0
        other.add([entry("1", "a")])
    assert store.count() == 1


def test_the_right_to_write_ends_with_the_process(store: Store) -> None:
    code = f"""
import os
from pathlib import Path
from cbmir.store import Store
with Store.open(Path({str(store.directory)!r})).writing():
    print("writing", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        with pytest.raises(BadGallery, match="another process is writing"):
            store.add([entry("1", "a")])
        process.kill()
    store.add([entry("1", "a")])
    assert store.count() == 1


def test_there_is_no_gallery(tmp_path: Path) -> None:
    with pytest.raises(BadGallery, match="no gallery in"):
        Store.open(tmp_path)


def test_a_gallery_is_not_made_over_something_else(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BadGallery, match=r"a gallery in .* already"):
        Store.create(store.directory, LAYERS, {}, card={})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    with pytest.raises(BadGallery, match="other files"):
        Store.create(tmp_path / "full", LAYERS, {}, card={})
    with pytest.raises(BadGallery, match="names a file"):
        Store.create(tmp_path / "full" / "note", LAYERS, {}, card={})


def test_a_creation_cut_short_leaves_no_gallery_and_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("cbmir.store.database.migrate", lambda connection: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Store.create(tmp_path, LAYERS, {}, card={})
    with pytest.raises(BadGallery, match="no gallery in"):
        Store.open(tmp_path)
    with Store.create(tmp_path, LAYERS, {}, card={}) as store:
        assert store.count() == 0


def test_the_log_is_synced_before_a_write_is_acknowledged(store: Store) -> None:
    assert store._all("PRAGMA journal_mode") == [("wal",)]
    assert store._all("PRAGMA synchronous") == [(2,)]  # FULL


def test_a_database_of_something_else_is_told(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / GALLERY_DATABASE).close()
    with pytest.raises(BadGallery, match="no database of cbmir"):
        Store.open(tmp_path)


def test_a_file_that_is_no_database_is_damage(tmp_path: Path) -> None:
    (tmp_path / GALLERY_DATABASE).write_text("not a database, but long enough to look at; " * 20)
    with pytest.raises(BadGallery, match="damaged"):
        Store.open(tmp_path)


def test_a_newer_schema_is_refused_and_an_older_one_brought_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.close()
    newer = (*MIGRATIONS, ("CREATE TABLE extra (x)",))
    with monkeypatch.context() as patch:
        patch.setattr("cbmir.store.database.MIGRATIONS", newer)
        with Store.open(store.directory) as reopened:
            assert reopened._all("SELECT count(*) FROM extra") == [(0,)]
    with pytest.raises(BadGallery, match="newer cbmir"):
        Store.open(store.directory)


VERSION_1 = MIGRATIONS[0]


def old_gallery(directory: Path, **names: str) -> sqlite3.Connection:
    """A store as version 1 made it, with an image (id: its letter) of each file, and traces of files it knew before."""
    directory.mkdir()
    connection = sqlite3.connect(directory / GALLERY_DATABASE, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    assert isinstance(VERSION_1, tuple)
    for statement in (*VERSION_1, "PRAGMA user_version = 1"):
        connection.execute(statement)
    connection.execute("INSERT INTO meta VALUES ('generation', '1'), ('encoder', '\"toy\"')")
    connection.executemany("INSERT INTO layer (name, dim) VALUES (?, ?)", list(LAYERS.items()))
    insert = "INSERT INTO file (root, shown, size, mtime_ns, content_hash, told, outcome, reason) VALUES "
    connection.execute("BEGIN")
    for number, (record_id, name) in enumerate(names.items(), 1):
        connection.execute(f"{insert}(?, ?, 1, 2, 'aa', '', 'decoded', NULL)", ("/data/Canary", f"Canary/{name}.dcm"))
        connection.execute(
            """INSERT INTO record (id, file, frame_index, class, labels, attributes, provenance)
            VALUES (?, ?, 0, 'knee', '{}', '{}', '{}')""",
            (record_id, number),
        )
        rows = [(number, layer, b"\0" * 4 * dim) for layer, dim in enumerate(LAYERS.values(), 1)]
        connection.executemany("INSERT INTO feature VALUES (?, ?, ?)", rows)
    failed = [("/data/Canary", f"Canary/{number:05}.txt") for number in range(3000)]
    connection.executemany(f"{insert}(?, ?, 1, 2, 'aa', '', 'corrupt', 'Canary')", failed)
    connection.execute("INSERT INTO duplicate VALUES (3, 'a')")
    connection.execute("COMMIT")
    connection.execute("DELETE FROM file WHERE number % 2 = 0 AND outcome = 'corrupt'")
    return connection


def test_a_gallery_of_version_1_keeps_its_images_and_no_path_in_any_byte(tmp_path: Path) -> None:
    old = old_gallery(tmp_path / "old", a="Canary^Ann", b="Canary^Bob")
    old.close()
    assert b"Canary" in bytes_of(tmp_path / "old")
    with Store.open(tmp_path / "old") as store:
        assert b"Canary" not in bytes_of(store.directory)
        assert ids_of(store) == ["a", "b"]
        assert [(file.handle, file.place, file.outcome) for file in store.files()] == [("", b"", "decoded")] * 2
        assert store.problems() == []
        assert store._all("PRAGMA foreign_key_check") == []
        assert store.add([entry("new", "a")], gone=lambda file: not file.place).moved == 1
        assert ids_of(store) == ["a", "b"]
    assert b"Canary" not in bytes_of(tmp_path / "old")


def test_a_gallery_of_version_1_that_somebody_reads_is_brought_up_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbmir.store.database._BUSY_S", 0.05)
    with closing(old_gallery(tmp_path / "old", a="Canary^Ann")) as old:
        old.execute("BEGIN")
        old.execute("SELECT count(*) FROM record").fetchone()
        with pytest.raises(BadGallery, match="another process"):
            Store.open(tmp_path / "old")
        old.execute("ROLLBACK")
    with Store.open(tmp_path / "old") as store:
        assert ids_of(store) == ["a"]
        assert b"Canary" not in bytes_of(store.directory)


def test_what_is_missing_inside_is_found(store: Store) -> None:
    store.add([entry("1", "a"), entry("2", "b")])
    store._connection.execute("DELETE FROM feature WHERE rowid = 1")
    store._connection.execute("PRAGMA foreign_keys = OFF")
    store._connection.execute("DELETE FROM file WHERE name = '2'")
    assert [(problem.sentence, problem.kind, problem.ids) for problem in store.problems()] == [
        ("1 records have no whole features of layer mean", "features", ("a",)),
        ("1 records belong to no file", "record", ("b",)),
    ]


@pytest.mark.parametrize(
    ("dims", "size"),
    [
        ([4096], 4096),  # 16,384 bytes: four whole pages and a small rest
        ([512], 16384),  # 2,048 bytes: 4,096 would hold one row a page, 16,384 holds seven
        ([1024], 4096),  # 4,096 bytes: one whole page and a rest, of which eight fit a page
    ],
)
def test_the_page_size_wastes_least(dims: list[int], size: int) -> None:
    assert page_size(dims) == size


@pytest.mark.parametrize("dim", [128, 512, 576, 1024, 2048, 4096])
def test_the_database_is_little_larger_than_its_features(tmp_path: Path, dim: int) -> None:
    n = 2_000_000 // dim
    records = tuple(Record(id=f"{i:032}", patient=f"{i:032}", labels={"class": "knee"}) for i in range(n))
    features = {"layer": np.random.default_rng(0).random((n, dim), np.float32)}
    with Store.create(tmp_path / "gallery", {"layer": dim}, {}, card={}) as store:
        store.add([Entry(file_named("1"), records, features)])
        pages = store._all("PRAGMA page_count")[0][0] * store._all("PRAGMA page_size")[0][0]
    assert pages - 700 * n < 1.15 * 4 * dim * n  # a record, with its entries in indexes, takes some 700 bytes


def test_a_copy_brought_after_the_owner_was_looked_at_again_is_a_duplicate(store: Store) -> None:
    """The owner has changed on disk, and this is how it is now: its images are not taken from it."""
    store.add([entry("1", "a"), entry("2", "b")])
    added = store.add([entry("1", "b"), entry("2", "a"), entry("3", "a", "b")], gone=lambda file: True)
    assert (added.moved, added.added, added.replaced) == (1, 1, 1)
    assert added.duplicates == (("a", "3.dcm"), ("b", "3.dcm"))
    assert (owner_of(store, "a"), owner_of(store, "b")) == ("2", "1")


def test_a_file_that_loses_one_of_its_images_to_another_is_looked_at_again(store: Store) -> None:
    store.add([entry("1", "a", "b")])
    store.add([entry("2", "a")], gone=lambda file: True)
    assert is_due(store, "1")
    store.touch([file_named("1", mtime_ns=99)])  # by somebody who looked before
    assert is_due(store, "1")


def test_an_image_left_out_for_its_pixels_takes_over_from_a_file_that_is_gone(store: Store) -> None:
    def gone(file: StoredFile) -> bool:
        return file.name == "1"

    store.add([entry("1", "a", pixels="x")])
    store.add([entry("2", "b", pixels="x"), entry("3", "c", pixels="x")], skip_same_pixels=True)
    added = store.add([entry("2", "b", pixels="x")], skip_same_pixels=True, gone=gone)
    assert (added.moved, added.skipped, added.pixel_duplicates, ids_of(store)) == (1, 0, (), ["b"])
    assert is_due(store, "3")
    added = store.add([entry("3", "c", pixels="x")], skip_same_pixels=True, gone=gone)
    assert (added.moved, added.skipped, added.pixel_duplicates) == (0, 1, (("c", "b"),))
    assert store.problems() == []


def test_an_image_waits_behind_one_of_the_same_pixels_that_is_there(store: Store) -> None:
    store.add([entry("1", "a", pixels="x"), entry("2", "b", pixels="x")])
    added = store.add([entry("3", "c", pixels="x")], skip_same_pixels=True, gone=lambda file: file.name == "1")
    assert (added.skipped, added.pixel_duplicates) == (1, (("c", "b"),))


def test_whether_files_are_gone_is_asked_once_and_not_inside_the_transaction(store: Store) -> None:
    asked: list[tuple[str, bool]] = []

    def gone(file: StoredFile) -> bool:
        asked.append((file.name, store._connection.in_transaction))
        return True

    store.add([entry("1", "a", "b", pixels="x")])
    store.add([entry("2", "a", "b", "c", pixels="x")], gone=gone, skip_same_pixels=True)
    assert asked == [("1", False)]


def test_a_survey_waits_for_its_turn_however_long_the_store_writes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cbmir.store.database._BUSY_S", 0.01)
    store.add([entry("1", "a")])
    put = Writer.put
    with store.writing(), store.survey() as survey, ThreadPoolExecutor(1) as thread:

        def put_slowly(self: Writer, one: Entry) -> None:
            put(self, one)
            touched.append(thread.submit(survey.touch, [file_named("1", mtime_ns=99)]))
            time.sleep(0.2)

        touched: list[Future[None]] = []
        monkeypatch.setattr(Writer, "put", put_slowly)
        store.add([entry("2", "b")])
        assert touched[0].result() is None
    assert [file.mtime_ns for file in store.files()] == [99, 20]


@pytest.fixture
def read_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store's folder, which nobody may write into (the tests may run as root, whom no mode stops)."""
    store.add([entry("1", "a")])
    store.close()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    return store.directory


def test_a_store_that_cannot_be_written_is_read_and_nothing_is_left_beside_it(read_only: Path) -> None:
    before = {path.name: path.read_bytes() for path in read_only.iterdir()}
    with Store.open(read_only) as store:
        assert (ids_of(store), store.writable, store.problems()) == (["a"], False, [])
        assert {path.name: path.read_bytes() for path in read_only.iterdir()} == before
        with pytest.raises(BadGallery, match="read-only here"):
            store.add([entry("2", "b")])
    assert {path.name: path.read_bytes() for path in read_only.iterdir()} == before


def test_what_a_log_holds_is_read_where_nothing_can_be_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add([entry("1", "a")])
    assert (store.directory / f"{GALLERY_DATABASE}-wal").stat().st_size > 0
    monkeypatch.setattr(os, "access", lambda *_: False)
    with Store.open(store.directory) as reader:
        assert ids_of(reader) == ["a"]
        with pytest.raises(BadGallery, match="read-only here"):
            reader.add([entry("2", "b")])


def test_an_old_store_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old_gallery(tmp_path / "old", a="Ann").close()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(BadGallery, match="older cbmir: open it once where it can be written"):
        Store.open(tmp_path / "old")


def test_files_without_images_of_a_folder_are_forgotten(store: Store) -> None:
    store.add([entry("1", "a"), entry("2", outcome="corrupt"), Entry(file_named("3", folder="other"))])
    with store.survey() as survey:
        assert sorted(survey.folders()) == ["folder", "other"]
        assert survey.without_images("folder") == file_named("2", "corrupt")
        survey.forget("folder")
        assert survey.without_images("folder") is None
    assert [file.name for file in store.files()] == ["1", "3"]
