"""The benchmark on drawn pictures: cheap methods from the command line to the page, and everything that goes wrong."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cbmir.baselines import TrainPart, method_named
from cbmir.baselines.pixels import Pixels
from cbmir.benchmark import PROTOCOLS, Settings, run_benchmark, write_table
from cbmir.cli import cli
from cbmir.encoder import Encoded, load_encoder
from cbmir.errors import BadManifest, CbmirError, UsageError
from cbmir.evaluate import Bootstrap, evaluate_split
from cbmir.privacy import Pseudonyms
from cbmir.report.benchmark import write_benchmark_report
from cbmir.sources import labelled
from cbmir.tables import harmless
from cbmir.types import UInt8
from pictures import draw

FEW = Bootstrap(draws=30)
CHEAP = ("pixels", "grey-histogram", "pixels+lda")

Change = Callable[[list[dict[str, str]]], None]


def drawn(folder: Path, change: Change = lambda rows: None, per_class: int = 12) -> Path:
    """A manifest of discs and stripes: two images a patient, two sources a class, a third of the patients test."""
    rows = []
    (folder / "p").mkdir(parents=True)
    for number, label in enumerate(("disc", "stripes")):
        for index in range(per_class):
            patient = index // 2
            path = f"p/{label}-{index}.png"
            Image.fromarray(draw(label, 1000 * number + index)).save(folder / path)
            rows.append(
                {
                    "path": path,
                    "class": label,
                    "modality": "CT",
                    "patient": f"{label} {patient}",
                    "source": f"source {patient % 3}",
                    "split": "test" if patient % 3 == 2 else "train",
                    "finding": "odd" if patient % 2 else "even",
                }
            )
    change(rows)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "manifest.csv"


def benchmarked(manifest: Path, out: Path, pseudonyms: Pseudonyms, **options: Any) -> dict[str, Any]:
    make = options.pop("make", method_named)
    settings: dict[str, Any] = {"methods": ("pixels",), "bootstrap": FEW} | options
    return run_benchmark(labelled(manifest), out, Settings(**settings), pseudonyms, make=make, workers=0)


def of(told: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [method for method in told["methods"] if method["method"] == name]
    return found


# --- from the command line to the page ---


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a benchmark of three cheap methods, with TREC files."""
    folder = tmp_path_factory.mktemp("benchmark")
    manifest, out = drawn(folder / "data"), folder / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CBMIR_KEY_FILE", str(folder / "key"))
        call = ["benchmark", str(manifest), "--out", str(out), "--methods", ",".join(CHEAP), "--trec", "--workers", "0"]
        done = CliRunner().invoke(cli, [*call, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    assert json.loads(done.stdout) == json.loads((out / "benchmark.json").read_text())
    return out


def test_every_method_has_a_row_in_every_form(whole: Path) -> None:
    with (whole / "table.csv").open() as file:
        assert [row["method"] for row in csv.DictReader(file)] == list(CHEAP)
    for form in ("table.md", "report.html"):
        text = (whole / form).read_text()
        assert all(name in text for name in CHEAP)
    assert (whole / "figures" / "pr_off.png").is_file()


def test_the_table_tells_cost_beside_quality(whole: Path) -> None:
    with (whole / "table.csv").open() as file:
        row = next(csv.DictReader(file))
    assert row["distance"] == "euclidean"
    assert (int(row["dim"]), int(row["bytes_per_image"])) == (576, 4 * 576)
    assert float(row["mAP_low"]) <= float(row["mAP"]) <= float(row["mAP_high"])
    assert float(row["mAP_finding"]) < float(row["mAP"])


def test_a_method_that_classifies_has_the_hard_gate_and_top1(whole: Path) -> None:
    told = json.loads((whole / "benchmark.json").read_text())
    assert of(told, "pixels+lda")["gates"] == ["off", "hard"]
    assert of(told, "pixels+lda")["classification"]["top1"] == of(told, "pixels+lda")["retrieval"]["hard"]["mAP"]
    assert of(told, "pixels")["classification"] is None


def test_every_other_method_is_tested_against_the_best(whole: Path) -> None:
    told = json.loads((whole / "benchmark.json").read_text())
    assert {pair["first"] for pair in told["tests"]} == {told["best"]}
    assert {pair["second"] for pair in told["tests"]} == {*CHEAP} - {told["best"]}
    assert all(pair["p"] <= pair["p_holm"] <= 1 for pair in told["tests"])


def test_the_best_method_is_told_in_smaller_galleries(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    told = benchmarked(drawn(tmp_path / "data"), tmp_path / "out", pseudonyms)
    last = told["gallery_size"]["sizes"][-1]
    assert last["n_gallery"] == told["n_gallery"]
    assert last["mAP"]["mean"] == pytest.approx(of(told, "pixels")["retrieval"]["off"]["mAP"])
    several = benchmarked(drawn(tmp_path / "more"), tmp_path / "out2", pseudonyms, protocol="patients", n_folds=2)
    assert several["gallery_size"] is None


def test_the_papers_tables_have_a_column_of_the_same_data(whole: Path) -> None:
    text = (whole / "table.md").read_text()
    assert "Same data, same split" in text
    assert "not run here" in text  # none of the paper's methods was


def test_nothing_that_is_written_names_a_file_or_a_patient(whole: Path) -> None:
    for file in whole.rglob("*"):
        if file.suffix in {".json", ".md", ".csv", ".html", ".txt", ".run"}:
            text = file.read_text()
            assert "disc-0" not in text
            assert "disc 0" not in text


def test_the_verb_offers_the_protocols_there_are() -> None:
    (offered,) = [option for option in cli.commands["benchmark"].params if option.name == "protocol"]
    assert tuple(offered.type.choices) == PROTOCOLS


# --- the same numbers elsewhere ---


def test_pixels_measures_as_cbmir_evaluate_does(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    manifest = drawn(tmp_path / "data")
    told = of(benchmarked(manifest, tmp_path / "out", pseudonyms), "pixels")
    evaluation = evaluate_split(labelled(manifest), load_encoder("pixels"), pseudonyms, bootstrap=FEW, workers=0)
    expected = evaluation.metrics["retrieval"]["pixels"]["off"]
    assert told["retrieval"]["off"] == expected  # every metric, interval and curve


RANX = """
import json, sys
import ranx
qrels, run = ranx.Qrels.from_file(sys.argv[1], kind="trec"), ranx.Run.from_file(sys.argv[2], kind="trec")
json.dump(float(ranx.evaluate(qrels, run, "map")), sys.stdout)
"""


@pytest.mark.parametrize("name", ["pixels", "grey-histogram"])
def test_ranx_finds_the_same_map_in_the_trec_files(name: str, whole: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RANX, str(whole / "trec" / "qrels.txt"), str(whole / "trec" / f"{name}.run")],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "HOME": str(tmp_path), "IR_DATASETS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads((whole / "benchmark.json").read_text())
    assert json.loads(done.stdout) == pytest.approx(of(told, name)["retrieval"]["off"]["mAP"])


# --- going on ---


class Counted(Pixels):
    """Pixels that count their calls, and may be stopped before features are asked for."""

    calls: tuple[str, ...] = ()
    stop = False

    def fit(self, train: TrainPart, **options: Any) -> None:
        Counted.calls += ("fit",)
        super().fit(train, **options)

    def encode(self, images: UInt8) -> Encoded:
        if Counted.stop:
            raise KeyboardInterrupt
        Counted.calls += ("features",)
        return super().encode(images)


@pytest.fixture
def counted() -> type[Counted]:
    Counted.calls, Counted.stop = (), False
    return Counted


def test_a_run_stopped_after_a_fit_goes_on_with_its_features(
    tmp_path: Path, pseudonyms: Pseudonyms, counted: type[Counted]
) -> None:
    manifest = drawn(tmp_path / "data")
    counted.stop = True
    with pytest.raises(KeyboardInterrupt):
        benchmarked(manifest, tmp_path / "out", pseudonyms, make=lambda _: counted())
    assert not (tmp_path / "out" / "benchmark.json").exists()
    counted.stop = False
    benchmarked(manifest, tmp_path / "out", pseudonyms, make=lambda _: counted())
    assert counted.calls == ("fit", "features", "features")  # of the gallery and of the queries
    assert not list((tmp_path / "out").rglob("*.new"))


def test_a_second_run_computes_no_features_and_gives_the_same(
    tmp_path: Path, pseudonyms: Pseudonyms, counted: type[Counted]
) -> None:
    manifest = drawn(tmp_path / "data")
    first = benchmarked(manifest, tmp_path / "out", pseudonyms, make=lambda _: counted())
    calls = counted.calls
    assert benchmarked(manifest, tmp_path / "out", pseudonyms, make=lambda _: counted()) == first
    assert counted.calls == calls


def test_another_seed_is_another_fit(tmp_path: Path, pseudonyms: Pseudonyms, counted: type[Counted]) -> None:
    manifest = drawn(tmp_path / "data")
    for seed in (1, 2):
        benchmarked(manifest, tmp_path / "out", pseudonyms, make=lambda _: counted(), seed=seed)
    assert counted.calls.count("fit") == 2


def test_another_label_is_another_fit(tmp_path: Path, pseudonyms: Pseudonyms, counted: type[Counted]) -> None:
    manifest = drawn(tmp_path / "data")
    benchmarked(manifest, tmp_path / "out", pseudonyms, make=lambda _: counted())
    text = manifest.read_text()
    manifest.write_text(text.replace("p/disc-0.png,disc", "p/disc-0.png,stripes"))
    benchmarked(manifest, tmp_path / "out", pseudonyms, make=lambda _: counted())
    assert counted.calls.count("fit") == 2


# --- what goes wrong ---


class NotFinite(Pixels):
    name = "toy"

    def encode(self, images: UInt8) -> Encoded:
        return Encoded({self.name: np.full((len(images), 2), np.nan, np.float32)}, None)


class Breaks(Pixels):
    name = "toy"

    def encode(self, images: UInt8) -> Encoded:
        raise ValueError("a sentence that may quote /a/path")


def test_features_that_are_not_finite_name_the_method_and_the_others_go_on(
    tmp_path: Path, pseudonyms: Pseudonyms
) -> None:
    def make(name: str) -> Any:
        return NotFinite() if name == "toy" else method_named(name)

    told = benchmarked(drawn(tmp_path / "data"), tmp_path / "out", pseudonyms, methods=("toy", "pixels"), make=make)
    assert told["failed"] == [
        {"method": "toy", "reason": "The method 'toy' gives features that are not finite, for 16 of 16 images."}
    ]
    assert [method["method"] for method in told["methods"]] == ["pixels"]
    write_table(told, tmp_path / "out")
    assert "not finite" in write_benchmark_report(told, tmp_path / "out").read_text()
    assert not list((tmp_path / "out" / "methods" / "toy").rglob("*.npy"))


def test_a_method_that_breaks_quotes_nothing(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    with pytest.raises(CbmirError, match="stopped with ValueError"):
        benchmarked(drawn(tmp_path / "data"), tmp_path / "out", pseudonyms, make=lambda _: Breaks())


def test_a_method_that_fails_is_exit_1(tmp_path: Path) -> None:
    def one_patient(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["patient"] = row["path"]

    manifest = drawn(tmp_path / "data", one_patient, per_class=14)
    call = ["benchmark", str(manifest), "--out", str(tmp_path / "out"), "--protocol", "one-patient-out"]
    done = CliRunner().invoke(cli, [*call, "--methods", "pixels,pixels+lda", "--workers", "0"])
    assert done.exit_code == 1
    assert "failed: pixels+lda: It learns" in done.stdout


def test_a_patient_on_both_sides_is_refused_by_rows(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    def leak(rows: list[dict[str, str]]) -> None:
        rows[0]["split"] = "test"  # its patient's other image is train

    with pytest.raises(BadManifest, match=r"One patient is on both sides: rows 3 in the gallery and rows 2 ask"):
        benchmarked(drawn(tmp_path / "data", leak), tmp_path / "out", pseudonyms)


def test_a_class_that_is_only_asked_for_is_counted_and_told(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    def rare(rows: list[dict[str, str]]) -> None:
        rows[4]["class"] = "ring"  # a query

    told = benchmarked(drawn(tmp_path / "data", rare), tmp_path / "out", pseudonyms)
    assert told["n_queries_without_relevant"] == 1
    assert of(told, "pixels")["retrieval"]["off"]["n_queries_measured"]["mAP"] == told["n_queries"] - 1
    assert any("ring" in note for note in told["protocol"]["notes"])


def test_one_class_alone_is_no_benchmark(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    def one_class(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["class"] = "disc"

    with pytest.raises(BadManifest, match="needs at least two"):
        benchmarked(drawn(tmp_path / "data", one_class), tmp_path / "out", pseudonyms)


@pytest.mark.parametrize(
    "options",
    [
        {"methods": ()},
        {"methods": ("pixels", "pixels")},
        {"methods": ("nothing",)},
        {"relevant": "nothing"},
        {"n_folds": 3},
        {"protocol": "nothing"},
    ],
)
def test_a_wrong_call_is_said(options: dict[str, Any], tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    with pytest.raises(UsageError):
        benchmarked(drawn(tmp_path / "data", per_class=6), tmp_path / "out", pseudonyms, **options)


def test_a_spreadsheet_finds_no_formula() -> None:
    assert harmless("=1+1") == "'=1+1"
    assert harmless("pixels") == "pixels"
    assert harmless(-0.5) == -0.5
