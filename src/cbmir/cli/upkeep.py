"""The verbs that keep a gallery in order: remove, reindex, verify, backup, restore, export."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from .. import console
from ..errors import UsageError
from ..images.limits import TIMEOUT_S
from ..store import Unit
from .options import (
    PathArgument,
    gallery_option,
    is_given,
    json_option,
    precision_option,
    runtime_option,
    workers_option,
)

WHATS: tuple[Unit, ...] = ("id", "series", "study", "patient")


@click.command()
@gallery_option
@click.option("--id", "ids", multiple=True, metavar="ID", help="An image.")
@click.option("--series", "series", multiple=True, metavar="SERIES", help="All images of a series,")
@click.option("--study", "studies", multiple=True, metavar="STUDY", help="of a study,")
@click.option("--patient", "patients", multiple=True, metavar="PATIENT", help="or of a patient.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
def remove(
    directory: Path,
    ids: Sequence[str],
    series: Sequence[str],
    studies: Sequence[str],
    patients: Sequence[str],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove images for good, and prove it: every byte of every file of the gallery is searched for what they were.

    A series, study or patient is named by its pseudonym, as search prints it, or by its UID or PatientID; - reads
    values from standard input, one a line, so that they stand in no list of processes. Later runs of `index` leave the
    images out, until `index --readmit`. Exit 1 when a value names nothing (then nothing is removed) or anything is
    found. Backups and exports are other files: this does not reach them.
    """
    from ..jobs.upkeep import remove_images

    given = {what: values for what, values in zip(WHATS, (ids, series, studies, patients), strict=True) if values}
    if len(given) != 1:
        raise UsageError("Give --id, --series, --study or --patient: one of them, as often as needed.")
    [(what, values)] = given.items()
    with console.progress("searching every byte") as tell:
        found = remove_images(directory, what, _read(values), dry_run=dry_run, on_progress=tell)
    console.show(found, as_json, _removal_lines)
    if not dry_run and found["proof"]["found"]:
        sys.exit(1)


def _read(values: Sequence[str]) -> list[str]:
    """The values, those of standard input in the place of a -."""
    typed = [line.strip() for line in sys.stdin if line.strip()] if "-" in values else []
    if "-" in values and not typed:
        raise UsageError("There was nothing on standard input.")
    return [value for value in values if value != "-"] + typed


@click.command()
@gallery_option
@click.option("--encoder", "encoder_name", help="Directory or name of the encoder to go over to.")
@click.option("--drop-missing", is_flag=True, help="Remove the images that cannot be encoded again, and swap.")
@click.option("--status", "steps", flag_value="status", multiple=True, help="Say which encoders the gallery has.")
@click.option(
    "--back", "steps", flag_value="back", multiple=True, help="Make the encoder before the current one again."
)
@click.option(
    "--forget-old", "steps", flag_value="forget", multiple=True, help="Forget the encoder before and its features."
)
@click.option(
    "--cancel",
    "steps",
    flag_value="cancel",
    multiple=True,
    help="Give up a change that is under way, and its features.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, 86_400.0, min_open=True),
    default=TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="The longest time for one file.",
)
@runtime_option
@precision_option
@workers_option
@json_option
def reindex(
    directory: Path,
    encoder_name: str | None,
    drop_missing: bool,
    steps: Sequence[Literal["status", "back", "forget", "cancel"]],
    as_json: bool,
    **options: Any,
) -> None:
    """Take a gallery over to another encoder, while it is searched and added to. Killed, it goes on where it was.

    Every image is encoded again from its file. When all are, the gallery changes over in one step, and keeps the
    features of the encoder before until --forget-old. Exit 1, and no change, when images lack features: they are
    listed.
    """
    from ..jobs import IndexSettings
    from ..jobs.upkeep import change_encoder, encoder_status, reindex_images

    if len(steps) != (encoder_name is None):
        raise UsageError("Give --encoder, or one of --status, --back, --forget-old and --cancel.")
    if drop_missing and encoder_name is None:
        raise UsageError("--drop-missing goes with --encoder.")
    if steps:
        [step] = steps
        told = encoder_status(directory) if step == "status" else change_encoder(directory, step)
        console.show(told, as_json, lambda found: list(_encoder_lines(found)))
        return
    assert encoder_name is not None
    with console.progress("encoding") as tell:
        report = reindex_images(
            directory, encoder_name, settings=IndexSettings(**options), drop_missing=drop_missing, on_progress=tell
        )
    console.show(report.as_dict(), as_json, lambda found: list(_reindex_lines(found)))
    if not report.swapped:
        sys.exit(1)


@click.command()
@gallery_option
@click.option("--repair", is_flag=True, help="Make matrices again; drop damaged images, which the next index brings.")
@json_option
def verify(directory: Path, repair: bool, as_json: bool) -> None:
    """Compare files, records, features and search matrices of a gallery. Exit 1 when something is wrong."""
    from ..gallery import Gallery
    from ..gallery.upkeep import repair as mend

    with Gallery.open(directory) as gallery:
        if repair:
            with gallery.writing():
                found = mend(gallery.store)
        else:
            found = gallery.verify()
    console.show(found, as_json, _verify_lines)
    if not found["ok"]:
        sys.exit(1)


