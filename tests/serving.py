"""A real server in a thread of the test, and tokens of every role."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cbmir.web.app import create_app
from cbmir.web.context import Context
from cbmir.web.server import Server, listen
from cbmir.web.settings import Settings, Token, digest_of

TOKENS = {"reader": "token of a reader", "contributor": "token of a contributor", "admin": "token of an admin"}


def tokens() -> tuple[Token, ...]:
    return tuple(
        Token.model_validate({"name": f"{role}-1", "role": role, "sha256": digest_of(token)})
        for role, token in TOKENS.items()
    )


def bearer(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[role]}"}


@dataclass(frozen=True)
class Running:
    """port: of 127.0.0.1, where it listens."""

    port: int
    server: Server
    thread: threading.Thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def context(self) -> Context:
        context = self.server._application.state.context
        assert isinstance(context, Context)
        return context

    def client(self, role: str | None = None, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={**(bearer(role) if role else {}), **headers}, timeout=20)

    def connect(self, timeout_s: float = 20) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.context.audit.path.read_text(encoding="ascii").splitlines()]


@contextmanager
def running(gallery: Path, *, with_tokens: bool = False, **settings: Any) -> Iterator[Running]:
    chosen = Settings(gallery=gallery, tokens=tokens() if with_tokens else (), **settings)
    ready = threading.Event()
    with listen("127.0.0.1", 0) as listener:
        server = Server(create_app(chosen), chosen, ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
        thread.start()
        try:
            assert ready.wait(20)
            yield Running(listener.getsockname()[1], server, thread)
        finally:
            server.should_exit = True
            thread.join(30)
    assert not thread.is_alive()


def read_all(connection: socket.socket) -> bytes:
    """Until the other side closes."""
    received = b""
    while block := connection.recv(65536):
        received += block
    return received


def head(lines: Sequence[str], headers: Mapping[str, str] | None = None) -> bytes:
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in (headers or {}).items()), "", ""]).encode()
