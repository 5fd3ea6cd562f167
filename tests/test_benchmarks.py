"""The benchmarks measure what they say. The measurements themselves are `make bench`."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import bench_decode
import bench_encoder
import bench_engines
import bench_growth
import bench_page
import bench_search
import bench_web
import run as benchmarks
from cbmir.encoder import load_encoder
from cbmir.index.twopass import coarse_of
from cbmir.preprocess import Preprocessing
from cbmir.types import ImageRef
from cbmir.web.page import BUILT
from measure import Row, run, table
from pictures import draw_folder
from system_parts import built, system_part

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


def test_the_scanned_rows_are_those_the_search_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    index = bench_search.gallery(n_rows=2000, dim=4)
    asked = []
    monkeypatch.setattr(bench_search, "measure", lambda *call: asked.append(call) or (1.0, 1.0))
    bench_search._scans(index)
    assert len(asked) == 2 + len(bench_search.filters(2000))
    for searched, scope, scanned in asked:
        found = searched.search(bench_search.query_of(index), 10, scope)
        assert len(scanned) == found.n_candidates
        assert {row.tobytes() for row in index.rows[found.positions]} <= {row.tobytes() for row in scanned}


def test_two_passes_that_answer_otherwise_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.index.exact._COARSE_PAYS", 0)
    index = bench_search.gallery(n_rows=480, dim=16)
    assert bench_search.agreement(index) == 1
    wrong = replace(coarse_of(index.rows), scales=np.zeros(480, np.float32))
    monkeypatch.setattr(bench_search, "coarse_of", lambda rows: wrong)
    assert bench_search.agreement(index) < 1


def test_growth_is_measured_of_a_real_gallery() -> None:
    found = {row.what.split(": ")[1]: row.measured for row in bench_growth.rows(sizes=(300,), dim=8)}
    assert "ms all (exact), " in found["search"]
    assert "first search" in found["opening, files not in memory"]
    assert "300 images added anew; removed" in found


def test_ours_finds_in_a_comparison_what_is_true_and_a_missing_engine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = {"cbmir": bench_engines.ENGINES["cbmir"], "another": (bench_engines.Lance, "no_such_module")}
    monkeypatch.setattr(bench_engines, "ENGINES", engines)
    ours, another = bench_engines.rows(600, 8)
    assert ours.met
    assert ours.measured.count("(recall 1.000)") == 3
    assert another.measured == "not measured: no_such_module is not installed"


def test_the_speed_of_an_encoder_and_the_agreement_of_its_exports_are_measured(
    tmp_path: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = bench_encoder.generated(load_encoder(stand_in).preprocessing, n_images=40)
    monkeypatch.setattr(bench_encoder, "generated", lambda recipe: few)
    found = bench_encoder.rows(tmp_path, seconds=0.01)  # a folder without a manifest: pictures are generated
    measured = {row.what: row.met for row in found}
    agreeing = {what for what, met in measured.items() if met and "against PyTorch float32, 40 images" in what}
    kinds = {(what.split(" against")[0], what.split(": ")[1]) for what in agreeing}
    asked = ("mean cosine", "overlap@10", "mAP")
    assert {("OpenVINO f32", one) for one in asked} | {("ONNX file f32", one) for one in asked} <= kinds
    assert [row.what.split(",")[0] for row in found[:2]] == [
        "features in batches of 64",
        "features of one decoded query of 512 x 512",
    ]


def test_an_export_that_answers_otherwise_is_missed() -> None:
    images = bench_encoder.generated(Preprocessing(size=32, crop=32), n_images=60)
    wanted = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    same = bench_encoder.agreement("same", "f32", wanted.copy(), wanted, images)
    assert [(row.measured, row.met) for row in same[:2]] == [("1.000000, least 1.000000", True), ("1.0000", True)]
    other = bench_encoder.agreement("other", "f32", wanted[::-1].copy(), wanted, images)
    assert [row.met for row in other[:2]] == [False, False]


def test_the_train_side_of_a_manifest_asks_itself_by_patients(tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=8)
    rows = [
        f"{path.relative_to(pictures)},{path.parent.name},p{number // 2},{'test' if number % 8 == 7 else 'train'}"
        for number, path in enumerate(sorted(pictures.rglob("*.png")))
    ]
    (pictures / "manifest.csv").write_text("\n".join(["path,class,patient,split", *rows]) + "\n")
    images = bench_encoder.of_manifest(pictures, Preprocessing(size=32, crop=32), tmp_path / "work")
    patients = {
        asks: {r.patient for r, a in zip(images.records, images.asks, strict=True) if a == asks}
        for asks in (True, False)
    }
    assert images.pixels.shape == (14, 1, 32, 32)
    assert patients[True]
    assert not patients[True] & patients[False]


def test_the_table_says_what_was_missed() -> None:
    lines = table([Row("a", "1 s"), Row("b", "2 s", "<= 3 s", True), Row("c", "4 s", "<= 3 s", False)]).splitlines()
    assert lines[2:] == ["| a | 1 s |  |  |", "| b | 2 s | <= 3 s | met |", "| c | 4 s | <= 3 s | MISSED |"]


def test_a_decoder_that_gives_other_pixels_fails_the_benchmark() -> None:
    pixels = np.arange(100.0)
    bench_decode.check(pixels, pixels, exact=True)
    bench_decode.check(pixels + 0.5, pixels, exact=False)
    for wrong, exact in ((pixels + 0.5, True), (pixels[::-1], False)):
        with pytest.raises(ValueError, match="other pixels"):
            bench_decode.check(wrong, pixels, exact=exact)


def test_pydicom_is_measured_with_the_fastest_plugin_that_reads_the_file_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three plugins: one is slow, one is fast, one is faster and wrong."""
    seconds, right = {"slow": 0.05, "fast": 0.01, "wrong": 0.0}, np.arange(4.0)

    def values(path: Path, plugin: str) -> object:
        end = time.process_time() + seconds[plugin]
        while time.process_time() < end:
            pass
        return right + (plugin == "wrong")

    monkeypatch.setattr(bench_decode, "available_plugins", lambda path: tuple(seconds))
    monkeypatch.setattr(bench_decode, "pydicom_values", values)
    plugin, plugin_s = bench_decode.fastest_plugin(tmp_path, right, exact=True)
    assert plugin == "fast"
    assert 0.01 <= plugin_s < 0.05


