"""The tables of a benchmark, from the document benchmark.json: every method, every group, tests, the paper's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .tables import PAPER_TABLE_2, PAPER_TABLE_3, Table, mean_and_sd, number, per_cent, with_interval

PAPER_METHODS = {
    "The paper: DCNN trained on whole images": ("dcnn-fcl1", "dcnn-fcl2", "dcnn-fcl3"),
    "Two stage DCNN trained on local image patches [43]": ("mil-patch",),
    "Local binary patterns, support vector machine and autoencoder [48]": ("lbp-svm-ae",),
    "Full range autoregressive model and binary tree based SVM [49]": ("frar-abtsvm",),
}
"""A row of the paper's Tables 2 and 3 -> our own versions of its method."""

NOT_RUN = "not run here"


def benchmark_tables(told: Mapping[str, Any]) -> dict[str, Table]:
    """By name: methods, table_2, table_3, and of the others those that there is something to tell in."""
    tables = {"methods": methods_table(told)}
    if told["tests"]:
        tables["tests"] = tests_table(told)
    if told["gallery_size"]:
        tables["gallery_size"] = sizes_table(told["gallery_size"])
    tables |= {"table_2": table_2(told), "table_3": table_3(told)}
    titles = {"per_class": "Every class", "per_modality": "Every modality", "per_source": "Every source"}
    tables |= {key: groups_table(told, key, title) for key, title in titles.items() if told["methods"][0][key]}
    if told["methods"][0]["folds"]:
        tables["folds"] = folds_table(told)
    if told["protocol"]["excluded"]:
        tables["excluded"] = excluded_table(told)
    if told["failed"]:
        rows = tuple((bad["method"], bad["reason"]) for bad in told["failed"])
        tables["failed"] = Table("Methods that could not be measured", ("Method", "Why"), rows)
    return tables


def methods_table(told: Mapping[str, Any]) -> Table:
    """One row a method and layer, the best mAP first."""
    finer = told["finer"]
    header = (
        "Method", "Distance", "mAP [95 %]", "Macro mAP", "P@1", "P@10", "mAP, hard gate", "top1, %",
        *([f"mAP, {finer}"] if finer else []), "dim", "Fit, s", "ms per query image", "Bytes per image",
    )  # fmt: skip
    note = (
        "In brackets: 95 % interval over patients. No gate where nothing else is said; the hard gate searches only the "
        "predicted class. Time is of this machine, from prepared pixels."
    )
    ranked = sorted(told["methods"], key=lambda method: -(method["retrieval"]["off"]["mAP"] or 0.0))
    rows = tuple(_method_row(method, bool(finer)) for method in ranked)
    return Table(f"Every method, protocol {told['protocol']['name']}", header, rows, note)


def _method_row(method: Mapping[str, Any], with_finer: bool) -> tuple[str, ...]:
    off, hard = method["retrieval"]["off"], method["retrieval"].get("hard")
    classes = method["classification"]
    return (
        method["title"],
        method["distance"],
        with_interval(off["mAP"], off["mAP_ci95"]),
        number(off["mAP_macro"]),
        number(off["P@1"]),
        number(off["P@10"]),
        number(hard["mAP"]) if hard else "–",
        per_cent(classes["top1"]) if classes else "–",
        *([number(method["finer"]["off"]["mAP"])] if with_finer else []),
        str(method["dim"]),
        f"{method['seconds_to_fit']:.1f}",
        f"{method['ms_per_query']:.2f}",
        str(method["bytes_per_image"]),
    )


def tests_table(told: Mapping[str, Any]) -> Table:
    """The best method against every other."""
    rows = tuple(
        (
            pair["second"],
            with_interval(pair["difference"], pair["interval95"]),
            number(pair["p"], 4),
            number(pair["p_holm"], 4),
            str(pair["n_queries"]),
            str(pair["n_patients"]),
        )
        for pair in told["tests"]
    )
    header = ("Against", "Difference of mAP [95 %]", "p", "p, Holm", "Queries", "Patients")
    note = "Paired randomisation test over patients; Holm's correction over the rows."
    return Table(f"Is {told['best']} better?", header, rows, note)


