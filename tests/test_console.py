"""What the command line prints."""

from __future__ import annotations

import json
import re
from time import sleep

import pytest

from cbmir import console


def test_a_document_is_strict_json(capsys: pytest.CaptureFixture[str]) -> None:
    console.show({"class": "Schädel", "value": 0.5}, True, console.pairs)
    assert json.loads(capsys.readouterr().out) == {"class": "Schädel", "value": 0.5}
    with pytest.raises(ValueError, match="JSON compliant"):
        console.show({"value": float("nan")}, True, console.pairs)


def test_progress_tells_the_rate_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with console.progress("indexing") as tell:
        for done in range(5):
            tell(done, 10)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "4/10" in captured.err
    assert re.search(r"[0-9]\.[0-9]/s", captured.err)


def test_progress_tells_the_rate_before_the_total_is_known_and_the_time_left_after(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with console.progress("indexing") as tell:
        for done in range(1, 6):
            tell(done, None, "2 without an image")
            sleep(0.02)
    early = capsys.readouterr().err
    assert "5/?" in early
    assert "2 without an image" in early
    assert re.search(r"[0-9]\.[0-9]/s", early)
    with console.progress("indexing") as tell:
        for done in range(1, 6):
            tell(done, None if done < 3 else 100)
            sleep(0.02)
    late = capsys.readouterr().err
    assert "5/100" in late
    assert "0:00:0" in late


def test_files_without_an_image_are_counted() -> None:
    assert console.not_decoded({"decoded": 5, "partial": 1, "corrupt": 2, "not_an_image": 1}) == "3 without an image"
    assert console.not_decoded({"decoded": 5, "partial": 1}) == ""


def test_progress_is_silent_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("indexing") as tell:
        tell(1, 10)
    assert capsys.readouterr() == ("", "")
