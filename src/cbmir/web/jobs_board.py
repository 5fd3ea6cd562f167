"""The jobs of a server: one at a time, each in a process of its own (job_process.py), with how far it is."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

from .job_process import GRACE_S
from .logs import LOG
from .monitoring import Monitoring
from .problems import Problem, unknown

Kind = Literal["index", "reindex"]
State = Literal["running", "done", "failed", "cancelled"]

MOST_KEPT = 50
CANCELLED = "Cancelled. What was done is kept; started again it goes on from there."
BROKEN = "Something went wrong inside the job; the log of the server says where."


@dataclass(frozen=True)
class Job:
    """How far a job is. done, total: files of an index run, images of a reindex; total: None while nobody knows.
    rate: of them a second. message: a sentence, where it did not end well. report: numbers of it, at its end.
    """

    id: str
    kind: Kind
    state: State = "running"
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    done: int = 0
    total: int | None = None
    rate: float | None = None
    outcomes: Mapping[str, int] = field(default_factory=dict)
    message: str | None = None
    report: Mapping[str, Any] | None = None

    @property
    def has_ended(self) -> bool:
        return self.state != "running"


@dataclass
class _Run:
    """A job and its process. Whoever reads `job` gets one moment of it, whole."""

    job: Job
    process: subprocess.Popen[str]
    since: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    thread: threading.Thread | None = None


class Board:
    """Starts, follows and ends jobs. Ended ones are remembered until MOST_KEPT came after them, or the server ends."""

    def __init__(self, monitoring: Monitoring, most_streams: int) -> None:
        self._monitoring = monitoring
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()
        self._streams = 0
        self._most_streams = most_streams

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        runs = list(self._runs.values())
        for run in runs:
            self._cancel(run)
        for run in runs:
            if run.thread is not None:
                run.thread.join()

    def start(self, kind: Kind, order: Mapping[str, Any]) -> Job:
        """order: as job_process.work has it. Raises Problem 409 while another job runs."""
        with self._lock:
            if any(not run.job.has_ended for run in self._runs.values()):
                raise Problem(409, "A job is running", "Only one job runs at a time: wait for its end, or cancel it.")
            for old in list(self._runs)[: len(self._runs) - MOST_KEPT + 1]:
                del self._runs[old]
            run = _Run(Job(secrets.token_hex(16), kind), _started({**order, "kind": kind}))
            self._runs[run.job.id] = run
        run.thread = threading.Thread(target=self._follow, args=(run,), name="job")
        run.thread.start()
        return run.job

    def jobs(self) -> list[Job]:
        """The newest first."""
        with self._lock:
            return [run.job for run in reversed(self._runs.values())]

    def job(self, job_id: str) -> Job:
        """Raises Problem 404."""
        return self._run(job_id).job

    def cancel(self, job_id: str) -> Job:
        """Returns when it has ended. Raises Problem 404; nothing happens to one that has ended."""
        run = self._run(job_id)
        self._cancel(run)
        if run.thread is not None:
            run.thread.join()
        return run.job

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Of the events of a job. Raises Problem 429 where too many are open."""
        with self._lock:
            if self._streams >= self._most_streams:
                raise Problem(429, "Too many streams", "Too many are watching jobs; close some pages.")
            self._streams += 1
        try:
            yield
        finally:
            with self._lock:
                self._streams -= 1

    def _run(self, job_id: str) -> _Run:
        with self._lock:
            run = self._runs.get(job_id)
        return run or unknown("job of this id")

    def _cancel(self, run: _Run) -> None:
        """The process ends by itself when its stdin does; one that does not is killed, with its workers."""
        if run.job.has_ended:
            return
        run.cancelled = True
        with suppress(OSError):
            assert run.process.stdin is not None
            run.process.stdin.close()
        try:
            run.process.wait(GRACE_S + 5)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(run.process.pid, signal.SIGKILL)

    def _follow(self, run: _Run) -> None:
        """Reads what the process tells until it ends."""
        assert run.process.stdout is not None
        last: dict[str, Any] = {}
        with run.process:
            for line in run.process.stdout:
                last = json.loads(line)
                if progress := last.get("progress"):
                    run.job = replace(run.job, **progress, rate=_rate(progress["done"], run.since))
        run.job = _ended(run, last)
        self._monitoring.jobs.labels(run.job.kind, run.job.state).inc()
        LOG.info("a job has ended", extra={"told": _for_log(run, last)})


def _started(order: Mapping[str, Any]) -> subprocess.Popen[str]:
    """In a session of its own: a Ctrl-C in the server's terminal is the server's."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "cbmir.web.job_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # decoders write there
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    assert process.stdin is not None
    with suppress(OSError):  # it has died: whoever follows it finds that out
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
    return process


def _ended(run: _Run, last: Mapping[str, Any]) -> Job:
    if "report" in last:
        return replace(run.job, state="done", report=last["report"])
    if run.cancelled:
        return replace(run.job, state="cancelled", message=CANCELLED)
    return replace(run.job, state="failed", message=last.get("problem", BROKEN))


def _for_log(run: _Run, last: Mapping[str, Any]) -> dict[str, Any]:
    told = {"job": run.job.id, "kind": run.job.kind, "state": run.job.state, "exit_code": run.process.returncode}
    return told | {name: last[name] for name in ("failure", "where") if name in last}


def _rate(done: int, since: float) -> float:
    return round(done / max(time.monotonic() - since, 1e-3), 2)
