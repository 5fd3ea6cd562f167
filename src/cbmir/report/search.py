"""The page on a gallery that has no labels to measure by: what was indexed, and some searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import page
from .tables import Table


def search_page(about: Mapping[str, Any], indexed: Mapping[str, Any], strips: Sequence[tuple[str, Path]]) -> str:
    """about: Gallery.info; indexed: an IndexReport as a dict; strips: (a line on the ranking, its picture) each."""
    sections = [
        ("searches", "Searches", _searches(strips)),
        ("index", "What was indexed", _indexed(about, indexed)),
    ]
    return page.page("Searches in a gallery", _intro(about), sections)


def _intro(about: Mapping[str, Any]) -> str:
    encoder = about["encoder"]
    told = (
        f"Encoder {encoder['name']}, fingerprint {encoder['fingerprint']}. Nothing is labelled, so nothing is measured."
    )
    values = [("images in the gallery", str(about["records"])), ("patients known", str(about["patients"]))]
    return page.paragraphs([told]) + page.tiles(values)


def _searches(strips: Sequence[tuple[str, Path]]) -> str:
    told = "Each query is an image of the gallery; images of its own patient are hidden. The number under a hit is its "
    shown = "".join(page.image(picture, f"A query and its hits: {line}", line) for line, picture in strips)
    return page.paragraphs([told + "rank, the other its distance."]) + shown if shown else ""


def _indexed(about: Mapping[str, Any], indexed: Mapping[str, Any]) -> str:
    outcomes = [(name.replace("_", " "), str(count)) for name, count in indexed["outcomes"].items() if count]
    changes = [(name, str(indexed[name])) for name in ("added", "unchanged", "vanished", "duplicates")]
    modalities = [(name or "not stated", str(count)) for name, count in about["by_modality"].items()]
    tables = (
        Table("Files of this run by outcome", ("Outcome", "Files"), tuple(outcomes)),
        Table("Images of this run", ("Change", "Number"), tuple(changes)),
        Table("Images of the gallery by modality", ("Modality", "Images"), tuple(modalities)),
    )
    return "".join(table.html() for table in tables)
