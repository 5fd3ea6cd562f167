"""What the benchmarks share: a program run and measured as a whole, and the one table."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
ORGAN24 = REPOSITORY.parent / "shared" / "data" / "organ24"
ORGAN24_GALLERY = Path(os.environ["ORGAN24_GALLERY"]) if "ORGAN24_GALLERY" in os.environ else None
"""A gallery of organ24 under a trained encoder, where there is one: what synthetic features cannot show."""
CORES = len(os.sched_getaffinity(0))
CBMIR = [sys.executable, "-c", "from cbmir.cli import main; main()"]
"""The command line, under the Python that runs the benchmark."""

SAMPLE_S = 0.2


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
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err)
        peak = _Peak(process.pid)
        _, status, usage = os.wait4(process.pid, 0)  # its usage, and that of the children it waited for
        wall_s = time.perf_counter() - started
        peak_mb = peak.stop() or usage.ru_maxrss * 1024 / 1e6  # without /proc: of the largest process
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            print(err.read(), file=sys.stderr)
            raise subprocess.CalledProcessError(process.returncode, command)
        return Run(wall_s, usage.ru_utime + usage.ru_stime, peak_mb, out.read())


class _Peak:
    """Samples the memory of a process and all below it: the largest sum of proportional set sizes.

    A page that several of them share counts once, a mapped file as far as it is resident. Source: proc(5), smaps.
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
            self.peak_mb = max(self.peak_mb, sum(proportional_mb(pid) for pid in descendants(self.pid)))


def descendants(pid: int) -> list[int]:
    """A process and all below it, as /proc tells now; empty where there is no /proc."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(below for child in children for below in descendants(int(child)))]


def proportional_mb(pid: int) -> float:
    """Memory of a process, with its share of pages that others use too; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:"))
