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
from .errors import GIVING_IMAGES, BadImage, CbmirError, Outcome
from .privacy import Pseudonyms
from .sources import shown_of
from .sources.zipped import SUFFIX
from .store import Entry, StoredFile
from .types import ImageRef

if TYPE_CHECKING:  # whoever only searches needs no images
    from .extract import Extracted

CRASHES: tuple[Outcome, ...] = ("crashed", "timed_out")
CERTAIN: tuple[Outcome, ...] = ("not_an_image", "refused", "unsupported")
"""What a file is for good while it stays as it is, though it was not read to its end: empty, say."""


@dataclass(frozen=True)
class ReaderVersion:
    """Who looks at files. version: of the program; timeout_s, memory_bytes (None: any): what the decoder may take."""

    version: str = ""
    timeout_s: float = 0
    memory_bytes: int | None = 0

    @property
    def memory(self) -> int:
        """As a number that the gallery can keep."""
        return _ANY_MEMORY if self.memory_bytes is None else min(self.memory_bytes, _ANY_MEMORY)


_ANY_MEMORY = 2**63 - 1
NOBODY = ReaderVersion()


@dataclass(frozen=True)
class Place:
    """A file of a gallery, for whoever holds the key. path: of the file, or of a member as archive/member; None where
    the gallery is damaged.
    """

    handle: str
    path: str | None
    outcome: Outcome
    reason: str | None


def root_of(ref: ImageRef) -> str:
    """The folder of the source a file is of: its path without what its source shows of it, as `shown_of` writes it."""
    shown = ref.shown_on_disk
    path = str(ref.path)
    if path.isascii() and "\\" not in path and path.endswith("/" + shown):  # as most are; shown as they are
        return path[: -len(shown) - 1] or "/"
    return shown_of(_root_path(ref))


def _root_path(ref: ImageRef) -> Path:
    return ref.path.parents[len(PurePosixPath(ref.shown_on_disk).parts) - 1]


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
    ref = _known_ref(file, pseudonyms)
    path = None
    if ref is not None:
        path = shown_of(ref.path) + ("" if ref.member is None else f"/{ref.member}")
    return Place(file.handle, path, file.outcome, file.reason)


def is_gone(ref: ImageRef) -> bool:
    """Whether a file, or the member of an archive, is certainly no longer there."""
    return _look(ref)[0]


def _look(ref: ImageRef) -> tuple[bool, tuple[int, int] | None]:
    """is_gone, and size and time of the file as far as it can be looked at."""
    try:
        status = os.stat(ref.path)
    except (FileNotFoundError, NotADirectoryError):
        return True, None
    except (OSError, ValueError):  # a folder above it cannot be read now, which says nothing of the file
        return False, None
    names = None if ref.member is None else _members(ref.path, status.st_mtime_ns)
    return names is not None and ref.member not in names, (status.st_size, status.st_mtime_ns)


def is_gone_stored(file: StoredFile, pseudonyms: Pseudonyms) -> bool:
    """The same for a file of the gallery; one whose place is not known is gone."""
    ref = _known_ref(file, pseudonyms)
    return ref is None or is_gone(ref)


def has_left(file: StoredFile, pseudonyms: Pseudonyms) -> bool:
    """Whether what the gallery knows of a file is no longer there: it is gone, or it (its archive, for a member) has
    changed since it was looked at. Its images then belong to whoever brings them: of files that were renumbered, each
    stands where another was.
    """
    ref = _known_ref(file, pseudonyms)
    if ref is None:
        return True
    gone, now = _look(ref)
    return gone or now not in (None, (file.size, file.mtime_ns))


def has_opened(file: StoredFile, pseudonyms: Pseudonyms) -> bool:
    """Whether a folder or an archive that stood for the files in it, since it could not be read, can be read now."""
    ref = _known_ref(file, pseudonyms)
    if ref is None or ref.member is not None or file.outcome in GIVING_IMAGES:
        return False
    try:
        with os.scandir(ref.path):
            return True
    except NotADirectoryError:
        return ref.path.suffix.lower() == SUFFIX and bool(_members(ref.path, os.stat(ref.path).st_mtime_ns))
    except (OSError, ValueError):
        return False


def has_lost_its_root(file: StoredFile, pseudonyms: Pseudonyms) -> bool:
    """Whether the whole folder that the source was is gone, or is not known."""
    ref = _known_ref(file, pseudonyms)
    if ref is None:
        return True
    root = _root_path(ref)
    return is_gone(ImageRef(root, root.name))


def _known_ref(file: StoredFile, pseudonyms: Pseudonyms) -> ImageRef | None:
    """As ref_of, for whoever has checked the key: a place that is damaged is not known, and stops nobody."""
    try:
        return ref_of(file, pseudonyms)
    except (CbmirError, ValueError):
        return None


@lru_cache(2)
def _members(path: Path, mtime_ns: int) -> frozenset[str] | None:
    """The names in an archive as it was at this time; None when it cannot be opened, which says nothing of them."""
    try:
        return frozenset(member.name for member in members(path))
    except BadImage:
        return None


def entry_of(file: Extracted, pseudonyms: Pseudonyms, reader: ReaderVersion = NOBODY) -> Entry:
    """A file that was looked at, as a gallery takes it."""
    decoded = file.decoded
    ref = decoded.ref
    root = root_of(ref)
    size, mtime_ns = decoded.size, decoded.mtime_ns
    if decoded.outcome in CRASHES:
        size, mtime_ns = _size_and_time(ref.path) or (0, 0)  # whoever looked at it could not tell
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
        reader=reader.version,
        timeout_s=reader.timeout_s,
        memory_bytes=reader.memory,
    )
    return Entry(stored, file.records, file.features, file.posterior)


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns
