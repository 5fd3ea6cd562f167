"""What the benchmarks share: a program run and measured as a whole, and the one table."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
ORGAN24 = REPOSITORY.parent / "shared" / "data" / "organ24"
CORES = len(os.sched_getaffinity(0))
CBMIR = [sys.executable, "-c", "from cbmir.cli import main; main()"]
"""The command line, under the Python that runs the benchmark."""

PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
SAMPLE_S = 0.1


@dataclass(frozen=True)
class Row:
    """One line of the table. target: in words, empty when there is none; met: None when there is none."""

    what: str
    measured: str
    target: str = ""
    met: bool | None = None

    @property
    def verdict(self) -> str:
        return {None: "", True: "met", False: "MISSED"}[self.met]


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | measured | target | |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {r.what} | {r.measured} | {r.target} | {r.verdict} |" for r in rows)])


@dataclass(frozen=True)
class Run:
    """A finished program. cpu_s: user and system seconds, children too; peak_mb: memory of all together."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    stdout: str


def run(command: Sequence[str]) -> Run:
    """Run a program to its end; raises CalledProcessError, with its stderr shown, when it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = _Peak(process.pid)
    stdout, stderr = _read_both(process)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    peak_mb = max(peak.stop(), usage.ru_maxrss * 1024 / 1e6)
    if process.returncode:
        print(stderr, file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, command)
    return Run(wall_s, usage.ru_utime + usage.ru_stime, peak_mb, stdout)


def _read_both(process: subprocess.Popen[str]) -> tuple[str, str]:
    """stdout and stderr to their ends, without reaping the process (wait4 has to, for its usage)."""
    assert process.stdout is not None
    assert process.stderr is not None
    errors: list[str] = []
    reader = threading.Thread(target=lambda pipe: errors.append(pipe.read()), args=(process.stderr,))
    reader.start()
    stdout = process.stdout.read()
    reader.join()
    return stdout, errors[0]


class _Peak:
    """Samples the memory of a process and all below it: the largest sum of resident pages not shared with a file.

    Source: proc(5), statm (resident minus shared).
    """

    def __init__(self, pid: int) -> None:
        self.pid, self.peak_mb, self.done = pid, 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def stop(self) -> float:
        self.done.set()
        self.thread.join()
        return self.peak_mb

    def _watch(self) -> None:
        while not self.done.wait(SAMPLE_S):
            self.peak_mb = max(self.peak_mb, sum(_private_mb(pid) for pid in descendants(self.pid)))


def descendants(pid: int) -> list[int]:
    """A process and all below it, as /proc tells now; empty where there is no /proc."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(below for child in children for below in descendants(int(child)))]


def _private_mb(pid: int) -> float:
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0.0
    return (int(resident) - int(shared)) * PAGE_MB
