"""The matrix of a gallery: made once, kept while the store moves on a little, made again when it has moved far."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest

from cbmir.errors import BadGallery
from cbmir.index import layer as layers
from cbmir.index import matrix as matrices
from cbmir.index.matrix import Matrix, building, compact, open_matrix, problems
from cbmir.store import Entry, Store
from cbmir.types import Record
from stores import CARD, LAYERS, entry, file_named, largest_file, new_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "gallery") as store:
        yield store


def put(store: Store, name: str, value: float, label: str = "knee", **others: str) -> None:
    store.add([entry(name, name, label=label, value=value, **others)])


def remove(store: Store, *ids: str) -> None:
    store.remove("id", ids, lambda record: ())


def nearest(matrix: Matrix, value: float, k: int = 9) -> list[str]:
    """Ids in the order of their distance from a point of which all features are this value."""
    dim = LAYERS[matrix.layer]
    return matrix.names(matrix.index.search(np.full(dim, value, np.float32), k).positions)


def files(store: Store) -> dict[str, int]:
    """Names and inodes: another inode is a file made anew."""
    return {path.name: path.stat().st_ino for path in (store.directory / "matrix").iterdir()}


def test_the_first_opening_makes_the_files_of_all_layers(store: Store) -> None:
    put(store, "a", 1)
    assert nearest(open_matrix(store, "mean"), 1) == ["a"]
    assert sorted(files(store)) == ["corner.matrix", "mean.matrix", "records.columns"]


def test_nothing_is_made_again_while_nothing_changes(store: Store) -> None:
    put(store, "a", 1)
    open_matrix(store, "mean")
    before = files(store)
    open_matrix(store, "corner")
    assert files(store) == before


def test_rows_are_mapped_and_cannot_be_written(store: Store) -> None:
    put(store, "a", 1)
    base = open_matrix(store, "mean").base
    assert not base.exact.rows.flags.writeable
    assert base.exact.coarse is not None


def test_what_is_added_is_found_beside_the_old_files(store: Store) -> None:
    put(store, "b", 1)
    open_matrix(store, "mean")
    before = files(store)
    put(store, "a", 1)
    put(store, "c", 3)
    matrix = open_matrix(store, "mean")
    assert nearest(matrix, 0) == ["a", "b", "c"]  # a and b are equally far: by id
    assert matrix.generation == store.generation()
    assert files(store) == before


def test_what_is_removed_is_in_no_result_and_has_no_position(store: Store) -> None:
    put(store, "a", 1)
    put(store, "b", 2, patient="p")
    open_matrix(store, "mean")
    remove(store, "b")
    matrix = open_matrix(store, "mean")
    assert nearest(matrix, 2) == ["a"]
    assert matrix.position("b") is None
    assert matrix.live.tolist() == [True, False]
    assert matrix.belonging_to("patient", "p").tolist() == []


def test_what_is_changed_is_found_as_it_is_now(store: Store) -> None:
    put(store, "a", 1, patient="p")
    put(store, "b", 2, patient="p")
    open_matrix(store, "mean")
    put(store, "a", 5, label="lung", patient="q")
    matrix = open_matrix(store, "mean")
    assert nearest(matrix, 5) == ["a", "b"]
    position = matrix.position("a")
    assert matrix.index.features(np.array([position]))[0].tolist() == [5, 5]
    assert matrix.names(matrix.belonging_to("patient", "q")) == ["a"]
    assert matrix.names(matrix.belonging_to("patient", "p")) == ["b"]
    column = matrix.columns["class"]
    assert [column.values[code] for code in column.codes[matrix.live]] == ["knee", "lung"]


def test_positions_of_many_ids_are_found_at_once(store: Store) -> None:
    for name in ("d", "b", "h"):
        put(store, name, 1, label="z" if name == "b" else "knee")
    open_matrix(store, "mean")
    put(store, "c", 1)
    remove(store, "h")
    matrix = open_matrix(store, "mean")
    assert matrix.positions(["a", "b", "c", "d", "h", "z"]).tolist() == [-1, 2, 3, 0, -1, -1]
    assert matrix.position("c") == 3
    assert matrix.names(np.array([3, 0, 2])) == ["c", "d", "b"]


def test_what_was_read_of_the_changes_is_not_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "a", 1)
    put(store, "b", 2)
    open_matrix(store, "mean")
    for name, value in (("c", 3), ("d", 4), ("e", 5)):
        put(store, name, value)
    known = open_matrix(store, "mean")
    put(store, "d", 9, label="an earlier class")
    remove(store, "a", "c")
    asked = []
    rows = Store.rows
    monkeypatch.setattr(Store, "rows", lambda self, layer, ids: asked.append(ids) or rows(self, layer, ids))
    matrix = open_matrix(store, "mean", known)
    assert asked == [["a", "c", "d"]]
    assert nearest(matrix, 0) == ["b", "e", "d"]
    assert nearest(matrix, 0) == nearest(open_matrix(store, "mean"), 0)
    assert _told(matrix) == _told(open_matrix(store, "mean"))
    assert matrix.live.tolist() == open_matrix(store, "mean").live.tolist()
    assert nearest(known, 0) == ["a", "b", "c", "d", "e"]


def test_of_a_matrix_made_of_other_files_nothing_is_taken_over(store: Store) -> None:
    put(store, "a", 1)
    known = open_matrix(store, "mean")
    put(store, "b", 2)
    compact(store)
    assert nearest(open_matrix(store, "mean", known), 0) == ["a", "b"]
    assert nearest(open_matrix(store, "corner", known), 0) == ["a", "b"]


def test_after_many_changes_the_files_are_made_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrices, "_CHANGED_ROWS", 1)
    put(store, "a", 1)
    open_matrix(store, "mean")
    before = files(store)
    put(store, "b", 2)
    assert len(open_matrix(store, "mean").delta.block.ids) == 1
    assert files(store) == before
    put(store, "c", 2)
    assert len(open_matrix(store, "mean").delta.block.ids) == 0
    assert {name for name, inode in files(store).items() if inode != before[name]} == set(before)


def test_another_encoder_makes_its_own_files(store: Store) -> None:
    put(store, "a", 1)
    open_matrix(store, "mean")
    store.begin_next(CARD, {"mean": 3})
    old = entry("a", "a")
    store.put_next([Entry(old.file, old.records, {"mean": np.full((1, 3), 7, np.float32)}, old.posterior)])
    store.swap_next()
    matrix = open_matrix(store, "mean")
    assert matrix.index.features(np.array([0]))[0].tolist() == [7, 7, 7]
    assert matrix.base.encoder == store.encoder_number()


def test_columns_hold_labels_attributes_and_what_the_encoder_says(store: Store) -> None:
    records = (
        Record("a", modality="CT", labels={"class": "knee", "view": "axial"}, predicted="hip", source="north"),
        Record("b", modality="MR", predicted="hip", attributes={"age_band": "40-49", "modality": "never this"}),
    )
    features = {layer: np.ones((2, dim), np.float32) for layer, dim in LAYERS.items()}
    store.add([Entry(file_named("1"), records, features)])
    told = _told(open_matrix(store, "mean"))
    assert told == {
        "age_band": ["40-49", None],
        "class": ["hip", "knee"],
        "label": [None, "knee"],
        "modality": ["MR", "CT"],
        "predicted": ["hip", "hip"],
        "source": [None, "north"],
        "view": [None, "axial"],
    }


def test_values_of_the_delta_join_those_of_the_base(store: Store) -> None:
    put(store, "a", 1, label="knee", patient="p")
    open_matrix(store, "mean")
    put(store, "b", 1, label="hip", patient="p")
    put(store, "c", 1, label="knee", patient="o")
    matrix = open_matrix(store, "mean")
    assert _told(matrix)["class"] == ["knee", "hip", "knee"]
    assert matrix.columns["class"].values == ("knee", "hip")
    patients = matrix.owners["patient"]
    assert [patients.values[code] for code in patients.codes] == ["p", "p", "o"]
    with pytest.raises(KeyError):
        matrix.columns["nothing of the kind"]


def _told(matrix: Matrix) -> dict[str, list[str | None]]:
    columns = matrix.columns.items()
    return {name: [c.values[code] if code >= 0 else None for code in c.codes.tolist()] for name, c in columns}


def test_an_empty_gallery_has_an_empty_matrix(store: Store) -> None:
    matrix = open_matrix(store, "mean")
    assert nearest(matrix, 1) == []
    assert matrix.position("a") is None
    put(store, "a", 1)
    assert nearest(open_matrix(store, "mean"), 1) == ["a"]
    assert problems(store, "mean") == []


def test_a_gallery_that_cannot_be_written_is_searched_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", 1)
    monkeypatch.setattr(Store, "writable", False)
    assert nearest(open_matrix(store, "mean"), 1) == ["a"]
    assert not (store.directory / "matrix").exists()
    assert problems(store, "mean") == []


@pytest.mark.parametrize("name", ["mean.matrix", "records.columns"])
@pytest.mark.parametrize("left", [0, 40, 0.5, -1], ids=["nothing", "40 bytes", "half", "all but a byte"])
def test_a_torn_file_is_made_again(store: Store, name: str, left: float) -> None:
    put(store, "a", 1)
    open_matrix(store, "mean")
    path = store.directory / "matrix" / name
    size = path.stat().st_size
    os.truncate(path, int(size * left) if 0 < left < 1 else int(left) % size)
    assert nearest(open_matrix(store, "mean"), 1) == ["a"]
    assert problems(store, "mean") == []


def test_a_header_with_a_flipped_bit_is_no_header(store: Store) -> None:
    put(store, "a", 1)
    open_matrix(store, "mean")
    path = store.directory / "matrix" / "mean.matrix"
    path.write_bytes(path.read_bytes().replace(b'"squared_norms"', b'"squared_norns"'))
    assert nearest(open_matrix(store, "mean"), 1) == ["a"]


def test_a_flipped_bit_is_told_and_files_that_are_removed_are_made_again(store: Store) -> None:
    put(store, "a", 1)
    put(store, "b", 2)
    open_matrix(store, "mean")
    path = store.directory / "matrix" / "mean.matrix"
    content = bytearray(path.read_bytes())
    content[64] ^= 1
    path.write_bytes(content)
    (told,) = problems(store, "mean")
    assert "rows does not match its checksum; `cbmir verify --repair` makes it again" in told
    assert problems(store, "corner") == []
    path.unlink()
    assert problems(store, "mean") == []


def test_a_row_that_search_cannot_find_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms that are wrong mislead the scan, though the rows are right."""
    for number in range(80):
        put(store, f"{number:02}", number)
    open_matrix(store, "mean")
    path = store.directory / "matrix" / "mean.matrix"
    norms = open_matrix(store, "mean").base.exact.squared_norms.tobytes()
    content = path.read_bytes()
    path.write_bytes(content.replace(norms, norms[4:] + norms[:4]))
    monkeypatch.setattr(matrices, "_damaged", lambda store, layer: [])  # as if it had been written so
    assert any("do not find themselves in layer mean" in problem for problem in problems(store, "mean"))


