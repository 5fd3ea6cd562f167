"""The table of a benchmark as CSV, for a spreadsheet: one row a method and layer, numbers unrounded."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import write_text
from ..tables import harmless

Cell = str | int | float | None


def write_table(told: Mapping[str, Any], out: Path) -> Path:
    """Write out/table.csv from the document benchmark.json; returns its path."""
    rows = [csv_row(method, told["finer"]) for method in told["methods"]]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: harmless(cell) for name, cell in row.items()} for row in rows)
    write_text(out / "table.csv", stream.getvalue())
    return out / "table.csv"


def csv_row(method: Mapping[str, Any], finer: str | None) -> dict[str, Cell]:
    """The columns of the table; docs/benchmark.md says what each means."""
    off, hard = method["retrieval"]["off"], method["retrieval"].get("hard", {})
    low, high = off["mAP_ci95"] or (None, None)
    found: dict[str, Cell] = {
        "method": method["method"],
        "layer": method["layer"],
        "distance": method["distance"],
        "mAP": off["mAP"],
        "mAP_low": low,
        "mAP_high": high,
        "mAP_macro": off["mAP_macro"],
        "P@1": off["P@1"],
        "P@10": off["P@10"],
        "mAP_hard_gate": hard.get("mAP"),
        "top1": method["classification"]["top1"] if method["classification"] else None,
    }
    if finer:
        found[f"mAP_{finer}"] = method["finer"]["off"]["mAP"]
    return found | {
        "dim": method["dim"],
        "bytes_per_image": method["bytes_per_image"],
        "seconds_to_fit": method["seconds_to_fit"],
        "ms_per_query_image": method["ms_per_query"],
    }
