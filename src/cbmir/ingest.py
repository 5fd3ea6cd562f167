"""An index run: from a source into a gallery. Incremental, resumable, with a report of what became of every file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .encoder import Encoder
from .errors import OUTCOMES, Outcome
from .extract import Extracted, extract
from .files import file_sha256, write_json
from .gallery import Gallery, root_of, stored_file, told_of
from .privacy import Pseudonyms
from .store import StoredFile
from .types import ImageRef

Progress = Callable[[int, int, Mapping[Outcome, int]], None]
"""Called with files done, files in all, and how many ended in each outcome so far."""

_COMMIT_IMAGES = 64  # images per transaction, and
_COMMIT_S = 2.0  # the longest time that work waits to be made durable while files keep coming


@dataclass(frozen=True)
class IndexReport:
    """What an index run did.

    outcomes: how many of the files looked at in this run ended in each outcome. added: images that are in the gallery
    now and were not, or were another version. unchanged: files that needed no look. vanished: files the gallery knows
    of this source that are gone; their images stay. duplicates: images left out because another file had brought
    them. failed: path, outcome, reason of every file that is not wholly decoded. report: the JSON with all of it.
    """

    outcomes: dict[Outcome, int]
    added: int
    unchanged: int
    vanished: int
    duplicates: int
    failed: tuple[dict[str, str], ...]
    report: Path

    @property
    def unreadable(self) -> int:
        """Files that are images, or may be, and of which something could not be read."""
        return sum(n for outcome, n in self.outcomes.items() if outcome not in ("decoded", "not_an_image"))

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "failed": list(self.failed), "report": str(self.report)}


def index_source(
    refs: Iterable[ImageRef],
    gallery: Gallery,
    encoder: Encoder,
    pseudonyms: Pseudonyms,
    *,
    workers: int | None = None,
    batch_size: int = 64,
    timeout_s: float = 60,
    on_progress: Progress | None = None,
) -> IndexReport:
    """Brings a gallery up to date with a source. What is done is committed batch by batch: a killed run goes on
    where it was when it is started again.

    A file of the same size, time and labels is not opened; one of the same content is not decoded; files that were not
    wholly decoded last time are tried again. A file that has become unreadable keeps the images it gave before.
    Raises BadGallery when the encoder or the key is not the gallery's, or another process is writing.
    """
    gallery.check_encoder(encoder)
    gallery.check_pseudonyms(pseudonyms)
    with gallery.writing():
        plan = _plan(refs, gallery, pseudonyms)
        gallery.touch(plan.touched)
        tally = _Tally(plan)
        tally.tell(on_progress)
        extracted = extract(plan.todo, encoder, pseudonyms, workers=workers, batch_size=batch_size, timeout_s=timeout_s)
        with closing(extracted) as stream:
            for batch in _batches(stream):
                tally.count(batch)
                added = gallery.add([file for file in batch if not plan.keeps(file, pseudonyms)], pseudonyms)
                tally.added += added.added
                tally.duplicates += added.duplicates
                tally.tell(on_progress)
    return _report(tally, gallery)


@dataclass(frozen=True)
class _Plan:
    """What an index run has to do. known: files with images in the gallery, by root and shown path."""

    todo: list[ImageRef]
    unchanged: int
    touched: list[StoredFile]
    vanished: list[str]
    known: Mapping[tuple[str, str], StoredFile]

    @property
    def total(self) -> int:
        return len(self.todo) + self.unchanged + len(self.vanished)

    def keeps(self, file: Extracted, pseudonyms: Pseudonyms) -> bool:
        """Whether the images a file gave before stay as they are: it gives none now, or (partial) the same again."""
        known = self.known.get((root_of(file.decoded.ref), file.decoded.ref.shown))
        return known is not None and (not file.records or known == stored_file(file, pseudonyms))


def _plan(refs: Iterable[ImageRef], gallery: Gallery, pseudonyms: Pseudonyms) -> _Plan:
    by_key = {(root_of(ref), ref.shown): ref for ref in refs}
    roots = dict.fromkeys(root for root, _ in by_key)
    files = {(file.root, file.shown): file for root in roots for file in gallery.files(root)}
    known = {key: file for key, file in files.items() if file.outcome in ("decoded", "partial")}
    states = {key: _state(ref, known.get(key), pseudonyms) for key, ref in by_key.items()}
    gone = (shown for root, shown in known.keys() - by_key.keys() if _is_gone(known[root, shown].path))
    return _Plan(
        todo=[by_key[key] for key, state in states.items() if state == "new"],
        unchanged=sum(state == "unchanged" or isinstance(state, StoredFile) for state in states.values()),
        touched=[state for state in states.values() if isinstance(state, StoredFile)],
        vanished=sorted(shown for (_, shown), state in states.items() if state == "vanished") + sorted(gone),
        known=known,
    )


def _state(ref: ImageRef, known: StoredFile | None, pseudonyms: Pseudonyms) -> str | StoredFile:
    """new, vanished, unchanged, or the file as it now is when only its time differs."""
    if known is None:
        return "new"
    try:
        status = ref.path.stat()
        if known.outcome == "partial" or known.told != told_of(ref, pseudonyms) or known.size != status.st_size:
            return "new"
        if known.mtime_ns == status.st_mtime_ns:
            return "unchanged"
        same = known.content_hash == file_sha256(ref.path)
    except FileNotFoundError:
        return "vanished"
    except OSError:
        return "new"  # cannot be read: extraction says why
    return replace(known, mtime_ns=status.st_mtime_ns) if same else "new"


def _is_gone(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # a folder above it cannot be read now, which says nothing of the file
        return False
    return False


def _batches(files: Iterable[Extracted]) -> Iterator[list[Extracted]]:
    """Files in groups of about _COMMIT_IMAGES images, or of what came in _COMMIT_S seconds."""
    batch: list[Extracted] = []
    images, started = 0, time.monotonic()
    for file in files:
        batch.append(file)
        images += max(1, len(file.records))
        if images >= _COMMIT_IMAGES or time.monotonic() - started > _COMMIT_S:
            yield batch
            batch, images, started = [], 0, time.monotonic()
    if batch:
        yield batch


@dataclass
class _Tally:
    """Counts while a run goes on."""

    plan: _Plan
    added: int = 0
    duplicates: tuple[tuple[str, str], ...] = ()
    failed: list[dict[str, str]] = field(default_factory=list)
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))

    def count(self, batch: Iterable[Extracted]) -> None:
        for file in batch:
            decoded = file.decoded
            self.outcomes[decoded.outcome] += 1
            if decoded.outcome != "decoded":
                reason = decoded.reason or decoded.outcome
                self.failed.append({"path": decoded.ref.shown, "outcome": decoded.outcome, "reason": reason})

    def tell(self, on_progress: Progress | None) -> None:
        if on_progress is not None:
            done = self.plan.unchanged + len(self.plan.vanished) + sum(self.outcomes.values())
            on_progress(done, self.plan.total, dict(self.outcomes))


def _report(tally: _Tally, gallery: Gallery) -> IndexReport:
    """The report, written into the gallery as well, there with every vanished file and the id of every duplicate."""
    now = datetime.now(UTC)
    path = gallery.directory / "reports" / f"index-{now:%Y%m%dT%H%M%S-%f}.json"
    report = IndexReport(
        outcomes=tally.outcomes,
        added=tally.added,
        unchanged=tally.plan.unchanged,
        vanished=len(tally.plan.vanished),
        duplicates=len(tally.duplicates),
        failed=tuple(tally.failed),
        report=path,
    )
    details = {
        "finished": now.isoformat(timespec="seconds"),
        "encoder": gallery.encoder_fingerprint,
        "vanished_files": tally.plan.vanished,
        "duplicate_images": [record_id for record_id, _ in tally.duplicates],
    }
    path.parent.mkdir(exist_ok=True)
    write_json(path, {**report.as_dict(), **details})
    return report
