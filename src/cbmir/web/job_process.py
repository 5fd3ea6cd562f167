"""A job in a process of its own, which gives way to those that answer requests: `python -m cbmir.web.job_process`.

It is told what to do in one line of JSON on stdin, for command lines can be read by every user of a machine, and tells
how far it is in lines of JSON on stdout. It ends when stdin does: when it is cancelled, and when the server is gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import CbmirError, Outcome
from .logs import where

if TYPE_CHECKING:  # whoever starts it needs none of them
    from ..jobs import IndexSettings

TELL_S = 0.2
GRACE_S = 10.0
"""For what is being written to be finished or undone, after a job was told to end."""
INTERRUPTED = 130


def main() -> None:
    """One order from stdin, its progress to stdout."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell has put the server behind
    told = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print does not go between the lines
    order = json.loads(sys.stdin.readline())
    os.nice(order["niceness"])
    threading.Thread(target=_end_with, args=(sys.stdin,), daemon=True).start()
    try:
        _tell(told, report=work(order, Progress(told)))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except CbmirError as error:
        _tell(told, problem=without_places(str(error), order))
        sys.exit(error.exit_code)
    except Exception as error:
        _tell(told, failure=type(error).__name__, where=where(error.__traceback__))
        sys.exit(1)


class Progress:
    """Tells how far a job is, a few times a second."""

    def __init__(self, told: IO[str]) -> None:
        self._told = told
        self._last = 0.0

    def index(self, done: int, total: int | None, outcomes: Mapping[Outcome, int]) -> None:
        self._tell(done, total, {"done": done, "total": total, "outcomes": dict(outcomes)})

    def reindex(self, done: int, total: int) -> None:
        self._tell(done, total, {"done": done, "total": total})

    def _tell(self, done: int, total: int | None, told: dict[str, Any]) -> None:
        if done == total or time.monotonic() - self._last >= TELL_S:
            self._last = time.monotonic()
            _tell(self._told, progress=told)


def work(order: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """order: {"kind", "gallery", "workers", "niceness"} and "source" or "encoder". The report tells no path."""
    from ..jobs import IndexSettings, index_into

    gallery, settings = Path(order["gallery"]), IndexSettings(workers=order["workers"])
    if order["kind"] == "index":
        told = index_into(gallery, [Path(order["source"])], settings=settings, on_progress=progress.index).as_dict()
        return {name: value for name, value in told.items() if isinstance(value, (int, float, dict))}
    return _reindex(gallery, order["encoder"], settings, progress)


def without_places(sentence: str, order: Mapping[str, Any]) -> str:
    """Whoever follows a job is not told where the server keeps things."""
    for place in filter(None, (order["gallery"], order.get("source"), order.get("encoder"))):
        sentence = sentence.replace(f" {place}", "") if "/" in place else sentence
    return sentence


def _reindex(gallery: Path, encoder: str, settings: IndexSettings, progress: Progress) -> dict[str, Any]:
    from ..jobs.upkeep import reindex_images

    told = reindex_images(gallery, encoder, settings=settings, on_progress=progress.reindex).as_dict()
    why = Counter(image["why"] for image in told.pop("lacking"))
    return told | {"lacking": dict(why)}


def _tell(told: IO[str], **line: Any) -> None:
    with suppress(OSError):  # nobody listens any more: stdin says so too
        print(json.dumps(line), file=told)


def _end_with(stream: IO[str]) -> None:
    stream.read()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE_S)
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
