"""A search by files, and its strip of pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadGallery, BadImage, CbmirError, Outcome, UsageError
from ..gallery import Gallery, NewImage, Query
from ..images.worker import Decoded, decode_one
from ..types import Feedback, ImageRef, Ranking, Record, Rectangle
from .frames import chosen_frame, prepared
from .hands import OWN, Hands
from .single import query_ref

if TYPE_CHECKING:
    from ..extract import Extracted
    from ..privacy import Pseudonyms

USUAL_QUERY = Query()
"""Everything as it usually is."""


@dataclass(frozen=True)
class Asked:
    """What a search starts from, for one who has files.

    files, ids, series: images from outside, images of the gallery, the images of one of its series.
    frame_number: of every file, from 1; None for the first readable one, of a volume for the middle axial slice.
    frame_numbers: of each file its own, instead.
    every_frame: all images of the files. region: only this part of the pictures, in pixels as `render` draws them;
    images of the gallery are then read from their files again.
    encoder_name: where the gallery's encoder is now, if it has moved.
    """

    files: Sequence[Path | ImageRef] = ()
    ids: Sequence[str] = ()
    series: str | None = None
    frame_number: int | None = None
    frame_numbers: Sequence[int | None] = ()
    every_frame: bool = False
    region: Rectangle | None = None
    encoder_name: str | None = None

    def __post_init__(self) -> None:
        if self.every_frame and self.frame_number is not None:
            raise UsageError("Either one frame is asked for, or every frame.")
        if (self.every_frame or self.frame_number is not None) and not self.files:
            raise UsageError("Frames are those of a FILE, and none is given; an image of the gallery is one frame.")
        if self.region is not None and (self.series is not None or self.every_frame):
            raise UsageError("A region is of one picture, not of a series.")

    @property
    def numbers(self) -> Sequence[int | None]:
        """One a file."""
        return self.frame_numbers or [self.frame_number] * len(self.files)


def search_images(
    gallery: Gallery, asked: Asked, query: Query = USUAL_QUERY, hands: Hands = OWN
) -> tuple[Ranking, int | None]:
    """Images of the gallery like those asked by, and the frame number (from 1) of the file where it is only one.

    query: all but the images. Raises CbmirError when a file gives no image, UsageError for a frame that is not there,
    BadGallery where a region is wanted of an image whose file is gone.
    """
    query = replace(query, ids=asked.ids, series=asked.series)
    if not (asked.files or (asked.ids and asked.region)):
        return gallery.search(query), None
    images, frame_numbers = _new_images(gallery, asked, gallery.layer_named(query.layer), hands)
    ranking = gallery.search(replace(query, ids=() if asked.region else asked.ids, images=images))
    return ranking, frame_numbers[0] if len(frame_numbers) == 1 else None


def _new_images(gallery: Gallery, asked: Asked, layer: str, hands: Hands) -> tuple[list[NewImage], list[int]]:
    from ..extract import encode_all
    from ..privacy import load_pseudonyms

    files = [(query_ref(file), number) for file, number in zip(asked.files, asked.numbers, strict=True)]
    pseudonyms = load_pseudonyms(make=False)
    gallery.check_pseudonyms(pseudonyms)
    encoder = hands.encoder_of(gallery, asked.encoder_name)
    stored = [stored_ref(gallery, gallery.record(name), pseudonyms) for name in (asked.ids if asked.region else ())]
    wanted = [(replace(ref, region=asked.region), number) for ref, number in (*stored, *files)]
    if asked.every_frame:
        found = hands.apart(decode_one, [ref for ref, _ in wanted], encoder.preprocessing, pseudonyms)
    else:
        found = prepared(wanted, encoder.preprocessing, pseudonyms, hands.apart)
    every = list(encode_all([_told(one) for one in found], encoder))
    rows = [(extracted, row) for extracted in every for row in range(len(extracted.records))]
    frame_numbers = [extracted.records[row].frame_index + 1 for extracted, row in rows]
    return [new_image(extracted, row, layer) for extracted, row in rows], frame_numbers


def _told(found: Decoded | CbmirError) -> Decoded:
    if isinstance(found, BadImage):
        raise no_image(found.outcome, found.reason)
    if isinstance(found, CbmirError):
        raise found
    if not found.images:
        raise no_image(found.outcome, found.reason)
    return found


def no_image(outcome: Outcome, reason: str | None) -> CbmirError:
    """What is told of a query that is none."""
    return CbmirError(f"The file gives no image ({outcome}): {reason}")


def stored_ref(gallery: Gallery, record: Record, pseudonyms: Pseudonyms) -> tuple[ImageRef, int]:
    """The file of an image and its frame number, as it was indexed: where a manifest has said the modality, the record
    alone still knows it. Raises BadGallery when the file is gone.
    """
    ref = gallery.image_ref(record.id, pseudonyms)
    if ref is None:
        raise BadGallery(f"the file of image {record.id} is no longer there, and is needed for this")
    return replace(ref, modality=record.modality), record.frame_index + 1


def new_image(extracted: Extracted, frame: int, layer: str) -> NewImage:
    """One row of what came out of a file."""
    posterior = None if extracted.posterior is None else extracted.posterior[frame]
    return NewImage(extracted.features[layer][frame], posterior, extracted.records[frame])


def frame_of_file(extracted: Extracted, frame_number: int | None = None) -> int:
    """Row of the wanted frame, counted from 1 as DICOM does. Raises CbmirError where the file gives no image."""
    if not extracted.records:
        raise no_image(extracted.decoded.outcome, extracted.decoded.reason)
    readable = [(record.frame_index, record.attributes.get("plane")) for record in extracted.records]
    index = chosen_frame(readable, extracted.records[0].provenance.get("format"), frame_number)
    return [frame_index for frame_index, _ in readable].index(index)


def read_feedback(path: Path) -> Feedback:
    """The judgements of an earlier search: its JSON, or only the part named feedback. Raises UsageError."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        told = told.get("feedback", told)
        return Feedback(*(_texts(told.get(key, [])) for key in ("like", "unlike")))
    except OSError as error:
        raise UsageError(f"--feedback {path}: {error.strerror}.") from None
    except (ValueError, AttributeError, RecursionError):
        raise UsageError(f"--feedback {path} is no JSON of an earlier search.") from None


