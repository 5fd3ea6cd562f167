"""The process that serves: its socket, the patience it has with clients, and how it ends.

uvicorn (0.54) waits for ever for the first byte of a connection, for the rest of a head, and for a client to read what
it has asked for; `PatientProtocol` does not. Bodies have theirs in guards.py.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import UsageError
from ..gallery import Gallery
from ..privacy import load_pseudonyms
from .app import create_app
from .audit import Audit
from .context import Context
from .logs import LOG, setup_logs
from .problems import MEDIA_TYPE, Problem
from .settings import Settings

LINGER_S = 5.0
"""For the rest of a body whose request has been answered already: cut at once, the client might not see the answer."""


def serve(settings: Settings, on_ready: Callable[[dict[str, Any]], None]) -> None:
    """Serves until SIGTERM or SIGINT, then lets requests end and stops a job, which goes on when it is started again.

    on_ready: called with {"url", "auth"} once the page is there. Raises CbmirError where it cannot begin.
    """
    check(settings)
    setup_logs()
    listener = listen(settings.host, settings.port)
    with listener:
        told = {"url": address(settings, listener), "auth": "none" if settings.open_to_all else "token"}
        server = Server(create_app(settings), settings, lambda: on_ready(told))
        server.run(sockets=[listener])


def check(settings: Settings) -> None:
    """Raises CbmirError for a gallery, key, folder or file that is not there or cannot be used."""
    with Gallery.open(settings.gallery) as gallery:
        gallery.check_pseudonyms(load_pseudonyms(make=False))
    for name, root in settings.roots.items():
        if not root.is_dir():
            raise UsageError(f"The root {name} is no folder that is there: see [web.roots] of the settings.")
    for file in (settings.certificate, settings.private_key):
        if file is not None and not file.is_file():
            raise UsageError(f"There is no file {file}, named as certificate or private_key.")
    with Audit(settings.audit_file):
        pass
    if not settings.open_to_all and not settings.tls:
        LOG.warning("tokens and images travel unencrypted: set certificate, or secure behind a proxy with TLS")


def listen(host: str, port: int) -> socket.socket:
    """Raises UsageError for an address or a port that cannot be had."""
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(where[:2], family=family, backlog=512)
    except OSError as error:
        raise UsageError(f"The server cannot listen on {host}, port {port}: {error.strerror}.") from None
    # connections take it over: else the second half of a small answer waits 40 ms for the receipt of the first
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address(settings: Settings, listener: socket.socket) -> str:
    scheme = "https" if settings.certificate else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}/"


class Server(uvicorn.Server):
    """Tells the application that it ends before it waits for requests, and ends with exit code 0 when asked to."""

    def __init__(self, app: FastAPI, settings: Settings, on_ready: Callable[[], None]) -> None:
        super().__init__(configured(app, settings))
        self._application = app
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        context: Context = self._application.state.context
        context.stopping.set()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """A second signal does not wait for requests."""
        self.force_exit = self.should_exit
        self.should_exit = True


def configured(app: FastAPI, settings: Settings) -> uvicorn.Config:
    limits = settings.limits
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.private_key,
        limit_concurrency=limits.connections,
        timeout_keep_alive=limits.keep_alive_s,
        timeout_graceful_shutdown=limits.stop_s,
        h11_max_incomplete_event_size=limits.header_bytes,
    )


class PatientProtocol(H11Protocol):
    """Closes connections whose head does not come in header_s, whose client goes on sending after the answer, or does
    not read the answer for write_s; the settings are those of the application.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        context: Context = self.config.app.state.context  # type: ignore[union-attr]
        self._limits = context.settings.limits
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop(self._head_timer)
        self._stop(self._write_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """The time for a head counts from its first byte, however many follow one by one."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop(self._head_timer)
            self._head_timer = None
        elif self._head_timer is None and self.timeout_keep_alive_task is None:
            self._await_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self.loop.call_later(LINGER_S, self._cut, self.cycle)

    def _cut(self, cycle: Any) -> None:
        """Unless the body has ended meanwhile; the connection may then be at another request."""
        if self.cycle is cycle and self.conn.their_state is h11.SEND_BODY:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._limits.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop(self._write_timer)
        self._write_timer = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or whose head is too long (431): told as every other error, then the connection ends."""
        error = sys.exc_info()[1]  # it is called where that is caught
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        title = "Header too long" if status == 431 else "Not HTTP"
        body = json.dumps(Problem(status, title, "The head of the request cannot be taken.").document.model_dump())
        headers = [
            ("content-type", MEDIA_TYPE),
            ("content-length", str(len(body))),
            ("connection", "close"),
            ("x-content-type-options", "nosniff"),
        ]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=body.encode()),
                h11.EndOfMessage(),
            )
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in answer))
        if self.cycle is not None:  # its body broke off: the application is told so, and what it says is not sent
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.header_s, self.timeout_keep_alive_handler)

    @staticmethod
    def _stop(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
