"""The hits of a search as a file."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request, Response

from ...jobs.batch import write_hits
from ..answers import Reader
from ..models import ExportRequest
from .search import found, told_of

router = APIRouter(tags=["search"])
FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "application/json": {"schema": {"$ref": "#/components/schemas/SearchTold"}},
        },
    }
}


@router.post("/export", response_class=Response, responses=FILES)
def export(request: Request, caller: Reader, asked: ExportRequest) -> Response:
    """The same search as a table, of which no cell is run by a spreadsheet, or as its document."""
    ranking, frame_number = found(request, caller, asked.search)
    if asked.format == "csv":
        return _attachment(write_hits(ranking), "hits.csv", "text/csv; charset=utf-8")
    text = json.dumps(told_of(ranking, frame_number), indent=1, ensure_ascii=False, allow_nan=False)
    return _attachment(text, "hits.json", "application/json")


def _attachment(text: str, name: str, media_type: str) -> Response:
    return Response(text, headers={"Content-Disposition": f'attachment; filename="{name}"'}, media_type=media_type)
