"""Processes that can be killed: whatever a task does to its process, every task has one result, in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbmir.errors import CbmirError, Outcome
from cbmir.images import pool
from cbmir.images.pool import Job, run_in_workers

MIB = 2**20


def double(task: int, *_: Any) -> Any:
    return 2 * task


def by_name(task: str, folder: str = "") -> Any:
    """Does to its process what the task is called."""
    if task == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "hang":
        Path(folder, "hanging").write_text(str(os.getpid()))
        time.sleep(600)
    if task == "crash once" and not Path(folder, "crashed").exists():
        Path(folder, "crashed").touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "leak":
        LEAKED.append(np.ones(400 * MIB, np.uint8))
    return os.getpid()


LEAKED: list[np.ndarray] = []


def allocate(n_bytes: int) -> int:
    """How many bytes could be had: all or none."""
    try:
        return int(np.ones(n_bytes, np.uint8).size)
    except MemoryError:
        return 0


def core_limit(_: int) -> tuple[int, int]:
    import resource

    return resource.getrlimit(resource.RLIMIT_CORE)


def large(task: int) -> np.ndarray:
    return np.full(20 * MIB, task, np.uint8)


def lost(task: Any, outcome: Outcome, reason: str) -> str:
    return f"{outcome}: {reason}"


def results_of(
    tasks: list[Any],
    work: Callable[..., Any],
    *arguments: Any,
    workers: int = 1,
    timeout_s: float = 60,
    memory_bytes: int | None = None,
) -> list[Any]:
    job: Job[Any, Any] = Job(
        work, arguments, lost, lambda result: getattr(result, "nbytes", 0), timeout_s, memory_bytes
    )
    return list(run_in_workers(tasks, job, workers))


def test_every_task_has_one_result_in_the_order_given() -> None:
    assert results_of(list(range(100)), double, workers=2) == list(range(0, 200, 2))


def test_arrays_come_back_as_they_were_sent() -> None:
    (result,) = results_of([7], large)
    assert (result.dtype, result.shape, set(result[:: 4 * MIB])) == (np.uint8, (20 * MIB,), {7})


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ("segfault", "crashed: The decoder crashed on this file."),
        ("killed", "crashed: The decoder was killed by the system, as happens when memory runs out."),
        ("hang", "timed_out: Decoding took longer than 1 s."),
    ],
)
def test_a_worker_that_dies_takes_one_task_with_it(tmp_path: Path, task: str, sentence: str) -> None:
    results = results_of(["good", task, "good"], by_name, str(tmp_path), timeout_s=1)
    assert results[1] == sentence
    assert all(isinstance(results[index], int) for index in (0, 2))


def test_what_crashed_after_other_files_is_tried_once_more(tmp_path: Path) -> None:
    """The heap may have been damaged by a file before."""
    results = results_of(["good", "crash once", "good"], by_name, str(tmp_path))
    assert all(isinstance(result, int) for result in results)
    assert results[0] != results[1]


def test_what_crashes_a_fresh_worker_is_not_tried_again(tmp_path: Path) -> None:
    results = results_of(["crash once", "good"], by_name, str(tmp_path))
    assert results[0] == "crashed: The decoder crashed on this file."


def test_a_worker_cannot_allocate_more_than_its_limit() -> None:
    assert results_of([100 * MIB, 600 * MIB, 100 * MIB], allocate, memory_bytes=512 * MIB) == [100 * MIB, 0, 100 * MIB]
    assert results_of([600 * MIB], allocate, memory_bytes=None) == [600 * MIB]


def test_a_worker_that_dies_leaves_no_core_file() -> None:
    """It would hold a patient's picture."""
    assert results_of([0], core_limit) == [(0, 0)]


def test_a_worker_that_keeps_memory_is_replaced() -> None:
    before, during, after = results_of(["good", "leak", "good"], by_name)
    assert before == during != after


def test_a_limit_too_small_to_start_with_is_an_error() -> None:
    with pytest.raises(CbmirError, match="do not start"):
        results_of([1], double, memory_bytes=2 * MIB)


def test_a_caller_who_is_slow_holds_few_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "HELD_BYTES", 50 * MIB)
    received = []

    def weigh(result: np.ndarray) -> int:
        if threading.current_thread().name == "cbmir-decode":
            received.append(int(result[0]))
        return result.nbytes

    results = run_in_workers(range(12), Job(large, (), lost, weigh, 60, None), 2)
    assert int(next(results)[0]) == 0
    time.sleep(1)
    assert len(received) <= 5
    assert [int(result[0]) for result in results] == list(range(1, 12))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not condition():
        time.sleep(0.05)
    return condition()


PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job started in the background inherits that it is ignored
sys.path[:0] = {path!r}
from test_pool import results_of, by_name
print("started", flush=True)
results_of(["hang"], by_name, {folder!r}, workers=2)
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program whose one worker hangs."""
    code = PARENT.format(path=[str(Path(__file__).parent), *sys.path], folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_program_that_ends_leaves_no_worker_behind(
    parent: subprocess.Popen[str], tmp_path: Path, how: signal.Signals
) -> None:
    note = tmp_path / "hanging"
    assert wait_for(lambda: note.exists() and note.read_text() != "")
    worker = int(note.read_text())
    assert is_alive(worker)
    parent.send_signal(how)
    parent.wait(20)
    assert wait_for(lambda: not is_alive(worker), 5)
