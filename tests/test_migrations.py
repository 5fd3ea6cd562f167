"""A gallery of every earlier version opens as today's, with all it held. Old ones are made by the old statements."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbmir.errors import BadGallery
from cbmir.files import GALLERY_DATABASE
from cbmir.store import Store, StoredFile
from cbmir.store.database import take_lock
from cbmir.store.rows import crc_of
from cbmir.store.schema import MIGRATIONS, fill_checksums
from cbmir.types import Record
from stores import CARD, LAYERS, entry, ids_of, new_store

RECORDS = (
    Record("a", "p", "s", "r", 0, "CT", "x", {"class": "knee"}, "lung", 0.25, {"rows": "8"}, {"format": "DICOM"}),
    Record("b", "p", None, None, 1, None, None, {}, "lung", 0.5, {}, {"notes": ["mended"]}),
    Record("c", None, None, None, 0, "MR", None, {"view": "ä"}, None, None, {}, {}),
)
FILE_OF = {"a": 1, "b": 1, "c": 2}
FILES = ("name-1", "name-2")
POSTERIOR = np.array([0.25, 0.75], np.float32)


def features_of(record_id: str, layer: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.full(LAYERS[layer], ord(record_id) / 4, np.float32)


def old_store(directory: Path, version: int) -> None:
    """A store as this version wrote it, with what it could know of RECORDS."""
    directory.mkdir()
    with closing(sqlite3.connect(directory / GALLERY_DATABASE, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        apply_first(connection, version)
        connection.execute("INSERT INTO meta VALUES ('generation', '7'), ('pseudonyms', '\"k\"')")
        if version < 5:
            connection.execute("INSERT INTO meta VALUES ('encoder', ?)", (json.dumps(CARD),))
            connection.executemany("INSERT INTO layer (name, dim) VALUES (?, ?)", list(LAYERS.items()))
        else:
            connection.execute("INSERT INTO meta VALUES ('log_from', '7')")
            connection.execute("INSERT INTO encoder VALUES (1, 'current', ?)", (json.dumps(CARD),))
            connection.executemany("INSERT INTO layer (encoder, name, dim) VALUES (1, ?, ?)", list(LAYERS.items()))
        (put_file_1 if version == 1 else put_file)(connection)
        for record in RECORDS:
            put_record(connection, record)
        if version >= 6:
            connection.create_function("crc_of", -1, crc_of)
            connection.create_function("crc_of_bytes", 1, zlib.crc32)
            fill_checksums(connection)


def apply_first(connection: sqlite3.Connection, n: int) -> None:
    for step in MIGRATIONS[:n]:
        if callable(step):
            step(connection)
        else:
            for statement in step:
                connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {n}")


def put_file_1(connection: sqlite3.Connection) -> None:
    insert = "INSERT INTO file (root, shown, size, mtime_ns, content_hash, told, outcome) VALUES "
    connection.executemany(f"{insert}('/data', ?, 1, 2, 'aa', '', 'decoded')", [(name,) for name in FILES])


def put_file(connection: sqlite3.Connection) -> None:
    """The columns that version 2 had; later ones have their default."""
    columns = "name, folder, handle, place, size, mtime_ns, content, told, outcome, reason, attempts, reader"
    rows = [(name, "folder", f"{name}.dcm", b"sealed", 1, 2, "aa", "t", "decoded", None, 1, "0.1") for name in FILES]
    connection.executemany(f"INSERT INTO file ({columns}) VALUES ({', '.join('?' * 12)})", rows)


def put_record(connection: sqlite3.Connection, record: Record) -> None:
    columns = """id, file, frame_index, patient, study, series, class, modality, source, predicted, probability,
        labels, attributes, provenance, posterior"""
    texts = [json.dumps(dict(part), sort_keys=True) for part in (record.labels, record.attributes, record.provenance)]
    number = connection.execute(
        f"INSERT INTO record ({columns}) VALUES ({', '.join('?' * 15)})",
        (record.id, FILE_OF[record.id], record.frame_index, record.patient, record.study, record.series, record.group,
         record.modality, record.source, record.predicted, record.probability, *texts, POSTERIOR.tobytes()),
    ).lastrowid  # fmt: skip
    rows = [(number, layer, features_of(record.id, name).tobytes()) for layer, name in enumerate(LAYERS, 1)]
    connection.executemany("INSERT INTO feature (record, layer, data) VALUES (?, ?, ?)", rows)


VERSIONS = range(1, len(MIGRATIONS))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_gallery_of_an_earlier_version_keeps_all_it_held(version: int, tmp_path: Path) -> None:
    old_store(tmp_path / "old", version)
    with Store.open(tmp_path / "old") as store:
        assert store.records(["a", "b", "c"]) == {record.id: record for record in RECORDS}
        assert ids_of(store) == ids_of(store, "corner") == ["c", "a", "b"]  # of the classes '', knee and lung
        for layer in LAYERS:
            found = store.rows(layer, ["a", "b", "c"])
            assert np.array_equal(found.features, [features_of(record_id, layer) for record_id in "cab"])
        assert all(np.array_equal(store.posterior(record_id), POSTERIOR) for record_id in "abc")  # type: ignore[arg-type]
        assert (store.card(), store.card("next"), store.layers) == (CARD, None, LAYERS)
        assert store.meta() == {"generation": 7, "log_from": 7, "pseudonyms": "k"}
        assert (store.changes_since(7), store.changes_since(6)) == ([], None)
        assert store.problems() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_gallery_of_an_earlier_version_knows_its_files(version: int, tmp_path: Path) -> None:
    """But one of version 1, which had their paths as they are: these are forgotten."""
    old_store(tmp_path / "old", version)
    with Store.open(tmp_path / "old") as store:
        if version == 1:
            assert [(file.handle, file.place, file.outcome) for file in store.files()] == [("", b"", "decoded")] * 2
        else:
            expected = StoredFile("name-1", "folder", "name-1.dcm", b"sealed", 1, 2, "aa", "t", "decoded", reader="0.1")
            assert store.file_of("a") == store.file_of("b") == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_a_gallery_of_an_earlier_version_can_do_what_a_new_one_can(version: int, tmp_path: Path) -> None:
    old_store(tmp_path / "old", version)
    with Store.open(tmp_path / "old") as store:
        store.add([entry("new", "d")])
        assert store.remove("id", ["b"], lambda record: ["digest"]).ids == ("b",)
        assert store.changes_since(7) == ["b", "d"]
        store.begin_next({"name": "other"}, {"flat": 1})
        assert store.audit_next() == ["a", "c", "d"]
        assert store.problems() == []


def schema_of(store: Store) -> list[Any]:
    return store._all("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schema_is_that_of_a_new_gallery(version: int, tmp_path: Path) -> None:
    old_store(tmp_path / "old", version)
    with Store.open(tmp_path / "old") as old, new_store(tmp_path / "new") as new:
        assert schema_of(old) == schema_of(new)
        assert old._all("PRAGMA foreign_key_check") == []


def test_a_gallery_is_brought_up_by_one_process_at_a_time(tmp_path: Path) -> None:
    """Else the slower one of two would set the version back, and no later one could open it."""
    old_store(tmp_path / "old", 2)
    with closing(take_lock(tmp_path / "old")), pytest.raises(BadGallery, match="another process is writing"):
        Store.open(tmp_path / "old")
    with Store.open(tmp_path / "old") as store, store.writing(), Store.open(tmp_path / "old") as reader:
        assert reader.ids() == ["a", "b", "c"]  # today's are opened whoever writes


class CutShort(Exception):
    pass


@pytest.mark.parametrize("version", VERSIONS)
def test_a_migration_cut_short_anywhere_goes_on_when_the_gallery_is_opened_again(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th statement fails, for every n until all succeed."""
    old_store(tmp_path / "old", version)
    connect = sqlite3.connect
    for n in range(1000):
        with monkeypatch.context() as patch:
            patch.setattr(sqlite3, "connect", lambda *args, n=n, **kwargs: Failing(connect(*args, **kwargs), n))
            try:
                Store.open(tmp_path / "old").close()
                break
            except CutShort:
                pass
    assert n > 0
    with Store.open(tmp_path / "old") as store:
        assert store.records(["a", "b", "c"]) == {record.id: record for record in RECORDS}
        assert ids_of(store) == ids_of(store, "corner") == ["c", "a", "b"]
        assert store.problems() == []


