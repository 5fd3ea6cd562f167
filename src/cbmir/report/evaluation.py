"""What an evaluation, a cross-validation or a gallery without labels has to show: figures, tables and a page each.

    write_report(metrics, out_dir, examples=..., samples=..., pictures=...) -> out_dir/report.html

writes metrics.json, tables.md, report.html, and figures/ as PNG and SVG. write_cross_validation_report and
write_search_report write the page of a cross-validation and of a gallery without labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..evaluate import Example, Samples
from ..figures import (
    Curve,
    Row,
    Tile,
    confusion_figure,
    gate_title,
    per_class_figure,
    pr_figure,
    ranking_row,
    reliability_figure,
    sample_sheet,
    save,
    strip_figure,
    tile_rows,
    training_figure,
)
from ..files import write_json, write_text
from ..recipes import PAPER_TRAINING_ERROR
from ..types import UInt8
from . import page
from .folds import cross_validation_page
from .reading import how_to_read
from .search import search_page
from .tables import (
    Table,
    apart_table,
    believed,
    calibration_table,
    classification_table,
    efficiency_table,
    groups_table,
    metrics_table,
    number,
    per_cent,
    retrieval_table,
    table_2,
    table_3,
)

NO_SAMPLES = Samples((), ())

PAPER_FIGURE = {"hard": "As Fig. 7 of the paper.", "off": "As Fig. 8 of the paper."}


def write_report(
    metrics: Mapping[str, Any],
    out_dir: Path,
    *,
    examples: Sequence[Example] = (),
    samples: Samples = NO_SAMPLES,
    pictures: Mapping[str, UInt8] | None = None,
) -> Path:
    """Write metrics.json, the figures, tables.md and report.html to out_dir; returns the path of report.html.

    metrics: as evaluate makes it. pictures: uint8 (rows, columns) by record id. The page names no file, id or patient.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    write_json(out_dir / "metrics.json", metrics)
    drawn = _Drawn(metrics, out_dir / "figures", pictures or {})
    tables = _tables(metrics)
    heading = f"# Evaluation of {metrics['encoder_name']}\n\n{page.RESEARCH_USE}\n\n"
    write_text(out_dir / "tables.md", heading + "\n".join(table.markdown() for table in tables.values()))
    html = {name: table.html() for name, table in tables.items()}
    write_text(out_dir / "report.html", _page(metrics, html, drawn, examples, samples))
    return out_dir / "report.html"


def write_cross_validation_report(summary: Mapping[str, Any], out_dir: Path) -> Path:
    """Write out_dir/report.html on a cross-validation; returns its path.

    summary: of evaluate.cross_validation; recipe (as a dict) and seed are told where it has them.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    write_text(out_dir / "report.html", cross_validation_page(summary))
    return out_dir / "report.html"


def write_search_report(
    about: Mapping[str, Any], indexed: Mapping[str, Any], strips: Sequence[tuple[str, Path]], out_dir: Path
) -> Path:
    """Write out_dir/report.html on a gallery without labels to measure by; returns its path.

    about: Gallery.info; indexed: an IndexReport as a dict; strips: (a line on the ranking, its picture) each.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    write_text(out_dir / "report.html", search_page(about, indexed, strips))
    return out_dir / "report.html"


def _tables(metrics: Mapping[str, Any]) -> dict[str, Table]:
    tables = {"retrieval": retrieval_table(metrics), "metrics": metrics_table(metrics)}
    if metrics["classification"]:
        tables["classification"] = classification_table(metrics)
    tables |= {"table_2": table_2(metrics), "table_3": table_3(metrics)}
    if believed(metrics):
        tables["calibration"] = calibration_table(metrics)
    if metrics.get("efficiency"):
        tables["efficiency"] = efficiency_table(metrics)
    if metrics["apart"]:
        tables["apart"] = apart_table(metrics)
    if metrics["per_class"]:
        tables["per_class"] = groups_table(metrics, "per_class", "Every class")
    if metrics["per_modality"]:
        tables["per_modality"] = groups_table(metrics, "per_modality", "Every modality")
    if metrics["per_source"]:
        tables["per_source"] = groups_table(metrics, "per_source", "Every source")
    return tables


