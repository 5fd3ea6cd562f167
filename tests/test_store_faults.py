"""What the machine does to a store: processes that are killed, a full disk, a second writer. And backups."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cbmir.errors import BadGallery
from cbmir.files import GALLERY_DATABASE
from cbmir.store import Store
from killed_store import CHANGES
from stores import CARD, entry, ids_of, new_store

TESTS = Path(__file__).parent


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "gallery") as store:
        store.add([entry("1", "a"), entry("2", "b")])
        yield store


@pytest.mark.parametrize("n_kills", [6, pytest.param(200, marks=pytest.mark.long)])
@pytest.mark.parametrize("operation", sorted(CHANGES))
def test_a_kill_at_any_moment_leaves_all_of_a_change_or_nothing(operation: str, n_kills: int, tmp_path: Path) -> None:
    code = [sys.executable, str(TESTS / "killed_store.py"), str(tmp_path), operation, str(n_kills), "24"]
    done = subprocess.run(code, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes, where this user may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("making a small disk (a tmpfs) wants the rights of root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> None:
    with (disk / "other").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def add_100(store: Store, number: int) -> int:
    return store.add([entry(f"{number}", *(f"{number}-{frame}" for frame in range(100)))]).added


def test_a_full_disk_is_told_and_loses_nothing_that_was_there(small_disk: Path) -> None:
    with new_store(small_disk / "gallery") as store:
        added: list[int] = []
        with pytest.raises(BadGallery, match="disk is full"):
            added.extend(add_100(store, number) for number in range(1000))
        assert len(added) > 1
        assert (store.count(), store.problems()) == (sum(added), [])
    with Store.open(small_disk / "gallery") as store:
        assert (store.count(), store.problems()) == (sum(added), [])


NEEDING_SPACE: list[Callable[[Store], object]] = [
    lambda store: store.add([entry("3", "c")]),
    lambda store: store.remove("id", ["a"], lambda record: ["x"]),
    lambda store: store.begin_next({"name": "two"}, {"flat": 1}),
    lambda store: store.scrub(smaller=True),
    lambda store: store.backup(store.directory / "copy"),
]


@pytest.mark.parametrize("change", NEEDING_SPACE, ids=["add", "remove", "begin_next", "scrub", "backup"])
def test_a_change_on_a_full_disk_is_told_and_done_when_there_is_room(
    change: Callable[[Store], object], small_disk: Path
) -> None:
    with new_store(small_disk / "gallery") as store:
        store.add([entry("1", "a"), entry("2", "b")])
        store.scrub()
        fill(small_disk)
        with pytest.raises(BadGallery, match=r"disk is full|disk I/O error|No space left"):
            change(store)
        assert (ids_of(store), store.card("next"), store.problems()) == (["a", "b"], None, [])
        assert not list((small_disk / "gallery").glob("copy*"))
        (small_disk / "other").unlink()
        change(store)
        assert store.problems() == []


def test_a_log_that_only_a_writer_can_open_is_told(small_disk: Path) -> None:
    """As when a gallery was copied, while somebody wrote, to a disk that is read-only."""
    with new_store(small_disk / "gallery") as store:
        store.add([entry("1", "a")])
        (small_disk / "copy").mkdir()
        for name in (GALLERY_DATABASE, f"{GALLERY_DATABASE}-wal"):
            shutil.copy(store.directory / name, small_disk / "copy" / name)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code = f"from pathlib import Path; from cbmir.store import Store; Store.open(Path({str(small_disk / 'copy')!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "holds a log: open it once where it can be written" in done.stderr.splitlines()[-1]


def test_a_file_that_may_grow_no_more_is_told(store: Store) -> None:
    code = f"""
import resource
from pathlib import Path
from cbmir.store import Store
from stores import entry
with Store.open(Path({str(store.directory)!r})) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    store.add([entry("3", *(f"c{{n}}" for n in range(2000)))])
"""
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "BadGallery: the gallery" in done.stderr.splitlines()[-1]
    assert (store.ids(), store.problems()) == (["a", "b"], [])
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200_000
    assert store.add([entry("3", "c")]).added == 1


CHANGING: dict[str, Callable[[Store], object]] = {
    **CHANGES,
    "swap_back": Store.swap_back,
    "touch": lambda s: s.touch([]),
}


@pytest.mark.parametrize("operation", sorted(CHANGING.keys() - {"backup", "repair"}))
def test_whatever_changes_a_store_tells_of_another_writer(operation: str, store: Store) -> None:
    with Store.open(store.directory) as other, store.writing(), pytest.raises(BadGallery, match="another process"):
        CHANGING[operation](other)
    assert (store.ids(), store.problems()) == (["a", "b"], [])


@pytest.mark.parametrize("operation", sorted(CHANGING.keys() - {"backup"}))
def test_whatever_changes_a_store_tells_that_it_may_only_be_read(
    operation: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests may run as root, whom no mode stops."""
    monkeypatch.setattr("cbmir.store.reading.is_writable", lambda directory: False)
    with pytest.raises(BadGallery, match="read-only here"):
        CHANGING[operation](store)


def test_a_backup_is_a_store_whole_in_itself(store: Store, tmp_path: Path) -> None:
    (tmp_path / "restored").mkdir()
    file = tmp_path / "restored" / GALLERY_DATABASE
    store.backup(file)
    store.add([entry("3", "c")])
    assert [path.name for path in file.parent.iterdir()] == [GALLERY_DATABASE]
    with Store.open(file.parent) as restored:
        assert (restored.ids(), restored.problems(), restored.card()) == (["a", "b"], [], CARD)
        assert restored.add([entry("4", "d")]).added == 1


def test_a_backup_is_made_while_another_writes_and_holds_one_moment(store: Store, tmp_path: Path) -> None:
    with Store.open(store.directory) as other, other.writing():
        for number in range(5):
            other.add([entry("1", f"a{number}"), entry("2", f"b{number}")])
            store.backup(tmp_path / "copy")
            with closing(sqlite3.connect(tmp_path / "copy")) as copy:
                rows = copy.execute("SELECT id FROM record ORDER BY id").fetchall()
            assert rows == [(f"a{number}",), (f"b{number}",)]


def test_a_backup_of_a_store_that_may_only_be_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    monkeypatch.setattr("cbmir.store.database.is_writable", lambda directory: False)
    with Store.open(store.directory) as reader:
        reader.backup(tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size > 0


def test_a_backup_that_cannot_be_written_is_told_and_the_one_before_stays(store: Store, tmp_path: Path) -> None:
    store.backup(tmp_path / "copy")
    before = (tmp_path / "copy").read_bytes()
    (tmp_path / "copy.new").mkdir()
    with pytest.raises(BadGallery, match="cannot be used"):
        store.backup(tmp_path / "copy")
    with pytest.raises(BadGallery, match="cannot be used"):
        store.backup(tmp_path / "no such folder" / "copy")
    assert (tmp_path / "copy").read_bytes() == before
