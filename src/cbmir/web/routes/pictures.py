"""Pictures of images of the gallery: small ones, and frames with all of their values."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from ...errors import BadGallery
from ...jobs.frames import Shown, shown
from ...jobs.searching import stored_ref
from ...jobs.thumbnails import Side, thumbnail
from ..answers import OCTETS, WEBP, Reader, etag_of, frame_response, kept, key_of, known, unchanged
from ..context import context_of
from ..models import Id

router = APIRouter(tags=["pictures"])
Size = Annotated[Literal["128", "256"], Query(description="Pixels of the longer side.")]
Version = Annotated[str | None, Query(max_length=64, description="Its digest: another picture, another address.")]
SIDES: dict[str, Side] = {"128": 128, "256": 256}


@router.get("/records/{record_id}/thumbnail", response_class=Response, responses=WEBP)
def small(request: Request, _: Reader, record_id: Id, size: Size = "256", v: Version = None) -> Response:
    """A small picture, as the file wants to be shown."""
    context = context_of(request)
    with context.workers.turn(), context.desk.gallery() as gallery:
        record = known(gallery, record_id)
        etag = etag_of(record.id, record.pixel_digest, size)
        if (same := unchanged(request, etag)) is not None:
            return same
        pseudonyms = key_of(gallery)
        picture = thumbnail(gallery, context.thumbnails, pseudonyms, record.id, SIDES[size], context.workers.read)
    return Response(picture, headers=kept(etag), media_type="image/webp")


@router.get("/records/{record_id}/frame", response_class=Response, responses=OCTETS)
def frame(request: Request, _: Reader, record_id: Id, v: Version = None) -> Response:
    """The pixels of an image, for a viewer: octets, and the header X-Frame that says how to draw them."""
    context = context_of(request)
    with context.desk.gallery() as gallery:
        record = known(gallery, record_id)
        etag = etag_of(record.id, record.pixel_digest)
        if (same := unchanged(request, etag)) is not None:
            return same
        pseudonyms = key_of(gallery)
        wanted = stored_ref(gallery, record, pseudonyms)
        masked, n_frames = gallery.encoder.masked, len(gallery.store.of_same_file(record.id))
    found: Shown = context.workers.read(shown, wanted, masked, pseudonyms)
    if found.id != record.id or record.pixel_digest not in (None, found.pixel_digest):
        raise BadGallery(f"the file of image {record.id} has changed since it was indexed: index its folder again")
    return frame_response(found, n_frames, etag)
