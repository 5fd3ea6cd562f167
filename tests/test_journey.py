"""The command line as a user meets it: from a folder of pictures to hits, and every wrong turn in one sentence."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictures import draw_folder

CBMIR = [sys.executable, "-m", "cbmir"]


class Shell:
    """Runs cbmir in one folder with its own key and cache."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = os.environ | {
            "CBMIR_KEY_FILE": str(home / "key"),
            "XDG_CACHE_HOME": str(home / "cache"),
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CBMIR, *words], cwd=self.home, env=self.environment, capture_output=True, text=True, check=False
        )

    def ok(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, code: int, *words: str) -> str:
        """One sentence on stderr, nothing on stdout, no traceback."""
        done = self.run(*words)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        return done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    home = tmp_path_factory.mktemp("journey")
    draw_folder(home / "pictures", per_class=6)
    (home / "pictures" / "disc" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (home / "empty").mkdir()
    return Shell(home)


@pytest.fixture(scope="module")
def gallery(shell: Shell) -> str:
    shell.ok("index", "pictures", "--gallery", "gallery", "--encoder", "pixels")
    return "gallery"


def test_index_reports_every_file(shell: Shell, gallery: str) -> None:
    report = json.loads(shell.ok("index", "pictures", "--gallery", "another", "--encoder", "pixels", "--json"))
    assert (report["added"], report["outcomes"]["decoded"], report["outcomes"]["corrupt"]) == (12, 12, 1)
    [bad] = report["failed"]
    assert re.fullmatch(r"[0-9a-f]{12}\.png", bad["path"])  # a handle, no name
    assert json.loads(Path(shell.home, report["report"]).read_text())["failed"] == [bad]
    assert bad["path"] in Path(shell.home, report["html"]).read_text()


def test_files_tells_where_a_file_of_the_report_is(shell: Shell, gallery: str) -> None:
    corrupt = json.loads(shell.ok("files", "--gallery", gallery, "--outcome", "corrupt", "--json"))["files"]
    assert [file["path"] for file in corrupt] == [str(shell.home / "pictures" / "disc" / "broken.png")]
    told = shell.ok("files", "--gallery", gallery, corrupt[0]["handle"])
    assert told.startswith(f"{corrupt[0]['handle']}  corrupt  {corrupt[0]['path']}  (")
    every = json.loads(shell.ok("files", "--gallery", gallery, "--json"))["files"]
    assert len(every) == 13
    assert every == sorted(every, key=lambda file: file["path"])


def test_files_needs_the_key_of_the_gallery(shell: Shell, gallery: str, tmp_path: Path) -> None:
    other = Shell(shell.home)
    other.environment = shell.environment | {"CBMIR_KEY_FILE": str(tmp_path / "other")}
    assert "pseudonym key" in other.fails(1, "files", "--gallery", gallery)


def test_render_draws_an_image_at_full_resolution(shell: Shell) -> None:
    told = json.loads(shell.ok("render", "pictures/disc/00.png", "--out", "new/seen.png", "--json"))
    assert told == {
        "picture": "new/seen.png",
        "frame": 1,
        "rows": 48,
        "columns": 48,
        "pixel_aspect": 1.0,
        "window": "value range",
    }
    drawn, drawing = (np.asarray(Image.open(shell.home / name)) for name in ("pictures/disc/00.png", "new/seen.png"))
    assert (drawn == drawing).all()
    shell.ok("render", "pictures/disc/00.png", "--out", "seen.png", "--window", "100.5,2")
    assert set(np.unique(np.asarray(Image.open(shell.home / "seen.png")))) == {0, 255}


def test_a_gallery_that_masks_is_searched_by_masked_images(shell: Shell) -> None:
    shell.ok("index", "pictures", "--gallery", "masked", "--encoder", "pixels", "--mask-burned-in")
    shell.ok("index", "pictures", "--gallery", "masked")  # it remembers
    told = json.loads(shell.ok("info", "masked", "--json"))["encoder"]
    assert told["masked"] is True
    assert len(json.loads(shell.ok("search", "pictures/disc/00.png", "--gallery", "masked", "--json"))["hits"]) == 10


def test_index_again_does_nothing(shell: Shell, gallery: str) -> None:
    report = json.loads(shell.ok("index", "pictures", "--gallery", gallery, "--json"))
    assert (report["added"], report["unchanged"]) == (0, 12)


def test_strict_makes_an_unreadable_file_a_failure(shell: Shell, gallery: str) -> None:
    assert shell.run("index", "pictures", "--gallery", gallery, "--strict").returncode == 1


def test_search_by_file_finds_its_like(shell: Shell, gallery: str) -> None:
    found = json.loads(shell.ok("search", "pictures/disc/00.png", "--gallery", gallery, "-k", "3", "--json"))
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    distances = [hit["distance"] for hit in found["hits"]]
    assert distances == sorted(distances)
    assert found["query"]["id"] not in {hit["id"] for hit in found["hits"]}


def test_every_file_of_a_folder_is_searched_by(shell: Shell, gallery: str) -> None:
    words = ("search", "pictures", "--gallery", gallery, "-k", "2", "--out", "hits.csv", "--json")
    report = json.loads(shell.ok(*words))
    assert (report["queries"], report["hits"], len(report["failed"])) == (12, 24, 1)
    assert len((shell.home / "hits.csv").read_text().splitlines()) == 25
    assert shell.run("search", "pictures/disc/broken.png", *words[2:]).returncode == 1  # not one query


def test_search_by_id_agrees_with_search_by_file(shell: Shell, gallery: str) -> None:
    by_file = json.loads(shell.ok("search", "pictures/disc/00.png", "--gallery", gallery, "--json"))
    by_id = json.loads(shell.ok("search", "--id", by_file["query"]["id"], "--gallery", gallery, "--json"))
    assert by_id["hits"] == by_file["hits"]


def test_a_readable_table_and_a_strip(shell: Shell, gallery: str) -> None:
    text = shell.ok("search", "pictures/disc/00.png", "--gallery", gallery, "-k", "2", "--strip", "strip.png")
    assert "rank  distance  class" in text
    assert (shell.home / "strip.png").read_bytes().startswith(b"\x89PNG")


def test_info_says_what_a_thing_is(shell: Shell, gallery: str) -> None:
    assert json.loads(shell.ok("info", gallery, "--json"))["kind"] == "gallery"
    picture = json.loads(shell.ok("info", "pictures/disc/00.png", "--json"))
    assert (picture["kind"], picture["format"], picture["rows"]) == ("file", "PNG", 48)


def test_verify_finds_nothing_wrong(shell: Shell, gallery: str) -> None:
    assert json.loads(shell.ok("verify", "--gallery", gallery, "--json")) == {
        "ok": True,
        "records": 12,
        "problems": [],
    }


def test_split_check_and_evaluate_pixels(shell: Shell) -> None:
    shell.ok("dataset", "split", "pictures", "--out", "pictures/split.csv", "--test", "0.5")
    shell.ok("dataset", "check", "pictures/split.csv")
    metrics = json.loads(shell.ok("evaluate", "pictures/split.csv", "--encoder", "pixels", "--out", "report", "--json"))
    assert metrics["n_gallery"] + metrics["n_queries"] == 12
    assert min(metrics["n_gallery"], metrics["n_queries"]) >= 5  # half of 13 files, one of them broken
    assert 0 < metrics["retrieval"]["pixels"]["off"]["mAP"] <= 1
    assert (shell.home / "report" / "report.html").is_file()
    assert json.loads((shell.home / "report" / "metrics.json").read_text()) == metrics


@pytest.mark.parametrize(
    ("code", "words", "sentence"),
    [
        (2, ["index", "nowhere", "--gallery", "g"], "nowhere"),
        (2, ["index", "empty", "--gallery", "g"], "no files in what is to be indexed"),
        (2, ["search", "nowhere.png", "--gallery", "gallery"], "no file nowhere.png"),
        (2, ["search", "pictures", "--gallery", "gallery"], "a folder, not an image"),
        (2, ["info", "pictures"], "neither a gallery nor an encoder"),
        (1, ["info", "pictures/disc/broken.png"], "damaged"),
        (1, ["render", "pictures/disc/broken.png", "--out", "x.png"], "damaged"),
        (2, ["render", "pictures/disc/00.png", "--out", "x.jpg"], "written as .png"),
        (2, ["render", "pictures/disc/00.png", "--out", "x.png", "--frame", "2"], "no readable frame 2"),
        (2, ["render", "pictures/disc/00.png", "--out", "x.png", "--window", "wide"], "CENTER,WIDTH"),
        (2, ["render", "pictures/disc/00.png", "--out", "x.png", "--window", "inf,1"], "two finite numbers"),
        (2, ["render", "pictures/disc/00.png", "--out", "x.png", "--window", "1,0"], "at least 1 wide"),
        (2, ["files", "--gallery", "gallery", "0123456789ab.png"], "knows no file 0123456789ab.png"),
        (1, ["index", "pictures", "--gallery", "gallery", "--mask-burned-in"], "without --mask-burned-in"),
        (2, ["index", "pictures", "--gallery", "gallery", "--timeout", "0"], "timeout"),
        (2, ["index", "pictures", "--gallery", "gallery", "--timeout", "nan"], "--timeout is a number of seconds"),
        (2, ["index", "pictures", "--gallery", "gallery", "--timeout", "inf"], "timeout"),
        (2, ["index", "pictures", "--gallery", "gallery", "--memory", "99999999999999"], "memory"),
        (2, ["index", "pictures", "--gallery", "gallery", "--workers", "0", "--timeout", "9"], "limit nothing"),
        (2, ["index", "pictures", "--gallery", "gallery", "--workers", "0", "--memory", "999"], "limit nothing"),
        (2, ["index", "pictures", "--gallery", "gallery", "--split", "zz"], "no image is in any split"),
        (2, ["demo", "empty", "--out", "demo", "--classes-from-folders"], "no classes"),
        (1, ["index", "pictures", "--gallery", "pictures/disc/00.png", "--encoder", "pixels"], "a gallery is a folder"),
        (1, ["search", "pictures/disc/broken.png", "--gallery", "gallery"], "gives no image"),
        (1, ["search", "--id", "0" * 32, "--gallery", "gallery"], "no image"),
        (1, ["search", "--id", "0" * 32, "--gallery", "empty"], "no gallery"),
        (2, ["search", "pictures/disc/00.png", "--gallery", "gallery", "-k", "0"], "k must be at least 1"),
        (2, ["search", "pictures/disc/00.png", "--gallery", "gallery", "--gate", "hard"], "predicts none"),
        (2, ["search", "pictures/disc/00.png", "--gallery", "gallery", "--layer", "FCL9"], "no layer"),
        (2, ["search", "pictures/disc/00.png", "--gallery", "gallery", "--frame", "2"], "no readable frame 2"),
        (
            2,
            ["search", "pictures/disc/00.png", "--gallery", "gallery", "--strip", "x.jpg", "--json"],
            "not as .jpg",
        ),
        (2, ["search", "--gallery", "gallery"], "Give a FILE, --id or --series"),
        (2, ["search", "pictures/disc/00.png", "--gallery", "gallery", "--where", "modality="], "a VALUE after ="),
        (
            2,
            ["search", "pictures/disc/00.png", "--gallery", "gallery", "--where", "modalty=CT"],
            "did you mean modality",
        ),
        (
            2,
            ["search", "pictures/disc/00.png", "--gallery", "gallery", "--roi", "1,2,3"],
            "X,Y,W,H, four whole numbers",
        ),
        (2, ["search", "pictures/disc/00.png", "--gallery", "gallery", "--roi", "0,0,0,1"], "at least one pixel"),
        (1, ["search", "pictures/disc/00.png", "--gallery", "gallery", "--roi", "0,0,99,1"], "48 wide and 48 high"),
        (2, ["search", "pictures", "--gallery", "gallery", "--out", "hits.xls"], "a .csv or a .parquet file"),
        (
            2,
            ["search", "pictures", "--gallery", "gallery", "--out", "hits.csv", "--like", "x"],
            "--like is for one search",
        ),
        (2, ["search", "--gallery", "gallery", "--out", "hits.csv"], "--out wants FILES"),
        (2, ["search", "pictures/disc/00.png", "--gallery", "gallery", "--with-paths"], "are for --out"),
        (
            2,
            ["search", "pictures/disc/00.png", "--gallery", "gallery", "--like", "x", "--unlike", "x"],
            "liked and unliked",
        ),
        (1, ["search", "--series", "x", "--gallery", "gallery"], "no series x"),
        (2, ["evaluate", "pictures", "--encoder", "nowhere", "--out", "r"], "no encoder at nowhere"),
        (2, ["evaluate", "pictures", "--encoder", "pixels", "--out", "r"], "split"),
        (2, ["evaluate", "empty", "--encoder", "pixels", "--out", "r"], "no classes"),
        (2, ["evaluate", "pictures", "--folds", "2", "--encoder", "pixels", "--out", "r"], "--encoder has no meaning"),
        (2, ["demo", "pictures", "--encoder", "pixels", "--recipe", "demo"], "Give --encoder or --recipe"),
        (2, ["demo", "pictures", "--recipe", "best"], "no recipe 'best'"),
        (2, ["train", "empty", "--out", "e"], "no classes"),
        (2, ["train", "pictures", "--out", "e", "--recipe", "best"], "no recipe 'best'"),
        (2, ["info", "nowhere"], "no nowhere"),
        (2, ["dataset", "check", "empty"], "no classes"),
        (2, ["index", "pictures", "--gallery", "gallery", "--workers", "-1"], "workers"),
    ],
)
def test_a_wrong_call_is_one_sentence(shell: Shell, gallery: str, code: int, words: list[str], sentence: str) -> None:
    assert sentence in shell.fails(code, *words)


def test_a_traceback_is_shown_only_when_asked_for(shell: Shell) -> None:
    code = "import cbmir.jobs, cbmir.cli; cbmir.jobs.describe = lambda path: 1 / 0; cbmir.cli.main()"
    for debug in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code, "info", "x"],
            env=shell.environment | {"CBMIR_DEBUG": debug},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("cbmir: an internal error (ZeroDivisionError), please report it")
        assert ("Traceback" in done.stderr) == (debug == "1")


