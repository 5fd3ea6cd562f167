"""Where files are. A gallery keeps it sealed, and knows a file by keyed digests of its place and content."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .archives import members
from .errors import BadImage, Outcome
from .privacy import Pseudonyms
from .sources import shown_of
from .store import Entry, StoredFile
from .types import ImageRef

if TYPE_CHECKING:  # whoever only searches needs no images
    from .extract import Extracted

CRASHES: tuple[Outcome, ...] = ("crashed", "timed_out")


@dataclass(frozen=True)
class Place:
    """A file of a gallery, for whoever holds the key. path: of the file, or of a member as archive/member; None for a
    file of which a gallery of version 1 knew.
    """

    handle: str
    path: str | None
    outcome: Outcome
    reason: str | None


def root_of(ref: ImageRef) -> str:
    """The folder of the source a file is of: its path without what its source shows of it, as `shown_of` writes it."""
    shown = ref.shown if ref.member is None else ref.shown.removesuffix("/" + ref.member)
    path = str(ref.path)
    if path.isascii() and path.endswith("/" + shown):
        return path[: -len(shown) - 1] or "/"
    return shown_of(ref.path.parents[len(PurePosixPath(shown).parts) - 1])


def name_of(ref: ImageRef, pseudonyms: Pseudonyms) -> str:
    """What a gallery knows the file by."""
    return pseudonyms.file_name(root_of(ref), ref.shown)


def told_of(ref: ImageRef, pseudonyms: Pseudonyms) -> str:
    """Digest of what the source says about a file; labels that change make the file count as changed."""
    return _told(tuple(ref.labels.items()), ref.patient, ref.modality, ref.source, pseudonyms)


@lru_cache(4096)
def _told(
    labels: tuple[tuple[str, str], ...],
    patient: str | None,
    modality: str | None,
    source: str | None,
    pseudonyms: Pseudonyms,
) -> str:
    patient = None if patient is None else pseudonyms.of("patient", patient)
    told = json.dumps([dict(labels), patient, modality, source], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def content_of(sha256: str, pseudonyms: Pseudonyms) -> str:
    """Keyed, for whoever has a file of somebody's could else ask a gallery for it. Empty when nothing was read."""
    return pseudonyms.of("content", sha256) if sha256 else ""


def sealed_place(ref: ImageRef, pseudonyms: Pseudonyms) -> bytes:
    return pseudonyms.seal(json.dumps([str(ref.path), ref.shown, ref.member]))


def ref_of(file: StoredFile, pseudonyms: Pseudonyms) -> ImageRef | None:
    """The file as its source gave it, without what was told about it; None when its place is not known.

    Raises CbmirError with another key.
    """
    if not file.place:
        return None
    path, shown, member = json.loads(pseudonyms.unseal(file.place))
    return ImageRef(Path(path), shown, member=member)


def place_of(file: StoredFile, pseudonyms: Pseudonyms) -> Place:
    ref = ref_of(file, pseudonyms)
    path = None
    if ref is not None:
        path = shown_of(ref.path) + ("" if ref.member is None else f"/{ref.member}")
    return Place(file.handle, path, file.outcome, file.reason)


def is_gone(ref: ImageRef) -> bool:
    """Whether a file, or the member of an archive, is certainly no longer there."""
    try:
        status = os.stat(ref.path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # a folder above it cannot be read now, which says nothing of the file
        return False
    names = None if ref.member is None else _members(ref.path, status.st_mtime_ns)
    return names is not None and ref.member not in names


def is_gone_stored(file: StoredFile, pseudonyms: Pseudonyms) -> bool:
    """The same for a file of the gallery; one without a place is gone."""
    ref = ref_of(file, pseudonyms)
    return ref is None or is_gone(ref)


@lru_cache(2)
def _members(path: Path, mtime_ns: int) -> frozenset[str] | None:
    """The names in an archive as it was at this time; None when it cannot be opened, which says nothing of them."""
    try:
        return frozenset(member.name for member in members(path))
    except BadImage:
        return None


def entry_of(file: Extracted, pseudonyms: Pseudonyms, reader: str = "") -> Entry:
    """A file that was looked at, as a gallery takes it. reader: which version of the program looked at it."""
    decoded = file.decoded
    ref = decoded.ref
    root = root_of(ref)
    size, mtime_ns = decoded.size, decoded.mtime_ns
    if decoded.outcome in CRASHES:  # whoever looked at it could not tell
        size, mtime_ns = _size_and_time(ref.path)
    stored = StoredFile(
        name=pseudonyms.file_name(root, ref.shown),
        folder=pseudonyms.of("folder", root),
        handle=pseudonyms.handle(root, ref.shown),
        place=sealed_place(ref, pseudonyms),
        size=size,
        mtime_ns=mtime_ns,
        content=content_of(decoded.content_hash, pseudonyms),
        told=told_of(ref, pseudonyms),
        outcome=decoded.outcome,
        reason=decoded.reason,
        reader=reader,
    )
    return Entry(stored, file.records, file.features, file.posterior)


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0, 0
    return status.st_size, status.st_mtime_ns
