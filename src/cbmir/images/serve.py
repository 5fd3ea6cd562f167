"""The worker's side of the pool: limits on itself first, then one result per task until the pipe closes."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

READY = "ready"
RETIRED = "retired"
GROWTH_BYTES = 2**28
"""What a worker may still hold after a task (libraries are 100 MiB of it) before another one takes its place."""

MAPPED_BYTES = 2**30  # code and address space never touched, which only RLIMIT_AS counts; 100 MiB were measured
PR_SET_PDEATHSIG = 1  # prctl(2)


def serve(descriptor: int, parent: int) -> None:
    """The life of a worker. Sent: READY, then a result per task; received: the orders, then batches of tasks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    _die_with(parent)
    connection = Connection(descriptor)
    with suppress(EOFError, OSError):
        may_grow, work, arguments = _take_orders(connection)
        connection.send(READY)
        _work(connection, lambda task: work(task, *arguments), may_grow)


def receive_result(connection: Connection, body: bytes, n_buffers: int) -> Any:
    """The inverse of what a worker sends: a message (body, number of buffers), then the buffers, one message each."""
    return pickle.loads(body, buffers=[connection.recv_bytes() for _ in range(n_buffers)])


def _send_result(connection: Connection, result: Any) -> None:
    """Arrays travel beside the pickle, so that a long cine is not copied whole on either side."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(result, protocol=5, buffer_callback=buffers.append)
    connection.send((body, len(buffers)))
    for buffer in buffers:
        connection.send_bytes(buffer.raw())


def _take_orders(connection: Connection) -> tuple[int | None, Callable[..., Any], tuple[Any, ...]]:
    """What it may grow by (None: anything), and what is done with each task."""
    memory_bytes, retires, orders = connection.recv()
    _limit(memory_bytes)
    work, arguments = pickle.loads(orders)
    may_grow = min(GROWTH_BYTES, (memory_bytes or 2 * GROWTH_BYTES) // 2) if retires else None
    return may_grow, work, arguments


def _work(connection: Connection, work: Callable[[Any], Any], may_grow: int | None) -> None:
    at_first = _data_bytes()
    while True:
        for task in connection.recv():
            _send_result(connection, work(task))
            if may_grow is not None and _data_bytes() > at_first + may_grow:
                connection.send(RETIRED)
                return


def _limit(memory_bytes: int | None) -> None:
    """RLIMIT_DATA counts what is allocated, and was never reached by libraries alone; RLIMIT_AS stands in for it where
    it does not count mapped memory (Linux before 4.7). No core file: it would hold a patient's picture."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = {resource.RLIMIT_CORE: 0}
    if memory_bytes is not None:
        limits |= {resource.RLIMIT_DATA: memory_bytes, resource.RLIMIT_AS: memory_bytes + MAPPED_BYTES}
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with suppress(OSError, ValueError):  # macOS refuses some
            resource.setrlimit(kind, (allowed, allowed))


def _die_with(parent: int) -> None:
    """A worker stuck in native code must not outlive a parent that was killed; and of all processes the system may
    kill when memory runs out, it is the one to take. Linux only."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    if os.getppid() != parent:
        raise SystemExit


def _data_bytes() -> int:
    """What this process has allocated, as RLIMIT_DATA counts it; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[5])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGESIZE")
