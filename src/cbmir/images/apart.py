"""Work on files in processes that a hostile file may take down: fresh ones for a call, or ones that stand ready."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import BadImage, CbmirError, Outcome
from .limits import MEMORY_BYTES, TIMEOUT_S, UNEXPECTED, guarded
from .pool import Job, run_in_workers
from .process import START_ATTEMPTS, START_TIMEOUT_S, Orders, Worker, start_worker, too_late, usable_cores
from .serve import READY, RETIRED, receive_result

PATIENCE_S = 30.0
_NOBODY = 0  # the number of a task that is alone


class Busy(CbmirError):
    """Every process that could do it is at work for somebody else; the same call may succeed later."""


class Apart(Protocol):
    """work(task, *arguments) of each task, in order, in another process; of one that fails its CbmirError.

    work: an importable function. A process that crashes, hangs or asks for too much memory costs one task.
    """

    def __call__(self, work: Callable[..., Any], tasks: Sequence[Any], *arguments: Any) -> list[Any]: ...


def in_fresh_workers(work: Callable[..., Any], tasks: Sequence[Any], *arguments: Any) -> list[Any]:
    """Workers that end with the call, at most one a core, under the limits of an index run."""
    job: Job[Any, Any] = Job(_of_one, (work, arguments), _lost, lambda _: 0, TIMEOUT_S, MEMORY_BYTES)
    return list(run_in_workers(tasks, job, min(len(tasks), usable_cores())))


def _of_one(task: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return _caught((work, task, arguments))


def _caught(called: tuple[Callable[..., Any], Any, tuple[Any, ...]]) -> Any:
    work, task, arguments = called
    try:
        with guarded("crashed", UNEXPECTED):
            try:
                return work(task, *arguments)
            except CbmirError as error:
                return error
    except BadImage as error:
        return error


def _lost(_: Any, outcome: Outcome, reason: str) -> BadImage:
    return BadImage(outcome, reason)


@dataclass
class _Seat:
    worker: Worker[Any] | None = None


class StandingWorkers:
    """Processes that live on from call to call, for many threads. An Apart; its tasks are done one after the other.

    One that has died, or was killed because a task took too long, is replaced when it is next needed, and so is one
    that keeps much memory, where it retires. What crashed a process that had done other tasks is tried once more, in
    a new one. timeout_s, memory_bytes: for one task and one process. single: of Orders.
    """

    def __init__(
        self,
        n: int,
        *,
        timeout_s: float = TIMEOUT_S,
        memory_bytes: int | None = MEMORY_BYTES,
        retires: bool = True,
        single: bool = True,
    ) -> None:
        self.timeout_s = timeout_s
        self._orders = Orders(_caught, (), memory_bytes, retires, single)
        self._seats = [_Seat() for _ in range(n)]
        self._free: queue.LifoQueue[_Seat] = queue.LifoQueue()  # the one used last is surely awake
        for seat in self._seats:
            self._free.put(seat)
        # the system ends a worker with the thread that started it, and those of requests come and go
        self._starter = ThreadPoolExecutor(1, "cbmir-starter")
        self._closed = threading.Event()

    def __enter__(self) -> StandingWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        """Kills them; whoever waits for one is told that it crashed."""
        self._closed.set()
        for seat in self._seats:
            if seat.worker is not None:
                seat.worker.end()
        self._starter.shutdown()

    def __call__(self, work: Callable[..., Any], tasks: Sequence[Any], *arguments: Any) -> list[Any]:
        """Raises Busy when none becomes free, CbmirError when they cannot be started."""
        return [self._done(work, task, arguments) for task in tasks]

    def call(self, work: Callable[..., Any], task: Any, *arguments: Any) -> Any:
        """The same of one task; its CbmirError is raised."""
        [result] = self(work, [task], *arguments)
        if isinstance(result, CbmirError):
            raise result
        return result

    def start(self) -> None:
        """All of them, before they are needed."""
        with ExitStack() as stack:
            for seat in [stack.enter_context(self._lent()) for _ in self._seats]:
                self._ready(seat)

    @property
    def pids(self) -> list[int]:
        """Of those that have been started."""
        return [seat.worker.process.pid for seat in self._seats if seat.worker is not None]

    def _done(self, work: Callable[..., Any], task: Any, arguments: tuple[Any, ...]) -> Any:
        with self._lent() as seat:
            while True:
                worker = self._ready(seat)
                worker.give([(_NOBODY, (work, task, arguments))])
                try:
                    return self._answer(worker)
                except TimeoutError:
                    self._end(seat)
                    return BadImage("timed_out", too_late(self.timeout_s))
                except (EOFError, OSError):
                    reason, had_worked = worker.cause_of_death(), worker.n_done > 0
                    self._end(seat)
                    if not had_worked or self._closed.is_set():
                        return BadImage("crashed", reason)

    @contextmanager
    def _lent(self) -> Iterator[_Seat]:
        try:
            seat = self._free.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise Busy("Everything that reads images is at work; try again in a moment.") from None
        try:
            yield seat
        finally:
            self._free.put(seat)

    def _ready(self, seat: _Seat) -> Worker[Any]:
        """The seat's worker, another one where it has died or retired since. Raises CbmirError when none starts."""
        if seat.worker is not None and seat.worker.connection.poll():  # it says RETIRED, or nothing any more
            self._end(seat)
        for _ in range(START_ATTEMPTS):
            if seat.worker is not None:
                return seat.worker
            if self._closed.is_set():
                raise Busy("The program is about to end.")
            try:
                seat.worker = self._starter.submit(start_worker, self._orders).result()
            except RuntimeError:  # it was shut down meanwhile
                continue
            if self._closed.is_set():  # whoever closed may not have seen this one
                self._end(seat)
                continue
            with suppress(EOFError, OSError):
                if seat.worker.connection.poll(START_TIMEOUT_S) and seat.worker.connection.recv() == READY:
                    seat.worker.ready = True
                    return seat.worker
            self._end(seat)
        raise CbmirError("The worker processes that decode images do not start.")

    def _answer(self, worker: Worker[Any]) -> Any:
        """Raises TimeoutError when it is late, EOFError or OSError when it has died."""
        if not worker.connection.poll(self.timeout_s):
            raise TimeoutError
        message = worker.connection.recv()
        if message == RETIRED:  # said after the task before, and heard too late
            raise EOFError
        result = receive_result(worker.connection, *message)
        worker.finish()
        return result

    def _end(self, seat: _Seat) -> None:
        if seat.worker is not None:
            seat.worker.kill()
            seat.worker = None
