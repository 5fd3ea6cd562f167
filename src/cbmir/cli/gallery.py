"""The verbs on a gallery and on single files."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import console
from ..errors import OUTCOMES, UsageError
from ..images.limits import TIMEOUT_S
from .options import (
    PathArgument,
    frame_option,
    gallery_option,
    is_given,
    json_option,
    precision_option,
    runtime_option,
    window_of,
    workers_option,
)

if TYPE_CHECKING:
    from ..index.ann import Kind

MOST_S = 86_400.0
MOST_MIB = 2**24


@click.command()
@click.argument("path", type=PathArgument)
@json_option
def info(path: Path, as_json: bool) -> None:
    """Say what a file, encoder or gallery is; default is the encoder that comes with cbmir."""
    from ..jobs import describe

    console.show(describe(path), as_json, console.pairs)


@click.command()
@click.argument("file", type=PathArgument)
@click.option("--out", type=PathArgument, required=True, help="The picture to write (.png), at full resolution.")
@frame_option
@click.option("--window", metavar="CENTER,WIDTH", help="Instead of the window of the file.")
@json_option
def render(file: Path, out: Path, frame: int | None, window: str | None, as_json: bool) -> None:
    """Draw an image as its file wants to be shown."""
    from ..jobs import render_file

    console.show(render_file(file, out, frame_number=frame, window=window_of(window)), as_json, console.pairs)


@click.command()
@click.argument("sources", type=PathArgument, nargs=-1, required=True)
@gallery_option
@click.option(
    "--encoder",
    "encoder_name",
    help="Directory, or the name default or pixels. [default: the gallery's; of a new one default]",
)
@click.option("--split", help="Only the rows of this split.")
@click.option("--strict", is_flag=True, help="Exit 1 when a file could not be read.")
@click.option(
    "--duplicates",
    type=click.Choice(["keep", "skip"]),
    default="keep",
    show_default=True,
    help="Whether an image whose pixels are in the gallery already becomes another one.",
)
@click.option("--mask-burned-in", is_flag=True, help="Black out what lies outside the regions of ultrasound pictures.")
@click.option("--readmit", is_flag=True, help="Let in again what `cbmir remove` has removed.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, MOST_S, min_open=True),
    default=TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="The longest time for one file.",
)
@click.option(
    "--memory", "memory_mib", type=click.IntRange(256, MOST_MIB), metavar="MIB", help="The most memory of one worker."
)
@runtime_option
@precision_option
@workers_option
@json_option
@click.pass_context
def index(
    context: click.Context, /, sources: Sequence[Path], directory: Path, strict: bool, as_json: bool, **options: Any
) -> None:
    """Bring a gallery up to date with files, folders, archives or manifests. Killed, it goes on where it was."""
    from ..jobs import IndexSettings, index_into

    _check_limits(context, options)
    encoder_name, split = options.pop("encoder_name"), options.pop("split")
    with console.progress("indexing") as tell:
        report = index_into(
            directory,
            sources,
            encoder_name=encoder_name,
            split=split,
            settings=IndexSettings(**options),
            on_progress=lambda done, total, outcomes: tell(done, total, console.not_decoded(outcomes)),
        )
    console.show(report.as_dict(), as_json, console.index_lines)
    if strict and report.unreadable:
        sys.exit(1)


def _check_limits(context: click.Context, options: Mapping[str, Any]) -> None:
    """Limits hold for workers; and no number is below or above nan."""
    if math.isnan(options["timeout_s"]):
        raise UsageError("--timeout is a number of seconds.")
    given = [name for name in ("timeout_s", "memory_mib") if is_given(context, name)]
    if options["workers"] == 0 and given:
        raise UsageError("--workers 0 decodes in this process, where --timeout and --memory limit nothing.")


@click.command()
@gallery_option
@click.argument("handles", nargs=-1, metavar="[HANDLE]...")
@click.option("--outcome", type=click.Choice(OUTCOMES), help="Only the files of this outcome.")
@json_option
def files(directory: Path, handles: Sequence[str], outcome: str | None, as_json: bool) -> None:
    """Say where the files of a gallery are: all, or those that a report names by HANDLE, or of images by their ids.

    The only verb that prints paths of a gallery's files, which may name patients. It needs the gallery's key.
    """
    from ..jobs import places

    console.show({"files": places(directory, handles, outcome)}, as_json, console.file_lines)


@click.command()
@gallery_option
@click.option("--layer", help="Features of which layer. [default: the encoder's first]")
@click.option(
    "--kind", type=click.Choice(["hnsw", "ivfpq"]), default="hnsw", show_default=True, help="ivfpq takes less memory."
)
@json_option
def accelerate(directory: Path, layer: str | None, kind: Kind, as_json: bool) -> None:
    """Make an approximate index of a very large gallery, for searches without a filter; it takes minutes."""
    from ..gallery import Gallery

    with Gallery.open(directory) as gallery:
        console.show(gallery.accelerate(layer, kind), as_json, console.pairs)
