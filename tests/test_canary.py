"""A patient's name planted in every place a file can hold text is found in nothing that cbmir writes or prints.

The one exception is `cbmir files`, whose task it is to tell the holder of the key where a file is: here it is the
control that the names were there to be found.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from canary import CANARY, NUMBER, text_tags, write_all
from cbmir.gallery import Gallery

ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be")
BROKEN = "broken/ZQXCANARY-cut.dcm"


def holds_the_name(data: bytes) -> bool:
    lower = data.lower()
    return any(CANARY.lower().encode(encoding) in lower for encoding in ENCODINGS)


class Ward:
    """Runs the real program on the planted sources, and remembers all that it prints."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.sources = write_all(home / "sources")
        self.work = home / "work"
        for folder in ("work", "tmp", "config"):
            (home / folder).mkdir()
        self.printed: dict[str, str] = {}

    def run(self, *words: object, program: tuple[str, ...] = ("-m", "cbmir")) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "CBMIR_KEY_FILE": str(self.home / "key"),
            "XDG_CACHE_HOME": str(self.home / "work" / "cache"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "TMPDIR": str(self.home / "tmp"),
            "PYTHONWARNINGS": "always",
            "PYTHONFAULTHANDLER": "1",
            "FORCE_COLOR": "1",  # progress bars are drawn
            "COLUMNS": "400",
        }
        command = [sys.executable, *program, *map(str, words)]
        done = subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True, check=False)
        if words[0] != "files":
            self.printed[f"{len(self.printed)}: {' '.join(map(str, words))}"] = done.stdout + done.stderr
        return done

    def ok(self, *words: object) -> Any:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout

    def fails(self, code: int, *words: object) -> str:
        done = self.run(*words)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Ward:
    return Ward(tmp_path_factory.mktemp("canary"))


@pytest.fixture(scope="module")
def report(ward: Ward) -> dict[str, Any]:
    """The first index run over all sources."""
    sources = [ward.sources[name] for name in ("folder", "archive", "media")]
    found: dict[str, Any] = ward.ok("index", *sources, "--gallery", "gallery", "--encoder", "pixels", "--json")
    return found


