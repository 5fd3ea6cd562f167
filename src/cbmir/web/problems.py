"""What goes wrong, as problem+json (RFC 9457): a sentence for the person who can act, and nothing of the inside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NoReturn

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from ..errors import BadEncoder, BadGallery, BadImage, CbmirError, UsageError

MEDIA_TYPE = "application/problem+json"
MOST_ERRORS = 20
"""An answer is not many times as long as what was sent."""


class FieldError(BaseModel):
    """field: where in the request, as `body.k`."""

    field: str
    message: str


class ProblemDocument(BaseModel):
    """What every error of the API looks like. outcome: what became of an image that could not be read."""

    model_config = ConfigDict(title="Problem")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []
    outcome: str | None = None


class Problem(HTTPException):
    """Raised where a request cannot be answered. detail: one sentence, with nothing of a patient and no path."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        *,
        outcome: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.document = ProblemDocument(title=title, status=status, detail=detail, errors=list(errors), outcome=outcome)

    def response(self) -> Response:
        body = json.dumps(self.document.model_dump(), ensure_ascii=False).encode()
        return Response(body, self.status_code, self.headers, MEDIA_TYPE)


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": "A problem, told in a sentence.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status in ("4XX", "5XX")
}
"""Of every route, for the OpenAPI description."""


def problem_of(error: Exception) -> Problem:
    """What is told of an exception. Of one that is none of ours nothing but that it happened."""
    match error:
        case Problem():
            return error
        case BadImage():
            return Problem(422, "The image cannot be used", _sentence(error.reason), outcome=error.outcome)
        case UsageError():
            return Problem(422, "The request cannot be answered", _sentence(str(error)))
        case BadGallery() | BadEncoder():
            return Problem(409, "The gallery cannot answer this now", _sentence(str(error)))
        case CbmirError():
            return Problem(422, "The work could not be done", _sentence(str(error)))
        case HTTPException():
            return _plain(error)
        case RequestValidationError():
            return _invalid(error)
        case _:
            return Problem(500, "Internal error", "Something went wrong inside the server; its log says where.")


def unknown(what: str) -> NoReturn:
    """Raises the problem of an id, name or page that is not there. what: as in `There is no image of this id.`"""
    raise Problem(404, "Not found", f"There is no {what}.")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _plain(error: HTTPException) -> Problem:
    """Of the framework: 404 and 405 of the router, 400 of a body that is none."""
    phrase = HTTPStatus(error.status_code).phrase
    sentences = {
        400: "The body of the request cannot be read.",
        404: "There is nothing at this address.",
        405: "This address does not take requests of this method.",
    }
    return Problem(error.status_code, phrase, sentences.get(error.status_code, phrase + "."), headers=error.headers)


def _of_all_routes(request: Request, error: Exception) -> Exception:
    """The router tells the methods of one route of an address, and of the page, which takes every address, none."""
    if isinstance(error, Problem) or not isinstance(error, HTTPException) or error.status_code not in (404, 405):
        return error
    routes = iter_route_contexts(request.app.routes)
    others = [route.methods or () for route in routes if route.matches(request.scope)[0] is Match.PARTIAL]
    return HTTPException(405, headers={"Allow": ", ".join(sorted(set().union(*others)))}) if others else error


def _invalid(error: RequestValidationError) -> Problem:
    """What was sent is not said again: it may be about a patient."""
    told_of = error.errors()[:MOST_ERRORS]
    errors = [FieldError(field=_place(told["loc"]), message=_reason(told)) for told in told_of]
    return Problem(422, "The request is not valid", "Some fields of the request are not valid; see errors.", errors)


def _place(location: Sequence[int | str]) -> str:
    """Names of fields; of one that nobody knows the start."""
    return ".".join(str(part)[:40] for part in location)


def _reason(told: Mapping[str, Any]) -> str:
    match told["type"]:
        case "extra_forbidden":
            return "Not a field of this request"
        case "union_tag_invalid":
            return f"One of {told['ctx']['expected_tags']}"
        case _:
            return str(told["msg"])


def install(app: FastAPI) -> None:
    """Every exception of a route ends here; the last resort is guards.py, where the log is written too."""

    async def answer(request: Request, error: Exception) -> Response:
        return problem_of(_of_all_routes(request, error)).response()

    for kind in (CbmirError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, answer)
