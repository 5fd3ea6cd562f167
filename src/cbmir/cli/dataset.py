"""The verbs on collections with labels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from .. import console
from .data import fetch, unpack
from .options import PathArgument, json_option, workers_option


@click.group()
def dataset() -> None:
    """Make a patient-wise split, check one for leakage, fetch or unpack public data.

    For research collections: split and check name files on stdout.
    """


dataset.add_command(fetch)
dataset.add_command(unpack)


@dataset.command("split")
@click.argument("source", type=PathArgument)
@click.option("--out", type=PathArgument, required=True, help="The manifest to write, in the images' folder.")
@click.option("--test", "test_fraction", type=float, default=0.3, show_default=True, help="Part of the test side.")
@click.option("--folds", type=int, default=0, help="Also number so many folds inside the train side.")
@click.option("--group", type=click.Choice(["patient", "source"]), default="patient", show_default=True)
@click.option("--seed", type=int, default=24, show_default=True)
@click.option("--overwrite", is_flag=True)
@workers_option
@json_option
def dataset_split(source: Path, out: Path, test_fraction: float, as_json: bool, **options: Any) -> None:
    """Split labelled images patient by patient, the same share of each class. SOURCE: manifest or folder of classes."""
    from ..dataset import make_split
    from ..privacy import load_pseudonyms
    from ..sources import labelled

    with console.progress("reading patients") as tell:
        report = make_split(
            labelled(source),
            out,
            load_pseudonyms(),
            test_fraction=test_fraction,
            n_folds=options["folds"],
            group=options["group"],
            seed=options["seed"],
            overwrite=options["overwrite"],
            workers=options["workers"],
            on_progress=tell,
        )
    console.show(report.as_dict(), as_json, lambda _: [*console.dataset_lines(report.counts), f"wrote {out}"])


@dataset.command("check")
@click.argument("source", type=PathArgument)
@workers_option
@json_option
def dataset_check(source: Path, workers: int | None, as_json: bool) -> None:
    """Count a data set and look for patients and pictures on both sides. Exit 1 on leakage."""
    from ..dataset import check
    from ..privacy import load_pseudonyms
    from ..sources import labelled

    with console.progress("comparing") as tell:
        report = check(labelled(source), load_pseudonyms(), workers=workers, on_progress=tell)
    lines = [*console.dataset_lines(report.counts), *console.check_lines(report)]
    console.show(report.as_dict(), as_json, lambda _: lines)
    if report.leaking:
        sys.exit(1)
