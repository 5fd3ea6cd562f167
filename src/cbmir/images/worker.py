"""Decoding in worker processes: one file can neither stop the others nor take the program down.

Native decoders crash and hang on broken files. Each worker is a fresh interpreter on one pipe; it dies alone, the file
it was at is reported as crashed or timed out, and another worker goes on with the rest.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from ..errors import BadImage, CbmirError, Outcome
from ..preprocess import Preprocessing, preprocess
from ..privacy import Pseudonyms
from ..types import DecodedImage, ImageRef, Record, UInt8
from . import decode, read_file
from .limits import guarded

OUTSTANDING = 16  # files a worker may have been given while they go fast (half of them per message), ...
OUTSTANDING_SLOW = 2  # ... or not: one under way and one waiting, so that the others do not wait for it at the end
FAST_S = 0.05
LOOK_AHEAD = 256  # files decoded or under way beyond the one the caller waits for ...
HELD_BYTES = 2**28  # ... and bytes of decoded images at which no more files are given out: both bound memory
START_TIMEOUT_S = 60.0
POLL_S = 0.2


@dataclass(frozen=True)
class Prepared:
    """One image ready for an encoder. pixels: uint8 (C, rows, columns); record: all but the encoder's opinion."""

    record: Record
    pixels: UInt8


@dataclass(frozen=True)
class Decoded:
    """What became of one file. images: empty unless outcome is decoded or partial; reason: one sentence, else None.

    content_hash: SHA-256 of the bytes, "" when they could not be read; size in bytes; mtime_ns of the file.
    """

    ref: ImageRef
    outcome: Outcome
    reason: str | None
    images: tuple[Prepared, ...] = ()
    content_hash: str = ""
    size: int = 0
    mtime_ns: int = 0


Reader = Callable[[ImageRef, Preprocessing, Pseudonyms], Decoded]


def decode_all(
    refs: Iterable[ImageRef],
    preprocessing: Preprocessing,
    pseudonyms: Pseudonyms,
    *,
    workers: int | None = None,
    timeout_s: float = 60,
    reader: Reader | None = None,
) -> Iterator[Decoded]:
    """Decode and preprocess files, in the order given.

    workers: processes; None: one per usable core; 0: in this process (single files, tests), without protection.
    timeout_s: for one file; a worker that needs longer is killed. reader: an importable function instead of
    decode_one. Raises CbmirError when workers cannot be started.
    """
    read = reader or decode_one
    if workers is None:
        workers = _usable_cores()
    if workers < 1:
        return (read(ref, preprocessing, pseudonyms) for ref in refs)
    return _Pool(refs, (read, preprocessing, pseudonyms), workers, timeout_s).results()


def decode_one(ref: ImageRef, preprocessing: Preprocessing, pseudonyms: Pseudonyms) -> Decoded:
    """Read, decode and preprocess one file; never raises for a bad one."""
    try:
        size, mtime_ns = _stat(ref.path)
        data = read_file(ref.path)
    except BadImage as error:
        return Decoded(ref, error.outcome, error.reason)
    content_hash = hashlib.sha256(data).hexdigest()
    images, failures = _prepare_all(data, ref, preprocessing, pseudonyms)
    outcome, reason = _outcome(len(images), failures)
    return Decoded(ref, outcome, reason, tuple(images), content_hash, size, mtime_ns)


