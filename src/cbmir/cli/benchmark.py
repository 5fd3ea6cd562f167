"""The verb that measures many methods side by side."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .. import console
from ..types import PROTOCOLS
from .options import PathArgument, json_option, workers_option


@click.command()
@click.argument("source", type=PathArgument, metavar="MANIFEST")
@click.option("--out", type=PathArgument, required=True, help="Directory of tables, report and cache; go on there.")
@click.option(
    "--methods",
    required=True,
    metavar="NAME,...",
    help="encoder:default, pixels, bovw-sift, dcnn-fcl1, frozen:PATH, pixels+lda ...",
)
@click.option("--protocol", type=click.Choice(PROTOCOLS), default="split", show_default=True)
@click.option("--folds", "n_folds", type=click.IntRange(2), help="Of patients (else 5) or sources (else 3).")
@click.option("--relevant", help="A second label column that judges inside the class. [default: finding, if there]")
@click.option("--trec", is_flag=True, help="Write qrels and one run a method to OUT/trec.")
@click.option(
    "--trec-depth",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="Hits of each query in them; 0: whole rankings, which alone give the same mAP.",
)
@click.option("--seed", type=int, default=24, show_default=True)
@workers_option
@json_option
def benchmark(source: Path, out: Path, as_json: bool, methods: str, workers: int | None, **options: Any) -> None:
    """Measure methods side by side: one data set, one protocol, all metrics, intervals and tests.

    Exit 1 when a method could not be measured; the others are in the report. Started again, it goes on.
    """
    from ..benchmark import Settings, run_benchmark, write_table
    from ..privacy import load_pseudonyms
    from ..report.benchmark import write_benchmark_report
    from ..sources import labelled

    names = tuple(name.strip() for name in methods.split(",") if name.strip())
    settings = Settings(names, **options | {"trec_depth": options["trec_depth"] or None})
    refs = labelled(source)
    out.mkdir(parents=True, exist_ok=True)
    with console.progress("benchmark") as tell:
        told = run_benchmark(refs, out, settings, load_pseudonyms(), workers=workers, tell=tell)
    write_table(told, out)
    report = write_benchmark_report(told, out)
    console.show(told, as_json, lambda found: [*lines(found), f"wrote {report}"])
    if told["failed"]:
        sys.exit(1)


def lines(told: Mapping[str, Any]) -> list[str]:
    """The key figures of benchmark.json."""
    rows = [
        [
            method["title"],
            method["distance"],
            *(console.figure(method["retrieval"]["off"][name]) for name in ("mAP", "mAP_macro", "P@1", "P@10")),
            console.figure(method["retrieval"]["hard"]["mAP"] if "hard" in method["retrieval"] else None),
            console.figure(method["classification"]["top1"] if method["classification"] else None),
        ]
        for method in told["methods"]
    ]
    head = (
        f"protocol {told['protocol']['name']}: {told['n_queries']} queries, {told['n_gallery']} images in the gallery"
    )
    found = [head, *console.table(["method", "distance", "mAP", "macro", "P@1", "P@10", "hard mAP", "top1"], rows)]
    found += told["protocol"]["notes"]
    return found + [f"failed: {bad['method']}: {bad['reason']}" for bad in told["failed"]]