@click.command()
@gallery_option
@click.option("--to", type=PathArgument, required=True, help="The file to write, outside the gallery.")
@json_option
def backup(directory: Path, to: Path, as_json: bool) -> None:
    """Write the gallery into one file, while it is in use. Run reports are not in it, nor is the pseudonym key."""
    from ..gallery import Gallery
    from ..upkeep import backup as write_backup

    with Gallery.open(directory) as gallery:
        console.show(write_backup(gallery, to), as_json, console.pairs)


@click.command()
@click.option("--from", "file", type=PathArgument, required=True, help="A file that `cbmir backup` wrote.")
@click.option("--gallery", "directory", type=PathArgument, required=True, help="A new folder.")
@json_option
def restore(file: Path, directory: Path, as_json: bool) -> None:
    """Make a gallery of a backup, and verify it. Remove again whoever was removed since the backup was made."""
    from ..upkeep import restore as make_gallery

    console.show(make_gallery(file, directory), as_json, console.pairs)


@click.command()
@click.option("--gallery", "directory", type=PathArgument, help="What a gallery holds,")
@click.option("--encoder", "encoder_name", help="or an encoder, by directory or name.")
@click.option("--to", type=PathArgument, required=True, help="A .npz, .parquet, .csv, .trec or .onnx file.")
@click.option("--layer", help="Features of which layer. [default: the encoder's first; in a .csv none]")
@click.option("-k", type=click.IntRange(1), default=100, show_default=True, help="Hits of each image in a .trec run.")
@json_option
@click.pass_context
def export(
    context: click.Context,
    /,
    directory: Path | None,
    encoder_name: str | None,
    to: Path,
    layer: str | None,
    k: int,
    as_json: bool,
) -> None:
    """Write records and features (.npz, .parquet), records (.csv), or how each image finds the others (.trec).

    Or an encoder as one ONNX file: network, class names and preprocessing recipe.
    """
    from ..gallery import Gallery
    from ..interchange import export_onnx
    from ..upkeep import export as write_export

    if (directory is None) == (encoder_name is None):
        raise UsageError("Give --gallery or --encoder.")
    if encoder_name is not None:
        if is_given(context, "layer") or is_given(context, "k"):
            raise UsageError("--layer and -k have no meaning beside --encoder.")
        console.show(export_onnx(encoder_name, to), as_json, console.pairs)
        return
    assert directory is not None
    with Gallery.open(directory) as gallery, console.progress("exporting") as tell:
        told = write_export(gallery, to, layer=layer, k=k, on_progress=tell)
    console.show(told, as_json, console.pairs)


def _removal_lines(told: Mapping[str, Any]) -> list[str]:
    if "ids" in told:
        counts = ", ".join(f"{what} {n}" for what, n in told["would_remove"].items())
        return [f"would remove: {counts}", *told["ids"]]
    removed, proof = told["removed"], told["proof"]
    lines = [f"removed {removed['records']} images, {removed['files']} files, {removed['reports']} run reports"]
    if removed["before"]:
        lines.append(f"{removed['before']} of those named had been removed before")
    lines.append(
        f"searched {proof['files']} files, {proof['bytes']} bytes, for {_counted(proof['looked_for']) or 'nothing'}"
    )
    if proof["shared"]:
        lines.append(f"images that stay have some of it too: {_counted(proof['shared'])}")
    found = [f"FOUND in {one['file']}: {one['sequences']} {one['what']}" for one in proof["found"]]
    return [*lines, *(found or ["nothing was found"])]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {what}" for what, n in counts.items())


def _encoder_lines(told: Mapping[str, Any]) -> Iterator[str]:
    for state, card in told.items():
        if card is not None:
            yield f"{state}: {card['name']} ({card['fingerprint']}, {card['precision']}), {card['path']}"
    if told["next"]:
        yield f"{told['next']['lacking']} of {told['next']['records']} images lack features of the next encoder"


MOST_LISTED = 20


def _reindex_lines(report: Mapping[str, Any]) -> Iterator[str]:
    yield f"{report['encoded']} of {report['records']} images encoded in {report['seconds']:.1f} s"
    if report["dropped"]:
        yield f"{report['dropped']} images removed that could not be encoded again"
    lacking = report["lacking"]
    for one in lacking[:MOST_LISTED]:
        yield f"  {one['id']} of {one['handle']}: {one['why']}" + (f": {one['reason']}" if one["reason"] else "")
    if len(lacking) > MOST_LISTED:
        yield f"  and {len(lacking) - MOST_LISTED} more, all in --json"
    if report["swapped"]:
        yield f"the gallery is under encoder {report['encoder']} now; the one before is kept until --forget-old"
        yield from console.atlas_lines(report["atlas"])
    else:
        yield (
            f"NOT changed: {len(lacking)} images lack features. Bring their files back, run `cbmir index` where they "
            "have changed, and start again; or remove these images with --drop-missing"
        )


def _verify_lines(found: Mapping[str, Any]) -> list[str]:
    lines = found["problems"] or [f"{found['records']} records, nothing wrong"]
    if repaired := found.get("repaired"):
        dropped, due = len(repaired["dropped"]), repaired["files_due"]
        lines = [f"repaired: matrices made again, {dropped} damaged images dropped", *lines]
        if due:
            lines.append(f"{due} files bring their images back at the next `cbmir index` of their sources")
    return lines
