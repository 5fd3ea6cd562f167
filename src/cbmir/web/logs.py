"""The log of a server: one JSON object a line on stderr, with nothing that a request or a file brought.

Of an exception its type and the lines of the program are told, not its text: libraries quote what they choke on. Of
libraries only the template of a message is told, without what it was to be filled with.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import PurePath
from types import TracebackType
from typing import Any

LOG = logging.getLogger("cbmir.web")
_OWN = ("cbmir.web", "uvicorn.error")
"""Loggers whose messages are made of words and numbers of the program."""


def setup_logs() -> None:
    """All logs of this process go to stderr as JSON, warnings of Python too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    logging.getLogger("uvicorn.access").disabled = True  # it writes paths and query strings


class JsonLines(logging.Formatter):
    """A record with `extra={"told": {...}}` has these beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._message(record),
            **getattr(record, "told", {}),
        }
        if record.exc_info and record.exc_info[0]:
            line["exception"], line["where"] = record.exc_info[0].__name__, where(record.exc_info[2])
        return json.dumps(line, ensure_ascii=False)

    @staticmethod
    def _message(record: logging.LogRecord) -> str:
        if record.name in _OWN:
            return record.getMessage().strip()
        return str(record.msg) if record.args else "a message of a library; its text may quote what was read"


def where(trace: TracebackType | None) -> list[str]:
    """file:line in function, the innermost last; files by their names, for paths may name people."""
    return [f"{PurePath(step.filename).name}:{step.lineno} in {step.name}" for step in traceback.extract_tb(trace)]
