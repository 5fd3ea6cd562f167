"""Processes that stand ready: shared by threads, limited, replaced."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbmir.errors import BadImage, CbmirError, UsageError
from cbmir.images.apart import Busy, StandingWorkers, in_fresh_workers
from cbmir.images.process import Orders, Worker, start_worker

MIB = 2**20
KEPT: list[np.ndarray] = []


def do(task: Any, *arguments: Any) -> Any:
    """Does to its process what the task is called; else tells its process and what came along."""
    if task == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "segfault once" and not Path(arguments[0]).exists():
        Path(arguments[0]).touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "hang":
        time.sleep(600)
    if task == "keep":
        KEPT.append(np.ones(400 * MIB, np.uint8))
    if task == "too much":
        np.ones(2**33, np.uint8)
    if task == "wrong":
        raise UsageError("that cannot be")
    if task == "fault":
        raise KeyError("a patient's name")
    return os.getpid(), arguments


def twice(task: np.ndarray) -> np.ndarray:
    return 2 * task


@pytest.fixture
def workers() -> Iterator[StandingWorkers]:
    with StandingWorkers(1, memory_bytes=2**30) as workers:
        yield workers


def test_one_process_does_one_call_after_the_other(workers: StandingWorkers) -> None:
    first, second = workers.call(do, "a", 1), workers.call(do, "b", 2, "x")
    assert first[0] == second[0] != os.getpid()
    assert (first[1], second[1]) == ((1,), (2, "x"))


def test_arrays_go_there_and_come_back(workers: StandingWorkers) -> None:
    large = np.arange(20 * MIB, dtype=np.uint8)
    assert np.array_equal(workers.call(twice, large), large * 2)


@pytest.mark.parametrize(
    ("task", "outcome", "reason"),
    [
        ("segfault", "crashed", "The decoder crashed on this file."),
        ("hang", "timed_out", "Decoding took longer than 0.5 s."),
        ("too much", "refused", "The image does not fit into memory."),
        ("fault", "crashed", "The reader failed in a way that is a fault of this program"),
    ],
)
def test_what_a_task_does_to_its_process_is_told_and_the_next_call_works(
    workers: StandingWorkers, task: str, outcome: str, reason: str
) -> None:
    workers.call(do, "good")  # it has imported what it needs: what follows takes no time of its own
    workers.timeout_s = 0.5 if task == "hang" else 60
    with pytest.raises(BadImage, match=reason) as caught:
        workers.call(do, task)
    assert caught.value.outcome == outcome
    workers.timeout_s = 60
    assert workers.call(do, "good")


def test_an_error_of_ours_comes_back_as_it_is_and_costs_no_process(workers: StandingWorkers) -> None:
    (before, _) = workers.call(do, "a")
    with pytest.raises(UsageError, match="that cannot be"):
        workers.call(do, "wrong")
    good, wrong = workers(do, ["a", "wrong"])
    assert good[0] == before
    assert isinstance(wrong, UsageError)


def test_what_crashed_after_other_files_is_tried_once_more_in_a_new_process(
    workers: StandingWorkers, tmp_path: Path
) -> None:
    (before, _) = workers.call(do, "a")
    (after, _) = workers.call(do, "segfault once", str(tmp_path / "done"))
    assert after != before


def test_a_process_that_died_between_calls_is_replaced(workers: StandingWorkers) -> None:
    workers.start()
    [pid] = workers.pids
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    assert workers.call(do, "a")[0] != pid


def test_a_process_that_keeps_much_memory_is_replaced_where_it_retires(workers: StandingWorkers) -> None:
    (first, _) = workers.call(do, "keep")
    assert workers.call(do, "a")[0] != first
    with StandingWorkers(1, memory_bytes=None, retires=False) as lasting:
        (first, _) = lasting.call(do, "keep")
        assert lasting.call(do, "a")[0] == first


def test_a_process_outlives_the_thread_that_first_needed_it(workers: StandingWorkers) -> None:
    """Linux ends a child with the thread that started it."""
    pids: list[int] = []
    thread = threading.Thread(target=lambda: pids.append(workers.call(do, "a")[0]))
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert workers.call(do, "b")[0] == pids[0]


def test_many_threads_share_few_processes() -> None:
    with StandingWorkers(2) as workers, ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda n: workers.call(do, n, n), range(200)))
    assert [arguments for _, arguments in found] == [(n,) for n in range(200)]
    assert len({pid for pid, _ in found}) <= 2


def test_whoever_waits_too_long_is_told(workers: StandingWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.images.apart.PATIENCE_S", 0.1)
    workers.call(do, "a")
    workers.timeout_s = 2
    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(workers.call, do, "hang")
        time.sleep(0.3)
        with pytest.raises(Busy, match="try again"):
            workers.call(do, "a")
        assert isinstance(hanging.exception(), BadImage)


def test_after_the_end_no_process_is_left() -> None:
    with StandingWorkers(2) as workers:
        workers.start()
        pids = workers.pids
        assert len(pids) == 2
    time.sleep(0.2)
    for pid in pids:
        assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()
    with pytest.raises(CbmirError, match="about to end"):
        workers.call(do, "a")


def test_nor_one_that_was_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends as soon as it has begun. Whoever asked for it is told."""
    begun, may_go_on, started, told = threading.Event(), threading.Event(), [], []

    def slowly(orders: Orders) -> Worker[Any]:
        begun.set()
        may_go_on.wait(20)
        started.append(start_worker(orders))
        return started[0]

    def ask() -> None:
        try:
            workers.start()
        except CbmirError as error:
            told.append(error)

    monkeypatch.setattr("cbmir.images.apart.start_worker", slowly)
    workers = StandingWorkers(2)
    thread = threading.Thread(target=ask)
    thread.start()
    assert begun.wait(20)
    closing = threading.Thread(target=workers.__exit__, args=(None, None, None))
    closing.start()
    time.sleep(0.2)
    may_go_on.set()
    closing.join(20)
    thread.join(20)
    assert [type(error) for error in told] == [Busy]
    assert [worker.process.returncode for worker in started] == [-signal.SIGKILL]


def test_workers_that_cannot_be_started_are_told(workers: StandingWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(CbmirError, match="A worker process cannot be started"):
        workers.call(do, "a")


def test_fresh_workers_do_the_same() -> None:
    good, wrong, bad = in_fresh_workers(do, ["a", "wrong", "segfault"], 3)
    assert good[1] == (3,)
    assert isinstance(wrong, UsageError)
    assert isinstance(bad, BadImage)
