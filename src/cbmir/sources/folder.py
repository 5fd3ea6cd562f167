"""Files below a folder, in sorted order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import BadManifest, UsageError
from ..types import ImageRef
from .names import shown_of


def folder(path: Path) -> Iterator[ImageRef]:
    """Every file below path, sorted, hidden ones skipped; a link that leads out of path is not followed.

    A folder below it that cannot be read stands for its files: whoever reads it reports why.
    Raises UsageError when path is not a folder that can be read.
    """
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder.")
    root = path.resolve()
    return (ImageRef(path=file, shown=shown_of(file.relative_to(root))) for file in _files(root, root))


def classes(path: Path) -> list[ImageRef]:
    """One folder per class: the first folder below path names the class of every file in it.

    Raises BadManifest when there are no class folders, or no files in them.
    """
    refs = [
        ImageRef(path=ref.path, shown=ref.shown, labels={"class": ref.shown.split("/", 1)[0]})
        for ref in folder(path)
        if "/" in ref.shown or ref.path.is_dir()  # a class folder that cannot be read
    ]
    if not refs:
        raise BadManifest(f"{path} has no class folders with files in them.")
    return refs


def has_classes(path: Path) -> bool:
    """Whether some file lies in a folder below path."""
    return any("/" in ref.shown for ref in folder(path))


def _files(directory: Path, root: Path) -> Iterator[Path]:
    """Directories are entered only when they are real ones (no links), so there are no cycles."""
    try:
        with os.scandir(directory) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if directory == root:
            raise UsageError(f"The folder {shown_of(root)} cannot be read: {error.strerror}.") from error
        yield directory
        return
    for entry in ordered:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), root)
        elif _stays_inside(entry, root) and _may_be_file(entry):
            yield Path(entry.path)


def _stays_inside(entry: os.DirEntry[str], root: Path) -> bool:
    return not entry.is_symlink() or Path(os.path.realpath(entry.path)).is_relative_to(root)


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    """Also a link that cannot be followed: whoever reads it reports why."""
    try:
        return entry.is_file()
    except OSError:
        return True
