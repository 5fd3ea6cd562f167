"""The processes behind the server: those that read files, and one that keeps the network. The server itself does
neither, so that no file can take it down and no run time grows in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from ..errors import CbmirError
from ..gallery import Gallery
from ..images.apart import Busy, StandingWorkers
from ..jobs import Hands, encoder_of
from ..remote import RemoteEncoder, Wanted, keep
from .desk import Desk
from .logs import LOG
from .problems import Problem

N_READERS = 2
MOST_WAITING = 8
PATIENCE_S = 30.0
NETWORK_S = 300.0
"""The first call after an installation makes OpenVINO's copy of the network, which takes a minute."""


class Workers:
    """What jobs need (`hands`), for many threads."""

    def __init__(self) -> None:
        self._ending = threading.Event()
        self._stack = ExitStack()
        self._files = self._stack.enter_context(StandingWorkers(N_READERS))
        self._network = self._stack.enter_context(
            StandingWorkers(1, timeout_s=NETWORK_S, memory_bytes=None, retires=False, single=False)
        )
        self._known: RemoteEncoder | None = None
        self._turns = threading.BoundedSemaphore(MOST_WAITING)
        self.hands = Hands(self.apart, self.encoder_of)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._stack.close()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """For many small calls that each hold a gallery: so many at a time that searches find galleries, too.

        Raises Problem when it does not come.
        """
        if not self._turns.acquire(timeout=PATIENCE_S):
            raise _busy("Too many pictures are being read; try again in a moment.")
        try:
            yield
        finally:
            self._turns.release()

    def apart(self, work: Callable[..., Any], tasks: Sequence[Any], *arguments: Any) -> list[Any]:
        """Reads files: an Apart. Raises Problem when all are at work for too long."""
        with _told_when_busy():
            return self._files(work, tasks, *arguments)

    def read(self, work: Callable[..., Any], task: Any, *arguments: Any) -> Any:
        """The same for one file; its CbmirError is raised."""
        with _told_when_busy():
            return self._files.call(work, task, *arguments)

    def encoder_of(self, gallery: Gallery, name: str | None = None) -> RemoteEncoder:
        """Raises Problem when it is no longer there, or cannot be read. It is looked for once."""
        known, card = self._known, gallery.encoder
        if known is None or (known.fingerprint, known.wanted.name) != (card.fingerprint, name or card.path):
            wanted = Wanted(name or card.path, card.precision, card.masked)
            known = self._known = RemoteEncoder(_found(gallery, name), wanted, self._ask)
        return known

    def warm_up(self, desk: Desk) -> threading.Thread:
        """Starts the processes and has the network ready, in a thread of its own; the log tells when that fails."""

        def start() -> None:
            try:
                with desk.gallery() as gallery:
                    encoder = self.encoder_of(gallery)
                self._files.start()
                self._network.call(keep, encoder.wanted)
            except (CbmirError, Problem) as error:
                if not self._ending.is_set():
                    LOG.error("the workers are not ready", exc_info=error)

        thread = threading.Thread(target=start, name="cbmir-warm-up", daemon=True)
        thread.start()
        return thread

    def _ask(self, work: Callable[..., Any], wanted: Wanted, *arguments: Any) -> Any:
        with _told_when_busy():
            return self._network.call(work, wanted, *arguments)


@contextmanager
def _told_when_busy() -> Iterator[None]:
    try:
        yield
    except Busy as error:
        raise _busy(str(error)) from None


def _found(gallery: Gallery, name: str | None) -> Any:
    """Where it should be is nobody's business."""
    try:
        return encoder_of(gallery, name)
    except CbmirError as error:
        LOG.warning("the encoder of the gallery is not there", exc_info=error)
        raise Problem(
            409,
            "No encoder",
            "The encoder of the gallery cannot be found or read: only its own images can be searched by; tell whoever "
            "runs the server.",
        ) from None


def _busy(sentence: str) -> Problem:
    return Problem(503, "Busy", sentence, headers={"Retry-After": "5"})
