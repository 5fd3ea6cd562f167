"""Signing in and out, and the description of the API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ..context import context_of
from ..problems import Problem
from ..security import COOKIE, SESSION_S, Caller, allow, caller_of
from ..settings import Role

router = APIRouter()


class SignIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=512)


class Session(BaseModel):
    """auth: whether the server knows its callers by tokens."""

    auth: Literal["none", "token"]
    signed_in: bool
    role: Role | None
    name: str | None


@router.get("/session")
def who_asks(request: Request) -> Session:
    """Who asks, and what that one may do; of nobody known too."""
    return _session(request, caller_of(request))


@router.post("/session")
def sign_in(request: Request, response: Response, told: SignIn) -> Session:
    """Takes a token, and sets a cookie for the page; it ends after twelve hours."""
    context = context_of(request)
    if context.settings.open_to_all:
        return _session(request, caller_of(request))
    caller = context.doorkeeper.known(told.token)
    if caller is None:
        raise Problem(
            401, "Not a token", "The server does not know this token.", headers={"WWW-Authenticate": "Bearer"}
        )
    request.scope["state"]["caller"] = caller
    response.set_cookie(
        COOKIE,
        context.doorkeeper.sign_in(caller),
        max_age=int(SESSION_S),
        path="/",
        httponly=True,
        samesite="strict",
        secure=context.settings.tls,
    )
    return _session(request, caller)


@router.delete("/session")
def sign_out(request: Request, response: Response) -> Session:
    """Ends the session of the cookie."""
    context = context_of(request)
    context.doorkeeper.sign_out(request.cookies.get(COOKIE, ""))
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=context.settings.tls)
    return _session(request, caller_of(request) if context.settings.open_to_all else None)


@router.get("/openapi.json", include_in_schema=False)
def describe(request: Request, _: Annotated[Caller, Depends(allow("reader"))]) -> dict[str, Any]:
    description: dict[str, Any] = request.app.openapi()
    return description


def _session(request: Request, caller: Caller | None) -> Session:
    auth: Literal["none", "token"] = "none" if context_of(request).settings.open_to_all else "token"
    return Session(
        auth=auth,
        signed_in=caller is not None,
        role=caller.role if caller else None,
        name=caller.name if caller else None,
    )
