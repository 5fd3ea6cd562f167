"""What the command line prints."""

from __future__ import annotations

import json
import re
from time import sleep

import pytest

from cbmir import console
from cbmir.ingest.tally import COUNTS
from cbmir.types import Feedback, Hit, Ranking, Record


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


def test_an_index_run_is_told_with_what_deserves_a_look() -> None:
    counts = {"added": 3, "unchanged": 2, "vanished": 0, "duplicates": 0}
    report = {**counts, "outcomes": {"decoded": 1, "corrupt": 0, "not_an_image": 2}, "failed": [], "html": "page"}
    quiet = [
        "3 images added, 2 files unchanged, 0 files vanished, 0 images left out that other files had brought",
        "files by outcome: 1 decoded, 2 not an image",
        "run report: page",
    ]
    assert console.index_lines(report) == quiet
    assert console.index_lines(report | dict.fromkeys(COUNTS.keys() - counts.keys(), 0)) == quiet
    told = console.index_lines(report | {"moved": 1, "conflicts": 2, "pixel_duplicates": 3, "burned_in": 4})
    assert [line.split()[0] for line in told[1:5]] == ["1", "2", "3", "4"]
    assert told[4] == "4 images that may show burned-in text"
    ones = console.index_lines(report | dict.fromkeys(COUNTS, 1))
    assert ones[0] == "1 image added, 1 file unchanged, 1 file vanished, 1 image left out that another file had brought"
    assert ones[1] == "1 image whose file has another place now"


def test_the_frame_that_was_searched_by_is_told() -> None:
    ranking = Ranking((), "pixels", "off", n_candidates=7)
    document = ranking.as_dict(5)
    assert document["query"]["frame"] == 5
    assert console.ranking_lines(document)[0] == "frame 5 of the file, layer pixels, gate off, 7 images compared"
    assert console.ranking_lines(ranking.as_dict())[0] == "layer pixels, gate off, 7 images compared"


def test_a_ranking_tells_what_was_asked_and_what_should_be_known() -> None:
    record = Record("i", patient="p", modality="CT")
    ranking = Ranking(
        (Hit(3, "i", 0.5, record, n_images=4, votes=2),), "fcl1", "off", query_ids=("q", "r"), n_candidates=1,
        n_allowed=9, offset=2, where="a=b\n", grouped_by="patient", order="least", feedback=Feedback(("l",), ("u",)),
        notes=("one", "two"), by="ann",
    )  # fmt: skip
    document = ranking.as_dict()
    assert {name: value for name, value in document.items() if name not in ("query", "hits")} == {
        "where": "a=b\n", "offset": 2, "order": "least", "rerank": "none", "grouped_by": "patient", "n_candidates": 1,
        "n_allowed": 9, "feedback": {"like": ["l"], "unlike": ["u"]}, "notes": ["one", "two"], "by": "ann",
    }  # fmt: skip
    assert (document["query"]["id"], document["query"]["ids"]) == (None, ["q", "r"])
    assert console.ranking_lines(document) == [
        "2 query images, layer fcl1, gate off, only a=b?, the least similar first, approximate, grouped by patient, "
        "1 image compared",
        "note: one",
        "note: two",
        "rank  distance  class  modality  id  patient  images  votes",
        "3     0.5000    -      CT        i   p        4       2",
    ]


def test_a_batch_tells_its_files_without_an_image() -> None:
    bad = {"path": "h.dcm", "outcome": "corrupt", "reason": "Cut off."}
    assert console.batch_lines({"queries": 1, "hits": 3, "out": "x.csv", "failed": []}) == ["1 query, 3 hits in x.csv"]
    told = console.batch_lines({"queries": 2, "hits": 1, "out": "x.csv", "failed": [bad] * 12})
    assert told[:3] == ["2 queries, 1 hit in x.csv", "12 files gave no image:", "  h.dcm: corrupt: Cut off."]
    assert (len(told), told[-1]) == (13, "  and 2 more")


def test_progress_is_silent_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("indexing") as tell:
        tell(1, 10)
    assert capsys.readouterr() == ("", "")
