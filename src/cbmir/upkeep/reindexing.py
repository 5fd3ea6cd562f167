"""A gallery goes over to another encoder: every image is encoded again beside what it has, then both are swapped.

    files of images that lack features of the next encoder --extract--> features --commit, batch by batch--> store
        --audit: does every image have them?--> swap in one transaction

Searches and index runs go on meanwhile: the right to write is held for a commit only. Cut short, it goes on where it
was.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ..encoder import Encoder
from ..errors import GIVING_IMAGES, BadGallery
from ..extract import Extracted, extract
from ..gallery import EncoderCard, Gallery, card_of
from ..images.limits import MEMORY_BYTES, TIMEOUT_S
from ..places import entry_of, is_gone, ref_of
from ..privacy import Pseudonyms
from ..store import Pending, State, StoredFile
from ..types import ImageRef, Progress

Why = Literal["gone", "changed", "unreadable"]

_FILES_AT_ONCE = 5000  # their places are in memory; the workers are started anew for so many
_COMMIT_IMAGES = 64
_COMMIT_S = 2.0
_RETRY_S = 0.2  # while another process writes


@dataclass(frozen=True)
class Lacking:
    """An image without features of the next encoder, and why: its file is gone, or has changed, or gives no image."""

    id: str
    handle: str
    why: Why
    reason: str | None = None


@dataclass(frozen=True)
class ReindexReport:
    """encoder: the fingerprint of the next one, which is the current one when swapped. records: of the gallery;
    encoded: by this run; dropped: images that lacked features and were removed, as was asked for. atlas: what became of
    the gallery's map (atlas.AtlasReport), where one was made after the swap.
    """

    encoder: str
    swapped: bool
    records: int
    encoded: int
    dropped: int
    lacking: tuple[Lacking, ...]
    seconds: float
    atlas: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Limits:
    """As extract has them."""

    workers: int | None = None
    timeout_s: float = TIMEOUT_S
    memory_bytes: int | None = MEMORY_BYTES


USUAL = Limits()


def reindex(
    gallery: Gallery,
    encoder: Encoder,
    pseudonyms: Pseudonyms,
    *,
    encoder_path: str | None = None,
    limits: Limits = USUAL,
    drop_missing: bool = False,
    on_progress: Progress | None = None,
) -> ReindexReport:
    """Gives every image features of this encoder and makes it the gallery's. The gallery must be opened anew then.

    Images that cannot have them are named, and nothing is swapped; drop_missing: they are removed instead. on_progress:
    images done, and images to do, of this run. Raises BadGallery for another key, for the encoder that the gallery has,
    while a change to a third encoder is under way, while the encoder before is still kept, and when another process has
    ended the change.
    """
    gallery.check_pseudonyms(pseudonyms)
    started = time.monotonic()
    card = replace(card_of(encoder, encoder_path), masked=gallery.encoder.masked)
    run = _Run(gallery, encoder, pseudonyms, limits, on_progress, number=_begin(gallery, card))
    dropped = 0
    while True:
        run.encode_all()
        with run.writing():
            lacking = gallery.store.audit_next()
            if run.has_untried(lacking):
                continue  # another process has just added them, or brought their files back
            if lacking and drop_missing:
                gallery.store.remove("id", lacking, lambda record: ())
                dropped, lacking = dropped + len(lacking), gallery.store.audit_next()
            if not lacking:
                gallery.store.swap_next()
            break
    return ReindexReport(
        encoder=card.fingerprint,
        swapped=not lacking,
        records=gallery.count,
        encoded=run.n_encoded,
        dropped=dropped,
        lacking=tuple(run.failed[record_id][1] for record_id in lacking),
        seconds=round(time.monotonic() - started, 3),
    )


def go_back(gallery: Gallery) -> None:
    """Makes the encoder before the current one again, and the current one the one before. Raises BadGallery when there
    is none, and when images have come since, which lack its features: `reindex` with that encoder gives them.
    """
    with _writing(gallery):
        _required(gallery, "previous", "keeps no encoder before the current one")
        if lacking := gallery.store.audit_previous():
            raise BadGallery(
                f"{len(lacking)} images have come since and lack features of the encoder before: go over to it with "
                "--encoder, which encodes them"
            )
        gallery.store.swap_back()


def forget_old(gallery: Gallery) -> None:
    """Forgets the features of the encoder before."""
    with _writing(gallery):
        _required(gallery, "previous", "keeps no encoder before the current one")
        gallery.store.forget_previous()
        with suppress(BadGallery):  # somebody goes on reading: the log is emptied later
            gallery.store.scrub(smaller=True)


def cancel(gallery: Gallery) -> None:
    """Gives up a change that is under way, and forgets its features: those of the encoder before, if it went there."""
    with _writing(gallery):
        _required(gallery, "next", "is not going over to another encoder")
        gallery.store.drop_next()


def _required(gallery: Gallery, state: State, else_told: str) -> None:
    if gallery.store.card(state) is None:
        raise BadGallery(f"the gallery {gallery.directory} {else_told}")


def status(gallery: Gallery) -> dict[str, Any]:
    """The encoders of a gallery, and how many images have features of the next one."""
    store = gallery.store
    cards = {state: store.card(state) for state in ("current", "next", "previous")}
    told: dict[str, Any] = {state: card and _told(card) for state, card in cards.items()}
    if told["next"]:
        told["next"] |= {"records": gallery.count, "lacking": len(store.audit_next())}
    return told


def _told(card: dict[str, Any]) -> dict[str, Any]:
    return {key: card[key] for key in ("name", "fingerprint", "precision", "path")}


def _begin(gallery: Gallery, card: EncoderCard) -> int | None:
    """The number of the next encoder, which is this one, in the store."""
    store = gallery.store
    current = gallery.encoder
    if _is_of(asdict(current), card):
        raise BadGallery(f"the gallery {gallery.directory} is under encoder {card} already")
    with _writing(gallery):
        begun, previous = store.card("next"), store.card("previous")
        if begun is not None and not _is_of(begun, card):
            raise BadGallery(
                f"the gallery {gallery.directory} is going over to encoder {_name(begun)}, not {card}: go on with that "
                "one, or give it up with --cancel"
            )
        if begun is None and previous is not None and _is_of(previous, card):
            store.stage_previous()  # which images have come since it was current
        elif begun is None and previous is not None:
            raise BadGallery(
                f"the gallery {gallery.directory} still keeps encoder {_name(previous)}: go --back to it, or forget it "
                f"with --forget-old, before it goes over to {card}"
            )
        elif begun is None:
            store.begin_next(asdict(card), card.layers)
        return store.encoder_number("next")


def _is_of(told: Mapping[str, Any], card: EncoderCard) -> bool:
    """Whether it is the same encoder: the same network gives other features in another precision."""
    return (told["fingerprint"], told["precision"]) == (card.fingerprint, card.precision)


def _name(told: Mapping[str, Any]) -> str:
    return f"{told['name']} ({told['fingerprint']}, {told['precision']})"


@contextmanager
def _writing(gallery: Gallery) -> Iterator[None]:
    """The right to write, waited for as long as another process has it."""
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(gallery.writing())
                break
            except BadGallery as error:
                if "another process is writing" not in str(error):  # a lock that nobody can have
                    raise
                time.sleep(_RETRY_S)
        yield


@dataclass(frozen=True)
class _Due:
    """A file whose images, those of these ids, lack features."""

    file: StoredFile
    ids: Sequence[str]
    ref: ImageRef


_State = tuple[str, str, int]
"""Name, content and time of a file, as the gallery knows it."""


def _state(file: StoredFile) -> _State:
    return file.name, file.content, file.mtime_ns


@dataclass
class _Run:
    """What one run has done. number: of its encoder in the store. failed: by id, what could not be encoded, and how the
    gallery knew the file then: when it knows it otherwise, it is tried again.
    """

    gallery: Gallery
    encoder: Encoder
    pseudonyms: Pseudonyms
    limits: Limits
    on_progress: Progress | None
    number: int | None
    n_due: int = 0
    failed: dict[str, tuple[_State, Lacking]] = field(default_factory=dict)
    n_encoded: int = 0

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The right to write what is of this run's encoder. Raises BadGallery when that is no longer the next one."""
        with _writing(self.gallery):
            if self.gallery.store.encoder_number("next") != self.number:
                raise BadGallery(
                    f"another process has ended this change of the gallery {self.gallery.directory}: `cbmir reindex "
                    "--status` tells which encoders it has"
                )
            yield

    def has_untried(self, ids: Sequence[str]) -> bool:
        """Whether any of these images is one that a further pass would try."""
        files = {record_id: self.gallery.store.file_of(record_id) for record_id in ids}
        if lost := sum(file is None for file in files.values()):
            raise BadGallery(f"{lost} images belong to no file, and no change is made: `cbmir verify --repair` first")
        return any(self._is_untried(record_id, file) for record_id, file in files.items() if file)

    def _is_untried(self, record_id: str, file: StoredFile) -> bool:
        failed = self.failed.get(record_id)
        return failed is None or failed[0] != _state(file)

    def encode_all(self) -> None:
        """Every image that lacks features and was not tried before, in the order of their files."""
        self.n_due, after = len(self.gallery.store.audit_next()) + self.n_encoded, 0
        while due := self.gallery.store.pending(_FILES_AT_ONCE, after):
            after = due[-1].number
            self._encode(due)

    def _encode(self, due: Iterable[Pending]) -> None:
        there = []
        for _, file, ids in due:
            new = [record_id for record_id in ids if self._is_untried(record_id, file)]
            ref = self._ref(file, new)
            if ref is not None and not is_gone(ref):
                there.append(_Due(file, new, ref))
            else:
                self._fail(file, new, "gone")
        if not there:
            return
        extracted = extract(
            [one.ref for one in there],
            self.encoder,
            self.pseudonyms,
            workers=self.limits.workers,
            timeout_s=self.limits.timeout_s,
            memory_bytes=self.limits.memory_bytes,
        )
        with closing(extracted) as stream:
            for batch in _batches(zip(there, stream, strict=True)):
                self._commit(batch)

    def _ref(self, file: StoredFile, ids: Sequence[str]) -> ImageRef | None:
        """As its source gave it: where a manifest has said the modality, the record alone still knows, and the window
        of a volume depends on it. None where no image is left, or its place is not known.
        """
        records = list(self.gallery.store.records(ids).values())
        ref = ref_of(file, self.pseudonyms) if records else None
        return replace(ref, modality=records[0].modality) if ref else None

    def _commit(self, batch: Sequence[tuple[_Due, Extracted]]) -> None:
        """Features stay out whose file the gallery knows otherwise than it was read: it has changed, or another process
        has looked at it meanwhile, and then the next pass does.
        """
        store = self.gallery.store
        entries = [entry_of(extracted, self.pseudonyms) for _, extracted in batch]
        with self.writing():
            put = set(store.put_next(entries))
            for due, extracted in batch:
                left = [record_id for record_id in due.ids if record_id not in put]
                now = store.files_named([due.file.name]).get(due.file.name) if left else None
                if now is not None and now.content == due.file.content:
                    self._fail(due.file, store.records(left), _why(extracted), extracted.decoded.reason)
        self.n_encoded += len(put)
        if self.on_progress:
            self.on_progress(self.n_encoded + len(self.failed), self.n_due)

    def _fail(self, file: StoredFile, ids: Iterable[str], why: Why, reason: str | None = None) -> None:
        self.failed |= {record_id: (_state(file), Lacking(record_id, file.handle, why, reason)) for record_id in ids}


def _why(extracted: Extracted) -> Why:
    """Why a file does not give an image it gave before."""
    return "changed" if extracted.decoded.outcome in GIVING_IMAGES else "unreadable"


def _batches(files: Iterator[tuple[_Due, Extracted]]) -> Iterator[list[tuple[_Due, Extracted]]]:
    """In groups of about _COMMIT_IMAGES images, or of what came in _COMMIT_S seconds."""
    batch: list[tuple[_Due, Extracted]] = []
    images, started = 0, time.monotonic()
    for one in files:
        batch.append(one)
        images += max(1, len(one[0].ids))
        if images >= _COMMIT_IMAGES or time.monotonic() - started > _COMMIT_S:
            yield batch
            batch, images, started = [], 0, time.monotonic()
    if batch:
        yield batch
