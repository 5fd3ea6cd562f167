"""Who asked for what: one line of JSON for every request to the API, written before its answer leaves.

    {"at": ISO 8601 UTC, "who": name of the token, "role", "address", "method", "route": template, "status", "request",
     ...what the route noted}

No query string, no path as it was asked for, no body: those may hold what a person typed. Ids are pseudonyms.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from starlette.requests import HTTPConnection

from ..errors import UsageError

ID = re.compile(r"[0-9a-f]{32}")
Noted = str | int | float | bool | Sequence[str] | None

_TAIL_BYTES = 2**20


def note(request: HTTPConnection, **what: Noted) -> None:
    """Adds to the line of this request: ids, numbers and words of the program, never what somebody typed."""
    request.scope["state"].setdefault("noted", {}).update(what)


def ids_only(values: Sequence[str]) -> list[str]:
    """Those that are ids of images: what else stands in their place was typed by somebody."""
    return [value for value in values if ID.fullmatch(value)]


class Audit:
    """Appends to one file, mode 0600, whose lines are whole: each is one write. It may be moved away while in use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = -1

    def __enter__(self) -> Audit:
        """Raises UsageError where the file cannot be written: no server without an audit log."""
        try:
            self._file = self._open()
        except OSError as error:
            raise UsageError(f"The audit log {self.path} cannot be written: {error.strerror}.") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def write(self, line: Mapping[str, Any]) -> None:
        """Raises OSError where it cannot be written; then nothing may be answered."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        text = json.dumps({"at": at, **line}, ensure_ascii=True, separators=(",", ":"), allow_nan=False) + "\n"
        with self._lock:
            self._reopen_when_moved()
            os.write(self._file, text.encode("ascii"))

    def last(self, n: int) -> list[dict[str, Any]]:
        """The last lines, newest first; at most those of the last MiB."""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            whole = file.read().split(b"\n")[1 if size > _TAIL_BYTES else 0 : -1]
        return [json.loads(line) for line in reversed(deque(whole, n))]

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def _reopen_when_moved(self) -> None:
        try:
            same = os.path.samestat(os.fstat(self._file), os.stat(self.path))
        except FileNotFoundError:
            same = False
        if not same:
            new = self._open()
            os.close(self._file)
            self._file = new
