"""Files to search by, for whoever brought them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Query, Request, Response, UploadFile

from ...jobs.frames import Shown, shown
from ...jobs.thumbnails import draw_thumbnails
from ...privacy import Pseudonyms
from ..answers import OCTETS, WEBP, Reader, etag_of, frame_response, kept, key_of, unchanged
from ..context import Context, context_of
from ..models import FrameNumber, UploadName, UploadTold
from ..uploads import Upload
from .pictures import SIDES, Size

router = APIRouter(tags=["uploads"])


@router.post("/uploads", status_code=201)
def take(request: Request, caller: Reader, file: Annotated[UploadFile, File()]) -> UploadTold:
    """Takes a file: DICOM, a picture, a volume. It is held for half an hour, for this caller only; its name is not
    looked at.
    """
    upload = context_of(request).uploads.take(file.file, caller.name, _pseudonyms(context_of(request)))
    return _told(upload)


@router.get("/uploads/{name}")
def tell(request: Request, caller: Reader, name: UploadName) -> UploadTold:
    """What is in it, and how long it is still held."""
    return _told(context_of(request).uploads.of(name, caller.name))


@router.delete("/uploads/{name}", status_code=204)
def forget(request: Request, caller: Reader, name: UploadName) -> None:
    """Lets go of it at once."""
    context_of(request).uploads.forget(name, caller.name)


@router.get("/uploads/{name}/frames/{number}", response_class=Response, responses=OCTETS)
def frame(request: Request, caller: Reader, name: UploadName, number: FrameNumber) -> Response:
    """The pixels of a frame, as those of an image of the gallery."""
    context = context_of(request)
    upload = context.uploads.of(name, caller.name)
    etag = etag_of(upload.name, number)
    if (same := unchanged(request, etag)) is not None:
        return same
    found: Shown = context.workers.read(shown, (upload.ref, number), _masks(context), _pseudonyms(context))
    return frame_response(found, upload.looked.n_frames, etag)


@router.get("/uploads/{name}/thumbnail", response_class=Response, responses=WEBP)
def small(
    request: Request,
    caller: Reader,
    name: UploadName,
    frame: Annotated[FrameNumber | None, Query()] = None,
    size: Size = "256",
) -> Response:
    """A small picture of a frame, by default of the one that is meant."""
    context = context_of(request)
    upload = context.uploads.of(name, caller.name)
    number = upload.looked.frame_number if frame is None else frame
    etag = etag_of(upload.name, number, size)
    if (same := unchanged(request, etag)) is not None:
        return same
    [drawn] = context.workers.read(
        draw_thumbnails, upload.ref, [number - 1], SIDES[size], _masks(context), _pseudonyms(context)
    )
    return Response(drawn.picture, headers=kept(etag), media_type="image/webp")


def _told(upload: Upload) -> UploadTold:
    looked = upload.looked
    return UploadTold(
        upload=upload.name,
        frames=looked.n_frames,
        first=looked.frame_number,
        rows=looked.rows,
        columns=looked.columns,
        modality=looked.modality,
        expires_in_s=upload.expires_in_s,
    )


def _masks(context: Context) -> bool:
    with context.desk.gallery() as gallery:
        return gallery.encoder.masked


def _pseudonyms(context: Context) -> Pseudonyms:
    """Those of the gallery: an upload that is in it has its id."""
    with context.desk.gallery() as gallery:
        return key_of(gallery)
