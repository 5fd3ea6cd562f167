"""Files written whole or not at all, and known by their content."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

GALLERY_DATABASE = "gallery.sqlite"
"""The file that makes a folder a gallery."""


def write_json(path: Path, value: Any) -> None:
    """Write JSON in one move: a reader finds the old file or the new one."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text in one move."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def file_sha256(path: Path) -> str:
    """SHA-256 of the bytes, hex."""
    digest = sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
