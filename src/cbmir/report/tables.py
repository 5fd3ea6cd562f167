"""The tables of a report, from the document metrics.json, in Markdown and HTML; the paper's rows beside ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

METHOD = ("Method", "Images", "Training", "Testing", "Modalities", "Classes")

PAPER_TABLE_2 = (
    (
        "The paper: DCNN trained on whole images",
        "7200", "5040", "2160", "MR, CT, PET, PT, OPT", "24", "99.76", "99.77", "99.76",
    ),
    (
        "Two stage DCNN trained on local image patches [43]",
        "7489", "2413, with augmentation on extracted patches", "4043", "CT", "12", "98.43", "97.28", "97.85",
    ),
)  # fmt: skip
"""Rows of Table 2 as printed."""

PAPER_TABLE_3 = (
    (
        "The paper: DCNN trained on whole images",
        "7200", "5040", "2160", "MR, CT, PT, PET, OPT", "24", "0.53", "0.69", "not said",
    ),
    (
        "Local binary patterns, support vector machine and autoencoder [48]",
        "14410", "12677", "1733", "X-ray", "57", "0.86", "", "over the first 20 hits",
    ),
    (
        "Full range autoregressive model and binary tree based SVM [49]",
        "6400", "5760", "640",
        "CT, MRI, mammography, microscopy, ultrasound, endoscopy", "83", "0.576", "", "not said",
    ),
)  # fmt: skip
"""Rows of Table 3 as printed; its one column of mAP is parted by gate."""

MAP_COLUMNS = ("mAP without class prediction", "mAP with class prediction", "Definition")
MAP_READINGS = (("mAP", "standard, R of the gallery"), ("mAP_seed_compatible", "seed-compatible"))
OTHER_IMAGES = "Every method was measured on other images; rows of cbmir are ours."
OVER_FOLDS = "Mean ± sample standard deviation over folds."
RETRIEVAL_METRICS = ("mAP_seed_compatible", "mAP@10", "P@1", "P@10", "recall@10", "nDCG@10", "MMV@5")


@dataclass(frozen=True)
class Table:
    """Cells are plain text; escaping is done here. The first column names the row."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"every row of the table '{self.title}' has {len(self.header)} cells")

    def markdown(self) -> str:
        lines = [_markdown_row(self.header), "|" + " --- |" * len(self.header), *map(_markdown_row, self.rows)]
        return "\n".join([f"**{self.title}**", "", *lines, *(["", self.note] if self.note else [])]) + "\n"

    def html(self) -> str:
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in self.header)
        body = "".join(f"<tr>{_html_cells(row)}</tr>" for row in self.rows)
        note = f'<p class="note">{escape(self.note)}</p>' if self.note else ""
        return (
            f'<div class="table"><table><caption>{escape(self.title)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}"
        )


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |"


def _html_cells(row: Sequence[str]) -> str:
    first, *rest = row
    return f'<th scope="row">{escape(first)}</th>' + "".join(f"<td>{_html_cell(cell)}</td>" for cell in rest)


def _html_cell(cell: str) -> str:
    """A number with its interval stays on one line."""
    text = escape(cell)
    return text.replace(" ", "&nbsp;") if text[:1].isdigit() else text


def number(value: float | None, digits: int = 3) -> str:
    """A share with three decimals; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    return number(value) if interval is None else f"{number(value)} [{number(interval[0])}, {number(interval[1])}]"


def per_cent(value: float) -> str:
    return f"{100 * value:.2f}"


# --- what was measured ---


def retrieval_table(metrics: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            f"{layer}, gate {gate}",
            with_interval(figures["mAP"], figures["mAP_ci95"]),
            with_interval(figures["mAP_macro"], figures["mAP_macro_ci95"]),
            *(number(figures[name]) for name in RETRIEVAL_METRICS),
        )
        for layer, gates in metrics["retrieval"].items()
        for gate, figures in gates.items()
    )
    note = "In brackets: 95 % interval over patients. Every metric is defined below."
    header = ("Layer and gate", "mAP", "mAP_macro", *RETRIEVAL_METRICS)
    return Table("Every layer and gate", header, rows, note)


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """Every metric of the first layer under each gate: over queries and over classes, with intervals."""
    layer, gates = metrics["layers"][0], metrics["gates"]
    figures = [metrics["retrieval"][layer][gate] for gate in gates]
    header = ("Metric", *(f"{of}gate {gate}" for gate in gates for of in ("", "over classes, ")))

    def row(name: str) -> tuple[str, ...]:
        cells = [
            with_interval(told.get(name), ends.get(name))
            for found in figures
            for told, ends in ((found, found["ci95"]), (found["macro"], found["macro_ci95"]))
        ]
        return (name, *cells)

    names = [*figures[0]["macro"], "GMAP"]
    note = "In brackets: 95 % interval over patients. Higher is better, but for ANMRR. Every metric is defined below."
    return Table(f"Every metric, layer {layer}", header, tuple(row(name) for name in names), note)


def classification_table(metrics: Mapping[str, Any]) -> Table:
    """Ours with interval, over 100 draws of patients, and the paper's value of the same name."""
    ours = metrics["classification"]
    paper = {"macro_precision": "99.76 (AP)", "macro_recall": "99.77 (AR)", "F1": "99.76"}
    tested, intervals = ours.get("tested_100_times", {}), ours.get("ci95", {})

    def row(name: str) -> tuple[str, ...]:
        ends, drawn = intervals.get(name), tested.get(name)
        return (
            name,
            per_cent(ours[name]),
            "–" if ends is None else f"[{per_cent(ends[0])}, {per_cent(ends[1])}]",
            "–" if drawn is None else f"{per_cent(drawn['mean'])} ± {per_cent(drawn['sd'])}",
            paper.get(name, "–"),
        )

    names = ("top1", "macro_precision", "macro_recall", "F1", "accuracy_eq8")
    header = ("Metric, %", "Test queries", "95 % interval over patients", "100 draws, mean ± sd", "The paper")
    note = "100 draws of patients with replacement stand for the paper's 'tested 100 times'."
    return Table("Of the test queries", header, tuple(row(name) for name in names), note)