def sizes_table(curve: Mapping[str, Any]) -> Table:
    """The best method in random parts of the gallery."""
    rows = tuple(
        (
            f"{size['n_gallery']:.0f}",
            f"{size['n_patients']:.0f}",
            *(mean_and_sd(size[name]) for name in ("mAP", "P@1", "P@10")),
            f"{size['n_queries_without_relevant']:.0f}",
        )
        for size in curve["sizes"]
    )
    header = ("Images in the gallery", "Patients", "mAP", "P@1", "P@10", "Queries with nothing to find")
    note = f"The same queries in {curve['draws']} random parts of each size, by whole patients: mean ± sd over parts."
    return Table(f"{curve['method']} in smaller galleries", header, rows, note)


def groups_table(told: Mapping[str, Any], key: str, title: str) -> Table:
    """mAP without gate of every method, group by group. key: per_class, per_modality or per_source."""
    methods = told["methods"]
    header = ("", "Gallery", "Queries", "Patients", *(method["title"] for method in methods))

    def row(name: str, first: Mapping[str, Any]) -> tuple[str, ...]:
        counts = (first["n_gallery"], first["n_queries"], first["n_patients"])
        values = [method[key][name]["retrieval"]["off"]["mAP"] for method in methods]
        return (name, *map(str, counts), *map(number, values))

    rows = tuple(row(name, first) for name, first in methods[0][key].items())
    return Table(title, header, rows, "mAP without gate. Patients: of the queries.")


def folds_table(told: Mapping[str, Any]) -> Table:
    methods = told["methods"]
    header = ("", "Gallery", "Queries", *(method["title"] for method in methods))
    rows = tuple(
        (
            fold["fold"],
            str(fold["n_gallery"]),
            str(fold["n_queries"]),
            *(number(method["folds"][place]["mAP"]["off"]) for method in methods),
        )
        for place, fold in enumerate(methods[0]["folds"])
    )
    return Table("Every fold", header, rows, "mAP without gate. The other tables pool the queries of all folds.")


def excluded_table(told: Mapping[str, Any]) -> Table:
    rows = tuple(
        (cell["class"] or "(none)", cell["modality"] or "(none)", str(cell["n_images"]), cell["reason"])
        for cell in told["protocol"]["excluded"]
    )
    return Table("Left out", ("Class", "Modality", "Images", "Why"), rows)


# --- beside the paper ---


def table_2(told: Mapping[str, Any]) -> Table:
    """The paper's rows, each with what our own version of that method reaches here."""
    header = ("Method", "AP, %", "AR, %", "F1, %", "Same data, same split: AP, AR, F1, %")
    rows = tuple((row[0], *row[-3:], _classified(told, row[0])) for row in PAPER_TABLE_2)
    return Table("Table 2. Classification, compared", header, rows, _note(told))


def _classified(told: Mapping[str, Any], name: str) -> str:
    found = [method for method in _own(told, name) if method["classification"]]
    if not found:
        return NOT_RUN
    values = found[0]["classification"]
    return ", ".join(per_cent(values[key]) for key in ("macro_precision", "macro_recall", "F1"))


def table_3(told: Mapping[str, Any]) -> Table:
    header = (
        "Method", "mAP as printed, without class prediction", "with class prediction", "Definition",
        "Same data, same split: mAP without", "with class prediction",
    )  # fmt: skip
    rows = tuple(row for printed in PAPER_TABLE_3 for row in _rows_of_table_3(told, printed))
    return Table("Table 3. Retrieval, compared", header, rows, _note(told))


def _rows_of_table_3(told: Mapping[str, Any], printed: Sequence[str]) -> list[tuple[str, ...]]:
    """One row for each layer or version of ours; the paper's figures only in the first."""
    found = _own(told, printed[0])
    if not found:
        return [(printed[0], *printed[-3:], NOT_RUN, "")]
    rows = []
    for place, method in enumerate(found):
        gates = method["retrieval"]
        ours = [with_interval(gates[g]["mAP"], gates[g]["mAP_ci95"]) if g in gates else "–" for g in ("off", "hard")]
        paper = printed[-3:] if place == 0 else ("", "", "")
        name = printed[0] if len(found) == 1 else f"{printed[0]}, {method['layer']}"
        rows.append((name, *paper, *ours))
    return rows


def _own(told: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [method for method in told["methods"] if method["method"] in PAPER_METHODS[name]]


def _note(told: Mapping[str, Any]) -> str:
    return (
        "Printed figures were each measured on other images. The last columns are our own versions, all on these "
        f"{told['n_images']} images under the protocol {told['protocol']['name']}, standard mAP."
    )
