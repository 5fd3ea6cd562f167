"""The store: what add has returned from stays, whole; one writer, many readers; sentences when something is wrong."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cbmir.errors import BadGallery, Outcome
from cbmir.store import Entry, Store, StoredFile
from cbmir.store.database import DATABASE, MIGRATIONS, page_size
from cbmir.types import Record

LAYERS = {"mean": 2, "corner": 3}


def entry(shown: str, *ids: str, label: str = "knee", outcome: Outcome = "decoded", value: float = 1.0) -> Entry:
    """A file with one record per id; all its features are `value`."""
    records = tuple(
        Record(id=name, patient=f"patient of {name}", frame_index=frame, labels={"class": label})
        for frame, name in enumerate(ids)
    )
    return Entry(
        StoredFile("/data", shown, 10, 20, "aa", "", outcome),
        records,
        {layer: np.full((len(ids), dim), value, np.float32) for layer, dim in LAYERS.items()},
        np.full((len(ids), 2), 0.5, np.float32),
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "gallery", LAYERS, {"encoder": "toy"}) as store:
        yield store


def ids_of(store: Store, layer: str = "mean") -> list[str]:
    return [name for block in store.blocks(layer) for name in block.ids]


def test_a_record_comes_back_as_it_went_in(store: Store) -> None:
    record = Record(
        id="a", patient="p", study="s", series="r", frame_index=3, modality="CT", source="x",
        labels={"class": "knee", "view": "axial"}, predicted="lung", probability=0.25,
        attributes={"rows": "512"}, provenance={"format": "DICOM", "notes": ["mended"]},
    )  # fmt: skip
    features = {layer: np.zeros((1, dim), np.float32) for layer, dim in LAYERS.items()}
    store.add([Entry(StoredFile("/data", "a.dcm", 1, 2, "aa", "t", "decoded"), (record,), features)])
    assert store.record("a") == record
    assert store.records(["b", "a"]) == {"a": record}
    assert store.record("b") is None
    assert store.file_of("a") == StoredFile("/data", "a.dcm", 1, 2, "aa", "t", "decoded")
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
    monkeypatch.setattr("cbmir.store._BLOCK_BYTES", 2 * 4 * 2)
    assert [block.ids for block in store.blocks("mean")] == [("a", "b"), ("c", "d"), ("e",)]


def test_reading_a_layer_in_order_sorts_nothing(store: Store) -> None:
    """Else SQLite would copy every feature to a temporary file first."""
    seen: list[str] = []
    store._connection.set_trace_callback(seen.append)
    list(store.blocks("mean"))
    plan = store._connection.execute(f"EXPLAIN QUERY PLAN {seen[0]}").fetchall()
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
    store.touch([StoredFile("/data", "1", 11, 99, "aa", "", "decoded")])
    assert store.generation() == 1
    assert {file.shown: file.mtime_ns for file in store.files("/data")} == {"1": 99, "2": 20}
    assert store.outcomes() == {"corrupt": 1, "decoded": 1}


def test_a_file_known_before_loses_its_old_records(store: Store) -> None:
    store.add([entry("1", "a", "b"), entry("2", "c")])
    added = store.add([entry("1", "d")])
    assert (added.added, added.replaced) == (1, 2)
    assert ids_of(store) == ids_of(store, "corner") == ["c", "d"]
    assert store.problems() == []


def test_the_first_of_two_images_with_one_id_stays(store: Store) -> None:
    store.add([entry("1", "a")])
    added = store.add([entry("2", "a", "b")])
    assert added.added == 1
    assert added.duplicates == (("a", "2"),)
    assert store.file_of("a") is not None
    assert store.file_of("a").shown == "1"  # type: ignore[union-attr]


def test_when_the_first_goes_the_file_that_waited_behind_it_is_due_again(store: Store) -> None:
    store.add([entry("1", "a"), entry("2", "a")])
    store.add([entry("1", "new")])
    waiting = next(file for file in store.files() if file.shown == "2")
    assert (waiting.mtime_ns, waiting.content_hash) == (-1, "")


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
        assert reader.meta()["encoder"] == "toy"


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
        Store.create(store.directory, LAYERS, {})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    with pytest.raises(BadGallery, match="other files"):
        Store.create(tmp_path / "full", LAYERS, {})
    with pytest.raises(BadGallery, match="is a file"):
        Store.create(tmp_path / "full" / "note", LAYERS, {})


def test_a_creation_cut_short_leaves_no_gallery_and_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("cbmir.store.database.migrate", lambda connection: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Store.create(tmp_path, LAYERS, {})
    with pytest.raises(BadGallery, match="no gallery in"):
        Store.open(tmp_path)
    with Store.create(tmp_path, LAYERS, {}) as store:
        assert store.count() == 0


def test_the_log_is_synced_before_a_write_is_acknowledged(store: Store) -> None:
    assert store._all("PRAGMA journal_mode") == [("wal",)]
    assert store._all("PRAGMA synchronous") == [(2,)]  # FULL


def test_a_database_of_something_else_is_told(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / DATABASE).close()
    with pytest.raises(BadGallery, match="no database of cbmir"):
        Store.open(tmp_path)


def test_a_file_that_is_no_database_is_damage(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("not a database, but long enough to look at; " * 20)
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


def test_what_is_missing_inside_is_found(store: Store) -> None:
    store.add([entry("1", "a"), entry("2", "b")])
    store._connection.execute("DELETE FROM feature WHERE rowid = 1")
    store._connection.execute("UPDATE file SET outcome = 'corrupt' WHERE shown = '2'")
    assert store.problems() == [
        "1 records have no whole features of layer mean",
        "1 records belong to no decoded file",
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
    with Store.create(tmp_path / "gallery", {"layer": dim}, {}) as store:
        store.add([Entry(StoredFile("/data", "1", 1, 2, "aa", "", "decoded"), records, features)])
        pages = store._all("PRAGMA page_count")[0][0] * store._all("PRAGMA page_size")[0][0]
    assert pages - 700 * n < 1.15 * 4 * dim * n  # a record, with its entries in indexes, takes some 700 bytes
