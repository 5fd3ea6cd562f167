"""What the command line prints: JSON, tables of text, and progress bars on stderr."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import click

from .errors import GIVING_IMAGES, Outcome
from .where import one_line

if TYPE_CHECKING:
    from .fitting import StepReport


class Tell(Protocol):
    """Moves a bar. total: None while it is not known; note: a few words behind it."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None: ...


def show(value: Any, as_json: bool, lines: Callable[[Any], Sequence[str]]) -> None:
    """One JSON document (value: plain, no NaN), or what `lines` makes of the value."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) if as_json else "\n".join(lines(value)))


@contextmanager
def progress(what: str) -> Iterator[Tell]:
    """A bar with rate and time left on stderr, where that is a terminal; it appears at the first call of `tell`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, rate="", note="", visible=False)

        def tell(done: int, total: int | None, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note, visible=True)
            speed = bar.tasks[task].speed
            bar.update(task, rate="" if speed is None else f"{speed:.1f}/s")

        yield tell


@contextmanager
def training_progress() -> Iterator[Callable[[StepReport], None]]:
    """The same for a training run: images done of all epochs, loss and error of the epoch so far."""
    with progress("training") as tell:

        def report(step: StepReport) -> None:
            note = f"epoch {step.epoch}/{step.epochs} loss {step.loss:.3f} error {step.error:.3f}"
            tell(step.done, step.total, note)

        yield report


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text, as wide as they need to be; numbers stay as given."""
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [header, *rows]
    ]


def pairs(value: Mapping[str, Any]) -> list[str]:
    """name: value, one a line; nested mappings indented."""
    lines: list[str] = []
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            lines += [f"{name}:", *("  " + line for line in pairs(inner))]
        else:
            shown = ", ".join(map(str, inner)) if isinstance(inner, list | tuple) else inner
            lines.append(f"{name}: {'-' if shown in (None, '') or shown == {} else shown}")
    return lines


def ranking_lines(document: Mapping[str, Any]) -> list[str]:
    query, hits, owner = document["query"], document["hits"], document["grouped_by"]
    likely = ", ".join(f"{p['class']} {p['probability']:.2f}" for p in query["predicted"][:3])
    lines = [f"query looks like: {likely}"] if likely else []
    lines += [_head(document), *(f"note: {note}" for note in document["notes"])]
    header = ["rank", "distance", "class", "modality", "id"]
    rows = [
        [str(hit["rank"]), f"{hit['distance']:.4f}", hit["class"] or "-", hit["modality"] or "-", hit["id"]]
        for hit in hits
    ]
    more = ["score"] if any(hit["score"] is not None for hit in hits) else []
    more += [owner, "images"] if owner else []
    more += ["votes"] if any(hit["votes"] is not None for hit in hits) else []
    rows = [[*row, *(_cell(hit[name]) for name in more)] for row, hit in zip(rows, hits, strict=True)]
    return [*lines, *(table([*header, *more], rows) if rows else ["no hits"])]


def _head(document: Mapping[str, Any]) -> str:
    """What was asked and compared, in one line."""
    query, n_images = document["query"], len(document["query"]["ids"])
    words = [f"frame {query['frame']} of the file"] if (query["frame"] or 1) > 1 else []
    words += [f"{n_images} query images"] if n_images > 1 else []
    words += [f"layer {query['layer']}", f"gate {query['gate']}"]
    words += [f"only {one_line(document['where'])}"] if document["where"] else []
    words += ["the least similar first"] if document["order"] == "least" else []
    words += [f"re-ranked by {document['rerank']}"] if document["rerank"] != "none" else []
    words += ["approximate"] if document["by"] == "ann" else []
    words += [f"grouped by {document['grouped_by']}"] if document["grouped_by"] else []
    return ", ".join([*words, f"{_n(query['candidates'], 'image', 'images')} compared"])


def _n(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def batch_lines(report: Mapping[str, Any]) -> list[str]:
    """What a search by every file of a folder did."""
    failed = report["failed"]
    lines = [f"{_n(report['queries'], 'query', 'queries')}, {_n(report['hits'], 'hit', 'hits')} in {report['out']}"]
    lines += [f"{_n(len(failed), 'file', 'files')} gave no image:"] if failed else []
    lines += [f"  {bad['path']}: {bad['outcome']}: {bad['reason']}" for bad in failed[:10]]
    return [*lines, f"  and {len(failed) - 10} more"] if len(failed) > 10 else lines


def not_decoded(outcomes: Mapping[Outcome, int]) -> str:
    """How many files gave no image so far, in a few words."""
    n_files = sum(n for outcome, n in outcomes.items() if outcome not in GIVING_IMAGES)
    return f"{n_files} without an image" if n_files else ""


ALWAYS_TOLD = ("added", "unchanged", "vanished", "duplicates")
"""Counts of an index report; others are told when there are any."""


def index_lines(report: Mapping[str, Any]) -> list[str]:
    from .ingest.tally import COUNTS, counted

    outcomes = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in report["outcomes"].items() if n) or "none"
    lines = [
        ", ".join(f"{report[key]} {counted(key, report[key])}" for key in ALWAYS_TOLD),
        *(f"{n} {counted(key, n)}" for key in COUNTS if key not in ALWAYS_TOLD and (n := report.get(key))),
        f"files by outcome: {outcomes}",
    ]
    failed = [bad for bad in report["failed"] if bad["outcome"] != "not_an_image"]
    lines += [f"  {bad['path']}: {bad['outcome']}: {bad['reason']}" for bad in failed[:10]]
    if len(failed) > 10:
        lines.append(f"  and {len(failed) - 10} more, all in the run report")
    if failed:
        lines.append("where they are: cbmir files --gallery DIR HANDLE")
    return [*lines, *atlas_lines(report.get("atlas")), f"run report: {report['html']}"]


def atlas_lines(atlas: Mapping[str, Any] | None) -> list[str]:
    """What became of the map of a gallery, where that is news."""
    if atlas is None or atlas["state"] == "unchanged":
        return []
    return [atlas["note"] or f"map of {atlas['points']} images {atlas['state']} in {atlas['seconds']:.1f} s"]


def file_lines(found: Mapping[str, Any]) -> list[str]:
    """Where the files of a gallery are."""
    lines = [
        f"{file['handle']}  {file['outcome']}  {file['path']}" + (f"  ({file['reason']})" if file["reason"] else "")
        for file in found["files"]
    ]
    return lines or ["no files"]


def training_lines(report: Mapping[str, Any]) -> list[str]:
    log, paper = report["log"], report["paper_training_error"]
    beside = "" if paper is None else f" (the paper reports a training error of {paper})"
    losses = [f"training loss {log[-1]['loss']:.4f}, error {log[-1]['error']:.4f}{beside}"] if log else []
    return [
        f"trained on {report['n_training']} images, {report['n_validation']} kept for validation, "
        f"{len(report['failed'])} files gave no image",
        *losses,
        f"encoder {report['out']} ({report['fingerprint']})",
    ]


def evaluation_lines(metrics: Mapping[str, Any]) -> list[str]:
    """The key figures of metrics.json."""
    rows = [
        [layer, gate, *(figure(values[name]) for name in ("mAP", "mAP_macro", "P@1", "P@10")), _interval(values)]
        for layer, gates in metrics["retrieval"].items()
        for gate, values in gates.items()
    ]
    again = "" if metrics["rerank"] == "none" else f", re-ranked by {metrics['rerank']}"
    lines = [f"{metrics['n_queries']} queries in a gallery of {metrics['n_gallery']} images{again}"]
    lines += table(["layer", "gate", "mAP", "macro", "P@1", "P@10", "mAP 95 %"], rows)
    if classes := metrics["classification"]:
        names = ("top1", "macro_precision", "macro_recall", "F1")
        lines.append(", ".join(f"{name} {figure(classes[name])}" for name in names))
    told = metrics["calibration"]
    words = [f"ECE of the posterior {figure(told['posterior']['ECE'])}"] if told["posterior"] else []
    words += [f"ECE of the score {figure(of['ECE'])} ({layer})" for layer, of in told["score"].items()]
    words += [f"flagged {figure(of['flagged'])} ({layer})" for layer, of in told["in_distribution"].items()]
    return [*lines, ", ".join(words)] if words else lines


def explanation_lines(told: Mapping[str, Any]) -> list[str]:
    """How similar the two are, and what the check of their maps found."""
    query, hit = told["query"], told["hit"]
    lines = [
        f"query {query['id']}, hit {hit['id']}",
        f"layer {told['layer']}, similarity {told['similarity']:.4f}, distance {told['distance']:.4f}",
        f"picture: {told['picture']}",
    ]
    for name, side in (("query", query), ("hit", hit)):
        if check := side["check"]:
            lines.append(
                f"{name}: insertion {check['insertion']:.3f}, deletion {check['deletion']:.3f}, their difference "
                f"{check['score']:.3f}, of random maps {check['random']:.3f} (above {check['beats']:.0%} of them)"
            )
    return lines


def demo_lines(result: Mapping[str, Any]) -> list[str]:
    lines = index_lines(result["indexed"])
    if result["mAP"] is not None:
        lines.append(f"mAP {result['mAP']:.3f} (layer {result['layer']}, whole gallery)")
    page = f"look around in it: cbmir serve --gallery {shlex.quote(str(result['gallery']))}"
    return [*lines, f"gallery: {result['gallery']}", f"report: {result['report']}", page]


def dataset_lines(counts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Images (patients) of each class and split."""
    splits = sorted({split for sides in counts.values() for split in sides})
    rows = [
        [label or "(none)", *(f"{s.images} ({s.patients})" if (s := sides.get(split)) else "-" for split in splits)]
        for label, sides in counts.items()
    ]
    return table(["class", *(split or "images (patients)" for split in splits)], rows)


def check_lines(report: Any) -> list[str]:
    """What `dataset check` found, worst first."""
    lines = [f"leak: patient {leak.patient} is in {' and '.join(leak.images)}" for leak in report.leaks]
    lines += [f"{'leak: ' if twins.across else ''}same file: {', '.join(twins.paths)}" for twins in report.duplicates]
    lines += [
        f"near-duplicate of another split: {near.path} and {near.like}, {near.bits} of 256 bits apart"
        for near in report.near_duplicates
    ]
    lines += [f"missing: {path}" for path in report.missing]
    lines += [f"no image: {bad['path']}: {bad['reason']}" for bad in report.failed]
    if report.one_sided:
        lines.append(f"only in one split: {', '.join(report.one_sided)}")
    if report.patients_unknown:
        lines.append(f"{report.patients_unknown} images have no known patient, each counts as its own")
    return [*lines, "LEAKAGE: patients or files are in more than one split" if report.leaking else "no leakage found"]


def figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(values: Mapping[str, Any]) -> str:
    low, high = values["mAP_ci95"] or (None, None)
    return f"{figure(low)} to {figure(high)}"
