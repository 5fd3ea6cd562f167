"""Which files of a source need a look. Goes through the source in chunks, ahead of the decoders."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import Outcome
from ..files import file_sha256
from ..places import CRASHES, content_of, is_gone_stored, root_of, told_of
from ..privacy import Pseudonyms
from ..store import StoredFile, Survey
from ..store.rows import chunks
from ..types import ImageRef
from .tally import Tally

CHUNK = 1000  # files per look into the store; the decoders wait some 20 ms for one
GIVEN_UP = 2  # times that a file may crash the decoder, or keep it too long
GIVING_IMAGES: tuple[Outcome, ...] = ("decoded", "partial")

State = Literal["new", "same", "touched", "missing"]


@dataclass
class Plan:
    """Sorts the files of a source. Used by one thread at a time, which need not be the one that made it.

    reader: the version of the program; what another one failed at is tried again.
    """

    survey: Survey
    pseudonyms: Pseudonyms
    reader: str
    tally: Tally
    roots: set[str] = field(default_factory=set)
    _archive: tuple[Path, os.stat_result] | None = None

    def new(self, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """The files to look at; the others are counted."""
        for chunk in chunks(refs, CHUNK):
            yield from self._sort(chunk)

    def vanished(self) -> Iterator[list[StoredFile]]:
        """Files known of the folders of the source that it has no more, and that are really gone, in chunks."""
        for root in sorted(self.roots):
            unseen = self.survey.unseen(self.pseudonyms.of("folder", root))
            yield from chunks(file for file in unseen if is_gone_stored(file, self.pseudonyms))

    def _sort(self, refs: list[ImageRef]) -> list[ImageRef]:
        by_name = {self._name(ref): ref for ref in refs}
        known = self.survey.lookup(list(by_name))
        found: dict[State, list[StoredFile]] = {"same": [], "touched": [], "missing": []}
        todo = []
        for name, ref in by_name.items():
            file = known.get(name)
            state, now = ("new", None) if file is None else self._state(ref, file)
            if now is None:
                todo.append(ref)
            else:
                found[state].append(now)
        if found["touched"]:
            self.survey.touch(found["touched"])
        self._count(found["same"] + found["touched"], found["missing"])
        return todo

    def _count(self, same: list[StoredFile], missing: list[StoredFile]) -> None:
        failed = [self._told_again(file) for file in same if file.outcome != "decoded"]
        self.tally.list_not_indexed(same)
        if same or missing:
            self.tally.survey(len(same) - len(failed), failed, missing)

    def _told_again(self, file: StoredFile) -> StoredFile:
        if file.outcome not in CRASHES:
            return file
        return file._replace(reason=f"{file.reason} It was tried {file.attempts} times, and is left alone.")

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
        if known.reader != self.reader:
            return False
        return known.attempts >= GIVEN_UP if known.outcome in CRASHES else known.content != ""

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
