"""What the routes share, made when the server starts and closed when it ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from .audit import Audit
from .jobs_board import Board
from .monitoring import Monitoring
from .security import Doorkeeper
from .settings import Settings


@dataclass(frozen=True)
class Context:
    """stopping: set when the server has been told to end; streams end then, and nothing new is begun."""

    settings: Settings
    audit: Audit
    monitoring: Monitoring
    doorkeeper: Doorkeeper
    board: Board
    stopping: threading.Event = field(default_factory=threading.Event)


@contextmanager
def opened(settings: Settings) -> Iterator[Context]:
    """The parts of a server, closed in the other order."""
    with ExitStack() as stack:
        monitoring = Monitoring()
        yield Context(
            settings=settings,
            audit=stack.enter_context(Audit(settings.audit_file)),
            monitoring=monitoring,
            doorkeeper=Doorkeeper(settings),
            board=stack.enter_context(Board(monitoring, settings.limits.streams)),
        )


def context_of(request: HTTPConnection) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context