class Failing:
    """A connection whose n-th statement that changes something is never done."""

    def __init__(self, connection: sqlite3.Connection, n: int) -> None:
        self._connection = connection
        self._left = n

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql.split()[0] in ("CREATE", "INSERT", "UPDATE", "DELETE", "DROP", "ALTER", "COMMIT", "VACUUM"):
            if not self._left:
                raise CutShort
            self._left -= 1
        return self._connection.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_checksums_are_filled_in_small_transactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.store.schema._ROWS_AT_ONCE", 2)
    old_store(tmp_path / "old", 4)
    with Store.open(tmp_path / "old") as store:
        assert store._all("SELECT count(*) FROM feature WHERE crc IS NULL") == [(0,)]
        assert store._all("SELECT count(*) FROM record WHERE crc IS NULL") == [(0,)]
        assert store.problems() == []


def test_the_checksum_of_a_record_is_that_of_its_columns_as_a_json_list() -> None:
    assert crc_of("ä", None, 1, 0.5, b"\x01\xff") == zlib.crc32(rb'["\u00e4",null,1,0.5,"01ff"]')


def test_a_reader_of_an_earlier_version_is_told_of_a_newer_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_store(tmp_path / "new").close()
    older: tuple[tuple[str, ...] | Callable[[sqlite3.Connection], None], ...] = MIGRATIONS[:4]
    monkeypatch.setattr("cbmir.store.database.MIGRATIONS", older)
    with pytest.raises(BadGallery, match="newer cbmir"):
        Store.open(tmp_path / "new")
