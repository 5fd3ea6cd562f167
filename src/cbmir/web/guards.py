"""What every request passes before a route sees it, from outside in: Watch, Witness, Gate.

Watch counts, logs and catches; Witness writes the audit line before an answer leaves; Gate refuses what is too big, too
slow, too much, of another site, or of nobody known. Plain ASGI, so that streams stay streams.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .audit import ID
from .context import Context
from .logs import LOG
from .problems import Problem, problem_of
from .security import Caller, nobody_known
from .settings import LOOPBACK_NAMES, Limits, Settings

API = "/api/v1"
HEALTH = frozenset({"/healthz", "/readyz"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_TLS_HEADER = ("strict-transport-security", "max-age=31536000")


def route_of(scope: Scope) -> str:
    """The template of the route that answers; nothing of the path that was asked for."""
    path: str | None = getattr(scope.get("route"), "path_format", None) or getattr(scope.get("route"), "path", None)
    if path and scope["path"].startswith(API):
        return API + path
    return path or ("page" if scope.get("endpoint") else "none")


class Watch:
    """Numbers every request, sets the headers of every response, and turns what nobody caught into a problem."""

    def __init__(self, app: ASGIApp, tls: bool) -> None:
        self._app = app
        self._tls = tls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request"] = secrets.token_hex(8)
        started, status = time.monotonic(), 0

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._dress(scope, MutableHeaders(scope=message))
            await send(message)

        context: Context = scope["app"].state.context
        with context.monitoring.under_way.track_inprogress():
            try:
                await self._app(scope, receive, tell)
            except Exception as error:
                LOG.error("a request failed", exc_info=error, extra={"told": {"request": state["request"]}})
                if status:  # the answer has begun: the connection is cut, so that nobody takes a half for a whole
                    raise
                await problem_of(error).response()(scope, receive, tell)
            finally:
                self._account(context, scope, status, time.monotonic() - started)

    def _dress(self, scope: Scope, headers: MutableHeaders) -> None:
        for name, value in SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        if self._tls:
            headers.setdefault(*_TLS_HEADER)
        if scope["path"].startswith(API):
            headers.setdefault("cache-control", "no-store")
        headers["x-request-id"] = scope["state"]["request"]

    @staticmethod
    def _account(context: Context, scope: Scope, status: int, seconds: float) -> None:
        route = route_of(scope)
        context.monitoring.count(scope["method"], route, status, seconds)
        told = {
            "request": scope["state"]["request"],
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "who": _name(scope["state"].get("caller")),
        }
        LOG.info("request", extra={"told": told})


class Gate:
    """Refuses before a route is looked for, and before the body is read."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        limits = settings.limits
        self._limits = limits
        self._hosts = LOOPBACK_NAMES | {name.lower() for name in settings.hosts} | _own_name(settings.host)
        self._requests = Allowance(limits.requests_per_minute)
        self._uploads = Allowance(limits.uploads_per_minute)
        self._sign_ins = Allowance(limits.sign_ins_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except Problem as problem:
            scope["app"].state.context.monitoring.refused.labels(str(problem.status_code)).inc()
            await problem.response()(scope, receive, send)
            return
        await self._app(scope, Patience(receive, self._limits, self._most_bytes(scope)), send)

    def _check(self, scope: Scope) -> None:
        """Raises Problem."""
        headers = Headers(scope=scope)
        check_size(scope, self._limits.header_bytes)
        if scope["path"] not in HEALTH:
            check_host(headers, self._hosts)
        if self._settings.open_to_all:
            check_nobody_between(headers)
        check_origin(scope, headers)
        check_length(headers, self._most_bytes(scope))
        self._check_caller(scope, headers)

    def _check_caller(self, scope: Scope, headers: Headers) -> None:
        """Finds out who asks, and whether that one has asked too often; of wrong tokens by where they come from."""
        connection = HTTPConnection(scope)
        address = connection.client.host if connection.client else ""
        caller = scope["app"].state.context.doorkeeper.caller(connection)
        scope["state"]["caller"] = caller
        tried = "authorization" in headers or (scope["method"], scope["path"]) == ("POST", f"{API}/session")
        if caller is None and tried:
            self._sign_ins.take(address)
        if not self._settings.open_to_all:
            self._requests.take(caller.name if caller else address)
        if caller is None and scope["path"].startswith(API) and scope["path"] != f"{API}/session":
            raise nobody_known()
        if _is_upload(scope):
            self._uploads.take(caller.name if caller else address)

    def _most_bytes(self, scope: Scope) -> int:
        return self._limits.upload_bytes if _is_upload(scope) else self._limits.body_bytes


class Witness:
    """Writes who asked for what, with what came of it, before the first byte of an answer: where that cannot be
    written, nothing is answered. Not of whoever asks too often: that would fill the disk.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(API):
            await self._app(scope, receive, send)
            return
        refused = False

        async def tell(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] != 429:
                try:
                    scope["app"].state.context.audit.write(audit_line(scope, message["status"]))
                except OSError:
                    refused = True
                    LOG.error("the audit log cannot be written, so nothing is answered")
                    problem = Problem(503, "No audit log", "The audit log cannot be written; tell whoever runs this.")
                    await problem.response()(scope, receive, send)
            if not refused:
                await send(message)

        await self._app(scope, receive, tell)


def audit_line(scope: Scope, status: int) -> dict[str, Any]:
    """Of a path only what was asked for as an id and looks like one: the rest may be a name."""
    state, caller = scope["state"], scope["state"].get("caller")
    ids = {name: value for name, value in scope.get("path_params", {}).items() if ID.fullmatch(str(value))}
    return {
        "who": _name(caller),
        "role": caller.role if caller else None,
        "address": scope["client"][0] if scope.get("client") else None,
        "method": scope["method"],
        "route": route_of(scope),
        "status": status,
        "request": state["request"],
        **ids,
        **state.get("noted", {}),
    }


class Patience:
    """A body that is received in good time and is no longer than it may be: raises Problem 408 or 413 where it is not.

    It may pause for body_idle_s, and from then on comes with body_bytes_per_s on the average.
    """

    def __init__(self, receive: Receive, limits: Limits, most_bytes: int) -> None:
        self._receive = receive
        self._limits = limits
        self._most_bytes = most_bytes
        self._started = time.monotonic()
        self._n_bytes = 0
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._left_s()):
                message = await self._receive()
        except TimeoutError:
            raise Problem(
                408, "Too slow", "The body of the request did not arrive in time.", headers={"Connection": "close"}
            ) from None
        self._n_bytes += len(message.get("body", b""))
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        if self._n_bytes > self._most_bytes:
            raise _too_long(self._most_bytes)
        return message

    def _left_s(self) -> float:
        idle = self._limits.body_idle_s
        until = self._started + idle + self._n_bytes / self._limits.body_bytes_per_s
        return max(0.0, min(idle, until - time.monotonic()))


class Allowance:
    """So many a minute of each name, all at once if they like, and then as they come back (a leaking bucket)."""

    def __init__(self, per_minute: int) -> None:
        self._interval_s = 60 / per_minute
        self._full_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, name: str) -> None:
        """Raises Problem 429 where there is nothing left."""
        with self._lock:
            now = time.monotonic()
            if len(self._full_at) > 10_000:
                self._full_at = {key: at for key, at in self._full_at.items() if at > now}
            at = max(now, self._full_at.get(name, now)) + self._interval_s
            wait_s = at - now - 60
            if wait_s > 0:
                raise Problem(
                    429,
                    "Too many requests",
                    "Wait a little and ask again.",
                    headers={"Retry-After": str(int(wait_s) + 1)},
                )
            self._full_at[name] = at


def check_size(scope: Scope, most_bytes: int) -> None:
    """Raises Problem for an address or a header nobody needs."""
    if len(scope.get("raw_path", b"")) + len(scope["query_string"]) > most_bytes // 2:
        raise Problem(414, "Address too long", "The address of the request is too long; send less in it.")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > most_bytes:
        raise Problem(431, "Header too long", "The header of the request is too long.")


def check_host(headers: Headers, hosts: frozenset[str]) -> None:
    """Raises Problem for a name that is not the server's: a page of another site that has its own name lead here (DNS
    rebinding) would otherwise be taken for ours.
    """
    names = headers.getlist("host")
    if len(names) != 1 or host_name(names[0]) not in hosts:
        raise Problem(
            421,
            "Another host",
            "The server does not go by this name; whoever runs it can add it to hosts in cbmir.toml.",
        )


def host_name(host: str) -> str | None:
    """Without its port and brackets; None for what is no host."""
    with suppress(ValueError):
        parts = urlsplit(f"//{host}")
        if parts.netloc == host and parts.username is None and (parts.port is None or parts.port > 0):
            return parts.hostname
    return None


def check_nobody_between(headers: Headers) -> None:
    """Raises Problem where a proxy stands in front of a server that lets everybody of its machine do everything."""
    if any(name in headers for name in FORWARDED):
        raise Problem(
            403, "No proxy without tokens", "Behind a proxy the server needs tokens and hosts, see docs/serving.md."
        )


def check_origin(scope: Scope, headers: Headers) -> None:
    """Raises Problem for what a page of another site makes a browser send: changes, and reads of the API."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    foreign = origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    if foreign and (scope["method"] not in SAFE_METHODS or scope["path"].startswith(API)):
        raise _from_elsewhere()
    if site not in ("none", "same-origin") and (scope["path"].startswith(API) or scope["method"] not in SAFE_METHODS):
        raise _from_elsewhere()


def check_length(headers: Headers, most_bytes: int) -> None:
    """Raises Problem for a body that says of itself that it is too long."""
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length) > most_bytes:
        raise _too_long(most_bytes)


def _too_long(most_bytes: int) -> Problem:
    most = f"{most_bytes / 2**20:.0f} MiB" if most_bytes >= 2**20 else f"{most_bytes / 2**10:.0f} KiB"
    return Problem(413, "Too long", f"The body is longer than {most}.", headers={"Connection": "close"})


def _from_elsewhere() -> Problem:
    return Problem(403, "From another site", "The server answers its own page and programs, not pages of other sites.")


def _is_upload(scope: Scope) -> bool:
    return (scope["method"], scope["path"]) == ("POST", f"{API}/uploads")


def _own_name(host: str) -> frozenset[str]:
    """An address that is bound is a name of the server, unless it stands for all of them."""
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:
            return frozenset()
    return frozenset({host.lower()})


def _name(caller: Caller | None) -> str | None:
    return caller.name if caller else None