def _stat(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise BadImage("corrupt", f"The file cannot be read: {error.strerror}.") from None
    return status.st_size, status.st_mtime_ns


def _prepare_all(
    data: bytes, ref: ImageRef, preprocessing: Preprocessing, pseudonyms: Pseudonyms
) -> tuple[list[Prepared], list[BadImage]]:
    """Every image that can be had, and why others cannot."""
    images: list[Prepared] = []
    failures: list[BadImage] = []
    try:
        for image in decode(data, pseudonyms, patient=ref.patient, modality=ref.modality):
            try:
                with guarded("unsupported", "The image cannot be prepared for the encoder."):
                    images.append(Prepared(_record(image, ref), preprocess(image, preprocessing)))
            except BadImage as error:
                failures.append(error)
    except BadImage as error:
        failures.append(error)
    return images, failures


def _outcome(n_images: int, failures: list[BadImage]) -> tuple[Outcome, str | None]:
    if not failures:
        return "decoded", None
    first = failures[0]
    if not n_images:
        return ("refused" if first.outcome == "partial" else first.outcome), first.reason
    if first.outcome == "partial":
        return "partial", first.reason
    return "partial", f"{len(failures)} of {n_images + len(failures)} images were left out: {first.reason}"


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _n_bytes(decoded: Decoded) -> int:
    return sum(image.pixels.nbytes for image in decoded.images)


def _record(image: DecodedImage, ref: ImageRef) -> Record:
    return Record(
        id=image.id,
        patient=image.patient,
        study=image.study,
        series=image.series,
        frame_index=image.frame_index,
        modality=image.modality,
        source=ref.source,
        labels=dict(ref.labels),
        attributes=dict(image.attributes),
        provenance=image.provenance.as_dict(),
    )


@dataclass
class _Worker:
    """One process and the files it has been given: (index, ref); the first is the one it is at, since then."""

    process: subprocess.Popen[bytes]
    connection: Connection
    since: float = field(default_factory=time.monotonic)
    ready: bool = False
    outstanding: int = OUTSTANDING_SLOW
    tasks: deque[tuple[int, ImageRef]] = field(default_factory=deque)

    def give(self, batch: list[tuple[int, ImageRef]]) -> None:
        if not self.tasks and self.ready:
            self.since = time.monotonic()
        self.tasks.extend(batch)
        with suppress(OSError):  # when it has died, the pool finds that out and accounts for its files
            self.connection.send([ref for _, ref in batch])

    def finish(self) -> int:
        """The index of the file it was at, which is done now."""
        now = time.monotonic()
        self.outstanding = OUTSTANDING if now - self.since < FAST_S else OUTSTANDING_SLOW
        self.since = now
        return self.tasks.popleft()[0]

    def is_late(self, timeout_s: float) -> bool:
        elapsed = time.monotonic() - self.since
        late = elapsed > (timeout_s if self.ready else START_TIMEOUT_S)
        return bool(self.tasks) and late and not self.connection.poll()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()


class _Pool:
    """Feeds workers from one thread, so that they keep busy while the caller computes.

    The thread reads refs, sends them in batches, receives results one by one and puts them, in order, on a queue.
    """

    def __init__(self, refs: Iterable[ImageRef], job: Any, n_workers: int, timeout_s: float) -> None:
        self._refs = enumerate(refs)
        self._job = pickle.dumps(job)
        self._n_workers = n_workers
        self._timeout_s = timeout_s
        self._workers: list[_Worker] = []
        self._waiting: list[tuple[int, ImageRef]] = []  # heap: drawn, or left over by a worker that died
        self._done: dict[int, Decoded] = {}
        self._next = 0  # index of the next result to hand over
        self._exhausted = False
        self._bytes_in = 0  # of images received from workers; only the thread writes it
        self._bytes_out = 0  # of images taken by the caller; only the caller writes it
        self._results: queue.Queue[Decoded | BaseException | None] = queue.Queue(LOOK_AHEAD)
        self._stop = threading.Event()

    def results(self) -> Iterator[Decoded]:
        thread = threading.Thread(target=self._run, name="cbmir-decode", daemon=True)
        thread.start()
        try:
            while (result := self._results.get()) is not None:
                if isinstance(result, BaseException):
                    raise result
                self._bytes_out += _n_bytes(result)
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
        """Give out files, to the least busy first; start another worker while there are files left."""
        for worker in sorted(self._workers, key=lambda worker: len(worker.tasks)):
            self._fill(worker)
        while len(self._workers) < self._n_workers and self._has_more():
            self._workers.append(self._start())
            self._fill(self._workers[-1])

    def _fill(self, worker: _Worker) -> None:
        half = worker.outstanding // 2
        while len(worker.tasks) <= half and (batch := self._take(half)):
            worker.give(batch)

    def _has_more(self) -> bool:
        if not self._waiting and not self._exhausted:
            drawn = next(self._refs, None)
            if drawn is None:
                self._exhausted = True
            else:
                self._waiting.append(drawn)
        return bool(self._waiting)

    def _take(self, n: int) -> list[tuple[int, ImageRef]]:
        """Up to n files, none further ahead than the look-ahead allows."""
        taken: list[tuple[int, ImageRef]] = []
        while len(taken) < n and self._has_more() and self._may_give(self._waiting[0][0]):
            taken.append(heapq.heappop(self._waiting))
        return taken

    def _may_give(self, index: int) -> bool:
        """The file the caller waits for always; others while few enough are held."""
        full = self._bytes_in - self._bytes_out > HELD_BYTES or index >= self._next + LOOK_AHEAD
        return index == self._next or not full

    def _receive(self) -> None:
        by_connection: dict[Any, _Worker] = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(by_connection), timeout=POLL_S):
            worker = by_connection[connection]
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                self._bury(worker, "crashed", "The decoder crashed on this file.")
                continue
            if worker.ready:
                self._done[worker.finish()] = message
                self._bytes_in += _n_bytes(message)
            worker.ready, worker.since = True, time.monotonic()

    def _expire(self) -> None:
        for worker in [worker for worker in self._workers if worker.is_late(self._timeout_s)]:
            self._bury(worker, "timed_out", f"Decoding took longer than {self._timeout_s:g} s.")

    def _bury(self, worker: _Worker, outcome: Outcome, reason: str) -> None:
        """Account for a worker's death: the file it was at has that outcome, the others are given out again."""
        self._workers.remove(worker)
        worker.kill()
        if not worker.ready:
            raise CbmirError("The worker processes that decode images do not start.")
        if worker.tasks:
            index, ref = worker.tasks.popleft()
            self._done[index] = Decoded(ref, outcome, reason)
        for task in worker.tasks:
            heapq.heappush(self._waiting, task)

    def _hand_over(self) -> None:
        while self._next in self._done:
            self._put(self._done.pop(self._next))
            self._next += 1

    def _put(self, result: Decoded | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                self._results.put(result, timeout=POLL_S)
                return
            except queue.Full:
                continue

    def _start(self) -> _Worker:
        """A fresh interpreter rather than a fork: it never holds the caller's torch, threads or main module."""
        ours, theirs = Pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", f"from cbmir.images.worker import _serve; _serve({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # native decoders write there
                env=_worker_environment(),
            )
        except OSError as error:
            raise CbmirError(f"A worker process cannot be started: {error.strerror}.") from error
        finally:
            theirs.close()
        worker = _Worker(process, ours)
        with suppress(OSError):
            ours.send_bytes(self._job)
        return worker


def _worker_environment() -> dict[str, str]:
    """The caller's module path, and one BLAS thread per worker: there is one worker per core."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **single, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _serve(descriptor: int) -> None:
    """The life of a worker: a job, then batches of refs, one result per file, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    connection = Connection(descriptor)
    try:
        read, preprocessing, pseudonyms = connection.recv()
        connection.send("ready")
        while True:
            for ref in connection.recv():
                connection.send(read(ref, preprocessing, pseudonyms))
    except (EOFError, OSError):
        return
