"""Counts while an index run goes on, and the report at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import OUTCOMES, Outcome
from ..files import write_json
from ..gallery import Gallery
from ..store import Added, Entry, StoredFile

IndexProgress = Callable[[int, int | None, Mapping[Outcome, int]], None]
"""Called with files done, files in all (None while nobody knows), and how many ended in each outcome so far.

What is done is durable. May be called from another thread, by one at a time.
"""

Total = int | Callable[[], int] | None

_COUNTING_DELAY_S = 2.0  # a run over unchanged files is through before its files are counted


@dataclass(frozen=True)
class IndexReport:
    """What an index run did.

    outcomes: how many files ended in each outcome, those included that were looked at before, failed, and are as they
    were. added: images that are in the gallery now and were not, or were another version. moved: images whose file has
    another place now. unchanged: files that needed no look. vanished: files the gallery knows of this source that are
    gone; their images stay. duplicates: images left out because another file had brought them; conflicts: those of
    them that show other pixels than the first. pixel_duplicates: images with the pixels of another one that was there;
    skipped: those of them that were left out for it, as --duplicates skip asks. erased: images left out since they, or
    all of their patient, study or series, were removed (`cbmir remove`). burned_in: images of this run that may
    show text. failed: {path: handle, outcome, reason} of every file that was not wholly decoded; not_indexed: the same
    of files that decode and show no picture. seconds, rate: files a second.
    report: the JSON with all of it; html: where the page for people goes. atlas: what became of the gallery's map
    (atlas.AtlasReport), where one was made after the run.
    """

    outcomes: dict[Outcome, int]
    added: int
    moved: int
    unchanged: int
    vanished: int
    duplicates: int
    conflicts: int
    pixel_duplicates: int
    skipped: int
    erased: int
    burned_in: int
    failed: tuple[dict[str, str], ...]
    not_indexed: tuple[dict[str, str], ...]
    seconds: float
    rate: float
    report: Path
    atlas: Mapping[str, Any] | None = None

    @property
    def html(self) -> Path:
        return self.report.with_suffix(".html")

    @property
    def unreadable(self) -> int:
        """Files that are images, or may be, and of which something could not be read."""
        return sum(n for outcome, n in self.outcomes.items() if outcome not in ("decoded", "not_an_image"))

    def as_dict(self) -> dict[str, Any]:
        lists = {"failed": list(self.failed), "not_indexed": list(self.not_indexed)}
        return {**self.__dict__, **lists, "report": str(self.report), "html": str(self.html)}


COUNTS: Mapping[str, tuple[str, str]] = {
    "added": ("image added", "images added"),
    "unchanged": ("file unchanged", "files unchanged"),
    "vanished": ("file vanished", "files vanished"),
    "duplicates": ("image left out that another file had brought", "images left out that other files had brought"),
    "moved": ("image whose file has another place now", "images whose files have another place now"),
    "conflicts": (
        "image left out that has the identity of another one and other pixels",
        "images left out that have the identity of another one and other pixels",
    ),
    "pixel_duplicates": ("image with the pixels of another one", "images with the pixels of other ones"),
    "skipped": (
        "image left out for its pixels, as --duplicates skip asks",
        "images left out for their pixels, as --duplicates skip asks",
    ),
    "erased": ("image left out that was removed before", "images left out that were removed before"),
    "burned_in": ("image that may show burned-in text", "images that may show burned-in text"),
}
"""Key of the report -> what it counts, of one and of any other number; for people."""


def counted(key: str, number: int) -> str:
    one, many = COUNTS[key]
    return one if number == 1 else many


@dataclass
class Tally:
    """Of what a run did so far. Two threads count: the one that looks for new files, and the one that adds them.

    The lists are for the report, and grow with what is in them.
    """

    on_progress: IndexProgress | None
    total: int | None = None
    unchanged: int = 0
    missing: int = 0  # of the files the source lists
    added: int = 0
    moved: int = 0
    skipped: int = 0
    erased: int = 0
    burned_in: int = 0
    duplicates: list[str] = field(default_factory=list)  # ids, as the two that follow
    conflicts: list[str] = field(default_factory=list)
    pixel_duplicates: list[tuple[str, str]] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    not_indexed: list[dict[str, str]] = field(default_factory=list)
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    started: float = field(default_factory=time.monotonic)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def survey(self, unchanged: int, remembered: Iterable[StoredFile], missing: Iterable[StoredFile]) -> None:
        """Files that need no look: the same as before; failed before; listed by the source, and gone."""
        with self.lock:
            self.unchanged += unchanged
            for file in remembered:
                self._end(file)
            handles = [file.handle for file in missing]
            self.vanished += handles
            self.missing += len(handles)
            self.tell()

    def commit(self, entries: Iterable[Entry], added: Added) -> None:
        """Files that were looked at; what they brought is durable."""
        with self.lock:
            for entry in entries:
                self._end(entry.file)
                self.burned_in += sum("burned_in" in record.attributes for record in entry.records)
            self._add(added)
            self.tell()

    def list_not_indexed(self, files: Iterable[StoredFile]) -> None:
        """Files that decode and show no picture."""
        self.not_indexed += [_listed(file) for file in files if file.outcome == "decoded" and file.reason]

    def tell(self) -> None:
        if self.on_progress is not None:
            with self.lock:
                self.on_progress(self.done, self.total, dict(self.outcomes))

    def _add(self, added: Added) -> None:
        self.added += added.added
        self.moved += added.moved
        self.skipped += added.skipped
        self.erased += added.erased
        self.duplicates += [record_id for record_id, _ in added.duplicates]
        self.conflicts += added.conflicts
        self.pixel_duplicates += added.pixel_duplicates

    @property
    def done(self) -> int:
        return self.unchanged + self.missing + sum(self.outcomes.values())

    def _end(self, file: StoredFile) -> None:
        self.outcomes[file.outcome] += 1
        if file.outcome != "decoded":
            self.failed.append(_listed(file))


def _listed(file: StoredFile) -> dict[str, str]:
    return {"path": file.handle, "outcome": file.outcome, "reason": file.reason or file.outcome}


def find_total(refs: Iterable[Any], total: Total, tally: Tally) -> None:
    """Tells the tally how many files there are: at once where that is known, else as soon as they are counted."""
    if callable(total):
        threading.Thread(target=_count, args=(total, tally), name="cbmir-count", daemon=True).start()
    else:
        known = len(refs) if isinstance(refs, Sized) else None
        tally.total = known if total is None else total


def _count(count: Callable[[], int], tally: Tally) -> None:
    time.sleep(_COUNTING_DELAY_S)
    try:
        tally.total = count()
    except Exception:  # a source that cannot be counted has no total: the run itself says what is wrong with it
        tally.total = None


def finished(tally: Tally, gallery: Gallery) -> IndexReport:
    """The report, written into the gallery as well, there with every vanished file and the id of every duplicate."""
    now = datetime.now(UTC)
    seconds = time.monotonic() - tally.started
    report = IndexReport(
        outcomes=tally.outcomes,
        added=tally.added,
        moved=tally.moved,
        unchanged=tally.unchanged,
        vanished=len(tally.vanished),
        duplicates=len(tally.duplicates),
        conflicts=len(tally.conflicts),
        pixel_duplicates=len(tally.pixel_duplicates),
        skipped=tally.skipped,
        erased=tally.erased,
        burned_in=tally.burned_in,
        failed=tuple(tally.failed),
        not_indexed=tuple(tally.not_indexed),
        seconds=round(seconds, 6),
        rate=round(tally.done / max(seconds, 1e-9), 1),
        report=gallery.directory / "reports" / f"index-{now:%Y%m%dT%H%M%S-%f}.json",
    )
    details = {
        "report": report.report.name,
        "html": report.html.name,
        "finished": now.isoformat(timespec="seconds"),
        "encoder": gallery.encoder_fingerprint,
        "vanished_files": tally.vanished,
        "duplicate_images": tally.duplicates,
        "conflicting_images": tally.conflicts,
        "images_of_same_pixels": tally.pixel_duplicates,
    }
    report.report.parent.mkdir(exist_ok=True)
    write_json(report.report, {**report.as_dict(), **details})
    return report
