"""What one file becomes: its images, ready for an encoder, and one outcome. In worker processes, or in this one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import BadImage, Outcome
from ..preprocess import VERSION, Preprocessing, part_of, preprocess
from ..privacy import Pseudonyms
from ..types import DecodedImage, ImageRef, ObjectKind, Record, UInt8
from . import decode, read_ref
from .limits import MEMORY_BYTES, TIMEOUT_S, UNEXPECTED, guarded
from .pool import Job, run_in_workers
from .process import usable_cores

MAX_PREPARED_BYTES = 2**30
"""Of prepared images of one file: 7,000 colour ones of the paper's size. Further ones are left out."""


@dataclass(frozen=True)
class Prepared:
    """One image ready for an encoder. pixels: uint8 (C, rows, columns); record: all but the encoder's opinion."""

    record: Record
    pixels: UInt8


@dataclass(frozen=True)
class Decoded:
    """What became of one file. images: empty unless outcome is decoded or partial; reason: one sentence, or None.

    A file that decodes but shows no picture (a segmentation, say) is decoded, has no images and a reason.
    content_hash: SHA-256 of the bytes, "" when they could not be read; size in bytes; mtime_ns of the file (of the
    archive, for a member of one).
    """

    ref: ImageRef
    outcome: Outcome
    reason: str | None
    images: tuple[Prepared, ...] = ()
    content_hash: str = ""
    size: int = 0
    mtime_ns: int = 0


Reader = Callable[[ImageRef, Preprocessing, Pseudonyms], Decoded]


def decode_all(
    refs: Iterable[ImageRef],
    preprocessing: Preprocessing,
    pseudonyms: Pseudonyms,
    *,
    workers: int | None = None,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int | None = MEMORY_BYTES,
    reader: Reader | None = None,
) -> Iterator[Decoded]:
    """Decode and preprocess files, in the order given.

    workers: processes; None: one per usable core; 0: in this process (single files, tests), without protection.
    timeout_s: for one file; a worker that needs longer is killed. memory_bytes: what a worker may allocate; None:
    anything. reader: an importable function instead of decode_one. Raises CbmirError when workers cannot be started.
    """
    read = reader or decode_one
    if workers is None:
        workers = usable_cores()
    if workers < 1:
        return (read(ref, preprocessing, pseudonyms) for ref in refs)
    return run_in_workers(
        refs, Job(read, (preprocessing, pseudonyms), Decoded, _n_bytes, timeout_s, memory_bytes), workers
    )


def decode_one(ref: ImageRef, preprocessing: Preprocessing, pseudonyms: Pseudonyms) -> Decoded:
    """Read, decode and preprocess one file; never raises for a bad one.

    Time and size are those of before reading: a file that changes meanwhile will be seen to have changed.
    """
    size, mtime_ns = 0, 0
    try:
        with guarded("crashed", UNEXPECTED):
            size, mtime_ns = _stat(ref.path)
            decoded = _decoded(ref, preprocessing, pseudonyms)
    except BadImage as error:
        decoded = Decoded(ref, error.outcome, error.reason)
    return replace(decoded, size=size, mtime_ns=mtime_ns)


def _decoded(ref: ImageRef, preprocessing: Preprocessing, pseudonyms: Pseudonyms) -> Decoded:
    data = read_ref(ref)
    contents = _Contents()
    try:
        for image in decode(data, pseudonyms, patient=ref.patient, modality=ref.modality):
            contents.take(image, ref, preprocessing, pseudonyms)
    except BadImage as error:
        contents.end(error)
    outcome, reason = contents.outcome()
    return Decoded(ref, outcome, reason, tuple(contents.images), hashlib.sha256(data).hexdigest())


def _stat(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise BadImage("corrupt", f"The file cannot be read: {error.strerror}.") from None
    return status.st_size, status.st_mtime_ns


@dataclass
class _Contents:
    """Every image of a file that can be had, and why others cannot.

    Of exceptions only what they say is kept: they hold on to the pixels they were raised over.
    """

    images: list[Prepared] = field(default_factory=list)
    n_bytes: int = 0
    kind: ObjectKind = "picture"
    n_failed: int = 0
    failure: tuple[Outcome, str] | None = None  # the first
    ending: tuple[Outcome, str] | None = None

    def take(self, image: DecodedImage, ref: ImageRef, preprocessing: Preprocessing, pseudonyms: Pseudonyms) -> None:
        """Raises BadImage when the images together become too large."""
        if image.kind != "picture":
            self.kind = image.kind
            return
        try:
            with guarded("unsupported", "The image cannot be prepared for the encoder."):
                looked_at = image if ref.region is None else part_of(image, ref.region)
                prepared = preprocess(looked_at, preprocessing)
        except BadImage as error:
            self.n_failed += 1
            self.failure = self.failure or (error.outcome, error.reason)
            return
        self.n_bytes += prepared.pixels.nbytes
        if self.n_bytes > MAX_PREPARED_BYTES:
            raise BadImage("partial", f"Only the first {len(self.images)} images were taken: the rest would not fit.")
        self.images.append(Prepared(record_of(image, ref, prepared.window, pseudonyms), prepared.pixels))

    def end(self, error: BadImage) -> None:
        self.ending = error.outcome, error.reason

    def outcome(self) -> tuple[Outcome, str | None]:
        failed = self.failure or self.ending
        if not failed and self.kind != "picture":
            return "decoded", no_picture(self.kind)
        if not failed:
            return ("decoded", None) if self.images else ("not_an_image", "The file holds no image.")
        if not self.images and self.kind == "picture":
            return ("refused" if failed[0] == "partial" else failed[0]), failed[1]
        return "partial", " ".join(self._reasons())

    def _reasons(self) -> Iterator[str]:
        if self.failure:
            n_images = len(self.images) + self.n_failed
            yield f"{self.n_failed} of {n_images} images were left out: {self.failure[1]}"
        if self.ending:
            yield self.ending[1]


def no_picture(kind: ObjectKind) -> str:
    return f"The file is a {kind}, which is not indexed."


def _n_bytes(decoded: Decoded) -> int:
    return sum(image.pixels.nbytes for image in decoded.images)


def record_of(image: DecodedImage, ref: ImageRef, window: str, pseudonyms: Pseudonyms) -> Record:
    """What a gallery knows of an image before an encoder has seen it. window: the rule of its grey levels."""
    return Record(
        id=image.id,
        patient=image.patient,
        study=image.study,
        series=image.series,
        frame_index=image.frame_index,
        modality=image.modality,
        source=ref.source,
        labels=dict(ref.labels),
        attributes=dict(image.attributes),
        provenance=image.provenance.as_dict() | {"window": window, "pipeline": VERSION},
        pixel_digest=pixel_digest(image, pseudonyms),
    )


def pixel_digest(image: DecodedImage, pseudonyms: Pseudonyms) -> str:
    """As Record has it."""
    digest = hashlib.sha256(f"{image.pixels.dtype.str} {image.pixels.shape}\n".encode())
    digest.update(np.ascontiguousarray(image.pixels).data)
    return pseudonyms.of("pixels", digest.hexdigest())
