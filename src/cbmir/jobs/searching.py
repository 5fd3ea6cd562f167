"""A search by a file, and its strip of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CbmirError, UsageError
from ..gallery import Gallery
from ..types import Gate, Hide, ImageRef, Ranking
from .frames import chosen_frame
from .indexing import encoder_of
from .single import query_ref

if TYPE_CHECKING:
    from ..extract import Extracted


def search_frame(
    gallery: Gallery,
    file: Path | ImageRef,
    *,
    k: int = 10,
    layer: str | None = None,
    gate: Gate = "off",
    hide: Hide = "patient",
    frame_number: int | None = None,
    encoder_name: str | None = None,
) -> tuple[Ranking, int]:
    """Images of the gallery like one frame of a file, and its number (from 1).

    frame_number: None for the first readable frame, of a volume for the middle of the readable axial slices.
    Raises CbmirError when the file gives no image, UsageError for a frame that is not there.
    """
    from ..extract import extract
    from ..privacy import load_pseudonyms

    if k < 1:
        raise UsageError("k must be at least 1.")
    layer = gallery.layer_named(layer)
    ref = query_ref(file)
    pseudonyms = load_pseudonyms(make=False)
    gallery.check_pseudonyms(pseudonyms)
    [extracted] = extract([ref], encoder_of(gallery, encoder_name), pseudonyms, workers=1)
    frame = _frame_of(extracted, frame_number)
    ranking = gallery.search_features(
        extracted.features[layer][frame],
        None if extracted.posterior is None else extracted.posterior[frame],
        k,
        layer=layer,
        gate=gate,
        hide=hide,
        query=extracted.records[frame],
    )
    return ranking, extracted.records[frame].frame_index + 1


def _frame_of(extracted: Extracted, frame_number: int | None) -> int:
    """Row of the wanted frame, counted from 1 as DICOM does."""
    if not extracted.records:
        raise CbmirError(f"The file gives no image ({extracted.decoded.outcome}): {extracted.decoded.reason}")
    readable = [(record.frame_index, record.attributes.get("plane")) for record in extracted.records]
    index = chosen_frame(readable, extracted.records[0].provenance.get("format"), frame_number)
    return [frame_index for frame_index, _ in readable].index(index)


def check_strip(path: Path) -> None:
    """Raises UsageError, before any work is done, for a path that draw_strip could not write."""
    from ..figures import check_picture

    check_picture(path)


def draw_strip(gallery: Gallery, ranking: Ranking, file: Path | ImageRef | None, frame_number: int, out: Path) -> None:
    """Draw the query and its hits, left to right, into a picture; hits of another class are framed in red.

    file: the query's file, None for a query by id. out: its suffix chooses the format, .png or .svg. The class is the
    query's label where the gallery knows it, else its predicted class. A hit whose file is gone is drawn blank.
    """
    import numpy as np

    from ..evaluate.examples import THUMBNAIL, frame_of, thumbnails
    from ..figures import Tile, ranking_row, save_as, strip_figure
    from ..privacy import load_pseudonyms

    pseudonyms = load_pseudonyms(make=False)
    own = gallery.records([ranking.query_id]).get(ranking.query_id) if ranking.query_id else None
    predicted = ranking.predicted[0][0] if ranking.predicted else None
    expected = (own.group if own else None) or predicted
    frames: dict[str, tuple[ImageRef | None, int]] = {
        hit.id: (gallery.image_ref(hit.id, pseudonyms), hit.record.frame_index) for hit in ranking
    }
    if file is not None:
        frames[""] = query_ref(file), frame_number - 1
    elif own:
        frames[""] = gallery.image_ref(own.id, pseudonyms), own.frame_index
    there = {name: (ref, index) for name, (ref, index) in frames.items() if ref is not None}
    pictures = thumbnails(there.values(), pseudonyms, mask_burned_in=gallery.encoder.masked, workers=2)
    shown = {name: pictures[key] for name, frame in there.items() if (key := frame_of(*frame)) in pictures}
    blank = np.full((THUMBNAIL.crop, THUMBNAIL.crop), 235, np.uint8)
    query = Tile(shown.get("", blank), expected or "")
    save_as(strip_figure(query, [ranking_row(ranking, shown, expected)]), out)
