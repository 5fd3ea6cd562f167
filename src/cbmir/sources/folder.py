"""Files below a folder, in sorted order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import BadManifest, UsageError
from ..types import ImageRef


def folder(path: Path) -> Iterator[ImageRef]:
    """Every file below path, sorted, hidden ones skipped; a link that leads out of path is not followed.

    Raises UsageError when path is not a folder.
    """
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder.")
    root = path.resolve()
    return (ImageRef(path=file, shown=file.relative_to(root).as_posix()) for file in _files(root, root))


def classes(path: Path) -> list[ImageRef]:
    """One folder per class: the first folder below path names the class of every file in it.

    Raises BadManifest when there are no class folders, or no files in them.
    """
    refs = [
        ImageRef(path=ref.path, shown=ref.shown, labels={"class": ref.shown.split("/", 1)[0]})
        for ref in folder(path)
        if "/" in ref.shown
    ]
    if not refs:
        raise BadManifest(f"{path} has no class folders with files in them.")
    return refs


def has_classes(path: Path) -> bool:
    """Whether some file lies in a folder below path."""
    return any("/" in ref.shown for ref in folder(path))


def _files(directory: Path, root: Path) -> Iterator[Path]:
    """Directories are entered only when they are real ones (no links), so there are no cycles."""
    with os.scandir(directory) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), root)
        elif entry.is_file() and _stays_inside(entry, root):
            yield Path(entry.path)


def _stays_inside(entry: os.DirEntry[str], root: Path) -> bool:
    return not entry.is_symlink() or Path(entry.path).resolve().is_relative_to(root)
