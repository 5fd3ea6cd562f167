"""The end of the audit log, for those who run the server."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from ..context import context_of
from ..security import Caller, allow

router = APIRouter()


class AuditLines(BaseModel):
    """lines: the newest first, as audit.py has them."""

    lines: list[dict[str, Any]]


@router.get("/audit")
def last_lines(
    request: Request,
    _: Annotated[Caller, Depends(allow("admin"))],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditLines:
    """Who asked for what, the newest first."""
    return AuditLines(lines=context_of(request).audit.last(limit))
