"""Files below a folder, in sorted order; zip archives among them are opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ..errors import BadManifest, UsageError
from ..files import GALLERY_DATABASE
from ..types import ImageRef
from .names import escaped
from .zipped import SUFFIX, zipped


def folder(path: Path) -> Iterator[ImageRef]:
    """Every file below path and in its zip archives, sorted, hidden ones skipped; a link that leads out of path is not
    followed.

    A folder below it that cannot be read stands for its files, and a pipe or a device for itself: whoever reads it
    reports why. A gallery below it is left out: it holds nobody's images. Only one folder's names at a time are in
    memory, and those of the folders around it.
    Raises UsageError when path is not a folder that can be read, or a gallery.
    """
    if not path.is_dir():
        raise UsageError("The source is not a folder.")
    if (path / GALLERY_DATABASE).is_file():
        raise UsageError("The source is a gallery, which holds no images: name the folder that its images came from.")
    return _refs(path.resolve())


def classes(path: Path) -> list[ImageRef]:
    """One folder per class: the first folder below path names the class of every file in it.

    Files and archives beside the class folders have no class and are left out.
    Raises BadManifest when there are no class folders, or no files in them.
    """
    refs = [replace(ref, labels={"class": ref.shown.split("/", 1)[0]}) for ref in folder(path) if _has_class(ref)]
    if not refs:
        raise BadManifest("The source has no class folders with files in them.")
    return refs


def has_classes(path: Path) -> bool:
    """Whether some file lies in a folder below path."""
    return any("/" in ref.shown_on_disk for ref in folder(path))


def _has_class(ref: ImageRef) -> bool:
    return "/" in ref.shown_on_disk or ref.path.is_dir()  # a class folder that cannot be read


def _refs(root: Path) -> Iterator[ImageRef]:
    """Depth first, with a stack of its own: folders may be nested deeper than Python's calls.

    Directories are entered only when they are real ones (no links), so there are no cycles.
    """
    stack = [(root, "", iter(_entries(root, is_root=True) or []))]
    while stack:
        directory, prefix, entries = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
        elif entry.is_dir(follow_symlinks=False):
            path, shown = directory / entry.name, prefix + escaped(entry.name)
            inside = _entries(path)
            if inside is None:
                yield ImageRef(path, shown)
            elif not any(found.name == GALLERY_DATABASE for found in inside):
                stack.append((path, shown + "/", iter(inside)))
        elif _stays_inside(entry, root) and (kind := _kind(entry)):
            path, shown = directory / entry.name, prefix + escaped(entry.name)
            if kind == "file" and entry.name[-4:].lower() == SUFFIX:
                yield from zipped(path, shown)
            else:
                yield ImageRef(path, shown)


def _entries(directory: Path, *, is_root: bool = False) -> list[os.DirEntry[str]] | None:
    """What lies in a folder, sorted; None when it cannot be read."""
    try:
        with os.scandir(directory) as entries:
            return sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        if is_root:
            raise UsageError(f"The source folder cannot be read: {error.strerror}.") from None
        return None


def _stays_inside(entry: os.DirEntry[str], root: Path) -> bool:
    return not entry.is_symlink() or Path(os.path.realpath(entry.path)).is_relative_to(root)


def _kind(entry: os.DirEntry[str]) -> Literal["file", "special"] | None:
    """None for links to folders, which are gone through where they are, and links to nothing. Special is also a link
    that cannot be followed: whoever reads it reports why.
    """
    try:
        if entry.is_file():  # most are, and need no look at the disk
            return "file"
        return None if stat.S_ISDIR(entry.stat().st_mode) else "special"
    except FileNotFoundError:
        return None
    except OSError:
        return "special"
