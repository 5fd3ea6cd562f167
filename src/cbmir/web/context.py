"""What the routes share, made when the server starts and closed when it ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from .audit import Audit
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
    stopping: threading.Event = field(default_factory=threading.Event)


@contextmanager
def opened(settings: Settings) -> Iterator[Context]:
    """The parts of a server, closed in the other order."""
    with ExitStack() as stack:
        yield Context(
            settings=settings,
            audit=stack.enter_context(Audit(settings.audit_file)),
            monitoring=Monitoring(),
            doorkeeper=Doorkeeper(settings),
        )


def context_of(request: HTTPConnection) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context