def test_after_compaction_no_removed_record_is_in_any_file(store: Store) -> None:
    for name in ("first-image", "second-image"):
        put(store, name, len(name) / 3, patient=f"patient-of-{name}")
    features = np.full(2, len("second-image") / 3, np.float32).tobytes()
    open_matrix(store, "mean")
    folder = store.directory / "matrix"
    (folder / "mean.matrix.new").write_bytes(b"second-image")
    (folder / "older.matrix").write_bytes(b"second-image")
    remove(store, "second-image")
    compact(store)
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"first-image" in content
    assert b"second-image" not in content
    assert features not in content
    assert sorted(files(store)) == ["corner.matrix", "mean.matrix", "records.columns"]
    assert len(open_matrix(store, "mean").index) == 1


def test_a_gallery_without_matrix_has_nothing_to_compact(store: Store) -> None:
    compact(store)
    assert not (store.directory / "matrix").exists()


def test_a_record_without_features_is_named(store: Store) -> None:
    put(store, "a", 1)
    put(store, "b", 1)
    store._connection.execute("DELETE FROM feature WHERE record = (SELECT number FROM record WHERE id = 'b')")
    with pytest.raises(BadGallery, match=r"image b has no features.*verify --repair"):
        open_matrix(store, "mean")


def test_what_a_killed_process_has_left_is_removed_when_files_are_made(store: Store) -> None:
    put(store, "a", 1)
    open_matrix(store, "mean")
    (store.directory / "matrix" / "mean.matrix.new").write_bytes(b"half")
    (store.directory / "matrix" / "mean.matrix").unlink()
    open_matrix(store, "mean")
    assert sorted(files(store)) == ["corner.matrix", "mean.matrix", "records.columns"]