def test_a_manifest_without_a_class_column_is_said(shell: Shell) -> None:
    (shell.home / "pictures" / "plain.csv").write_text("path\ndisc/00.png\n")
    assert "class column" in shell.fails(2, "train", "pictures/plain.csv", "--out", "e")


def test_another_pseudonym_key_is_refused(shell: Shell, gallery: str, tmp_path: Path) -> None:
    other = Shell(shell.home)
    other.environment = shell.environment | {"CBMIR_KEY_FILE": str(tmp_path / "other")}
    assert "no pseudonym key" in other.fails(1, "search", "pictures/disc/00.png", "--gallery", gallery)
    assert "no pseudonym key" in other.fails(1, "index", "pictures", "--gallery", gallery)
    assert not (tmp_path / "other").exists()
    other.ok("index", "pictures", "--gallery", str(tmp_path / "other-gallery"), "--encoder", "pixels")
    sentence = other.fails(1, "search", "pictures/disc/00.png", "--gallery", gallery)
    assert "was made with pseudonym key" in sentence


def test_nothing_of_a_failed_call_is_left(shell: Shell) -> None:
    shell.fails(2, "index", "empty", "--gallery", "not-made")
    assert not (shell.home / "not-made").exists()


def test_the_paper_on_a_small_scale(shell: Shell) -> None:
    """Train, index, search with every gate, evaluate: the whole line with the paper's network, one epoch."""
    shell.ok("dataset", "split", "pictures", "--out", "pictures/paper.csv", "--test", "0.34")
    shell.ok("train", "pictures/paper.csv", "--out", "encoder", "--epochs", "1", "--validation", "0.3")
    assert "recipe" in json.loads(shell.ok("info", "encoder", "--json"))
    shell.ok("index", "pictures/paper.csv", "--split", "train", "--gallery", "paper", "--encoder", "encoder")
    for gate in ("off", "hard", "top3", "soft"):
        found = json.loads(
            shell.ok(
                "search", "pictures/disc/00.png", "--gallery", "paper", "--gate", gate, "--layer", "FCL2", "--json"
            )
        )
        assert sum(predicted["probability"] for predicted in found["query"]["predicted"]) == pytest.approx(1, abs=0.02)
        if gate == "hard":
            assert {hit["class"] for hit in found["hits"]} <= {found["query"]["predicted"][0]["class"]}
    metrics = json.loads(
        shell.ok("evaluate", "pictures/paper.csv", "--encoder", "encoder", "--out", "paper-report", "--json")
    )
    assert metrics["retrieval"].keys() == {"FCL1", "FCL2", "FCL3"}
    assert metrics["classification"]["confusion"]
    sentence = shell.fails(1, "index", "pictures", "--gallery", "gallery", "--encoder", "encoder")
    assert "pixels" in sentence
    assert "encoder" in sentence
