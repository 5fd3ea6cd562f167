"""What is wrong in a store is found and named; what can be mended is, and the rest is looked at again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cbmir.errors import BadGallery
from cbmir.files import GALLERY_DATABASE
from cbmir.store import Problem, Store
from cbmir.types import Record
from stores import LAYERS, entry, ids_of, is_due, new_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "gallery") as store:
        store.add([entry("1", "a"), entry("2", "b", "c"), entry("3", "d")])
        yield store


def harm(store: Store, *statements: str) -> None:
    """As a fault of the disk might: nothing is checked."""
    with closing(sqlite3.connect(store.directory / GALLERY_DATABASE, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def told(store: Store) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(problem.sentence, problem.kind, problem.ids) for problem in store.problems()]


def bring_back(store: Store) -> None:
    """The next index run."""
    for one in (entry("1", "a"), entry("2", "b", "c"), entry("3", "d")):
        if is_due(store, one.file.name):
            store.add([one])


def test_a_whole_store_has_no_problems(store: Store) -> None:
    assert store.problems() == []
    assert store.repair([]).dropped == ()


@pytest.mark.parametrize(
    "change",
    [
        "patient = 'another'", "id = 'x'", "file = 3", "class = 'lung'", "frame_index = 1", "modality = 'CT'",
        "labels = '{}'", "labels = '{\"cl'", "attributes = ''", "posterior = x'00'", "crc = 5", "crc = NULL",
        "source = CAST(x'ff' AS TEXT)",
    ],
)  # fmt: skip
def test_a_changed_column_of_a_record_is_found_and_mended(change: str, store: Store) -> None:
    harm(store, f"UPDATE record SET {change} WHERE id = 'b'")
    (name,) = {"x"} if change.startswith("id") else {"b"}
    assert ("1 records do not match their checksum", "record", (name,)) in told(store)
    repaired = store.repair(store.problems())
    assert repaired.dropped == (name,)
    assert store.problems() == []
    assert is_due(store, "3" if change == "file = 3" else "2")
    bring_back(store)
    if change != "file = 3":
        assert ids_of(store) == ["a", "b", "c", "d"]


def flip(directory: Path, around: bytes) -> None:
    """One bit of the only place, in the database, that holds these bytes."""
    path = directory / GALLERY_DATABASE
    content = bytearray(path.read_bytes())
    assert content.count(around) == 1
    content[content.index(around) + 1] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_in_features_is_found_and_mended(store: Store) -> None:
    store.add([entry("4", "e", value=1234.5)])
    store.scrub()
    flip(store.directory, np.full(LAYERS["corner"], 1234.5, np.float32).tobytes())
    sentence = "1 records have features of layer corner that do not match their checksum"
    assert told(store) == [(sentence, "features", ("e",))]
    assert (store.repair(store.problems()).dropped, store.problems()) == (("e",), [])
    assert is_due(store, "4")


def test_a_flipped_bit_in_a_file_that_names_a_record_finds_the_file_it_was_of(store: Store) -> None:
    """The index by files still knows; else the image would be lost for good."""
    store.scrub()
    path = store.directory / GALLERY_DATABASE
    content = path.read_bytes()
    known = content.index(b"patient of c")
    start = content.rindex(b"c", 0, known)  # id, then the number of the file
    assert content[start : start + 2] == b"c\x02"
    path.write_bytes(content[: start + 1] + b"\x03" + content[start + 2 :])
    kinds = {problem.kind for problem in store.problems()}
    assert kinds == {"index", "record"}
    repaired = store.repair(store.problems())
    assert (repaired.dropped, repaired.n_due) == (("c",), 2)
    assert is_due(store, "2")
    bring_back(store)
    assert (ids_of(store), store.problems()) == (["a", "b", "c", "d"], [])


def test_a_flipped_bit_in_an_index_is_found_and_the_index_made_again(store: Store) -> None:
    store.add([entry("4", "in two places: the row, and its index")])
    store.scrub()
    path = store.directory / GALLERY_DATABASE
    content = path.read_bytes()
    places = [at for at in range(len(content)) if content.startswith(b"in two places", at)]
    harmed = content[: places[-1]] + b"I" + content[places[-1] + 1 :]
    path.write_bytes(harmed)
    assert {problem.kind for problem in store.problems()} == {"index"}
    assert store.repair(store.problems()).dropped == ()
    assert (store.problems(), store.count()) == ([], 5)


def test_missing_features_are_found_and_their_images_brought_back(store: Store) -> None:
    harm(
        store, "DELETE FROM feature WHERE record = 2 AND layer = 1", "UPDATE feature SET data = x'00' WHERE record = 4"
    )
    assert told(store) == [
        ("2 records have no whole features of layer mean", "features", ("b", "d")),
        ("1 records have no whole features of layer corner", "features", ("d",)),
    ]
    repaired = store.repair(store.problems())
    assert (repaired.dropped, repaired.n_due, ids_of(store)) == (("b", "d"), 2, ["a", "c"])
    bring_back(store)
    assert (ids_of(store), store.problems()) == (["a", "b", "c", "d"], [])


def test_after_a_repair_nothing_made_before_is_used(store: Store) -> None:
    generation = store.generation()
    harm(store, "UPDATE record SET class = 'x' WHERE id = 'a'")
    store.repair(store.problems())
    assert store.generation() > generation
    assert store.changes_since(generation) is None


def test_rows_that_belong_to_nothing_are_found_and_deleted(store: Store) -> None:
    harm(
        store,
        "INSERT INTO feature VALUES (99, 1, x'', 0)",
        "INSERT INTO opinion VALUES (99, 7, NULL, NULL, NULL, 0)",
        "INSERT INTO duplicate VALUES (99, 'a')",
        "DELETE FROM file WHERE number = 3",
    )
    assert told(store) == [
        ("1 records belong to no file", "record", ("d",)),
        ("1 rows of feature belong to no record", "orphan", ()),
        ("1 rows of opinion belong to no record", "orphan", ()),
        ("1 rows of opinion belong to no encoder", "orphan", ()),
        ("1 rows of duplicate belong to no file", "orphan", ()),
    ]
    store.repair(store.problems())
    assert (store.problems(), ids_of(store)) == ([], ["a", "b", "c"])


def test_damaged_features_of_the_next_encoder_are_made_again_and_cost_nothing_else(store: Store) -> None:
    store.begin_next({"name": "two"}, LAYERS)
    store.put_next([entry("1", "a"), entry("2", "b", "c")])
    harm(store, "UPDATE feature SET data = zeroblob(8) WHERE record = 2 AND layer = 3")
    sentence = "1 records have features of layer mean of the next encoder that do not match their checksum"
    assert told(store) == [(sentence, "staged", ("b",))]  # that of d is not made yet: nothing is wrong with that
    generation = store.generation()
    assert store.repair(store.problems()).dropped == ()
    assert (store.audit_next(), store.generation(), store.problems()) == (["b", "d"], generation, [])


def test_a_damaged_opinion_of_the_next_encoder_is_found_before_it_takes_over(store: Store) -> None:
    store.begin_next({"name": "two"}, LAYERS)
    store.put_next([entry("1", "a"), entry("2", "b", "c"), entry("3", "d")])
    harm(store, "UPDATE opinion SET predicted = 'brain' WHERE record = 2")
    assert told(store) == [("1 opinions of other encoders do not match their checksum", "staged", ("b",))]
    store.repair(store.problems())
    assert (store.audit_next(), store.problems()) == (["b"], [])


@pytest.mark.parametrize("harmed", ["record SET class = 'x' WHERE number = 2", "opinion SET predicted = 'brain'"])
def test_nothing_damaged_takes_part_in_a_swap_which_would_give_it_a_new_checksum(harmed: str, store: Store) -> None:
    store.begin_next({"name": "two"}, LAYERS)
    store.put_next([entry("1", "a"), entry("2", "b", "c"), entry("3", "d")])
    harm(store, f"UPDATE {harmed}")
    with pytest.raises(BadGallery, match="damaged records: mend it first"):
        store.swap_next()
    assert store.problems() != []


def test_what_is_left_of_a_forgotten_encoder_is_swept_by_a_repair(store: Store) -> None:
    store.begin_next({"name": "two"}, LAYERS)
    store.put_next([entry("1", "a")])
    harm(store, "UPDATE encoder SET state = NULL WHERE state = 'next'")
    assert [problem.kind for problem in store.problems()] == ["staged"]
    store.repair(store.problems())
    assert store.problems() == []


@pytest.mark.parametrize("data", ["x'00'", "'eight by'"])
def test_damaged_features_are_told_in_one_sentence_when_they_are_read(data: str, store: Store) -> None:
    harm(store, f"UPDATE feature SET data = {data} WHERE record = 2 AND layer = 1")
    for read in (lambda: list(store.blocks("mean")), lambda: store.rows("mean", ["a", "b"])):
        with pytest.raises(BadGallery, match=r"features of image b are damaged; .*verify --repair"):
            read()


@pytest.mark.parametrize(
    "change",
    [
        "meta SET value = 'x' WHERE key = 'generation'", "meta SET value = '[]' WHERE key = 'log_from'",
        "meta SET key = 'x' WHERE key = 'generation'", "meta SET value = '{' WHERE key = 'note'",
        "encoder SET card = '{'",
    ],
)  # fmt: skip
def test_damage_to_what_a_store_says_of_itself_is_found_and_told(change: str, store: Store) -> None:
    harm(store, f"UPDATE {change}")
    assert told(store) == [("what the gallery says of itself is damaged: only a backup helps", "database", ())]


def test_damage_to_what_a_store_says_of_itself_is_told_in_one_sentence_when_it_is_read(store: Store) -> None:
    harm(store, "UPDATE meta SET value = 'x'", "UPDATE encoder SET card = '{'")
    for read in (store.meta, store.card, store.generation, lambda: store.changes_since(0)):
        with pytest.raises(BadGallery, match="says of itself is damaged; restore it or index again"):
            read()


def test_text_that_cannot_be_read_is_told_as_damage_and_not_repeated(store: Store) -> None:
    harm(store, "UPDATE record SET source = CAST(x'416e6eff' AS TEXT) WHERE id = 'b'")
    with pytest.raises(BadGallery, match=r"is damaged; .*verify --repair") as told:
        store.records(["b"])
    assert "Ann" not in str(told.value)


def test_a_damaged_record_is_told_in_one_sentence_when_it_is_read(store: Store) -> None:
    harm(store, "UPDATE record SET labels = '{\"cl' WHERE id = 'b'")
    with pytest.raises(BadGallery, match=r"record of image b is damaged; .*verify --repair"):
        store.records(["a", "b"])


def many(store: Store) -> None:
    draw = np.random.default_rng(0)
    for start in range(0, 2000, 100):
        store.add([entry(f"many {n}", f"{n:06}", value=float(draw.random())) for n in range(start, start + 100)])
    store.scrub()


def test_a_torn_database_is_told_as_damage_and_nothing_is_raised(store: Store) -> None:
    many(store)
    store.close()
    path = store.directory / GALLERY_DATABASE
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadGallery, match=r"damaged .*; restore it or index again"):
        Store.open(store.directory)


def test_pages_that_are_lost_are_told_as_damage_and_nothing_is_raised(store: Store) -> None:
    many(store)
    store.close()
    path = store.directory / GALLERY_DATABASE
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(20 * 4096) + content[middle + 20 * 4096 :])
    with Store.open(store.directory) as torn:
        found = torn.problems()
        assert found
        assert all(isinstance(problem, Problem) and "\n" not in problem.sentence for problem in found)
        assert "database" in {problem.kind for problem in found}
        with pytest.raises(BadGallery, match="damaged"):
            list(torn.blocks("mean"))
        with pytest.raises(BadGallery, match="damaged"):
            torn.backup(store.directory / "copy")
    assert not list(store.directory.glob("copy*"))


def test_what_is_left_of_a_forgotten_encoder_is_swept_by_a_repair_where_rows_belong_to_nothing(store: Store) -> None:
    store.begin_next({"name": "two"}, LAYERS)
    harm(
        store,
        "INSERT INTO feature VALUES (99999, 3, x'', 0)",
        "INSERT INTO opinion VALUES (99999, 2, NULL, NULL, NULL, 0)",
        "UPDATE encoder SET state = NULL WHERE state = 'next'",
    )
    with pytest.raises(BadGallery, match="damaged"):
        store.scrub()
    store.repair(store.problems())
    assert store.problems() == []


@pytest.mark.parametrize("seed", range(20))
def test_no_flipped_bit_in_the_pages_of_a_store_goes_unseen_or_is_raised(seed: int, store: Store) -> None:
    """Or it changes nothing: a bit of free space, of a file's time, say."""
    many(store)
    before = by_id(store)
    rows = {layer: features(store, layer) for layer in LAYERS}
    store.close()
    path = store.directory / GALLERY_DATABASE
    content = bytearray(path.read_bytes())
    draw = np.random.default_rng(seed)
    at = int(draw.integers(4096, len(content)))  # the first page tells that it is a database
    content[at] ^= 1 << int(draw.integers(8))
    path.write_bytes(content)
    with Store.open(store.directory) as flipped:
        if not flipped.problems():
            assert by_id(flipped) == before
            assert {layer: features(flipped, layer) for layer in LAYERS} == rows


def by_id(store: Store) -> dict[str, Record]:
    return {record.id: record for records in store.describe() for record in records}


def features(store: Store, layer: str) -> list[tuple[tuple[str, ...], bytes]]:
    return [(block.ids, block.features.tobytes()) for block in store.blocks(layer)]


def test_a_log_that_was_torn_gives_an_earlier_moment_whole(store: Store) -> None:
    """SQLite's log has checksums: what follows a broken one was never written."""
    log = store.directory / f"{GALLERY_DATABASE}-wal"
    store.scrub()
    store.add([entry("4", "e")])
    first = log.stat().st_size
    store.add([entry("5", "f")])
    content = log.read_bytes()
    copy = store.directory.parent / "copy"
    copy.mkdir()
    (copy / GALLERY_DATABASE).write_bytes((store.directory / GALLERY_DATABASE).read_bytes())
    (copy / log.name).write_bytes(content[: first + (len(content) - first) // 2])
    with Store.open(copy) as torn:
        assert (torn.ids(), torn.problems()) == (["a", "b", "c", "d", "e"], [])
        torn.add([entry("5", "f")])
        assert torn.ids() == store.ids()
