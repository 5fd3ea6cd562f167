"""The page on an index run: what was added, and every file that gave no image, by handle and reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..errors import OUTCOMES
from ..files import write_text
from ..ingest.tally import COUNTS, counted
from . import page
from .tables import Table

MOST_LISTED = 1000
"""Handles of one reason on the page; the JSON file beside it has all."""

MOST_REASONS = 200
"""Reasons on the page: some hold numbers, and no two are the same."""

FIND = (
    "Files are named by handles, which tell nothing of their names and places. Who holds the key of the gallery finds "
    "a file with: cbmir files --gallery DIR HANDLE"
)


def write_index_report(report: Mapping[str, Any], path: Path) -> None:
    """Write the page. report: the run report as index_source writes it in JSON."""
    write_text(path, index_page(report))


def index_page(report: Mapping[str, Any]) -> str:
    reasons = _by_reason(report["failed"])
    others = _by_reason(report["not_indexed"])
    sections = [
        ("outcomes", "What became of the files", _outcomes(report["outcomes"]).html()),
        ("reasons", "Why files were not wholly read", _reasons(reasons) + _files(reasons)),
        ("no-pictures", "Files that show no picture", _files(others)),
        ("vanished", "Vanished files, whose images stay", _listed(report["vanished_files"])),
        ("conflicts", "Images of one identity and different pixels", _conflicts(report["conflicting_images"])),
        ("map", "The map of the gallery", _map(report.get("atlas"))),
        ("find", "How to find a file", page.paragraphs([FIND])),
    ]
    return page.page("An index run", _intro(report), sections)


def _intro(report: Mapping[str, Any]) -> str:
    n_files = report["unchanged"] + sum(report["outcomes"].values())
    values = [("files", str(n_files)), ("files a second", f"{report['rate']:.1f}")]
    values += [(counted(key, report[key]), str(report[key])) for key in COUNTS]
    told = f"Finished {report['finished']} after {report['seconds']:.1f} s. Encoder fingerprint {report['encoder']}."
    return page.paragraphs([told]) + page.tiles(values)


def _map(atlas: Mapping[str, Any] | None) -> str:
    """atlas: as AtlasReport has it; None where no map was asked for."""
    if atlas is None:
        return ""
    if atlas["note"]:
        return page.paragraphs([f"{atlas['note'][:1].upper()}{atlas['note'][1:]}."])
    shares = [f"{atlas['same_class'][name]:.0%}" for name in ("map", "features")]
    told = f"{atlas['points']} images, {atlas['state']} in {atlas['seconds']:.1f} s."
    means = f"Of the ten images nearest to one, {shares[0]} are of its class on the map, {shares[1]} by all features."
    return page.paragraphs([told, means])


def _conflicts(ids: Sequence[str]) -> str:
    told = "The image that came first stays in the gallery. These are the ids of those that were brought again:"
    return page.paragraphs([told]) + _listed(ids) if ids else ""


def _outcomes(outcomes: Mapping[str, int]) -> Table:
    rows = tuple((name.replace("_", " "), str(outcomes.get(name, 0))) for name in OUTCOMES)
    return Table("Files by outcome, unchanged ones aside", ("Outcome", "Files"), rows)


def _by_reason(failed: Sequence[Mapping[str, str]]) -> list[tuple[str, str, list[str]]]:
    """(outcome, reason, handles), most files first."""
    handles: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file in failed:
        handles[file["outcome"], file["reason"]].append(file["path"])
    return sorted(((*key, files) for key, files in handles.items()), key=lambda reason: (-len(reason[2]), reason[:2]))


def _reasons(reasons: Sequence[tuple[str, str, list[str]]]) -> str:
    if not reasons:
        return page.paragraphs(["Every file was wholly read."])
    shown, rest = reasons[:MOST_REASONS], reasons[MOST_REASONS:]
    rows = tuple((outcome.replace("_", " "), reason, str(len(files))) for outcome, reason, files in shown)
    note = f"And {len(rest)} other reasons of {sum(len(files) for *_, files in rest)} files." if rest else ""
    return Table("Files by outcome and reason", ("Outcome", "Reason", "Files"), rows, note).html()


def _files(reasons: Sequence[tuple[str, str, list[str]]]) -> str:
    return "".join(
        f"<details><summary>{escape(outcome.replace('_', ' '))}: {escape(reason)} ({len(files)})</summary>"
        f"{_listed(files)}</details>"
        for outcome, reason, files in reasons[:MOST_REASONS]
    )


def _listed(handles: Sequence[str]) -> str:
    if not handles:
        return ""
    shown = " ".join(f"<code>{escape(handle)}</code>" for handle in handles[:MOST_LISTED])
    rest = len(handles) - MOST_LISTED
    more = page.paragraphs([f"And {rest} more, in the JSON file beside this page."]) if rest > 0 else ""
    return f'<p class="handles">{shown}</p>{more}'
