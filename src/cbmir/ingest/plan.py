"""Which files of a source need a look. Goes through the source in chunks, ahead of the decoders."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import GIVING_IMAGES
from ..files import file_sha256
from ..images.limits import NO_MEMORY
from ..places import (
    CERTAIN,
    CRASHES,
    ReaderVersion,
    content_of,
    has_lost_its_root,
    has_opened,
    is_gone_stored,
    root_of,
    told_of,
)
from ..privacy import Pseudonyms
from ..store import StoredFile, Survey
from ..store.rows import chunks
from ..types import ImageRef
from .tally import Tally

CHUNK = 1000  # files per look into the store; the decoders wait some 20 ms for one
GIVEN_UP = 2  # times that a file may crash the decoder, or keep it too long

State = Literal["new", "same", "touched", "missing"]


@dataclass
class Plan:
    """Sorts the files of a source. Used by one thread at a time, which need not be the one that made it.

    reader: what another version failed at is tried again, and what failed under smaller limits.
    """

    survey: Survey
    pseudonyms: Pseudonyms
    reader: ReaderVersion
    tally: Tally
    roots: set[str] = field(default_factory=set)
    _archive: tuple[Path, os.stat_result] | None = None

    def new(self, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """The files to look at; the others are counted."""
        for chunk in chunks(refs, CHUNK):
            yield from self._sort(chunk)

    def clear_up(self) -> None:
        """At the end: files known of the folders of the source that it has no more, and that are really gone, have
        vanished; files without images are forgotten that only stood for others, or whose whole source is gone.
        """
        own = {self.pseudonyms.of("folder", root) for root in self.roots}
        for folder in sorted(own):
            for unseen in chunks(self.survey.unseen(folder)):
                gone = [file for file in unseen if is_gone_stored(file, self.pseudonyms)]
                self.survey.settle(gone + [file for file in unseen if has_opened(file, self.pseudonyms)])
                self.tally.vanished += [file.handle for file in gone]
        for folder in set(self.survey.folders()) - own:
            one = self.survey.without_images(folder)
            if one is not None and has_lost_its_root(one, self.pseudonyms):
                self.survey.forget(folder)

    def _sort(self, refs: list[ImageRef]) -> list[ImageRef]:
        by_name = {self._name(ref): ref for ref in refs}
        known = self.survey.lookup(list(by_name))
        found: dict[State, list[StoredFile]] = {"same": [], "touched": [], "missing": []}
        due = []
        for name, ref in by_name.items():
            file = known.get(name)
            state, now = ("new", None) if file is None else self._state(ref, file)
            if now is None:
                due.append(ref)
            else:
                found[state].append(now)
        if found["touched"]:
            self.survey.touch(found["touched"])
        self._count(found["same"] + found["touched"], found["missing"])
        return due

    def _count(self, same: list[StoredFile], missing: list[StoredFile]) -> None:
        failed = [self._told_again(file) for file in same if file.outcome != "decoded"]
        self.tally.list_not_indexed(same)
        if same or missing:
            self.tally.survey(len(same) - len(failed), failed, missing)

    def _told_again(self, file: StoredFile) -> StoredFile:
        times = f"It was tried {file.attempts} times, and is left alone until it changes or"
        match file.outcome:
            case "timed_out":
                return file._replace(reason=f"{file.reason} {times} may take longer (--timeout).")
            case "crashed":
                return file._replace(reason=f"{file.reason} {times} has more memory (--memory).")
            case _ if _lacked_memory(file):
                return file._replace(reason=f"{file.reason} It is tried again with more (--memory).")
        return file

    def _name(self, ref: ImageRef) -> str:
        root = root_of(ref)
        self.roots.add(root)
        return self.pseudonyms.file_name(root, ref.shown)

    def _state(self, ref: ImageRef, known: StoredFile) -> tuple[State, StoredFile | None]:
        """What has become of a known file, and the file as it is now unless it is to be looked at."""
        try:
            status = self._stat(ref)
            if not self._may_rest(ref, known, status):
                return "new", None
            if known.mtime_ns == status.st_mtime_ns and known.size == status.st_size:
                return "same", known
            if ref.member is not None or not self._same_content(ref, known, status):
                return "new", None
        except FileNotFoundError:
            return ("missing", known) if known.outcome in GIVING_IMAGES else ("new", None)
        except (OSError, ValueError):
            return "new", None  # cannot be read: extraction says why
        return "touched", known._replace(mtime_ns=status.st_mtime_ns)

    def _may_rest(self, ref: ImageRef, known: StoredFile, status: os.stat_result) -> bool:
        """Whether there is no reason to look again, if its content is the same."""
        if known.told != told_of(ref, self.pseudonyms):
            return False
        if known.outcome == "decoded":
            return True
        if known.reader != self.reader.version or self._allows_more(known):
            return False
        if known.outcome in CRASHES:
            return known.attempts >= GIVEN_UP
        return known.content != "" or known.outcome in CERTAIN

    def _allows_more(self, known: StoredFile) -> bool:
        now = known._replace(timeout_s=self.reader.timeout_s, memory_bytes=self.reader.memory)
        return allows_more(now, known)

    def _same_content(self, ref: ImageRef, known: StoredFile, status: os.stat_result) -> bool:
        if not known.content or known.size != status.st_size or not stat.S_ISREG(status.st_mode):
            return False
        return known.content == content_of(file_sha256(ref.path), self.pseudonyms)

    def _stat(self, ref: ImageRef) -> os.stat_result:
        """Of the file; of the archive, once for all its members, for a member."""
        if ref.member is None:
            return os.stat(ref.path)
        if self._archive is None or self._archive[0] != ref.path:
            self._archive = ref.path, os.stat(ref.path)
        return self._archive[1]


def allows_more(now: StoredFile, before: StoredFile) -> bool:
    """Whether a file that failed may give more now: of time where it took too long, of memory where it had too little.

    Both: the same file, under the limits of now and of before.
    """
    if before.outcome == "timed_out":
        return now.timeout_s > before.timeout_s
    return (before.outcome == "crashed" or _lacked_memory(before)) and now.memory_bytes > before.memory_bytes


def _lacked_memory(file: StoredFile) -> bool:
    return NO_MEMORY in (file.reason or "")
