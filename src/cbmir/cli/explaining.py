"""The verb that says why a hit is similar."""

from __future__ import annotations

from pathlib import Path

import click

from .. import console
from .options import PathArgument, frame_option, gallery_option, json_option
from .searching import region_of


@click.command()
@click.argument("file", type=PathArgument, required=False)
@click.option("--id", "record_id", metavar="ID", help="Explain for an image of the gallery instead of FILE.")
@gallery_option
@click.option("--hit", metavar="ID", help="The image it is like. [default: the first hit of a search]")
@click.option("--out", type=PathArgument, required=True, help="The picture to draw (.png or .svg).")
@click.option("--check", "checked", is_flag=True, help="Also compare the maps with random ones; takes seconds.")
@click.option("--roi", metavar="X,Y,W,H", help="Only this region of the query, in pixels as `render` draws them.")
@frame_option
@click.option("--encoder", "encoder_name", help="Where the gallery's encoder is now, if it has moved.")
@json_option
def explain(
    file: Path | None,
    record_id: str | None,
    directory: Path,
    hit: str | None,
    out: Path,
    checked: bool,
    roi: str | None,
    frame: int | None,
    encoder_name: str | None,
    as_json: bool,
) -> None:
    """Draw which regions of FILE (or --id) and of a hit carry their similarity. Both are read from their files."""
    from ..gallery import Gallery
    from ..jobs import Asked, check_strip, draw_explanation, explain_hit

    check_strip(out)
    asked = Asked(
        files=[] if file is None else [file],
        ids=[] if record_id is None else [record_id],
        frame_number=frame,
        region=region_of(roi),
        encoder_name=encoder_name,
    )
    with Gallery.open(directory) as gallery:
        explanation = explain_hit(gallery, asked, hit, checked=checked)
    draw_explanation(explanation, out)
    console.show(explanation.as_dict() | {"picture": str(out)}, as_json, console.explanation_lines)
