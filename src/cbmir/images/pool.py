"""Work in processes that can be killed: one task can neither stop the others nor take the program down.

Native decoders crash, hang and ask for any amount of memory on broken files. Each worker is a fresh interpreter on one
pipe, with a limit on its memory; it dies alone, the task it was at is accounted for, and another worker goes on with
the rest.
"""

from __future__ import annotations

import heapq
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

from ..errors import CbmirError, Outcome
from .process import START_ATTEMPTS, Orders, Worker, start_worker, too_late
from .serve import READY, RETIRED, receive_result

LOOK_AHEAD = 256  # tasks done or under way beyond the one the caller waits for ...
HELD_BYTES = 2**28  # ... and bytes of results at which no more tasks are given out: both bound memory
ATTEMPTS = 2  # a worker may crash for what an earlier file did to its heap: the second attempt is in another one
POLL_S = 0.2

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Job(Generic[Task, Result]):
    """What the workers do. work: an importable function, called as work(task, *arguments).

    lost: the result of a task whose worker crashed or was killed. n_bytes: what a result weighs.
    timeout_s: for one task. memory_bytes: for one worker, None without a limit.
    """

    work: Callable[..., Result]
    arguments: tuple[Any, ...]
    lost: Callable[[Task, Outcome, str], Result]
    n_bytes: Callable[[Result], int]
    timeout_s: float
    memory_bytes: int | None


def run_in_workers(tasks: Iterable[Task], job: Job[Task, Result], n_workers: int) -> Iterator[Result]:
    """One result per task, in the order given. Raises CbmirError when workers cannot be started."""
    return _Pool(tasks, job, n_workers).results()


