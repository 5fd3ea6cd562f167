"""Paths as text. A name on disk is bytes, not always UTF-8; text that is stored must be."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath

_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


def shown_of(path: PurePath) -> str:
    """The path with /; a byte that is not UTF-8 is written as in b"\\xff"."""
    return escaped(path.as_posix())


def escaped(name: str) -> str:
    """A name as the file system gave it, as text that is UTF-8."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def path_of(root: str, shown: str) -> Path:
    """The file that a source shows as `shown` below `root`, both as shown_of writes them."""
    path = Path(root, shown)
    if "\\x" not in str(path) or os.path.exists(path):  # which, unlike Path.exists, never raises
        return path
    return Path(os.fsdecode(_ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(path))))
