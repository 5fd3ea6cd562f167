"""Paths as text. A name on disk is bytes, not always UTF-8; text that is stored must be."""

from __future__ import annotations

import os
from pathlib import PurePath


def shown_of(path: PurePath) -> str:
    """The path with /, escaped."""
    return escaped(path.as_posix())


def escaped(name: str) -> str:
    """A name as the file system gave it, as text that is UTF-8: a byte that is not is written as in b"\\xff", and a
    backslash twice, so that no two names become one.
    """
    if "\\" in name:
        name = name.replace("\\", "\\\\")
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")