def _page(
    metrics: Mapping[str, Any],
    html: Mapping[str, str],
    drawn: _Drawn,
    examples: Sequence[Example],
    samples: Samples,
) -> str:
    def tables(*names: str) -> str:
        return "".join(html.get(name, "") for name in names)

    sections = [
        ("retrieval", "Retrieval", tables("retrieval", "metrics") + drawn.curves() + drawn.classes()),
        ("reading", "How to read the mAP", page.paragraphs(how_to_read(metrics))),
        ("classification", "Classification", tables("classification") + drawn.confusion()),
        ("calibration", "What can be believed", tables("calibration") + drawn.reliability()),
        ("examples", "Queries and their first hits", drawn.strips(examples)),
        ("paper", "Beside the paper", tables("table_2", "table_3")),
        ("cost", "What a query costs", tables("efficiency")),
        ("apart", "Queries told apart", tables("apart")),
        ("groups", "Classes, modalities and sources", tables("per_class", "per_modality", "per_source")),
        ("training", "Training", drawn.training()),
        ("data", "The data", page.paragraphs(_about_data(metrics)) + drawn.sheets(samples)),
        ("definitions", "Definitions", page.definitions(metrics["definitions"])),
    ]
    return page.page(f"Evaluation of {metrics['encoder_name']}", _intro(metrics), sections)


def _intro(metrics: Mapping[str, Any]) -> str:
    layer, gates = next(iter(metrics["retrieval"].items()))
    values = [(f"mAP, {layer}, gate {gate}", number(gates[gate]["mAP"])) for gate in ("off", "hard") if gate in gates]
    if "off" in gates:
        values.append((f"P@10, {layer}, gate off", number(gates["off"]["P@10"])))
    if metrics["classification"]:
        values.append(("top1, %", per_cent(metrics["classification"]["top1"])))
    values += [("queries", str(metrics["n_queries"])), ("images in the gallery", str(metrics["n_gallery"]))]
    told = (
        f"Encoder fingerprint {metrics['encoder']}, precision {metrics['precision']}. Relevant: {metrics['relevant']}."
    )
    if metrics.get("rerank", "none") != "none":
        told += f" Every ranking is re-ranked by {metrics['rerank']}, with the parameters fitted on validation."
    return page.paragraphs([told]) + page.tiles(values)


def _about_data(metrics: Mapping[str, Any]) -> list[str]:
    """Counts only."""
    patients, outcomes = metrics["n_patients"], metrics.get("outcomes", {})
    texts = [
        f"Gallery: {metrics['n_gallery']} images of {patients['gallery']} patients. "
        f"Queries: {metrics['n_queries']} images of {patients['queries']} patients. An image of an unknown patient "
        "counts as one. A query never sees images of its own patient.",
        f"{metrics['n_classes']} classes; modalities {', '.join(metrics['modalities']) or 'not stated'}.",
        f"{metrics['n_queries_without_label']} queries have no label and {metrics['n_queries_without_relevant']} have "
        "nothing relevant in the gallery; both are left out of the retrieval means.",
    ]
    if outcomes:
        counts = ", ".join(f"{number_of} {outcome.replace('_', ' ')}" for outcome, number_of in outcomes.items())
        texts.append(f"Files: {counts}. Each that gave no image is listed in metrics.json under failed.")
    return texts


