"""docs/metrics.md cannot lie: its examples run, and every number that is told has an entry there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from cbmir import metrics

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
TEXT = PAGE.read_text(encoding="utf-8")
ENTRIES = re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]
TITLES = [entry.splitlines()[0] for entry in ENTRIES]
NOT_METRICS = {"R", "ties", "relevant", "n_queries_measured", "n_queries_without_relevant"}
"""Words that the page explains in its first section."""


def test_every_example_gives_what_the_page_says() -> None:
    test = doctest.DocTestParser().get_doctest(TEXT, {}, PAGE.name, str(PAGE), 0)
    told: list[str] = []
    runner = doctest.DocTestRunner()
    runner.run(test, out=told.append)
    assert runner.failures == 0, "".join(told)
    assert runner.tries > 40


@pytest.mark.parametrize("name", sorted(set(metrics.DEFINITIONS) - NOT_METRICS))
def test_every_definition_has_an_entry(name: str) -> None:
    assert [title for title in TITLES if f"`{name}`" in title]


@pytest.mark.parametrize("name", sorted(NOT_METRICS))
def test_every_other_word_is_explained(name: str) -> None:
    assert re.search(name, TEXT.split("## Average precision")[0], flags=re.IGNORECASE)


@pytest.mark.parametrize("entry", ENTRIES, ids=TITLES)
def test_an_entry_says_formula_use_and_other_names_and_shows_an_example(entry: str) -> None:
    for part in ("**Formula.**", "**Use.**", "**Published as.**", ">>> "):
        assert part in entry


@pytest.mark.parametrize("title", TITLES)
def test_an_entry_names_nothing_that_is_not_defined(title: str) -> None:
    assert set(re.findall(r"`([^`]+)`", title)) <= set(metrics.DEFINITIONS)
