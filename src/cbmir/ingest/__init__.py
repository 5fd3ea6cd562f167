"""An index run: from a source into a gallery. Incremental, resumable, with a report of what became of every file.

    refs --plan: which need a look?--> extract: decode, encode --commit, batch by batch--> gallery

The source is gone through in chunks, ahead of the decoders and as far as they take: of a file that gives images nothing
stays in memory. For the report some hundred bytes stay of each file that gives none or is gone, and of each image that
is there already.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace

from .. import __version__
from ..encoder import Encoder
from ..extract import Extracted, extract
from ..gallery import Duplicates, Gallery
from ..images.limits import MEMORY_BYTES, TIMEOUT_S
from ..places import CERTAIN, CRASHES, ReaderVersion, entry_of
from ..preprocess import VERSION
from ..privacy import Pseudonyms
from ..store import Added, Entry, StoredFile
from ..types import ImageRef
from .plan import Plan, allows_more
from .tally import IndexProgress, IndexReport, Tally, Total, find_total, finished

__all__ = ["IndexProgress", "IndexReport", "index_source"]

READER = f"{__version__}/{VERSION}"
"""Who looks at files: what another version failed at is tried again."""

_COMMIT_IMAGES = 64  # images per transaction, and
_COMMIT_S = 2.0  # the longest time that work waits to be made durable while files keep coming


def index_source(
    refs: Iterable[ImageRef],
    gallery: Gallery,
    encoder: Encoder,
    pseudonyms: Pseudonyms,
    *,
    workers: int | None = None,
    batch_size: int = 64,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int | None = MEMORY_BYTES,
    duplicates: Duplicates = "keep",
    total: Total = None,
    on_progress: IndexProgress | None = None,
) -> IndexReport:
    """Brings a gallery up to date with a source. What is done is committed batch by batch: a killed run goes on
    where it was when it is started again.

    A file of the same size, time and labels is not opened; one of the same content is not decoded, whether it gave
    images or failed, unless another version of the program failed, or one that was allowed less time or memory where
    these were short. What crashed is tried twice, what could not be read always. A file that has become unreadable
    keeps the images it gave before; one that has another place takes its images along. duplicates: keep or skip images
    whose pixels are there under another id. timeout_s, memory_bytes: as decode_all has them. total: how many files
    there are, or what counts them, for the progress.
    Raises BadGallery when the encoder or the key is not the gallery's, or another process is writing.
    """
    gallery.check_encoder(encoder)
    gallery.check_pseudonyms(pseudonyms)
    tally = Tally(on_progress)
    reader = ReaderVersion(READER, timeout_s, memory_bytes)
    find_total(refs, total, tally)
    with gallery.writing(), gallery.survey() as survey:
        tally.tell()
        plan = Plan(survey, pseudonyms, reader, tally)
        extracted = extract(
            plan.new(refs),
            encoder,
            pseudonyms,
            workers=workers,
            batch_size=batch_size,
            timeout_s=timeout_s,
            memory_bytes=memory_bytes,
        )
        with closing(extracted) as stream:
            for batch in _batches(stream):
                _commit([entry_of(file, pseudonyms, reader) for file in batch], gallery, pseudonyms, duplicates, tally)
        plan.clear_up()
    return finished(tally, gallery)


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


def _commit(batch: list[Entry], gallery: Gallery, pseudonyms: Pseudonyms, duplicates: Duplicates, tally: Tally) -> None:
    known = gallery.known([entry.file.name for entry in batch])
    to_add: list[Entry] = []
    to_touch: list[StoredFile] = []
    for entry in batch:
        before = known.get(entry.file.name)
        if before is None or not _is_settled(entry.file, before):
            to_add.append(_counted(entry, before))
        elif entry.file.content:
            to_touch.append(entry.file)
    if to_touch:
        gallery.touch(to_touch)
    added = gallery.put(to_add, pseudonyms, duplicates=duplicates) if to_add else Added()
    tally.list_not_indexed(entry.file for entry in batch)
    tally.commit(batch, added)


def _is_settled(now: StoredFile, before: StoredFile) -> bool:
    """Whether what the gallery has of a file stays: it could not be read now, or is what the same reader saw before."""
    if now.outcome in CRASHES:
        return False
    if not now.content:
        return now.outcome not in CERTAIN
    return _seen(now) == _seen(before)


def _seen(file: StoredFile) -> tuple[object, ...]:
    limits = () if file.outcome == "decoded" else (file.timeout_s, file.memory_bytes)
    return file.content, file.told, file.outcome, file.reader, limits


def _counted(entry: Entry, before: StoredFile | None) -> Entry:
    """With the number of attempts that a file has taken which crashes the decoder, or keeps it too long."""
    now = entry.file
    if before is None or now.outcome not in CRASHES or before.outcome not in CRASHES:
        return entry
    if (now.size, now.mtime_ns, now.told, now.reader) != (before.size, before.mtime_ns, before.told, before.reader):
        return entry
    if allows_more(now, before):
        return entry
    most = max(now.timeout_s, before.timeout_s), max(now.memory_bytes, before.memory_bytes)
    return replace(entry, file=now._replace(attempts=before.attempts + 1, timeout_s=most[0], memory_bytes=most[1]))
