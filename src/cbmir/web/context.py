"""What the routes share, made when the server starts and closed when it ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from ..store.thumbnails import Thumbnails
from .audit import Audit
from .desk import Desk
from .jobs_board import Board
from .monitoring import Monitoring
from .security import Doorkeeper
from .settings import Settings
from .uploads import Uploads
from .workers import Workers


@dataclass(frozen=True)
class Context:
    """stopping: set when the server has been told to end; streams end then, and nothing new is begun."""

    settings: Settings
    audit: Audit
    monitoring: Monitoring
    doorkeeper: Doorkeeper
    board: Board
    desk: Desk
    workers: Workers
    uploads: Uploads
    thumbnails: Thumbnails
    stopping: threading.Event = field(default_factory=threading.Event)


@contextmanager
def opened(settings: Settings) -> Iterator[Context]:
    """The parts of a server, closed in the other order."""
    with ExitStack() as stack:
        monitoring = Monitoring()
        desk = stack.enter_context(Desk(settings.gallery))
        workers = stack.enter_context(Workers())
        workers.warm_up(desk)
        yield Context(
            settings=settings,
            audit=stack.enter_context(Audit(settings.audit_file)),
            monitoring=monitoring,
            doorkeeper=Doorkeeper(settings),
            board=stack.enter_context(Board(monitoring, settings.limits.streams)),
            desk=desk,
            workers=workers,
            uploads=stack.enter_context(Uploads(workers)),
            thumbnails=stack.enter_context(closing(Thumbnails.open(settings.gallery))),
        )


def context_of(request: HTTPConnection) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context
