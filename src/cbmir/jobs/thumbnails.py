"""Small pictures of a gallery's images: kept sealed (store/thumbnails.py), drawn when somebody first wants to see one.

A file that is read for one picture gives those of its other frames too, as far as they lie near: a volume would else be
decoded once for every slice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

from ..errors import BadGallery, BadImage, CbmirError
from ..store.thumbnails import Thumbnail, Thumbnails

if TYPE_CHECKING:  # what is drawn already needs no decoder
    from ..gallery import Gallery
    from ..privacy import Pseudonyms
    from ..types import DecodedImage, ImageRef, Record

Side = Literal[128, 256]

FRAMES_AT_ONCE = 64
"""Frames of one file that are drawn together: from the multiple of it on that the wanted frame lies in."""

_QUALITY, _EFFORT = 80, 2  # of WebP: at 2 of 6 a picture of 256 pixels takes 4 ms, and at 4 twice that for 3% less


@dataclass(frozen=True)
class Drawn:
    """A picture, WebP, of what has this id and these pixels (Record.pixel_digest)."""

    id: str
    pixels: str
    picture: bytes


Draw = Callable[..., Sequence[Drawn]]
"""Calls the function it is given first with the rest, in a worker; raises its CbmirError."""


def thumbnail(
    gallery: Gallery, kept: Thumbnails, pseudonyms: Pseudonyms, record_id: str, side: Side, draw: Draw
) -> bytes:
    """A picture of an image, WebP, of so many pixels on its longer side, as the file wants to be shown.

    Raises BadGallery for an unknown id, and when the file is gone or has changed since it was indexed.
    """
    gallery.check_pseudonyms(pseudonyms)
    record = gallery.record(record_id)
    sealed = kept.get(record.id, side, record.pixel_digest or "")
    if sealed is not None:
        with suppress(CbmirError):  # damaged: it is drawn again
            return pseudonyms.unseal_bytes(sealed, _about(record, side))
    drawn = _drawn(gallery, pseudonyms, record, side, draw)
    kept.put(
        [Thumbnail(r.id, side, r.pixel_digest or "", _sealed(pseudonyms, r, side, p)) for r, p in drawn], gallery.store
    )
    return next(picture for other, picture in drawn if other.id == record.id)


def _drawn(
    gallery: Gallery, pseudonyms: Pseudonyms, record: Record, side: Side, draw: Draw
) -> list[tuple[Record, bytes]]:
    """Of this image and those beside it in its file: of each that is still what was indexed."""
    ref = gallery.image_ref(record.id, pseudonyms)
    if ref is None:
        raise BadGallery(f"the file of image {record.id} is no longer there, and its picture is made from it")
    first = record.frame_index // FRAMES_AT_ONCE * FRAMES_AT_ONCE
    records = {
        other.id: other
        for other in gallery.store.of_same_file(record.id)
        if first <= other.frame_index < first + FRAMES_AT_ONCE
    }
    frames = [other.frame_index for other in records.values()]
    found = draw(
        draw_thumbnails, replace(ref, modality=record.modality), frames, side, gallery.encoder.masked, pseudonyms
    )
    same = [(records[one.id], one) for one in found if one.id in records]
    good = [(known, one.picture) for known, one in same if known.pixel_digest in (None, one.pixels)]
    if not any(known.id == record.id for known, _ in good):
        raise BadGallery(f"the file of image {record.id} has changed since it was indexed: index its folder again")
    return good


def _sealed(pseudonyms: Pseudonyms, record: Record, side: Side, picture: bytes) -> bytes:
    return pseudonyms.seal_bytes(picture, _about(record, side))


def _about(record: Record, side: Side) -> str:
    return f"thumbnail {record.id} {side} {record.pixel_digest}"


def draw_thumbnails(
    ref: ImageRef, frames: Sequence[int], side: Side, mask_burned_in: bool, pseudonyms: Pseudonyms
) -> list[Drawn]:
    """Reads a file and draws some of its frames (indices, from 0); for a worker. Those that cannot be had are left out.

    Raises BadImage when the file gives none.
    """
    from ..images.worker import pixel_digest
    from .frames import images_of

    wanted, last = set(frames), max(frames)
    drawn = []
    for image in images_of(ref, pseudonyms):
        if image.frame_index in wanted:
            picture = draw_thumbnail(image, side, mask_burned_in=mask_burned_in)
            drawn.append(Drawn(image.id, pixel_digest(image, pseudonyms), picture))
        if image.frame_index >= last:
            break
    if not drawn:
        raise BadImage("not_an_image", "The file holds no such image.")
    return drawn


def draw_thumbnail(image: DecodedImage, side: int, *, mask_burned_in: bool = False) -> bytes:
    """WebP, as display.render draws it, its pixels square, its longer side so long. mask_burned_in: black outside the
    regions of ultrasound.
    """
    from PIL import Image

    from ..display import render
    from ..preprocess import Preprocessing, masked
    from ..shrinking import shrunk

    image = shrunk(masked(image, Preprocessing(regions_only=mask_burned_in)))
    picture: Any = Image.fromarray(render(image))
    height, width = picture.height * max(1.0, image.pixel_aspect), picture.width * max(1.0, 1 / image.pixel_aspect)
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    buffer = BytesIO()
    picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0).save(
        buffer, "WEBP", quality=_QUALITY, method=_EFFORT
    )
    return buffer.getvalue()