class _Pool(Generic[Task, Result]):
    """Feeds workers from one thread, so that they keep busy while the caller computes.

    The thread draws tasks, sends them in batches, receives results one by one and puts them, in order, on a queue.
    """

    def __init__(self, tasks: Iterable[Task], job: Job[Task, Result], n_workers: int) -> None:
        self._tasks = enumerate(tasks)
        self._job = job
        self._orders = Orders(job.work, job.arguments, job.memory_bytes)
        self._n_workers = n_workers
        self._workers: list[Worker[Task]] = []
        self._waiting: list[tuple[int, Task]] = []  # heap: drawn, or left over by a worker that died
        self._crashes: Counter[int] = Counter()  # by index of the task
        self._failed_starts = 0  # since the last that did not fail
        self._done: dict[int, Result] = {}
        self._next = 0  # index of the next result to hand over
        self._exhausted = False
        self._bytes_in = 0  # of results received from workers; only the thread writes it
        self._bytes_out = 0  # of results taken by the caller; only the caller writes it
        self._results: queue.Queue[tuple[Result] | BaseException | None] = queue.Queue(LOOK_AHEAD)
        self._stop = threading.Event()

    def results(self) -> Iterator[Result]:
        thread = threading.Thread(target=self._run, name="cbmir-decode", daemon=True)
        thread.start()
        try:
            while (message := self._results.get()) is not None:
                if isinstance(message, BaseException):
                    raise message
                (result,) = message
                self._bytes_out += self._job.n_bytes(result)
                yield result
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and not self._finished():
                self._feed()
                self._receive()
                self._expire()
                self._hand_over()
            self._put(None)
        except BaseException as error:
            self._put(error)
        finally:
            for worker in self._workers:
                worker.kill()

    def _finished(self) -> bool:
        idle = not any(worker.tasks for worker in self._workers)
        return self._exhausted and idle and not self._waiting and not self._done

    def _feed(self) -> None:
        """Give out tasks, to the least busy first; start another worker while there are tasks left."""
        for worker in sorted(self._workers, key=lambda worker: len(worker.tasks)):
            self._fill(worker)
        while len(self._workers) < self._n_workers and self._has_more():
            self._workers.append(start_worker(self._orders))
            self._fill(self._workers[-1])

    def _fill(self, worker: Worker[Task]) -> None:
        half = worker.outstanding // 2
        while len(worker.tasks) <= half and (batch := self._take(half)):
            worker.give(batch)

    def _has_more(self) -> bool:
        if not self._waiting and not self._exhausted:
            drawn = next(self._tasks, None)
            if drawn is None:
                self._exhausted = True
            else:
                self._waiting.append(drawn)
        return bool(self._waiting)

    def _take(self, n: int) -> list[tuple[int, Task]]:
        """Up to n tasks, none further ahead than the look-ahead allows."""
        taken: list[tuple[int, Task]] = []
        while len(taken) < n and self._has_more() and self._may_give(self._waiting[0][0]):
            taken.append(heapq.heappop(self._waiting))
        return taken

    def _may_give(self, index: int) -> bool:
        """The task the caller waits for always; others while few enough are held."""
        return self._is_waited_for(index) or not (self._is_full() or index >= self._next + LOOK_AHEAD)

    def _is_waited_for(self, index: int) -> bool:
        return index == self._next and self._results.empty()

    def _is_full(self) -> bool:
        return self._bytes_in - self._bytes_out > HELD_BYTES

    def _receive(self) -> None:
        by_connection: dict[Any, Worker[Task]] = {worker.connection: worker for worker in self._awaited()}
        for connection in wait(list(by_connection), timeout=POLL_S):
            worker = by_connection[connection]
            if worker not in self._awaited():
                continue  # since the one before brought much
            try:
                self._take_in(worker)
            except (EOFError, OSError):
                self._bury(worker, "crashed", worker.cause_of_death())

    def _awaited(self) -> list[Worker[Task]]:
        """All workers; when too much is held, only the one the caller waits for: the others then wait with theirs."""
        if not self._is_full():
            return self._workers
        if not self._results.empty():
            return []
        return [
            worker for worker in self._workers if any(index == self._next for index, _ in worker.tasks)
        ] or self._workers

    def _take_in(self, worker: Worker[Task]) -> None:
        message = worker.connection.recv()
        if message == READY:
            worker.ready, worker.since = True, time.monotonic()
            self._failed_starts = 0
        elif message == RETIRED:
            self._dismiss(worker)
        else:
            result = receive_result(worker.connection, *message)
            self._bytes_in += self._job.n_bytes(result)
            self._done[worker.finish()] = result

    def _dismiss(self, worker: Worker[Task]) -> None:
        """Without the worker; the tasks it still had are given out again."""
        self._workers.remove(worker)
        worker.kill()
        for task in worker.tasks:
            heapq.heappush(self._waiting, task)

    def _expire(self) -> None:
        for worker in [worker for worker in self._workers if worker.is_late(self._job.timeout_s)]:
            self._bury(worker, "timed_out", too_late(self._job.timeout_s))

    def _bury(self, worker: Worker[Task], outcome: Outcome, reason: str) -> None:
        """Account for a worker's death: the task it was at has that outcome, or is tried once more."""
        if not worker.ready:
            self._failed_start()
        elif worker.tasks and not (outcome == "crashed" and self._deserves_another(worker)):
            index, task = worker.tasks.popleft()
            self._done[index] = self._job.lost(task, outcome, reason)
        self._dismiss(worker)

    def _failed_start(self) -> None:
        self._failed_starts += 1
        if self._failed_starts == START_ATTEMPTS:
            raise CbmirError("The worker processes that decode images do not start.")

    def _deserves_another(self, worker: Worker[Task]) -> bool:
        """An earlier file may have damaged the worker's memory: what crashed is tried again in another worker."""
        index = worker.tasks[0][0]
        self._crashes[index] += 1
        return worker.n_done > 0 and self._crashes[index] < ATTEMPTS

    def _hand_over(self) -> None:
        while self._next in self._done:
            self._put((self._done.pop(self._next),))
            self._next += 1

    def _put(self, message: tuple[Result] | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                self._results.put(message, timeout=POLL_S)
                return
            except queue.Full:
                continue
