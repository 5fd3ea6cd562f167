"""The verb that asks a gallery."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .. import console
from ..errors import UsageError
from ..types import COMBINES, GATES, HIDES, ORDERS, OWNERS, RERANKS, SERIES_RULES, Feedback, Rectangle
from .options import PathArgument, frame_option, gallery_option, json_option, workers_option

_ONE_SEARCH = {
    "ids": "--id", "series": "--series", "like": "--like", "unlike": "--unlike", "feedback": "--feedback",
    "frame": "--frame", "all_frames": "--all-frames", "strip": "--strip",
}  # fmt: skip
"""Options that mean nothing where every file is a query of its own."""


@click.command()
@click.argument("files", type=PathArgument, nargs=-1)
@click.option("--id", "ids", multiple=True, metavar="ID", help="Search with an image of the gallery; may be repeated.")
@click.option("--series", metavar="SERIES", help="Search with the images of a series of the gallery, for series.")
@gallery_option
@click.option("-k", type=int, default=10, show_default=True, help="How many hits.")
@click.option("--offset", type=int, default=0, show_default=True, help="Leave out so many first hits: the next page.")
@click.option(
    "--where", "wheres", multiple=True, metavar="FILTER", help="Only these images, e.g. 'modality=CT and age_band<60'."
)
@click.option("--gate", type=click.Choice(GATES), default="off", show_default=True, help="Use of the predicted class.")
@click.option("--layer", help="Features of which layer. [default: the encoder's first]")
@click.option("--exact", is_flag=True, help="Without the approximate index, where `cbmir accelerate` has made one.")
@click.option(
    "--hide-same",
    "hide",
    type=click.Choice(HIDES),
    default="patient",
    show_default=True,
    help="Leave out what is of the same patient, study or series as the query.",
)
@click.option("--order", type=click.Choice(ORDERS), default="most", show_default=True, help="Most or least similar.")
@click.option(
    "--rerank",
    type=click.Choice(RERANKS),
    default="none",
    show_default=True,
    help="Better rankings from the gallery itself: alpha query expansion, or k-reciprocal neighbours.",
)
@click.option("--group-by", type=click.Choice(OWNERS), help="Only the first hit of each patient, study or series.")
@click.option(
    "--combine",
    type=click.Choice(COMBINES),
    default="centroid",
    show_default=True,
    help="Several query images: their mean, or whichever is nearest.",
)
@click.option("--like", multiple=True, metavar="ID", help="More like this hit; may be repeated.")
@click.option("--unlike", multiple=True, metavar="ID", help="Less like this hit; may be repeated.")
@click.option("--feedback", type=PathArgument, help="Go on from the judgements in the JSON of an earlier search.")
@click.option("--roi", metavar="X,Y,W,H", help="Search with this region only, in pixels as `render` draws them.")
@frame_option
@click.option("--all-frames", is_flag=True, help="Search with all images of FILE, for series.")
@click.option(
    "--series-by",
    type=click.Choice([*SERIES_RULES, "none"]),
    help="Rank series by mean distance or votes. [default: mean with --series or --all-frames, else none: images]",
)
@click.option("--out", type=PathArgument, help="Every file of FILES is a query; write all hits here (.csv, .parquet).")
@click.option("--with-paths", is_flag=True, help="With --out: also write where files are, which may name patients.")
@click.option("--encoder", "encoder_name", help="Where the gallery's encoder is now, if it has moved.")
@click.option("--strip", type=PathArgument, help="Also draw query and hits into this picture (.png or .svg).")
@workers_option
@json_option
def search(files: Sequence[Path], directory: Path, as_json: bool, **options: Any) -> None:
    """Find the images most like FILES, or like images of the gallery (--id, --series).

    With --out, FILES may be folders, archives and manifests, and every file in them is a query of its own.
    """
    from ..gallery import Gallery, Query
    from ..jobs import Asked, check_strip, draw_strip, search_images

    if options["out"] is not None:
        _search_each(files, directory, as_json, options)
        return
    if not (files or options["ids"] or options["series"]):
        raise UsageError("Give a FILE, --id or --series.")
    if options["with_paths"] or options["workers"] is not None:
        raise UsageError("--with-paths and --workers are for --out.")
    if any(file.is_dir() for file in files):
        raise UsageError("That is a folder, not an image; with --out every file in it is a query.")
    if options["strip"]:
        check_strip(options["strip"])
    asked = Asked(
        files=files,
        ids=options["ids"],
        series=options["series"],
        frame_number=options["frame"],
        every_frame=options["all_frames"],
        region=region_of(options["roi"]),
        encoder_name=options["encoder_name"],
    )
    usual = "mean" if options["series"] or options["all_frames"] else None
    rule = {None: usual, "none": None}.get(options["series_by"], options["series_by"])
    query = Query(**_query(options), feedback=_feedback(options), rank_series=rule)
    with Gallery.open(directory) as gallery:
        ranking, frame_number = search_images(gallery, asked, query)
        console.show(ranking.as_dict(frame_number), as_json, console.ranking_lines)
        if options["strip"]:
            first = None if options["ids"] or options["series"] else files[0]
            draw_strip(gallery, ranking, first, frame_number, options["strip"])


def _search_each(files: Sequence[Path], directory: Path, as_json: bool, options: dict[str, Any]) -> None:
    from ..gallery import Gallery, Query
    from ..jobs import search_folder
    from ..tables import check_table

    if not files:
        raise UsageError("--out wants FILES or folders to search by.")
    if alone := [option for name, option in _ONE_SEARCH.items() if options[name]]:
        raise UsageError(f"{alone[0]} is for one search, and with --out every file is one.")
    check_table(options["out"])
    rule = None if options["series_by"] == "none" else options["series_by"]
    with Gallery.open(directory) as gallery, console.progress("searching") as tell:
        report = search_folder(
            gallery,
            files,
            options["out"],
            Query(**_query(options), rank_series=rule),
            region=region_of(options["roi"]),
            with_paths=options["with_paths"],
            encoder_name=options["encoder_name"],
            workers=options["workers"],
            on_progress=tell,
        )
    console.show(report, as_json, console.batch_lines)
    if not report["queries"]:
        sys.exit(1)


def _query(options: dict[str, Any]) -> dict[str, Any]:
    """What stands in a query by the same name, and the filter."""
    from ..where import parse

    names = ("k", "offset", "layer", "gate", "hide", "combine", "order", "rerank", "group_by", "exact")
    return {name: options[name] for name in names} | {"where": parse(*options["wheres"]) if options["wheres"] else None}


def _feedback(options: dict[str, Any]) -> Feedback:
    from ..jobs import read_feedback

    if both := set(options["like"]) & set(options["unlike"]):
        raise UsageError(f"Image {min(both)} is liked and unliked.")
    earlier = read_feedback(options["feedback"]) if options["feedback"] else Feedback()
    return earlier.then(Feedback(options["like"], options["unlike"]))


def region_of(text: str | None) -> Rectangle | None:
    """X,Y,W,H as left, top, right, bottom. Raises UsageError."""
    if text is None:
        return None
    try:
        left, top, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--roi is X,Y,W,H, four whole numbers, not {text}") from None
    if min(left, top) < 0 or min(width, height) < 1:
        raise UsageError(f"--roi begins inside the picture and is at least one pixel wide and high, not {text}")
    return left, top, left + width, top + height
