"""Folders below the configured roots, told by opaque names: what is asked for never becomes a path.

A folder may be called after a patient, and addresses end in logs and histories. So a request names a folder by keyed
digests, one a level, and each level is looked for among the folders that are there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..privacy import HANDLE_DIGITS, Pseudonyms
from .problems import unknown

MOST_TOLD = 2000


@dataclass(frozen=True)
class Folder:
    """name: as it is called, for those who may see it. path: digests with slashes between, empty for the root."""

    name: str
    path: str


def folder_at(root: Path, path: str, pseudonyms: Pseudonyms) -> Path:
    """Raises Problem 404 where there is no such folder below the root. Links are not followed."""
    place = root.resolve()
    for digest in filter(None, path.split("/")):
        found = (inside for inside in _folders(place) if _digest(root, inside, pseudonyms) == digest)
        place = next(found, None) or unknown("folder of this name below the root")
    return place


def folders_below(root: Path, path: str, pseudonyms: Pseudonyms) -> list[Folder]:
    """By name; at most MOST_TOLD. Raises Problem 404."""
    place = folder_at(root, path, pseudonyms)
    inside = sorted(_folders(place), key=lambda folder: folder.name)[:MOST_TOLD]
    return [
        Folder(_readable(folder.name), "/".join(filter(None, (path, _digest(root, folder, pseudonyms)))))
        for folder in inside
    ]


def _folders(place: Path) -> Iterator[Path]:
    """Real ones that are not hidden; of a folder that cannot be read none."""
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    yield place / entry.name
    except OSError:
        return


def _digest(root: Path, folder: Path, pseudonyms: Pseudonyms) -> str:
    below = os.path.relpath(folder, root.resolve())
    return pseudonyms.of("folder", _readable(f"{root}\n{below}"))[:HANDLE_DIGITS]


def _readable(name: str) -> str:
    """Bytes that are no UTF-8, written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
