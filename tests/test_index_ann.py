"""The approximate index: only for plain searches, with exact distances; elsewhere search is exact."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from cbmir.errors import BadGallery, UsageError
from cbmir.index import Scope, ann
from cbmir.index.ann import build_ann, with_ann
from cbmir.index.matrix import Matrix, compact, open_matrix
from cbmir.store import Entry, Store
from cbmir.types import Record
from stores import CARD, file_named, largest_file

pytest.importorskip("faiss")

N, DIM = 1500, 8


@pytest.fixture(autouse=True)
def _it_pays_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann, "PAYS_FROM", 1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """1,500 images in two classes, 15 to each of 100 places."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((100, DIM)), 15, axis=0) + rng.standard_normal((N, DIM)) / 10
    with Store.create(tmp_path / "gallery", {"code": DIM}, {}, card=CARD) as store:
        put(store, "1", {f"{row:04}": rows[row] for row in range(N)})
        yield store


def put(store: Store, file: str, rows: Mapping[str, np.ndarray]) -> None:
    records = tuple(Record(name, labels={"class": f"c{int(name) % 2}"}) for name in rows)
    store.add([Entry(file_named(file), records, {"code": np.stack(list(rows.values())).astype(np.float32)})])


def opened(store: Store) -> Matrix:
    return with_ann(open_matrix(store, "code"), store)


def test_a_plain_search_is_approximate_with_exact_distances(store: Store) -> None:
    report = build_ann(store, "code")
    assert report["recall@10"] >= 0.99
    assert (report["kind"], report["rows"], report["generation"]) == ("hnsw", N, store.generation())
    matrix = opened(store)
    query = matrix.base.exact.rows[3]
    found, exact = matrix.index.search(query, 5), matrix.base.exact.search(query, 5)
    assert (found.by, exact.by) == ("ann", "exact")
    assert found.positions.tolist() == exact.positions.tolist()
    assert found.distances.tolist() == exact.distances.tolist()
    assert found.n_candidates == N


@pytest.mark.parametrize(
    "scope",
    [Scope(groups=("c1",)), Scope(penalties={"c0": 3.0}), Scope(rows=np.arange(0, N, 50)), Scope(farthest=True)],
    ids=["class", "soft gate", "filter", "farthest"],
)
def test_every_other_search_is_exact(store: Store, scope: Scope) -> None:
    build_ann(store, "code")
    matrix = opened(store)
    query = matrix.base.exact.rows[3]
    found, exact = matrix.index.search(query, 20, scope), matrix.base.exact.search(query, 20, scope)
    assert found.by == "exact"
    assert found.positions.tolist() == exact.positions.tolist()


def test_hidden_rows_are_made_up_for(store: Store) -> None:
    build_ann(store, "code")
    matrix = opened(store)
    query = matrix.base.exact.rows[0]
    nearest = matrix.base.exact.search(query, 200).positions
    found = matrix.index.search(query, 3, Scope(hidden=nearest[:150]))
    assert found.positions.tolist() == nearest[150:153].tolist()
    assert found.n_candidates == N - 150


def test_nearly_everything_is_searched_exactly(store: Store) -> None:
    build_ann(store, "code")
    found = opened(store).index.search(np.zeros(DIM, np.float32), N)
    assert (len(found), found.by) == (N, "exact")


def test_it_serves_on_while_a_little_changes(store: Store) -> None:
    """Its own rows that are out of date are hidden, new ones are searched beside it."""
    build_ann(store, "code")
    query = open_matrix(store, "code").base.exact.rows[0]
    put(store, "2", {"9001": query})
    matrix = opened(store)
    found = matrix.index.search(query, 1, Scope(hidden=np.array([0])))
    assert matrix.names(found.positions) == ["9001"]
    assert found.by == "ann"


def test_one_that_is_out_of_date_is_not_used_and_the_search_says_so(store: Store) -> None:
    build_ann(store, "code")
    put(store, "2", {"9001": np.zeros(DIM)})
    (store.directory / "matrix" / "records.columns").unlink()  # so the files are made again
    found = opened(store).index.search(np.zeros(DIM, np.float32), 3)
    assert found.by == "exact; the approximate index is out of date"