def test_the_name_is_in_every_input(ward: Ward) -> None:
    assert len(text_tags()) > 1000
    files = [path for path in ward.sources["folder"].parent.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > 30
    for path in files:
        assert CANARY.lower() in str(path.relative_to(ward.home)).lower()
    plain = [path for path in files if path.suffix not in (".zip", ".gz")]
    assert [path for path in plain if not holds_the_name(path.read_bytes())] == []


def test_files_of_every_kind_are_decoded_and_others_fail(report: dict[str, Any]) -> None:
    outcomes = report["outcomes"]
    assert outcomes["decoded"] >= 12  # four DICOM, three pictures, two volumes, two members, one of the media
    assert outcomes["corrupt"] >= 4
    assert outcomes["not_an_image"] >= 3
    assert outcomes["refused"] >= 1
    assert outcomes["crashed"] == outcomes["timed_out"] == 0


def test_the_holder_of_the_key_finds_every_file_that_failed(ward: Ward, report: dict[str, Any]) -> None:
    """The control: the names were there, and are where they belong."""
    for failed in report["failed"]:
        assert not holds_the_name(failed["path"].encode())
        assert re.match(r"[0-9a-f]{12}", failed["path"])
    found = ward.ok("files", "--gallery", "gallery", *[failed["path"] for failed in report["failed"]], "--json")[
        "files"
    ]
    assert {file["handle"] for file in found} == {failed["path"] for failed in report["failed"]}
    assert all(CANARY.lower() in file["path"].lower() for file in found)
    corrupt = ward.ok("files", "--gallery", "gallery", "--outcome", "corrupt", "--json")["files"]
    assert {Path(file["path"]) for file in corrupt} >= {ward.sources["folder"] / BROKEN}


def test_attributes_of_closed_vocabularies_are_kept(ward: Ward, report: dict[str, Any]) -> None:
    """Not all is thrown away: known words beside the name stay."""
    told = ward.ok("info", ward.sources["folder"] / "ZQXCANARY^ANN" / "zqxcanary-2.dcm", "--json")
    assert told["attributes"]["body_part_examined"] == "CHEST"
    assert told["attributes"]["manufacturer"] == "siemens"


def test_a_patients_number_is_no_attribute(ward: Ward, report: dict[str, Any]) -> None:
    """Neither as the number of an image nor in the digits of a length."""
    told = {
        name: ward.ok("info", ward.sources["folder"] / "zqxcanary bob" / name, "--json")["attributes"]
        for name in ("number.dcm", "spacing.dcm")
    }
    assert "instance_number" not in told["number.dcm"]
    assert (told["spacing.dcm"].get("slice_thickness"), told["spacing.dcm"]["pixel_spacing"]) == (None, r"0.195\0.195")
    with Gallery.open(ward.work / "gallery") as gallery:
        records = gallery.records(gallery.ids()).values()
    values = {value for record in records for value in record.attributes.values()}
    assert len(values) > 5
    assert not [value for value in values if NUMBER in value]


def test_index_again_and_all_the_verbs(ward: Ward, report: dict[str, Any]) -> None:
    folder = ward.sources["folder"]
    ward.run("index", folder, "--gallery", "gallery", "--strict", "--workers", "0")
    again = ("--timeout", "30", "--memory", "2048", "--json")
    assert ward.ok("index", *ward.sources.values(), "--gallery", "gallery", *again)["outcomes"]["decoded"] == 12
    ward.ok("index", folder, "--gallery", "masked", "--encoder", "pixels", "--mask-burned-in", "--duplicates", "skip")
    query = folder / "ZQXCANARY^ANN" / "chest.dcm"
    by_file = ward.ok("search", query, "--gallery", "gallery", "--strip", "strip.png", "--json")
    record = by_file["query"]["id"]
    ward.ok("search", "--id", record, "--gallery", "gallery", "--strip", "strip.svg", "--hide-same", "none")
    ward.ok("search", folder / "volumes" / "ZQXCANARY.nii", "--gallery", "masked", "--strip", "masked.png")
    ward.ok("verify", "--gallery", "gallery")
    ward.ok("info", "gallery")
    ward.ok("info", query)
    ward.ok("render", query, "--out", "chest.png")


def test_evaluation_and_demo(ward: Ward) -> None:
    study = ward.sources["manifest"]
    ward.ok("evaluate", study, "--encoder", "pixels", "--out", "report", "--json")
    ward.ok("demo", study, "--encoder", "pixels", "--out", "demo")
    ward.ok("demo", ward.sources["folder"] / "ZQXCANARY^ANN", "--encoder", "pixels", "--out", "demo", "--json")
    # a folder of patients: nobody has said that its folders are classes
    ward.ok("demo", ward.sources["folder"], "--out", "demo")
    ward.ok("demo", ward.sources["folder"], "--out", "demo", "--json")


def test_wrong_turns(ward: Ward, report: dict[str, Any]) -> None:
    folder, study = ward.sources["folder"], ward.sources["manifest"]
    for broken in (BROKEN, "broken/ZQXCANARY-report.dcm", "png/ZQXCANARY-cut.png", "notes/ZQXCANARY.txt"):
        ward.fails(1, "search", folder / broken, "--gallery", "gallery")
        ward.fails(1, "info", folder / broken)
        ward.fails(1, "render", folder / broken, "--out", "no.png")
    ward.fails(2, "search", folder / "png", "--gallery", "gallery")
    ward.fails(2, "search", folder / "png" / "ZQXCANARY.png", "--gallery", "gallery", "--frame", "7")
    ward.fails(2, "info", folder)
    ward.fails(2, "evaluate", folder / "png", "--encoder", "pixels", "--out", "no")
    ward.fails(2, "demo", folder / "png" / "ZQXCANARY.png", "--out", "no")
    (folder / "notes" / "ZQXCANARY.csv").write_text(
        "path,class\nZQXCANARY.txt,a\nZQXCANARY-empty.dcm,b\nZQXCANARY.txt,b\n"
    )
    ward.fails(2, "index", folder / "notes" / "ZQXCANARY.csv", "--gallery", "no")
    (folder / "notes" / "ZQXCANARY.csv").write_text("path,class\nZQXCANARY.txt,a\nZQXCANARY-empty.dcm,b\n")
    ward.fails(2, "train", folder / "notes" / "ZQXCANARY.csv", "--out", "encoder", "--validation", "0")
    ward.fails(2, "train", study, "--out", "encoder", "--split", "none")


@pytest.mark.parametrize(
    "raised",
    ["ValueError(path)", "OSError(5, 'Input/output error', str(path))", "RecursionError(path)", "MemoryError(path)"],
)
def test_an_internal_error_is_one_sentence_without_the_name(ward: Ward, raised: str) -> None:
    code = f"import cbmir.jobs, cbmir.cli\ndef fail(path): raise {raised}\ncbmir.jobs.describe = fail\ncbmir.cli.main()"
    done = ward.run("info", ward.sources["folder"] / BROKEN, program=("-c", code))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("cbmir: ")
    assert len(done.stderr.strip().splitlines()) == 1


def written(ward: Ward) -> Iterator[Path]:
    yield from (path for path in ward.home.rglob("*") if "sources" not in path.relative_to(ward.home).parts)


def test_the_name_is_in_nothing_that_was_printed(ward: Ward, report: dict[str, Any]) -> None:
    assert len(ward.printed) > 30
    assert [call for call, text in ward.printed.items() if holds_the_name(text.encode())] == []


def test_the_name_is_in_nothing_that_was_written(ward: Ward, report: dict[str, Any]) -> None:
    files = [path for path in written(ward) if path.is_file()]
    kinds = {path.suffix for path in files}
    assert {".sqlite", ".json", ".html", ".png", ".svg"} <= kinds
    assert any("matrix" in path.parts for path in files)
    assert [path.name for path in files if holds_the_name(path.read_bytes())] == []


def test_the_name_is_in_no_name_that_was_written(ward: Ward, report: dict[str, Any]) -> None:
    names = [str(path.relative_to(ward.home)) for path in written(ward)]
    assert [name for name in names if CANARY.lower() in name.lower()] == []