def test_one_process_builds_and_the_others_take_what_it_has_made(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "a", 1)
    made: list[str] = []
    make = matrices._make
    monkeypatch.setattr(matrices, "_make", lambda store, layers: made.append("once") or make(store, layers))

    def search() -> list[str]:
        with Store.open(store.directory) as other:
            return nearest(open_matrix(other, "mean"), 1)

    with ThreadPoolExecutor(4) as pool:
        with building(store):
            asked = [pool.submit(search) for _ in range(4)]
            assert not wait(asked, timeout=0.2).done  # all wait, none builds
        assert [one.result() for one in asked] == [["a"]] * 4
    assert made == ["once"]


def test_a_full_disk_is_told_and_leaves_nothing_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(store.directory) as other:
        other.add([entry("a", *(f"{n:04}" for n in range(2000)))])
    with largest_file(30_000), pytest.raises(BadGallery, match="cannot be used: File too large"):
        open_matrix(store, "mean")
    assert files(store) == {}
    assert len(open_matrix(store, "mean").index) == 2000


def test_a_layer_of_too_many_features_for_whole_sums_has_no_eight_bit_copy(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "MAX_DIM", 2)
    put(store, "a", 1)
    assert open_matrix(store, "mean").base.exact.coarse is not None
    assert open_matrix(store, "corner").base.exact.coarse is None
    assert nearest(open_matrix(store, "corner"), 1) == ["a"]
