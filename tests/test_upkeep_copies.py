"""Backups, restored galleries and exports hold what the gallery holds, and nothing that was removed."""

from __future__ import annotations

import csv
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cbmir.errors import BadGallery, UsageError
from cbmir.gallery import Gallery
from cbmir.privacy import Pseudonyms
from cbmir.tables import TableFile, harmless
from cbmir.upkeep import backup, export, remove, restore
from wards import SketchEncoder, index_ward, write_image

ENCODER = cast(Any, SketchEncoder())
N = 21


@pytest.fixture
def gallery(ward: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> Iterable[Gallery]:
    with Gallery.create(tmp_path / "gallery", ENCODER, pseudonyms) as gallery:
        index_ward(ward, gallery, pseudonyms)
        yield gallery


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def hits(gallery: Gallery, record_id: str) -> list[tuple[str, float]]:
    return [(hit.id, hit.distance) for hit in gallery.search_id(record_id)]


def test_a_restored_gallery_answers_as_the_one_that_was_backed_up(
    gallery: Gallery, ward: Path, tmp_path: Path, pseudonyms: Pseudonyms
) -> None:
    told = backup(gallery, tmp_path / "copy.backup")
    assert told["bytes"] == (tmp_path / "copy.backup").stat().st_size
    assert restore(tmp_path / "copy.backup", tmp_path / "deep" / "again")["records"] == N
    with Gallery.open(tmp_path / "deep" / "again") as again:
        assert again.records(again.ids()) == gallery.records(gallery.ids())
        assert hits(again, again.ids()[0]) == hits(gallery, again.ids()[0])
        assert again.verify() == {"ok": True, "records": N, "problems": []}
        report = index_ward(ward, again, pseudonyms)
        assert (report.added, report.unchanged) == (0, 15)


def test_a_backup_is_of_one_moment_while_others_write(
    gallery: Gallery, ward: Path, tmp_path: Path, pseudonyms: Pseudonyms
) -> None:
    """Every batch adds two images at once: a backup never holds one of them alone."""
    stop = threading.Event()

    def write() -> None:
        with Gallery.open(gallery.directory) as writer:
            for number in range(200):
                if stop.is_set():
                    break
                for series in (20, 21):
                    write_image(ward / f"{number}-{series}.dcm", 0, series, number)
                index_ward(ward, writer, pseudonyms)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(4):
            backup(gallery, tmp_path / f"{number}.backup")
    finally:
        stop.set()
        thread.join()
    for number in range(4):
        told = restore(tmp_path / f"{number}.backup", tmp_path / f"{number}")
        assert (told["records"] - N) % 2 == 0


def test_an_old_backup_is_replaced_and_a_removed_image_is_not_in_the_new_one(
    gallery: Gallery, tmp_path: Path, pseudonyms: Pseudonyms
) -> None:
    backup(gallery, tmp_path / "copy")
    patient = pseudonyms.of("patient", "MRN-1").encode()
    assert patient in (tmp_path / "copy").read_bytes()
    remove(gallery, "patient", ["MRN-1"], pseudonyms)
    backup(gallery, tmp_path / "copy")
    assert patient not in (tmp_path / "copy").read_bytes()
    assert restore(tmp_path / "copy", tmp_path / "again")["records"] == N - 7


@pytest.mark.parametrize("to", ["gallery/copy", "gallery", "none/copy", "link/copy"])
def test_a_backup_needs_a_place_outside(to: str, gallery: Gallery, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(gallery.directory)
    with pytest.raises(UsageError, match="--to"):
        backup(gallery, tmp_path / to)


def test_no_other_gallery_is_written_over(gallery: Gallery, tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    with Gallery.create(tmp_path / "other", ENCODER, pseudonyms) as other:
        before = (other.directory / "gallery.sqlite").read_bytes()
        with pytest.raises(UsageError, match="that of another gallery"):
            backup(gallery, other.directory / "gallery.sqlite")
        assert (other.directory / "gallery.sqlite").read_bytes() == before


def test_a_damaged_backup_becomes_no_gallery(gallery: Gallery, tmp_path: Path) -> None:
    backup(gallery, tmp_path / "copy")
    whole = (tmp_path / "copy").read_bytes()
    row = gallery.store.rows("sketch", gallery.ids()[:1]).features.tobytes()
    place = whole.index(row[:32])
    for damaged in (whole[: len(whole) // 2], whole[:place] + b"\xff" + whole[place + 1 :], b"no database", b""):
        (tmp_path / "bad").write_bytes(damaged)
        with pytest.raises(BadGallery, match=r"bad (is damaged|is no whole backup)"):
            restore(tmp_path / "bad", tmp_path / "new")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "copy", "gallery", "ward"]


def test_a_gallery_is_restored_into_a_folder_of_its_own(gallery: Gallery, tmp_path: Path) -> None:
    backup(gallery, tmp_path / "copy")
    (tmp_path / "empty").mkdir()
    assert restore(tmp_path / "copy", tmp_path / "empty")["records"] == N
    for taken in (gallery.directory, tmp_path / "ward", tmp_path / "copy"):
        with pytest.raises(BadGallery, match="folder of its own"):
            restore(tmp_path / "copy", taken)
    for below in (tmp_path / "copy" / "new", tmp_path / "copy" / "new" / "er"):
        with pytest.raises(BadGallery, match=r"cannot be made a gallery"):
            restore(tmp_path / "copy", below)
    with pytest.raises(UsageError, match="no backup"):
        restore(tmp_path / "none", tmp_path / "new")


def test_a_gallery_is_restored_into_the_folder_one_is_in_or_a_link_leads_to(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup(gallery, tmp_path / "copy")
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    restore(tmp_path / "copy", tmp_path / "link")
    monkeypatch.chdir(tmp_path / "here")
    restore(tmp_path / "copy", Path())
    for name in ("here", "there"):
        with Gallery.open(tmp_path / name) as restored:
            assert restored.count == N


def test_arrays_hold_every_image_with_its_features(gallery: Gallery, tmp_path: Path) -> None:
    told = export(gallery, tmp_path / "all.npz", layer="small")
    assert (told["records"], told["layer"], told["encoder"]) == (N, "small", "sketch-0001")
    with np.load(tmp_path / "all.npz") as arrays:
        assert arrays["features"].shape == (N, 36)
        assert sorted(arrays["id"]) == gallery.ids()
        for row, record_id in enumerate(arrays["id"].tolist()):
            record = gallery.record(record_id)
            stored = gallery.store.rows("small", [record_id]).features[0]
            assert (arrays["features"][row] == stored).all()
            assert arrays["class"][row] == record.group
            assert arrays["frame_index"][row] == record.frame_index
            assert arrays["source"][row] == (record.source or "")


def test_a_csv_holds_the_records_and_features_only_when_a_layer_is_named(gallery: Gallery, tmp_path: Path) -> None:
    export(gallery, tmp_path / "all.csv")
    rows = rows_of(tmp_path / "all.csv")
    assert [row["id"] for row in rows] == [name for block in gallery.store.blocks("sketch") for name in block.ids]
    record = gallery.record(rows[0]["id"])
    assert (rows[0]["patient"], rows[0]["modality"], rows[0]["rows"]) == (record.patient, "OT", "12")
    assert "features_0" not in rows[0]
    export(gallery, tmp_path / "all.csv", layer="small")
    first = rows_of(tmp_path / "all.csv")[0]
    read = np.float32([first[f"features_{number}"] for number in range(36)])
    assert (read == gallery.store.rows("small", [first["id"]]).features[0]).all()


def test_parquet_holds_records_and_features(gallery: Gallery, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export(gallery, tmp_path / "all.parquet")
    table = parquet.read_table(tmp_path / "all.parquet")
    assert table.num_rows == N
    ids = table["id"].to_pylist()
    stored = gallery.store.rows("sketch", ids)
    where = {name: row for row, name in enumerate(stored.ids)}
    for name, row in zip(ids, table["features"].to_pylist(), strict=True):
        assert (np.float32(row) == stored.features[where[name]]).all()


def test_a_run_ranks_every_image_as_search_does(gallery: Gallery, tmp_path: Path) -> None:
    export(gallery, tmp_path / "all.trec", k=3)
    lines = [line.split() for line in (tmp_path / "all.trec").read_text().splitlines()]
    assert len(lines) == 3 * N
    asked = gallery.ids()[4]
    found = [(hit, int(rank), int(score)) for query, _, hit, rank, score, _ in lines if query == asked]
    assert found == [(hit.id, hit.rank, 4 - hit.rank) for hit in gallery.search_id(asked, 3)]


@pytest.mark.parametrize(
    ("to", "layer", "sentence"),
    [
        ("all.txt", None, "ends in"),
        ("none/all.csv", None, "folder"),
        ("gallery/all.csv", None, "another folder"),
        ("gallery/matrix/all.npz", None, "folder"),
        ("all.npz", "fcl9", "the layers are"),
    ],
)
def test_a_wrong_export_is_told(to: str, layer: str | None, sentence: str, gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        export(gallery, tmp_path / to, layer=layer)
    assert not (tmp_path / to).exists()


@pytest.mark.parametrize("name", ["all.npz", "all.csv", "all.parquet"])
def test_an_export_that_would_lack_images_is_none(name: str, gallery: Gallery, tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    with closing(sqlite3.connect(gallery.directory / "gallery.sqlite")) as connection, connection:
        connection.execute("DELETE FROM feature WHERE record = 3")
    with pytest.raises(BadGallery, match="have no features"):
        export(gallery, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gallery", "ward"]


def test_an_empty_gallery_is_exported(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    with Gallery.create(tmp_path / "empty", ENCODER, pseudonyms) as empty:
        for name in ("all.npz", "all.csv", "all.trec"):
            assert export(empty, tmp_path / name)["records"] == 0
    with np.load(tmp_path / "all.npz") as arrays:
        assert arrays["features"].shape == (0, 144)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "\uff201"])
def test_no_cell_of_text_is_run_by_a_spreadsheet(text: str, tmp_path: Path) -> None:
    assert harmless(text) == f"'{text}"
    assert (harmless("liver"), harmless(-1.5), harmless(None)) == ("liver", -1.5, None)
    with TableFile(tmp_path / "a.csv", {"=name": "text", "n": "number"}) as table:
        table.write({"=name": [text], "n": [-1.5]})
    assert rows_of(tmp_path / "a.csv") == [{"'=name": f"'{text}", "n": "-1.5"}]


def test_a_table_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(KeyError), TableFile(tmp_path / "a.csv", {"name": "text"}) as table:
        table.write({})
    assert (tmp_path / "a.csv").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
