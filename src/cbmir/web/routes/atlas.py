"""The map of the gallery: what of it lies in a part of the plane, evenly thinned."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

from fastapi import APIRouter, Query, Request

from ...atlas import NO_LIBRARY
from ...atlas.points import Box, Points
from ...types import Int
from ..answers import Reader
from ..context import context_of
from ..models import AtlasPoints, AtlasTold
from ..problems import Problem

router = APIRouter(tags=["gallery"])
Coordinate = Annotated[float | None, Query(allow_inf_nan=False, ge=-1e6, le=1e6)]


@router.get("/atlas")
def atlas(
    request: Request,
    _: Reader,
    x0: Coordinate = None,
    y0: Coordinate = None,
    x1: Coordinate = None,
    y1: Coordinate = None,
    limit: Annotated[int, Query(ge=1, le=50_000)] = 5000,
) -> AtlasTold:
    """Images as points, alike ones close to each other: of a part of the map, or of all of it."""
    box = _box(x0, y0, x1, y1)
    desk = context_of(request).desk
    with desk.gallery() as gallery:
        points = desk.atlas(gallery)
    if points is None:
        raise Problem(404, "No map", _why_none())
    n, rows = points.within(box, limit)
    return AtlasTold(
        n=n,
        shown=len(rows),
        bounds=points.bounds,
        classes=list(points.classes),
        same_class=points.atlas.same_class,
        points=AtlasPoints(
            id=points.ids(rows),
            x=_rounded(points, rows, 0),
            y=_rounded(points, rows, 1),
            **{"class": points.groups[rows].tolist()},
        ),
    )


def _rounded(points: Points, rows: Int, axis: int) -> list[float]:
    """To a millionth of the map: as float64 each would take three times the bytes."""
    return [round(value, 6) for value in points.places[rows, axis].tolist()]


def _box(x0: float | None, y0: float | None, x1: float | None, y1: float | None) -> Box | None:
    if x0 is None or y0 is None or x1 is None or y1 is None:
        if (x0, y0, x1, y1) != (None,) * 4:
            raise Problem(422, "The request is not valid", "Give all of x0, y0, x1 and y1, or none.")
        return None
    return x0, y0, x1, y1


def _why_none() -> str:
    if find_spec("sklearn") is None:
        return f"{NO_LIBRARY[:1].upper()}{NO_LIBRARY[1:]}, and the next index run makes it."
    return "There is no map of the gallery yet: the next index run makes it."
