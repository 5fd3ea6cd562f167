"""What several routes do alike: who asks, unknown ids, what is kept by browsers, frames of images as octets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from starlette.responses import JSONResponse

from ..errors import CbmirError
from ..gallery import Gallery
from ..jobs.frames import Shown
from ..privacy import Pseudonyms, load_pseudonyms
from ..types import Record
from .logs import LOG
from .models import FrameHeader
from .problems import Problem, unknown
from .security import Caller, allow

Reader = Annotated[Caller, Depends(allow("reader"))]
FOR_GOOD = "private, max-age=31536000, immutable"
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "As it was: the ETag is the same."}}
OCTETS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The pixels; the header X-Frame says how to draw them.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            "X-Frame": {
                "description": FrameHeader.__doc__,
                "required": True,
                "content": {"application/json": {"schema": FrameHeader.model_json_schema()}},
            }
        },
    },
    **NOT_MODIFIED,
}
WEBP: dict[int | str, dict[str, Any]] = {
    200: {"description": "A small picture.", "content": {"image/webp": {"schema": {"type": "string"}}}},
    **NOT_MODIFIED,
}


def known(gallery: Gallery, record_id: str) -> Record:
    """Raises Problem for an id that the gallery does not have."""
    record = gallery.store.record(record_id)
    if record is None:
        unknown("image of this id in the gallery")
    return record


def all_known(gallery: Gallery, ids: Sequence[str]) -> None:
    if missing := set(ids) - gallery.records(list(dict.fromkeys(ids))).keys():
        unknown(f"image {min(missing)} in the gallery")


def key_of(gallery: Gallery) -> Pseudonyms:
    """Raises Problem where the server does not hold the key of the gallery: without it no file is found."""
    try:
        pseudonyms = load_pseudonyms(make=False)
        gallery.check_pseudonyms(pseudonyms)
    except CbmirError as error:
        LOG.warning("the key of the gallery is not at hand", exc_info=error)
        raise Problem(
            409,
            "No key",
            "The server does not hold the key of the gallery, without which it can read no file; tell whoever runs it.",
        ) from None
    return pseudonyms


def etag_of(*parts: object) -> str:
    return f'"{"-".join(map(str, parts))}"'


def unchanged(request: Request, etag: str) -> Response | None:
    """What a browser that has it already is told."""
    given = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return Response(status_code=304, headers=kept(etag)) if etag in given else None


def kept(etag: str) -> dict[str, str]:
    return {"ETag": etag, "Cache-Control": FOR_GOOD}


def frame_response(shown: Shown, n_frames: int, etag: str) -> Response:
    """n_frames: of the file."""
    wire = shown.wire
    header = FrameHeader(
        rows=wire.rows,
        columns=wire.columns,
        channels=wire.channels,
        dtype=wire.dtype,
        slope=wire.slope,
        intercept=wire.intercept,
        error=wire.error,
        unit=None if wire.voi_lut else shown.unit,
        padding=wire.padding,
        monochrome1=shown.monochrome1,
        pixel_aspect=shown.pixel_aspect,
        pixel_spacing_mm=shown.pixel_spacing_mm,
        windows=[(*window, None) for window in wire.windows],
        window=wire.window,
        voi_lut=wire.voi_lut,
        rule=wire.rule,
        frame=shown.frame_number,
        frames=n_frames,
        modality=shown.modality,
    )
    line = json.dumps(header.model_dump(), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Response(wire.octets, headers={**kept(etag), "X-Frame": line}, media_type="application/octet-stream")


def document(told: dict[str, Any]) -> JSONResponse:
    """As the command line tells it. Made and described elsewhere, so that it is not checked again for every caller."""
    return JSONResponse(told)


def too_many(k: int, most: int) -> Problem:
    return Problem(
        422, "Too many hits", f"At most {most} hits are told at once, not {k}; ask for the next ones with offset."
    )
