"""One worker process, from the side that started it; serve.py is the other."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from typing import Any, Generic, TypeVar

from ..errors import CbmirError

OUTSTANDING = 16  # tasks a worker may have been given while they go fast (half of them per message), ...
OUTSTANDING_SLOW = 2  # ... or not: one under way and one waiting, so that the others do not wait for it at the end
FAST_S = 0.05
START_TIMEOUT_S = 60.0
START_ATTEMPTS = 3
KILL_TIMEOUT_S = 5.0  # a process that waits for a file server which went away cannot even be killed

Task = TypeVar("Task")


@dataclass
class Worker(Generic[Task]):
    """One process and the tasks it has been given: (index, task); the first is the one it is at, since then."""

    process: subprocess.Popen[bytes]
    connection: Connection
    since: float = field(default_factory=time.monotonic)
    ready: bool = False
    n_done: int = 0
    outstanding: int = OUTSTANDING_SLOW
    tasks: deque[tuple[int, Task]] = field(default_factory=deque)

    def give(self, batch: list[tuple[int, Task]]) -> None:
        if not self.tasks and self.ready:
            self.since = time.monotonic()
        self.tasks.extend(batch)
        with suppress(OSError):  # when it has died, the pool finds that out and accounts for its tasks
            self.connection.send([task for _, task in batch])

    def finish(self) -> int:
        """The index of the task it was at, which is done now."""
        now = time.monotonic()
        self.outstanding = OUTSTANDING if now - self.since < FAST_S else OUTSTANDING_SLOW
        self.since = now
        self.n_done += 1
        return self.tasks.popleft()[0]

    def is_late(self, timeout_s: float) -> bool:
        elapsed = time.monotonic() - self.since
        late = elapsed > (timeout_s if self.ready else START_TIMEOUT_S)
        return bool(self.tasks) and late and not self.connection.poll()

    def cause_of_death(self) -> str:
        """One sentence, once it has closed its end of the pipe."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(KILL_TIMEOUT_S)
        if self.process.returncode == -signal.SIGKILL:
            return "The decoder was killed by the system, as happens when memory runs out."
        return "The decoder crashed on this file."

    def kill(self) -> None:
        self.end()
        self.connection.close()

    def end(self) -> None:
        """Whoever waits at the connection finds it closed on the other side."""
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(KILL_TIMEOUT_S)


@dataclass(frozen=True)
class Orders:
    """What a worker is for. work: an importable function, called as work(task, *arguments).

    memory_bytes: what it may allocate, None without a limit. retires: after a task it keeps much of, for another one to
    take its place. single: computes with one thread, since there is one worker a core.
    """

    work: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    memory_bytes: int | None = None
    retires: bool = True
    single: bool = True


def start_worker(orders: Orders) -> Worker[Any]:
    """A fresh interpreter rather than a fork: it never holds the caller's torch, threads or main module.

    Raises CbmirError when it cannot be started.
    """
    ours, theirs = Pipe()
    serve = f"from cbmir.images.serve import serve; serve({theirs.fileno()}, {os.getpid()})"
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", serve],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # native decoders write there
            env=_environment(orders.single),
        )
    except OSError as error:
        raise CbmirError(f"A worker process cannot be started: {error.strerror}.") from error
    finally:
        theirs.close()
    worker: Worker[Any] = Worker(process, ours)
    with suppress(OSError):
        ours.send((orders.memory_bytes, orders.retires, pickle.dumps((orders.work, orders.arguments))))
    return worker


def _environment(single: bool) -> dict[str, str]:
    """The caller's module path, and glibc told to keep up to 64 MiB: to give every frame's memory back and fault it in
    again took half the time of a decode."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS") if single else ()
    malloc = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**26)}
    path = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return {**os.environ, **dict.fromkeys(threads, "1"), **malloc, **path}


def too_late(timeout_s: float) -> str:
    return f"Decoding took longer than {timeout_s:g} s."


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
