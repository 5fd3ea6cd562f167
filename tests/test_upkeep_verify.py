"""What is wrong with a gallery is told with what can be done, and what can be made again is made again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from cbmir.errors import BadGallery
from cbmir.gallery import Gallery
from cbmir.gallery.upkeep import repair, verify
from cbmir.privacy import Pseudonyms
from cbmir.upkeep.reindexing import reindex
from wards import SketchEncoder, index_ward

OLD, NEW = cast(Any, SketchEncoder()), cast(Any, SketchEncoder(turned=True))
N = 21


@pytest.fixture
def gallery(ward: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> Iterable[Gallery]:
    with Gallery.create(tmp_path / "gallery", OLD, pseudonyms) as gallery:
        index_ward(ward, gallery, pseudonyms, OLD)
        gallery.search_id(gallery.ids()[0])
        yield gallery


def change(gallery: Gallery, sql: str) -> None:
    with closing(sqlite3.connect(gallery.directory / "gallery.sqlite")) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        assert connection.execute(sql).rowcount >= 1


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def mended(gallery: Gallery) -> dict[str, Any]:
    with gallery.writing():
        return repair(gallery.store)


def test_a_whole_gallery_has_nothing_to_repair(gallery: Gallery) -> None:
    whole = {"ok": True, "records": N, "problems": []}
    assert verify(gallery.store) == gallery.verify() == whole
    assert mended(gallery) == {**whole, "repaired": {"dropped": [], "files_due": 0}}


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("UPDATE feature SET data = zeroblob(576) WHERE record = 3 AND layer = 1", "features of layer sketch"),
        ("UPDATE feature SET data = zeroblob(8) WHERE record = 3", "no whole features"),
        ("DELETE FROM feature WHERE record = 3", "no whole features"),
        ("UPDATE record SET patient = 'somebody' WHERE number = 3", "records do not match their checksum"),
        ("UPDATE record SET labels = '{' WHERE number = 3", "records do not match their checksum"),
    ],
)
def test_a_damaged_image_is_dropped_and_the_next_index_run_brings_it_back(
    sql: str, sentence: str, gallery: Gallery, ward: Path, pseudonyms: Pseudonyms
) -> None:
    before = gallery.records(gallery.ids())
    change(gallery, sql)
    found = verify(gallery.store)
    assert not found["ok"]
    [told, *_] = [problem for problem in found["problems"] if sentence in problem]
    assert "`cbmir verify --repair` drops them, and the next `cbmir index` brings them back" in told
    after = mended(gallery)
    assert (after["ok"], after["records"], len(after["repaired"]["dropped"])) == (True, N - 1, 1)
    assert after["repaired"]["files_due"] == 1
    index_ward(ward, gallery, pseudonyms, OLD)
    assert gallery.records(gallery.ids()) == before
    assert verify(gallery.store)["ok"]


@pytest.mark.parametrize("name", ["sketch.matrix", "records.columns"])
def test_a_matrix_that_is_not_the_store_is_made_again(name: str, gallery: Gallery) -> None:
    path = gallery.directory / "matrix" / name
    flip(path, 100)
    found = verify(gallery.store)
    assert any("cbmir verify --repair" in problem for problem in found["problems"])
    assert mended(gallery)["ok"]
    assert verify(gallery.store)["ok"]


def test_a_matrix_that_is_missing_or_torn_is_no_problem(gallery: Gallery) -> None:
    path = gallery.directory / "matrix" / "sketch.matrix"
    path.write_bytes(path.read_bytes()[:200])
    assert verify(gallery.store)["ok"]
    path.unlink()
    assert verify(gallery.store)["ok"]


def test_damaged_features_of_another_encoder_are_made_again_by_reindex(
    gallery: Gallery, ward: Path, pseudonyms: Pseudonyms
) -> None:
    missing = ward / "Miller^0" / "0-0.dcm"
    kept = missing.read_bytes()
    missing.unlink()
    assert not reindex(gallery, NEW, pseudonyms).swapped
    change(gallery, "UPDATE feature SET data = zeroblob(576) WHERE record = 3 AND layer = 3")
    [problem] = verify(gallery.store)["problems"]
    assert "of the next encoder" in problem
    assert "`cbmir reindex` makes them again" in problem
    assert mended(gallery)["records"] == N
    missing.write_bytes(kept)
    index_ward(ward, gallery, pseudonyms, OLD)
    report = reindex(gallery, NEW, pseudonyms)
    assert (report.swapped, report.encoded) == (True, 2)


def test_a_damaged_database_is_told_and_only_a_backup_helps(gallery: Gallery) -> None:
    gallery.close()
    path = gallery.directory / "gallery.sqlite"
    data = bytearray(path.read_bytes())
    for start in range(8192, len(data), 4096):
        data[start : start + 64] = b"\xff" * 64
    path.write_bytes(data)
    try:
        with Gallery.open(gallery.directory) as damaged:
            problems = verify(damaged.store)["problems"]
    except BadGallery as error:
        problems = [str(error)]
    assert any("restore" in problem for problem in problems)


def test_repair_needs_the_right_to_write(gallery: Gallery) -> None:
    with Gallery.open(gallery.directory) as other, other.writing(), pytest.raises(BadGallery, match="another process"):
        mended(gallery)