class _Drawn:
    """Draws figures into a folder and hands them back as HTML, empty where there is nothing to draw."""

    def __init__(self, metrics: Mapping[str, Any], folder: Path, pictures: Mapping[str, UInt8]) -> None:
        self.metrics, self.folder, self.pictures = metrics, folder, pictures

    def curves(self) -> str:
        """Fig. 7 and 8, and the same for the other gates."""
        shown = []
        for gate in sorted(self.metrics["gates"], key=lambda gate: ("hard", "off", "top3", "soft").index(gate)):
            curves = [
                Curve(f"{layer} (mAP {number(gates[gate]['mAP'])})", **gates[gate]["pr_curve"])
                for layer, gates in self.metrics["retrieval"].items()
            ]
            title = f"Precision over recall {gate_title(gate)}"
            _, svg = save(pr_figure(curves, title), self.folder, f"pr_{gate}")
            shown.append(page.image(svg, title, PAPER_FIGURE.get(gate, "")))
        return page.pair(shown)

    def classes(self) -> str:
        layer = self.metrics["layers"][0]
        values = {
            f"gate {gate}": {
                name: told["retrieval"][layer][gate]["mAP"] for name, told in self.metrics["per_class"].items()
            }
            for gate in self.metrics["gates"]
        }
        if not self.metrics["per_class"]:
            return ""
        _, svg = save(per_class_figure(values, f"mAP, layer {layer}"), self.folder, "per_class")
        return page.image(svg, f"mAP of every class, layer {layer}", "Classes from worst to best without a gate.")

    def confusion(self) -> str:
        found = self.metrics["classification"]
        if not found:
            return ""
        _, svg = save(confusion_figure(found["confusion"], found["classes"]), self.folder, "confusion")
        return page.image(svg, "Confusion matrix in per cent of each label", "As Table 1 of the paper.")

    def reliability(self) -> str:
        found = believed(self.metrics)
        if not found:
            return ""
        curves = {name: belief["reliability"] for name, belief in found.items()}
        title = "What was told, and what came true"
        _, svg = save(reliability_figure(curves, title), self.folder, "reliability")
        return page.image(svg, title, "On the dotted line probabilities come true; below it they promise too much.")

    def strips(self, examples: Sequence[Example]) -> str:
        """Fig. 9 and 10. The stem numbers the strips, it does not name the query."""
        shown = []
        for place, example in enumerate(examples, start=1):
            label = example.query.label
            rows = [ranking_row(ranking, self.pictures, label) for ranking in example.rankings]
            known = self.pictures.get(example.query.id)
            if known is None:
                continue
            said = f"\npredicted {example.query.predicted}" if example.query.predicted else ""
            figure = strip_figure(Tile(known, f"{label}{said}"), rows, f"Query of class {label}")
            png, _ = save(figure, self.folder, f"strip_{place}")
            caption = f"As Fig. 9 and 10 of the paper. Shown because: {example.why}."
            shown.append(page.image(png, f"A query of class {label} and its first hits, ranked", caption))
        if not shown:
            return ""
        told = "Hits of another class are framed in red; d is the Euclidean distance. Queries are chosen by rule."
        return page.paragraphs([told]) + "".join(shown)

    def training(self) -> str:
        log = (self.metrics.get("training") or {}).get("log")
        if not log:
            return ""
        _, svg = save(training_figure(log), self.folder, "training")
        caption = (
            f"The paper states a training error of {PAPER_TRAINING_ERROR} after 30 epochs and not which measure; "
            "both are drawn."
        )
        return page.image(svg, "Training curve", caption)

    def sheets(self, samples: Samples) -> str:
        shown = []
        one_each = [
            Tile(self.pictures[record.id], record.label or "")
            for record in samples.one_each
            if record.id in self.pictures
        ]
        if one_each:
            png, _ = save(sample_sheet(one_each, "One image of each class"), self.folder, "samples_between")
            shown.append(page.image(png, "One image of each class", "Between classes, as Fig. 5 of the paper."))
        varied = [
            Row(name, tuple(self._sample(record.id, record.modality) for record in records))
            for name, records in samples.varied
            if all(record.id in self.pictures for record in records)
        ]
        if varied:
            png, _ = save(tile_rows(varied, "Images of one class"), self.folder, "samples_within")
            shown.append(page.image(png, "Several images of one class", "Within a class, as Fig. 6 of the paper."))
        return "".join(shown)

    def _sample(self, name: str, modality: str | None) -> Tile:
        return Tile(self.pictures[name], modality or "")