def _texts(told: Any) -> tuple[str, ...]:
    if not (isinstance(told, list) and all(isinstance(name, str) for name in told)):
        raise ValueError("ids are a list of texts")
    return tuple(told)


def check_strip(path: Path) -> None:
    """Raises UsageError, before any work is done, for a path that draw_strip could not write."""
    from ..figures import check_picture

    check_picture(path)


def draw_strip(
    gallery: Gallery, ranking: Ranking, file: Path | ImageRef | None, frame_number: int | None, out: Path
) -> None:
    """Draw the query and its hits, left to right, into a picture; hits of another class are framed in red.

    file: the query's file, None where an image of the gallery comes first; of several images the first is drawn, and of
    it the whole. out: its suffix chooses the
    format, .png or .svg. The class is the query's label where the gallery knows it, else its predicted class. A hit
    whose file is gone is drawn blank.
    """
    import numpy as np

    from ..evaluate.examples import THUMBNAIL, frame_of, thumbnails
    from ..figures import Tile, ranking_row, save_as, strip_figure
    from ..privacy import load_pseudonyms

    pseudonyms = load_pseudonyms(make=False)
    own = gallery.records(ranking.query_ids[:1]).get(ranking.query_ids[0]) if ranking.query_ids else None
    predicted = ranking.predicted[0][0] if ranking.predicted else None
    expected = (own.group if own else None) or predicted
    frames: dict[str, tuple[ImageRef | None, int]] = {
        hit.id: (gallery.image_ref(hit.id, pseudonyms), hit.record.frame_index) for hit in ranking
    }
    if file is not None:
        frames[""] = query_ref(file), (frame_number or 1) - 1
    elif own:
        frames[""] = gallery.image_ref(own.id, pseudonyms), own.frame_index
    there = {name: (ref, index) for name, (ref, index) in frames.items() if ref is not None}
    pictures = thumbnails(there.values(), pseudonyms, mask_burned_in=gallery.encoder.masked, workers=2)
    shown = {name: pictures[key] for name, frame in there.items() if (key := frame_of(*frame)) in pictures}
    blank = np.full((THUMBNAIL.crop, THUMBNAIL.crop), 235, np.uint8)
    query = Tile(shown.get("", blank), expected or "")
    save_as(strip_figure(query, [ranking_row(ranking, shown, expected)]), out)
