"""The gallery without a query: its images one after the other, and how many have each value of each column."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from ...where import Where, parse
from ..answers import Reader
from ..context import context_of
from ..models import Facets, Filter, RecordsTold, record_told

router = APIRouter(tags=["gallery"])
Filtered = Annotated[Filter | None, Query(description="In the language of `--where`; all images without.")]


@router.get("/records")
def records(
    request: Request,
    _: Reader,
    where: Filtered = None,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> RecordsTold:
    """Images that pass a filter, in the order of their classes."""
    passing = _where(where)
    with context_of(request).desk.gallery() as gallery:
        total, found = gallery.browse(passing, offset, limit)
    return RecordsTold(total=total, records=[record_told(record) for record in found])


@router.get("/facets")
def facets(
    request: Request,
    _: Reader,
    where: Filtered = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Values of a column, the most frequent.")] = 100,
) -> Facets:
    """How many of the images that pass have each value of each column; "" counts those of which nothing is told."""
    passing = _where(where)
    with context_of(request).desk.gallery() as gallery:
        counts = gallery.facets(passing)
    return Facets(
        n=sum(counts["class"].values()),
        facets={name: dict(list(values.items())[:limit]) for name, values in counts.items()},
        more={name: len(values) - limit for name, values in counts.items() if len(values) > limit},
    )


def _where(text: str | None) -> Where | None:
    """Raises UsageError for what is no filter."""
    return parse(text) if text else None
