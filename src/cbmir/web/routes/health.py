"""Whether the server lives, whether it can answer, and its numbers."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from ...errors import CbmirError
from ...gallery import Gallery
from ..context import context_of
from ..problems import RESPONSES, Problem
from ..security import Caller, allow

router = APIRouter(responses=RESPONSES)


class Health(BaseModel):
    status: Literal["ok"] = "ok"


@router.get("/healthz")
async def lives() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz")
def ready(request: Request) -> Health:
    """The gallery can be read, and the server has not been told to end."""
    context = context_of(request)
    if context.stopping.is_set():
        raise Problem(503, "Stopping", "The server is about to end.")
    try:
        with Gallery.open(context.settings.gallery) as gallery:
            _ = gallery.count
    except CbmirError:
        raise Problem(503, "Not ready", "The gallery cannot be read; `cbmir verify` says why.") from None
    return Health()


@router.get("/metrics", response_class=Response)
def metrics(request: Request, _: Annotated[Caller, Depends(allow("reader"))]) -> Response:
    """For Prometheus."""
    return Response(context_of(request).monitoring.text(), media_type=CONTENT_TYPE_LATEST)
