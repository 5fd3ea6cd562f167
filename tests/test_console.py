"""What the command line prints."""

from __future__ import annotations

import json
import re

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


def test_progress_is_silent_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("indexing") as tell:
        tell(1, 10)
    assert capsys.readouterr() == ("", "")