def test_without_one_the_matrix_is_as_it_was(store: Store) -> None:
    matrix = open_matrix(store, "code")
    assert with_ann(matrix, store) is matrix


def test_a_small_gallery_does_not_use_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    build_ann(store, "code")
    monkeypatch.setattr(ann, "PAYS_FROM", 2000 * DIM)
    assert "does not pay below 2,000 images" in opened(store).index.search(np.zeros(DIM, np.float32), 3).by


@pytest.mark.parametrize("damage", ["torn", "a flipped bit", "gone", "no report", "another kind"])
def test_a_damaged_one_is_not_used(store: Store, damage: str) -> None:
    """FAISS follows whatever numbers stand in a graph: a wrong one may end the process."""
    build_ann(store, "code")
    path = store.directory / "matrix" / "code.ann"
    told = path.with_name("code.ann.json")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    {
        "torn": lambda: path.write_bytes(path.read_bytes()[:100]),
        "a flipped bit": lambda: path.write_bytes(content),
        "gone": path.unlink,
        "no report": lambda: told.write_text("[]"),
        "another kind": lambda: told.write_text(told.read_text().replace('"hnsw"', '"tree"')),
    }[damage]()
    by = opened(store).index.search(np.zeros(DIM, np.float32), 3).by
    assert by == ("exact" if damage == "no report" else "exact; the approximate index is damaged")


def test_it_is_read_once_and_only_for_a_search_that_uses_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    build_ann(store, "code")
    read: list[Path] = []
    real = ann._read
    monkeypatch.setattr(ann, "_read", lambda path, report, base: read.append(path) or real(path, report, base))
    query = np.zeros(DIM, np.float32)
    matrix = opened(store)
    assert matrix.index.search(query, 3, Scope(exact=True)).by == "exact"
    assert not read
    assert matrix.index.search(query, 3).by == "ann"
    put(store, "2", {"9001": np.zeros(DIM)})
    later = with_ann(open_matrix(store, "code", matrix), store, matrix)
    found = later.index.search(query, 3)
    assert (later.names(found.positions)[0], found.by) == ("9001", "ann")
    assert len(read) == 1


def test_a_full_disk_is_told_and_what_there_was_stays(store: Store) -> None:
    build_ann(store, "code")
    with largest_file(20_000), pytest.raises(BadGallery, match="cannot be written"):
        build_ann(store, "code")
    assert not list((store.directory / "matrix").glob("*.new"))
    assert opened(store).index.search(np.zeros(DIM, np.float32), 3).by == "ann"


def test_compaction_removes_it_since_it_holds_features(store: Store) -> None:
    build_ann(store, "code")
    compact(store)
    assert sorted(path.name for path in (store.directory / "matrix").iterdir()) == ["code.matrix", "records.columns"]


def test_what_cannot_be_built_is_told(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="hnsw or ivfpq, not 'flat'"):
        build_ann(store, "code", "flat")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="9,984 images at least"):
        build_ann(store, "code", "ivfpq")
    with (
        Store.create(tmp_path / "empty", {"code": DIM}, {}, card=CARD) as empty,
        pytest.raises(UsageError, match="no images"),
    ):
        build_ann(empty, "code")
    real = builtins.__import__

    def without_faiss(name: str, *others: object) -> object:
        if name == "faiss":
            raise ImportError
        return real(name, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_faiss)
    with pytest.raises(UsageError, match=r"cbmir\[ann\]"):
        build_ann(store, "code")


def test_cells_and_product_codes_find_nearly_as_much(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = np.repeat(rng.standard_normal((500, DIM)), 20, axis=0) + rng.standard_normal((10_000, DIM)) / 10
    with Store.create(tmp_path / "gallery", {"code": DIM}, {}, card=CARD) as store:
        put(store, "1", {f"{row:05}": rows[row] for row in range(len(rows))})
        assert build_ann(store, "code", "ivfpq")["recall@10"] >= 0.9
        assert opened(store).index.search(rows[0].astype(np.float32), 3).by == "ann"
