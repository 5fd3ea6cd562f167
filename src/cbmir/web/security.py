"""Who asks, and what that one may do: tokens known by their SHA-256, sessions of the page, roles."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import HTTPConnection, Request

from .problems import Problem
from .settings import ROLES, Role, Settings, Token, digest_of

COOKIE = "cbmir_session"
SESSION_S = 12 * 3600.0
MOST_SESSIONS = 1000
LOCAL = "local"
"""The name of whoever asks a server that only this machine can reach."""


@dataclass(frozen=True)
class Caller:
    """name: as the token is called, never that of a person unless somebody called it so."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


class Doorkeeper:
    """Knows tokens and sessions. Safe to be asked from several threads.

    A session is a random name in a cookie, kept here by its digest: the cookie is not the token, ends after SESSION_S
    and when the server ends.
    """

    def __init__(self, settings: Settings) -> None:
        self._tokens = settings.tokens
        self._open_to_all = settings.open_to_all
        self._sessions: dict[str, tuple[Caller, float]] = {}
        self._lock = threading.Lock()

    def caller(self, connection: HTTPConnection) -> Caller | None:
        """Who asks: by the header Authorization, or else by the cookie of a session. None for nobody known."""
        if self._open_to_all:
            return Caller(LOCAL, "admin")
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme:
            return self.known(token.strip()) if scheme.lower() == "bearer" else None
        return self._of_session(connection.cookies.get(COOKIE, ""))

    def known(self, token: str) -> Caller | None:
        """Whose token it is. Every digest is compared, each in constant time, whatever the earlier ones gave."""
        given = digest_of(token)
        same: list[Token] = [known for known in self._tokens if hmac.compare_digest(known.sha256, given)]
        return Caller(same[0].name, same[0].role) if same else None

    def sign_in(self, caller: Caller) -> str:
        """The name of a new session; the oldest ends where there are too many."""
        name = secrets.token_urlsafe(32)
        with self._lock:
            now = time.monotonic()
            self._sessions = {key: value for key, value in self._sessions.items() if value[1] > now}
            while len(self._sessions) >= MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[digest_of(name)] = (caller, now + SESSION_S)
        return name

    def sign_out(self, name: str) -> None:
        with self._lock:
            self._sessions.pop(digest_of(name), None)

    def _of_session(self, name: str) -> Caller | None:
        with self._lock:  # found by the digest of a random name: nothing can be learned from how long that takes
            caller, until = self._sessions.get(digest_of(name), (None, 0.0))
        return caller if time.monotonic() < until else None


def caller_of(request: HTTPConnection) -> Caller | None:
    """Who asks, found once a request (guards.py)."""
    caller: Caller | None = request.scope["state"].get("caller")
    return caller


def nobody_known() -> Problem:
    sentence = "This server wants a token: ask whoever runs it for one."
    return Problem(401, "Sign in first", sentence, headers={"WWW-Authenticate": "Bearer"})


def allow(role: Role) -> Callable[[Request], Caller]:
    """The dependency of every route of the API: `caller: Annotated[Caller, Depends(allow("reader"))]`.

    Raises Problem: 401 for nobody known, 403 for a role that may not.
    """

    def check(request: Request) -> Caller:
        caller = caller_of(request)
        if caller is None:
            raise nobody_known()
        if not caller.may(role):
            raise Problem(403, "Not allowed", f"This needs the role {role}; the token has the role {caller.role}.")
        return caller

    check.role = role  # type: ignore[attr-defined]  # by which a test finds the routes that ask nobody
    return check
