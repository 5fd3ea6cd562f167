"""Why a hit is similar, as `cbmir explain` tells it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from ...jobs import Asked, explain_hit
from ..answers import Reader, all_known, document, key_of
from ..audit import ids_only, note
from ..context import context_of
from ..models import ExplainRequest, ExplanationTold, rectangle

router = APIRouter(tags=["search"])


@router.post("/explain", response_model=ExplanationTold)
def explain(request: Request, caller: Reader, asked: ExplainRequest) -> JSONResponse:
    """Which places of two images carry their similarity: both are read from their files, and looked at again."""
    context = context_of(request)
    ids = [] if asked.id is None else [asked.id]
    note(request, ids=ids_only([*ids, asked.hit]), uploads=int(asked.upload is not None))
    upload = None if asked.upload is None else context.uploads.of(asked.upload.upload, caller.name)
    start = Asked(
        files=[] if upload is None else [upload.ref],
        ids=ids,
        frame_numbers=[] if asked.upload is None else [asked.upload.frame],
        region=rectangle(asked.region),
    )
    with context.desk.gallery() as gallery:
        all_known(gallery, [*ids, asked.hit])
        key_of(gallery)
        explanation = explain_hit(gallery, start, asked.hit, checked=asked.check, hands=context.workers.hands)
    return document(explanation.as_dict())
