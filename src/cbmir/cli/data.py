"""The verbs that bring data sets here: drawn from public collections, or out of a MedMNIST file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import console
from ..errors import UsageError
from .options import PathArgument, json_option, workers_option

if TYPE_CHECKING:
    from ..dataset.fetch import FetchReport, Plan
    from ..dataset.medmnist import UnpackReport


@click.command("fetch")
@click.argument("recipe")
@click.option("--out", type=PathArgument, help="A new folder, or one to go on with. Needed without --dry-run.")
@click.option("--knee", type=PathArgument, help="Your folder of knee images; as --folder Knee=DIR.")
@click.option("--eye", type=PathArgument, help="Your folder of eye images (Messidor); as --folder Eye=DIR.")
@click.option("--folder", "folders", multiple=True, metavar="CLASS=DIR", help="Images of a class; may be repeated.")
@click.option("--seed", type=int, default=24, show_default=True)
@click.option("--commercial", is_flag=True, help="Only series whose licence allows commercial use.")
@click.option("--dry-run", is_flag=True, help="Show what would be drawn and how much is downloaded. Needs no network.")
@workers_option
@json_option
def fetch(recipe: str, out: Path | None, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Draw a data set from NCI Imaging Data Commons. RECIPE: paper24, or a YAML file. Run again, it goes on.

    Exit 1 when series did not arrive; they are in missing.csv.
    """
    from ..dataset.fetch import load_index, make_plan, read_recipe, run_plan
    from ..privacy import load_pseudonyms

    if out is None and not dry_run:
        raise UsageError("Give --out DIR, or --dry-run.")
    wanted = read_recipe(recipe)
    index, version = load_index(wanted.collections)
    plan = make_plan(wanted, index, options["seed"], commercial=options["commercial"])
    if dry_run or out is None:
        console.show({**plan.as_dict(), "idc_index": version}, as_json, lambda _: plan_lines(plan, version))
        return
    click.echo(_sizes(plan), err=True)
    with console.progress("fetching series") as tell:
        report = run_plan(
            plan,
            out,
            load_pseudonyms(),
            index_version=version,
            places=_places(options["folders"], {"Knee": options["knee"], "Eye": options["eye"]}),
            workers=options["workers"],
            on_progress=tell,
        )
    console.show(report.as_dict(), as_json, lambda _: list(fetch_lines(report)))
    if report.missing:
        sys.exit(1)


@click.command("unpack")
@click.argument("file", type=PathArgument)
@click.option("--out", type=PathArgument, required=True, help="A new folder, for one PNG an image and manifest.csv.")
@json_option
def unpack(file: Path, out: Path, as_json: bool) -> None:
    """Make a data set of a MedMNIST FILE (.npz): one PNG an image and a manifest, its own split kept."""
    from ..dataset.medmnist import to_folder

    with console.progress("unpacking") as tell:
        report = to_folder(file, out, on_progress=tell)
    console.show(report.as_dict(), as_json, lambda _: list(unpack_lines(report)))


def _places(folders: Sequence[str], named: Mapping[str, Path | None]) -> dict[str, Path]:
    places = {name: path for name, path in named.items() if path is not None}
    for text in folders:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise UsageError("--folder is CLASS=DIR.")
        if name in places:
            raise UsageError(f"The folder for {name} is given twice.")
        places[name] = Path(path)
    return places


def _sizes(plan: Plan) -> str:
    images, series = sum(draw.take for draw in plan.draws), len(plan.draws)
    return (
        f"{images} images of {series} series: downloads {plan.mb / 1e3:.1f} GB, keeps about {plan.kept_mb / 1e3:.1f} GB"
    )


def plan_lines(plan: Plan, version: str) -> list[str]:
    """The table of --dry-run: one row a class, what falls short, the sum."""
    rows = [
        [
            total.label,
            f"{total.images}{f' ({total.short} short)' if total.short else ''}",
            str(total.patients),
            str(total.series),
            f"{total.mb / 1e3:.2f}",
            f"{total.sides.get('train', 0)}/{total.sides.get('test', 0)}",
            " ".join(f"{name} {n}" for name, n in total.modalities.items()),
            ", ".join(total.collections),
        ]
        for total in plan.totals()
    ]
    header = ["class", "images", "patients", "series", "GB", "train/test", "modality", "collections"]
    needed = [f"{kind.name}: from your folder; {kind.folder.how}" for kind in plan.folders if kind.folder]
    return [*console.table(header, rows), *needed, f"{_sizes(plan)}; IDC index {version}, seed {plan.seed}"]


def fetch_lines(report: FetchReport) -> Iterator[str]:
    yield from console.dataset_lines(report.counts)
    for name, how in report.absent.items():
        yield f"without {name}: {how}"
    if report.damaged:
        yield f"{report.damaged} images had changed since they were fetched, and were fetched again"
    if report.short:
        yield f"{report.short} series have fewer pictures than the recipe takes: see missing.csv"
    if report.missing:
        yield f"{len(report.missing)} series did not arrive whole (missing.csv): run the same command again"
    yield f"wrote {report.manifest}"


def unpack_lines(report: UnpackReport) -> Iterator[str]:
    yield from console.dataset_lines(report.counts)
    if not report.known_classes:
        yield "no official MedMNIST set has this name: the classes are called by their numbers"
    yield "MedMNIST does not tell patients: each image counts as its own, and the official split is taken on trust"
    yield f"wrote {report.manifest}"
