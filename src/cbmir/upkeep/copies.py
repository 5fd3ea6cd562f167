"""A backup of a gallery while it is in use, and a gallery made of one.

A backup is the store as it was at one moment, one file: all else in a gallery is made from it, run reports aside.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from ..errors import BadGallery, UsageError
from ..files import GALLERY_DATABASE, file_sha256
from ..gallery import Gallery
from ..gallery.upkeep import verify


def backup(gallery: Gallery, to: Path) -> dict[str, Any]:
    """Writes the file, in one step when it is whole; an older one is replaced. Others may read and write meanwhile.

    Raises UsageError for a place inside the gallery, or where no file can be.
    """
    to = to.resolve()
    if to.is_relative_to(gallery.directory.resolve()):
        raise UsageError("A backup does not lie in the gallery itself: give --to another folder.")
    if to.is_dir() or not to.parent.is_dir():
        raise UsageError(f"--to is a file, in a folder that is there: {to} cannot be one.")
    if to.name == GALLERY_DATABASE and to.exists():
        raise UsageError(f"{to} may be that of another gallery, and is not written over: give --to another name.")
    gallery.store.backup(to)
    return {"file": str(to), "bytes": to.stat().st_size, "sha256": file_sha256(to)}


def restore(file: Path, directory: Path) -> dict[str, Any]:
    """Makes a gallery of a backup in a folder that is not there or empty. It gets its name when it is verified.

    Raises UsageError when there is no such file, BadGallery when the folder holds something or cannot be made, or the
    backup is damaged.
    """
    if not file.is_file():
        raise UsageError(f"There is no backup {file}.")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BadGallery(f"{directory} is there and not empty: restore into a folder of its own")
    place = directory.resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BadGallery(f"{directory} cannot be made a gallery: a file is in its way") from None
    staging = place.with_name(f".{place.name}.{secrets.token_hex(4)}.new")
    try:
        staging.mkdir()
        shutil.copyfile(file, staging / GALLERY_DATABASE)
        told = _checked(staging, file)
        _sync(staging / GALLERY_DATABASE, staging)
        os.replace(staging, place)
        _sync(place.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return {"gallery": str(directory), **told}


def _checked(directory: Path, file: Path) -> dict[str, Any]:
    """What the gallery made of a backup holds. Raises BadGallery when it is not whole."""
    try:
        with Gallery.open(directory) as gallery:
            found = verify(gallery.store)
            told = {"records": gallery.count, "encoder": str(gallery.encoder)}
    except BadGallery:
        raise BadGallery(f"{file} is no whole backup of a gallery, or one of a newer cbmir: take another one") from None
    if not found["ok"]:
        raise BadGallery(f"the backup {file} is damaged, take another one: {found['problems'][0]}")
    return told


def _sync(*paths: Path) -> None:
    """These files and folders are on the disk then."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
