"""The benchmarks measure what they say. The measurements themselves are `make bench`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import bench_search
from cbmir.index.exact import ExactIndex
from measure import Row, run, table

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def test_the_cpu_seconds_of_a_program_include_those_of_its_children() -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}]); print('done')"
    done = run([sys.executable, "-c", child])
    assert done.stdout == "done\n"
    assert done.cpu_s >= 0.3
    assert done.wall_s >= 0.3


def test_the_peak_memory_of_a_program_includes_what_a_child_holds_at_the_same_time() -> None:
    hold = "import time; held = bytearray(b'x' * 60_000_000); "
    child = f"{hold}time.sleep(0.5)"
    parent = f"import subprocess, sys; {hold}subprocess.run([sys.executable, '-c', {child!r}])"
    assert run([sys.executable, "-c", parent]).peak_mb >= 120


def test_a_program_that_fails_fails_the_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run([sys.executable, "-c", "import sys; sys.exit('no such luck')"])
    assert "no such luck" in capsys.readouterr().err


def test_medians_are_taken_of_both_calls() -> None:
    slow, fast = bench_search.medians_ms(lambda: time.sleep(0.004), lambda: None, repeats=3)
    assert slow >= 4 > fast


@pytest.mark.parametrize(("gated", "n_rows"), [(False, 48), (True, 2)])
def test_the_scanned_rows_are_those_the_search_reads(gated: bool, n_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    index = bench_search.gallery(n_rows=48, dim=4)
    scanned, found = [], []
    search = ExactIndex.search
    monkeypatch.setattr(bench_search, "bare_scan", lambda rows, query: scanned.append(rows))
    monkeypatch.setattr(ExactIndex, "search", lambda *call: found.append(search(*call)))
    bench_search.measure(index, gated)
    assert {len(rows) for rows in scanned} == {each.n_candidates for each in found} == {n_rows}
    for rows, each in zip(scanned, found, strict=True):
        assert {row.tobytes() for row in index.rows[each.positions]} <= {row.tobytes() for row in rows}


def test_the_table_says_what_was_missed() -> None:
    lines = table([Row("a", "1 s"), Row("b", "2 s", "<= 3 s", True), Row("c", "4 s", "<= 3 s", False)]).splitlines()
    assert lines[2:] == ["| a | 1 s |  |  |", "| b | 2 s | <= 3 s | met |", "| c | 4 s | <= 3 s | MISSED |"]
