"""The search, as `cbmir search` does it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from ...gallery import Gallery, Query
from ...jobs import Asked, search_images
from ...types import Ranking
from ...where import parse
from ..answers import Reader, all_known, document, key_of, too_many
from ..audit import ids_only, note
from ..context import Context, context_of
from ..models import SearchRequest, SearchTold, rectangle
from ..problems import Problem, unknown
from ..security import Caller

router = APIRouter(tags=["search"])


@router.post("/search", response_model=SearchTold)
def search(request: Request, caller: Reader, asked: SearchRequest) -> JSONResponse:
    """The images most like some images of the gallery, uploaded ones, or a series."""
    return document(told_of(*found(request, caller, asked)))


def found(request: Request, caller: Caller, asked: SearchRequest) -> tuple[Ranking, int | None]:
    """The ranking, and the frame of the upload where it is the only image. The audit log is told of it."""
    context = context_of(request)
    note(
        request,
        ids=ids_only([*asked.ids, *([asked.series] if asked.series else [])]),
        uploads=len(asked.uploads),
        k=asked.k,
        gate=asked.gate,
    )
    if asked.k > context.settings.limits.k:
        raise too_many(asked.k, context.settings.limits.k)
    if not (asked.ids or asked.uploads or asked.series):
        raise Problem(422, "Nothing to search by", "Give ids, uploads or a series.")
    query = _query(asked)
    uploads = [context.uploads.of(one.upload, caller.name) for one in asked.uploads]  # held until the search is done
    start = Asked(
        files=[upload.ref for upload in uploads],
        ids=asked.ids,
        series=asked.series,
        frame_numbers=() if asked.all_frames else [one.frame for one in asked.uploads],
        every_frame=asked.all_frames,
        region=rectangle(asked.region),
    )
    return _searched(context, start, query)


def _searched(context: Context, start: Asked, query: Query) -> tuple[Ranking, int | None]:
    with context.desk.gallery() as gallery:
        _check(gallery, start, query)
        if start.files or start.region:
            key_of(gallery)
        return search_images(gallery, start, query, context.workers.hands)


def _check(gallery: Gallery, start: Asked, query: Query) -> None:
    all_known(gallery, [*start.ids, *query.feedback.like, *query.feedback.unlike])
    if start.series is not None and not gallery.store.ids_of("series", [start.series]):
        unknown("series of this name in the gallery")


def _query(asked: SearchRequest) -> Query:
    return Query(
        k=asked.k,
        offset=asked.offset,
        layer=asked.layer,
        gate=asked.gate,
        hide=asked.hide,
        where=parse(asked.where) if asked.where and asked.where.strip() else None,
        feedback=asked.feedback(),
        combine=asked.combine,
        order=asked.order,
        rerank=asked.rerank,
        group_by=asked.group_by,
        rank_series=asked.rank_series,
        exact=asked.exact,
    )


def told_of(ranking: Ranking, frame_number: int | None) -> dict[str, Any]:
    """The document of the command line, and of each hit what names its picture."""
    told = ranking.as_dict(frame_number)
    for hit, line in zip(ranking, told["hits"], strict=True):
        line |= {"digest": hit.record.pixel_digest, "frame": hit.record.frame_index + 1}
    return told
