"""The page of a benchmark: every method in one table and one figure, and the same tables as Markdown.

    write_benchmark_report(told, out_dir) -> out_dir/report.html

writes table.md, report.html and figures/ as PNG and SVG.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..figures import COLOURS, Curve, gate_title, pr_figure, save
from ..files import write_text
from ..metrics import DEFINITIONS
from . import page
from .benchmark_tables import benchmark_tables
from .tables import Table, number, with_interval

DEFINED = (
    "mAP", "mAP_macro", "P@1", "P@10", "top1", "macro_precision", "macro_recall", "F1", "relevant", "R", "ties",
    "n_queries_without_relevant", "ci95", "paired_test", "pr_curve", "gallery_size",
)  # fmt: skip
LINES = ("-", "--", ":", "-.")


def write_benchmark_report(told: Mapping[str, Any], out_dir: Path) -> Path:
    """told: the document benchmark.json. The page names no file, id or patient."""
    tables = benchmark_tables(told)
    heading = f"# Benchmark, protocol {told['protocol']['name']}\n\n{page.RESEARCH_USE}\n\n"
    notes = "".join(f"{sentence}\n\n" for sentence in sentences(told))
    write_text(out_dir / "table.md", heading + notes + "\n".join(table.markdown() for table in tables.values()))
    figures = [_figure(told, gate, out_dir) for gate in ("off", "hard")]
    write_text(out_dir / "report.html", _page(told, tables, [figure for figure in figures if figure]))
    return out_dir / "report.html"


def sentences(told: Mapping[str, Any]) -> list[str]:
    """What was measured, and what was not."""
    lost, unlabelled = told["n_queries_without_relevant"], told["n_queries_without_label"]
    found = [
        f"{told['n_queries']} queries of {told['n_patients']} patients, {told['n_gallery']} images in the gallery, "
        f"{told['n_classes']} classes; {', '.join(told['modalities']) or 'no modality told'}; seed {told['seed']}.",
        *told["protocol"]["notes"],
    ]
    if lost or unlabelled:
        found.append(f"Left out of every mean: {lost} queries with nothing relevant, {unlabelled} without a label.")
    if told["files_without_image"]:
        found.append(f"{len(told['files_without_image'])} files gave no image.")
    return found


def _figure(told: Mapping[str, Any], gate: str, out_dir: Path) -> str | None:
    """All methods overlaid, the best first; None where no method has the gate."""
    known = [method for method in told["methods"] if gate in method["retrieval"]]
    if not known:
        return None
    known.sort(key=lambda method: -(method["retrieval"][gate]["mAP"] or 0.0))
    title = f"Precision over recall {gate_title(gate)}"
    png, _ = save(overlaid([_curve(method, gate) for method in known], title), out_dir / "figures", f"pr_{gate}")
    return page.image(png, f"{title}, one curve a method", "Mean over all queries; in the legend the mAP.")


def _curve(method: Mapping[str, Any], gate: str) -> Curve:
    figures = method["retrieval"][gate]
    name = f"{method['title']}, {number(figures['mAP'])}"
    return Curve(name, figures["pr_curve"]["recall"], figures["pr_curve"]["precision"])


def overlaid(curves: list[Curve], title: str) -> Any:
    """The Figure of pr_figure for many curves: where colours begin anew the dashes change; the legend is beside."""
    figure = pr_figure(curves, title)
    (axes,) = figure.axes
    for place, line in enumerate(axes.lines):
        line.set_linestyle(LINES[place // len(COLOURS) % len(LINES)])
        line.set_linewidth(1.6)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8)
    figure.set_size_inches(9.5, 5.2)
    return figure


def _page(told: Mapping[str, Any], tables: Mapping[str, Table], figures: list[str]) -> str:
    def html(*names: str) -> str:
        return "".join(tables[name].html() for name in names if name in tables)

    best = next(method for method in told["methods"] if method["title"] == told["best"])["retrieval"]["off"]
    tiles = [
        ("best mAP without gate", with_interval(best["mAP"], best["mAP_ci95"])),
        ("the best method", str(told["best"])),
        ("methods", str(len(told["methods"]))),
        ("queries", str(told["n_queries"])),
    ]
    sections = [
        ("methods", "Every method", html("methods", "failed") + "".join(figures)),
        ("tests", "Tests", html("tests")),
        ("paper", "Beside the paper", html("table_2", "table_3")),
        ("groups", "Classes, modalities, sources", html("per_class", "per_modality", "per_source")),
        ("sizes", "Gallery size", html("gallery_size")),
        ("folds", "Folds", html("folds", "excluded")),
        ("definitions", "Definitions", page.definitions({name: DEFINITIONS[name] for name in DEFINED})),
    ]
    intro = page.paragraphs(sentences(told)) + page.tiles(tiles)
    return page.page(f"Benchmark, protocol {told['protocol']['name']}", intro, sections)