def efficiency_table(metrics: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            f"{layer}, gate {gate}",
            f"{told['distances_per_query']:.0f}",
            number(told["distances_per_query"] / metrics["n_gallery"]),
            f"{told['ms_per_query']:.2f}",
        )
        for layer, gates in metrics["efficiency"].items()
        for gate, told in gates.items()
    )
    header = ("Layer and gate", "Distances per query", "Share of the gallery", "ms per query")
    note = "Mean number of distances and median time of single queries, features ready, first ten hits."
    return Table("Distances and time", header, rows, note)


def believed(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What there is to tell of each kind of probability."""
    told = metrics.get("calibration") or {"posterior": None, "score": {}}
    of_posterior = {"posterior, likeliest class": told["posterior"]} if told["posterior"] else {}
    return of_posterior | {f"score, {layer}, first 10 hits": belief for layer, belief in told["score"].items()}


def calibration_table(metrics: Mapping[str, Any]) -> Table:
    """How far posterior and scores can be believed, and how many queries are flagged."""
    names = ("ECE", "ECE_width", "Brier")
    rows = tuple(
        (name, *(number(belief[key]) for key in names), str(belief["n"])) for name, belief in believed(metrics).items()
    )
    flags = [
        f"{per_cent(of['flagged'])} % by {layer}"
        for layer, of in metrics["calibration"]["in_distribution"].items()
        if of["flagged"] is not None
    ]
    note = f"Queries flagged as unlike the gallery, 5 % on validation: {', '.join(flags)}." if flags else ""
    return Table("Do probabilities come true?", ("Probability", *names, "Predictions"), rows, note)


def groups_table(metrics: Mapping[str, Any], key: str, title: str) -> Table:
    """per_class or per_source: counts, classification, mAP and P@10 of the first layer under each gate."""
    layer, gates = metrics["layers"][0], metrics["gates"]
    shares = [name for name in ("recall", "precision", "top1") if any(name in told for told in metrics[key].values())]
    header = ("", "Gallery", "Queries", "Patients", *(f"{name}, %" for name in shares))
    header += tuple(f"{metric}, {gate}" for gate in gates for metric in ("mAP", "P@10"))

    def row(name: str, told: Mapping[str, Any]) -> tuple[str, ...]:
        known = [told.get(share) for share in shares]
        figures = [told["retrieval"][layer][gate][metric] for gate in gates for metric in ("mAP", "P@10")]
        counts = (told["n_gallery"], told["n_queries"], told["n_patients"])
        return (
            name,
            *map(str, counts),
            *("–" if value is None else per_cent(value) for value in known),
            *map(number, figures),
        )

    rows = tuple(row(name, told) for name, told in metrics[key].items())
    return Table(title, header, rows, f"Layer {layer}. Patients: of the queries.")


def apart_table(metrics: Mapping[str, Any]) -> Table:
    apart = metrics["apart"]
    name = f"{apart['column']} = {apart['value']}"
    parts = ((name, apart["apart"]), ("the rest", apart["rest"]), ("all queries", metrics))
    rows = tuple(
        (
            f"{layer}, gate {gate}, {who}",
            str(told["n_queries"]),
            with_interval(figures["mAP"], figures["mAP_ci95"]),
            with_interval(figures["mAP_macro"], figures["mAP_macro_ci95"]),
            number(figures["P@1"]),
            number(figures["P@10"]),
            per_cent(told["classification"]["top1"]) if told["classification"] else "–",
        )
        for layer, gates in metrics["retrieval"].items()
        for gate in gates
        for who, told in parts
        for figures in (told["retrieval"][layer][gate],)
    )
    header = ("Layer, gate, queries", "Queries", "mAP", "mAP_macro", "P@1", "P@10", "top1, %")
    return Table(f"Queries of {name} apart", header, rows, "The gallery is the whole one for both parts.")


# --- beside the paper ---


def _ours(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    n_gallery, n_queries = metrics["n_gallery"], metrics["n_queries"]
    counts = (str(n_gallery + n_queries), str(n_gallery), str(n_queries))
    return (*counts, ", ".join(metrics["modalities"]), str(metrics["n_classes"]))


def table_2(metrics: Mapping[str, Any]) -> Table:
    ours: tuple[tuple[str, ...], ...] = ()
    if metrics["classification"]:
        figures = [per_cent(metrics["classification"][name]) for name in ("macro_precision", "macro_recall", "F1")]
        ours = ((f"cbmir, encoder {metrics['encoder_name']}, this data set", *_ours(metrics), *figures),)
    header = (*METHOD, "AP, %", "AR, %", "F1, %")
    note = f"{OTHER_IMAGES} Training counts the gallery."
    return Table("Table 2. Classification, compared", header, PAPER_TABLE_2 + ours, note)


def table_3(metrics: Mapping[str, Any]) -> Table:
    ours = []
    for layer, gates in metrics["retrieval"].items():
        for name, reading in MAP_READINGS:
            values = [number(gates[gate][name]) if gate in gates else "" for gate in ("off", "hard")]
            who = f"cbmir, encoder {metrics['encoder_name']}, {layer}, this data set"
            ours.append((who, *_ours(metrics), *values, reading))
    header = (*METHOD, *MAP_COLUMNS)
    note = f"{OTHER_IMAGES} See 'How to read the mAP'."
    return Table("Table 3. Retrieval, compared", header, PAPER_TABLE_3 + tuple(ours), note)


# --- folds ---


def cross_validation_tables(summary: Mapping[str, Any]) -> tuple[Table, ...]:
    """Mean ± standard deviation over folds, from evaluate.cross_validation: classification, if any, and retrieval."""
    title = f"Cross-validation over {summary['n_folds']} folds"
    names = tuple(next(iter(next(iter(summary["retrieval"].values())).values())))
    rows = tuple(
        (f"{layer}, gate {gate}", *(mean_and_sd(figures[name]) for name in names))
        for layer, gates in summary["retrieval"].items()
        for gate, figures in gates.items()
    )
    retrieval = Table(f"{title}: retrieval", ("Layer and gate", *names), rows, OVER_FOLDS)
    if not summary["classification"]:
        return (retrieval,)
    shares = tuple((name, mean_and_sd(told, per_cent)) for name, told in summary["classification"].items())
    return Table(f"{title}: classification", ("Metric", "Mean ± sd, %"), shares, OVER_FOLDS), retrieval


def folds_table(summary: Mapping[str, Any]) -> Table:
    """Key figures of every fold; layers and gates are those of the first."""
    folds = summary["folds"]
    columns = [(layer, gate) for layer, gates in folds[0]["mAP"].items() for gate in gates]
    rows = tuple(
        (
            f"fold {fold['fold']}",
            str(fold["n_gallery"]),
            str(fold["n_queries"]),
            "–" if fold["top1"] is None else per_cent(fold["top1"]),
            *(number(fold["mAP"][layer][gate]) for layer, gate in columns),
        )
        for fold in folds
    )
    header = ("", "Gallery", "Queries", "top1, %", *(f"mAP, {layer}, {gate}" for layer, gate in columns))
    return Table("Every fold", header, rows, "The gallery of a fold is what its encoder was trained on.")


def table_2_of_folds(summary: Mapping[str, Any]) -> Table:
    """Classification beside the paper's Table 2."""
    ours: tuple[tuple[str, ...], ...] = ()
    if found := summary["classification"]:
        figures = [mean_and_sd(found[name], per_cent) for name in ("macro_precision", "macro_recall", "F1")]
        ours = (("cbmir, this data set", *figures),)
    paper = tuple((row[0], *row[-3:]) for row in PAPER_TABLE_2)
    return Table("Table 2. Classification, compared", ("Method", "AP, %", "AR, %", "F1, %"), paper + ours, OTHER_IMAGES)


def table_3_of_folds(summary: Mapping[str, Any]) -> Table:
    """Retrieval beside the paper's Table 3."""
    ours = tuple(
        (
            f"cbmir, {layer}, this data set",
            *(mean_and_sd(gates[gate][name]) if gate in gates else "" for gate in ("off", "hard")),
            reading,
        )
        for layer, gates in summary["retrieval"].items()
        for name, reading in MAP_READINGS
    )
    paper = tuple((row[0], *row[-3:]) for row in PAPER_TABLE_3)
    return Table("Table 3. Retrieval, compared", ("Method", *MAP_COLUMNS), paper + ours, OTHER_IMAGES)


def mean_and_sd(told: Mapping[str, float] | None, shown: Callable[[float], str] = number) -> str:
    return "–" if told is None else f"{shown(told['mean'])} ± {shown(told['sd'])}"
