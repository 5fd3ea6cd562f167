"""Where images come from. Each source gives ImageRefs; none decodes pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import BadManifest, UsageError
from ..types import ImageRef
from .dicomdir import dicomdir, is_dicomdir
from .folder import classes, folder, has_classes
from .manifest import manifest, read_manifest
from .names import shown_of
from .zipped import SUFFIX, zipped

__all__ = [
    "classes",
    "dicomdir",
    "distinct",
    "folder",
    "labelled",
    "manifest",
    "open_source",
    "read_manifest",
    "shown_of",
    "zipped",
]

MANIFEST_NAME = "manifest.csv"


def open_source(path: Path) -> Iterator[ImageRef]:
    """The images of a manifest (CSV), a folder (its manifest.csv, else every file below it), a zip archive, the files
    that a DICOMDIR names, or one file.

    Raises UsageError when there is nothing at path, BadManifest for a manifest or DICOMDIR that cannot be used.
    """
    found = _manifest_of(path)
    if found is not None:
        return read_manifest(found)
    if path.is_dir():
        return folder(path)
    path = path.resolve()
    if path.suffix.lower() == SUFFIX:
        return zipped(path, shown_of(Path(path.name)))
    if is_dicomdir(path):
        return dicomdir(path)
    return iter([ImageRef(path, shown_of(Path(path.name)))])


def distinct(paths: Sequence[Path]) -> list[Path]:
    """Sources without those named twice, and without those in a folder that is taken whole anyhow.

    Raises UsageError when there is nothing at a path, or for a manifest in such a folder: what it tells of the files
    would be lost or kept as the order has it.
    """
    known = {path.resolve() if (found := _manifest_of(path)) is None else found.resolve(): path for path in paths}
    folders = [real for real in known if real.is_dir()]
    kept = []
    for real, path in known.items():
        if not any(_is_covered(real, folder) for folder in folders):
            kept.append(path)
        elif _manifest_of(real) is not None:
            raise UsageError("One source is a manifest inside another source, which is a folder: index one of the two.")
    return kept


def _is_covered(path: Path, folder: Path) -> bool:
    """Whether files of path are among those of the folder, which skips hidden ones."""
    inside = path.relative_to(folder).parts if path.is_relative_to(folder) else ()
    return bool(inside) and not any(part.startswith(".") for part in inside)


def labelled(path: Path, *, class_folders: bool = True) -> list[ImageRef]:
    """Images with classes: a manifest with a class column, a folder with such a manifest.csv, or a folder per class.

    class_folders: False where nobody has said that folders are classes: they may be patients.
    Raises UsageError when there is nothing at path, BadManifest when no image has a class.
    """
    found = _manifest_of(path)
    if found is None and class_folders and path.is_dir() and has_classes(path):
        return classes(path)
    if found is None:
        raise BadManifest("The source has no classes: give a manifest with a class column, or one folder per class.")
    refs = manifest(found)
    if not any(ref.label for ref in refs):
        raise BadManifest("The manifest has no class column, or no class in it: add a column named class.")
    return refs


def _manifest_of(path: Path) -> Path | None:
    if not path.exists():
        raise UsageError(f"There is no {path}.")
    if path.is_file() and path.suffix.lower() == ".csv":
        return path
    inside = path / MANIFEST_NAME
    return inside if path.is_dir() and inside.is_file() else None
