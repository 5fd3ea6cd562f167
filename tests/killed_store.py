"""Kills a process again and again while it changes a store, and looks at what is left. Run by test_store_faults.py.

    python killed_store.py FOLDER OPERATION N_KILLS SEED

Half of the kills come after a drawn number of SQLite's own steps, half at a drawn time, also inside a system call.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cbmir.files import GALLERY_DATABASE
from cbmir.store import Entry, Store, database
from cbmir.types import Record
from stores import entry, new_store

N_FILES = 60
NEXT_LAYERS = {"flat": 8}
_STEPS = 50  # of SQLite, between two looks at whether it is time to die


def ids_in(number: int) -> list[str]:
    return [f"{number:02}-{frame}" for frame in range(5)]


def file_entry(number: int, value: float = 1) -> Entry:
    return entry(f"{number:02}", *ids_in(number), patient=f"patient {number // 10}", value=value)


def remade(number: int) -> Entry:
    one = file_entry(number)
    records = tuple(replace(record, predicted="lung", labels={}) for record in one.records)
    return replace(one, records=records, features={"flat": np.full((5, 8), 2, np.float32)})


def digests(record: Record) -> Sequence[str]:
    return [f"digest of {record.id}"]


def backup(store: Store) -> None:
    store.backup(store.directory / "copy")
    with closing(sqlite3.connect(store.directory / "copy")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


CHANGES: dict[str, Callable[[Store], object]] = {
    "add": lambda store: store.add([file_entry(number, 3) for number in range(50, 70)]),
    "remove": lambda store: store.remove("patient", ["patient 1", "patient 2"], digests),
    "readmit": lambda store: store.readmit(),
    "begin_next": lambda store: store.begin_next({"name": "three"}, {"x": 1}),
    "put_next": lambda store: store.put_next([remade(number) for number in range(30, 60)]),
    "swap_next": lambda store: store.swap_next(),
    "drop_next": lambda store: store.drop_next(),
    "scrub": lambda store: store.scrub(store.generation(), smaller=True),
    "repair": lambda store: store.repair(store.problems()),
    "backup": backup,
}


def prepare(directory: Path, operation: str) -> None:
    with new_store(directory) as store:
        store.add([file_entry(number) for number in range(N_FILES)])
        store.remove("id", ids_in(0)[:2], digests)
        if operation != "begin_next":
            store.begin_next({"name": "two"}, NEXT_LAYERS)
            store.put_next([remade(number) for number in range(30 if operation == "put_next" else N_FILES)])
        if operation == "repair":
            harm = "UPDATE record SET class = 'x' WHERE number % 7 = 0"
            store._connection.execute(harm)


def content_of(store: Store) -> dict[str, Any]:
    """All that a store shows; of encoders that are not current, what is there of their features."""
    with store.snapshot():
        return {
            "records": {record.id: record for records in store.describe() for record in records},
            "posteriors": store._all("SELECT id, posterior FROM record ORDER BY id"),
            "files": [(file.name, file.mtime_ns) for file in store.files()],
            "erased": store._all("SELECT digest FROM erased"),
            "cards": {state: store.card(state) for state in ("current", "next", "previous")},
            "features": {
                (state, layer): [(block.ids, block.features.tobytes()) for block in store.blocks(layer, state)]
                for state in ("current", "next", "previous")
                for layer in store.layers_of(state)
            },
        }


def in_child(directory: Path, operation: str, *, ticks: int | None = None, after_s: float | None = None) -> bool:
    """Whether the operation was done; it is cut short after so many ticks, or seconds, when any are given."""
    child = os.fork()
    if child == 0:
        if ticks is not None:
            die_after(ticks)
        with Store.open(directory) as store:
            if after_s is not None:
                signal.setitimer(signal.ITIMER_REAL, after_s)  # nobody handles its signal: that is the end
            CHANGES[operation](store)
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def die_after(ticks: int) -> None:
    connect = database._connect
    left = iter(range(ticks))

    def tick() -> int:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    def connected(*args: Any) -> sqlite3.Connection:
        connection = connect(*args)
        connection.set_progress_handler(tick, _STEPS)
        return connection

    database._connect = connected  # type: ignore[assignment]


def most_ticks(template: Path, copy: Path, operation: str) -> int:
    """How many ticks the operation takes, to the next power of two."""
    ticks = 1
    while not in_child(fresh(template, copy), operation, ticks=ticks):
        ticks *= 2
    return ticks


def fresh(template: Path, copy: Path) -> Path:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(template, copy)
    return copy


def main(folder: Path, operation: str, n_kills: int, seed: int) -> None:
    template, copy = folder / "template", folder / "copy"
    prepare(template, operation)
    with Store.open(template) as store:
        before = content_of(store)
    start = time.monotonic()
    assert in_child(fresh(template, copy), operation)
    seconds = time.monotonic() - start
    with Store.open(copy) as store:
        after = content_of(store)
        assert store.problems() == []
    most = most_ticks(template, copy, operation)
    draw = random.Random(seed)
    kills = 0
    for number in range(20 * n_kills):
        when: dict[str, Any] = (
            {"ticks": draw.randrange(most)} if number % 2 else {"after_s": draw.uniform(1e-6, seconds)}
        )
        if in_child(fresh(template, copy), operation, **when):
            continue
        kills += 1
        check(copy, operation, before, after)
        if kills == n_kills:
            break
    assert kills == n_kills, f"only {kills} kills came before the end"
    shutil.rmtree(copy)


def check(directory: Path, operation: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """What is there is that before or that after; and the operation can be done, or what it does is done."""
    with Store.open(directory) as store:
        found = content_of(store)
        assert found in (before, after), "half a change is there"
        kinds = {problem.kind for problem in store.problems()}
        allowed = {"repair": {"record", "index"}, "drop_next": {"staged"}}.get(operation, set())
        assert kinds <= allowed, kinds
        assert not (directory / "copy").exists() or operation == "backup"
        if found == before:
            CHANGES[operation](store)
        else:
            store.scrub()  # which finishes what is left to sweep
        assert content_of(store) == after
        assert store.problems() == []
    assert (directory / GALLERY_DATABASE).is_file()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