def test_a_file_that_is_not_decoded_fails_the_benchmark(tmp_path: Path) -> None:
    (tmp_path / "no picture").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="was not decoded"):
        list(bench_decode.results([ImageRef(tmp_path / "no picture", "no picture")], 0))


def test_every_transfer_syntax_is_measured_at_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for constant, few in (("FEWEST", 1), ("MOST", 2), ("MIXED_S", 0), ("WARM_UP", 1)):
        monkeypatch.setattr(bench_decode, constant, few)
    found = bench_decode.rows(sides=(24, 32), names=("little endian", "JPEG-LS"))
    for row, name in zip(found, ("little endian", "JPEG-LS"), strict=False):
        assert row.what.startswith(f"decode {name}, megapixels per processor second")
        assert row.measured.count(" x") == 2
        assert ("pyjpegls" in row.measured) == (name == "JPEG-LS")


def test_parts_can_be_chosen() -> None:
    assert benchmarks.chosen("search, growth") == ["search", "growth"]
    assert benchmarks.chosen(None) == list(benchmarks.PARTS)
    with pytest.raises(SystemExit, match="there is no part 'speed'; the parts are decode, "):
        benchmarks.chosen("speed")


@pytest.mark.long
def test_the_benchmark_of_the_server_asks_a_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("uvicorn")
    monkeypatch.setenv("CBMIR_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setattr(bench_web, "LOAD_S", 0.5)
    monkeypatch.setattr(bench_web, "PAUSE_S", 0.1)
    found = {row.what: row for row in bench_web.rows(n_rows=300, n_requests=60, n_files=400)}
    assert [name for name in found if name.startswith("web 300: ")] == list(found)
    assert "requests/s; bare search" in found["web 300: 50 users, k = 24"].measured
    assert "files done" in found["web 300: 50 users while an index job runs"].measured


def test_a_server_that_refuses_is_no_fast_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("uvicorn")
    monkeypatch.setenv("CBMIR_KEY_FILE", str(tmp_path / "key"))
    bench_web.make_gallery(tmp_path / "gallery", 100)
    with bench_web.serving(tmp_path / "gallery", tmp_path) as server:
        with pytest.raises(RuntimeError, match="404 Not Found"):
            server.get("/api/v1/records/nobody")
        with pytest.raises(ExceptionGroup):
            server.load(lambda: {"ids": ["nobody"]}, n=50)


def test_the_page_is_timed_in_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    system_part("chromium")
    built(BUILT / "index.html")
    monkeypatch.setattr(bench_page, "N_LOADS", 2)
    paint, grid = bench_page.rows(n_rows=300, n_searches=3)
    assert (paint.what, grid.what) == ("page 300: first paint", "page 300: search by id to grid")
    assert "p95" in grid.measured
