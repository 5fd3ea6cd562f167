"""The verbs of upkeep as a user meets them, wrong turns in one sentence each."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from cbmir import report
from cbmir.errors import BadGallery
from cbmir.jobs import IndexSettings, index_into
from cbmir.jobs.upkeep import reindex_images
from cbmir.store import Store
from cbmir.upkeep import reindexing
from cbmir.upkeep.reindexing import ReindexReport, reindex
from test_encoder import save
from wards import write_image, write_ward

N = 21


class Shell:
    """Runs cbmir in one folder with its own key."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = os.environ | {"CBMIR_KEY_FILE": str(home / "key"), "XDG_CACHE_HOME": str(home / "cache")}

    def run(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cbmir", *words]
        return subprocess.run(
            command, cwd=self.home, env=self.environment, capture_output=True, text=True, check=False, input=given
        )

    def ok(self, *words: str, given: str = "") -> Any:
        done = self.run(*words, given=given)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return json.loads(done.stdout) if "--json" in words else done.stdout

    def fails(self, code: int, *words: str) -> str:
        """One sentence on stderr, nothing on stdout, no traceback."""
        done = self.run(*words)
        assert (done.returncode, done.stdout) == (code, ""), (done.returncode, done.stdout, done.stderr)
        [sentence] = done.stderr.strip().splitlines()
        return sentence


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    home = tmp_path_factory.mktemp("upkeep")
    write_ward(home / "ward")
    save(home / "small")
    shell = Shell(home)
    shell.ok("index", "ward", "--gallery", "gallery", "--workers", "0", "--encoder", "pixels")
    return shell


def test_a_patient_is_removed_and_stays_away_until_readmitted(shell: Shell) -> None:
    shell.ok("index", "ward", "--gallery", "g", "--workers", "0", "--encoder", "pixels")
    told = shell.ok("remove", "--gallery", "g", "--patient", "MRN-1", "--dry-run", "--json")
    assert (told["would_remove"]["records"], len(told["ids"])) == (7, 7)
    told = shell.ok("remove", "--gallery", "g", "--patient", "-", "--json", given="MRN-1\n")
    assert told["removed"] == {"records": 7, "files": 5, "before": 0, "reports": 0}
    assert told["proof"]["found"] == []
    assert "nothing was found" in shell.ok("remove", "--gallery", "g", "--patient", "MRN-1")
    told = shell.ok("index", "ward", "--gallery", "g", "--workers", "0", "--json")
    assert (told["added"], told["erased"]) == (0, 7)
    told = shell.ok("index", "ward", "--gallery", "g", "--workers", "0", "--readmit", "--json")
    assert (told["added"], told["erased"]) == (7, 0)


def test_what_is_found_is_a_failure(shell: Shell) -> None:
    shell.ok("index", "ward", "--gallery", "f", "--workers", "0", "--encoder", "pixels")
    ids = shell.ok("remove", "--gallery", "f", "--series", "1.2.1.1", "--dry-run", "--json")["ids"]
    (shell.home / "f" / "note.txt").write_text(f"look at {ids[0]}")
    done = shell.run("remove", "--gallery", "f", "--series", "1.2.1.1")
    assert done.returncode == 1
    assert "FOUND in note.txt: 1 ids" in done.stdout


def test_the_encoder_is_changed_and_changed_back(shell: Shell) -> None:
    shell.ok("index", "ward", "--gallery", "r", "--workers", "0", "--encoder", "pixels")
    gone = shell.home / "ward" / "Miller^2" / "0-0.dcm"
    kept = gone.read_bytes()
    gone.unlink()
    done = shell.run("reindex", "--gallery", "r", "--encoder", "small", "--workers", "1", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["swapped"], report["encoded"]) == (1, False, N - 1)
    assert [one["why"] for one in report["lacking"]] == ["gone"]
    assert shell.ok("reindex", "--gallery", "r", "--status", "--json")["next"]["lacking"] == 1
    assert "1 of 21 images lack features" in shell.ok("reindex", "--gallery", "r", "--status")
    gone.write_bytes(kept)
    shell.ok("index", "ward", "--gallery", "r", "--workers", "0")  # under the old one, meanwhile
    report = shell.ok("reindex", "--gallery", "r", "--encoder", "small", "--workers", "1", "--json")
    assert (report["swapped"], report["encoded"]) == (True, 1)
    told = shell.ok("info", "r", "--json")["encoder"]
    assert (told["name"], told["path"]) == ("small", str(shell.home / "small"))
    hits = shell.ok("search", "ward/Miller^0/0-0.dcm", "--gallery", "r", "--gate", "hard", "--json")
    assert hits["query"]["layer"] == "FCL1"
    shell.ok("reindex", "--gallery", "r", "--back")
    assert shell.ok("info", "r", "--json")["encoder"]["name"] == "pixels"
    shell.ok("reindex", "--gallery", "r", "--forget-old")
    assert shell.ok("verify", "--gallery", "r") == "21 records, nothing wrong\n"


def test_a_gallery_is_backed_up_restored_and_exported(shell: Shell) -> None:
    shell.ok("backup", "--gallery", "gallery", "--to", "copy")
    assert shell.ok("restore", "--from", "copy", "--gallery", "again", "--json")["records"] == N
    assert shell.ok("verify", "--gallery", "again", "--repair").startswith("repaired: matrices made again, 0 damaged")
    for name in ("all.npz", "all.csv", "all.trec"):
        assert shell.ok("export", "--gallery", "again", "--to", name, "--json")["records"] == N
    assert b"Miller" not in b"".join((shell.home / name).read_bytes() for name in ("all.csv", "all.trec", "copy"))


def test_a_record_lost_to_damage_comes_back(shell: Shell) -> None:
    shell.ok("index", "ward", "--gallery", "d", "--workers", "0", "--encoder", "pixels")
    with closing(sqlite3.connect(shell.home / "d" / "gallery.sqlite")) as connection, connection:
        connection.execute("UPDATE feature SET data = zeroblob(2304) WHERE record = 1")
    assert shell.run("verify", "--gallery", "d").returncode == 1
    assert "1 damaged images dropped" in shell.ok("verify", "--gallery", "d", "--repair")
    assert shell.ok("index", "ward", "--gallery", "d", "--workers", "0", "--json")["added"] == 1
    shell.ok("verify", "--gallery", "d")


@pytest.mark.parametrize(
    ("code", "words", "sentence"),
    [
        (2, "remove --gallery gallery", "Give --id, --series, --study or --patient"),
        (2, "remove --gallery gallery --id a --patient b", "one of them"),
        (2, "remove --gallery gallery --patient -", "nothing on standard input"),
        (1, "remove --gallery gallery --patient nobody", "no image of this patient, and nothing was removed"),
        (2, "remove --gallery gallery --patient Doe\udcff", "is no text in UTF-8"),
        (1, "remove --gallery none --patient nobody", "there is no gallery in none"),
        (2, "reindex --gallery gallery", "Give --encoder"),
        (2, "reindex --gallery gallery --encoder pixels --status", "Give --encoder"),
        (2, "reindex --gallery gallery --status --back", "one of"),
        (2, "reindex --gallery gallery --status --drop-missing", "--drop-missing goes with --encoder"),
        (1, "reindex --gallery gallery --encoder pixels", "is under encoder pixels"),
        (2, "reindex --gallery gallery --encoder nowhere", "there is no encoder at nowhere"),
        (1, "reindex --gallery gallery --back", "keeps no encoder before"),
        (2, "backup --gallery gallery --to gallery/copy", "give --to another folder"),
        (1, "restore --from key --gallery new", "key is no whole backup"),
        (1, "restore --from key --gallery ward", "a folder of its own"),
        (2, "restore --from none --gallery new", "There is no backup none"),
        (2, "export --gallery gallery --to all.xml", "An export ends in"),
        (2, "export --gallery gallery --to all.npz --layer fcl9", "there is no layer"),
        (2, "export --to all.csv", "Give --gallery or --encoder"),
        (2, "export --gallery gallery --encoder pixels --to all.csv", "Give --gallery or --encoder"),
        (2, "export --encoder pixels --to all.onnx", "no network"),
        (2, "export --encoder pixels --to all.csv", "exported as .onnx"),
        (2, "export --encoder pixels --to all.onnx -k 3", "no meaning beside --encoder"),
        (1, "verify --gallery none --repair", "there is no gallery in none"),
    ],
)
def test_a_wrong_turn_is_one_sentence(code: int, words: str, sentence: str, shell: Shell) -> None:
    assert sentence in shell.fails(code, *words.split())
    assert not (shell.home / "new").exists()


def test_a_wrong_encoder_lets_nobody_in_again(shell: Shell) -> None:
    shell.ok("index", "ward", "--gallery", "w", "--workers", "0", "--encoder", "pixels")
    shell.ok("remove", "--gallery", "w", "--patient", "MRN-1")
    wrong = ("index", "ward", "--gallery", "w", "--workers", "0", "--readmit", "--encoder", "small")
    assert "made with encoder" in shell.fails(1, *wrong)
    assert shell.ok("index", "ward", "--gallery", "w", "--workers", "0", "--json")["added"] == 0


def test_a_change_is_told_though_another_process_writes_just_then(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The matrices are made by the first search then."""
    shell.ok("index", "ward", "--gallery", "b", "--workers", "0", "--encoder", "pixels")
    monkeypatch.setenv("CBMIR_KEY_FILE", str(shell.home / "key"))
    with ExitStack() as held:

        def reindex_then_somebody_writes(*args: Any, **options: Any) -> ReindexReport:
            report = reindex(*args, **options)
            held.enter_context(held.enter_context(Store.open(shell.home / "b")).writing())
            return report

        monkeypatch.setattr(reindexing, "reindex", reindex_then_somebody_writes)
        settings = IndexSettings(workers=0)
        assert reindex_images(shell.home / "b", str(shell.home / "small"), settings=settings).swapped


def test_nobody_removes_between_an_index_run_and_its_reports(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may name an image: a removal looks through them when they are whole."""
    monkeypatch.setenv("CBMIR_KEY_FILE", str(shell.home / "key"))
    tried = []

    def somebody_comes(*args: Any) -> None:
        with Store.open(shell.home / "i") as store, pytest.raises(BadGallery, match="another process"), store.writing():
            pass
        tried.append(1)

    monkeypatch.setattr(report, "write_index_report", somebody_comes)
    index_into(shell.home / "i", [shell.home / "ward"], encoder_name="pixels", settings=IndexSettings(workers=0))
    assert tried


def test_another_key_removes_nothing(shell: Shell) -> None:
    other = Shell(shell.home)
    other.environment = other.environment | {"CBMIR_KEY_FILE": str(shell.home / "other")}
    assert "no pseudonym key" in other.fails(1, "remove", "--gallery", "gallery", "--patient", "MRN-1")
    (shell.home / "other").write_text("ab" * 32)
    assert "pseudonym key" in other.fails(1, "remove", "--gallery", "gallery", "--patient", "MRN-1")


def test_a_read_only_gallery_is_verified_and_exported_and_not_changed(shell: Shell) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    folder = shell.home / "gallery"
    for path in (folder / "gallery.sqlite", folder):
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        shell.ok("verify", "--gallery", "gallery")
        shell.ok("export", "--gallery", "gallery", "--to", "seen.csv")
        for words in (("remove", "--patient", "MRN-1"), ("reindex", "--encoder", "small"), ("verify", "--repair")):
            assert "read-only" in shell.fails(1, words[0], "--gallery", "gallery", *words[1:])
    finally:
        for path in (folder, folder / "gallery.sqlite"):
            path.chmod(path.stat().st_mode | 0o200)


def test_new_files_of_a_removed_patient_are_counted(shell: Shell) -> None:
    shell.ok("index", "ward", "--gallery", "n", "--workers", "0", "--encoder", "pixels")
    shell.ok("remove", "--gallery", "n", "--patient", "MRN-0")
    write_image(shell.home / "ward" / "Miller^0" / "later.dcm", 0, 7, 0)
    assert shell.ok("index", "ward", "--gallery", "n", "--workers", "0", "--json")["erased"] == 8
