"""The check of a data set: counts, and patients or pictures that are in more than one split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ..errors import Outcome
from ..images.worker import Decoded, decode_all
from ..privacy import Pseudonyms
from ..types import Bool, Float32, ImageRef, Int, Progress, UInt8
from .splits import THUMBNAIL, Counts, count, one_sided, patient_of

NEAR_BITS = 10
"""Pictures whose 256-bit difference hashes differ in at most so many bits are near-duplicates."""
HASH_ROWS, HASH_COLUMNS = 16, 17
BLOCK = 1024
"""Hashes compared at once; with 100,000 on the other side the table takes 400 MB."""


@dataclass(frozen=True)
class Leak:
    """A patient (pseudonym) in more than one split: how many images in each, and one of them."""

    patient: str
    images: Mapping[str, int]
    example: Mapping[str, str]


@dataclass(frozen=True)
class Twins:
    """Files with the same content. across: they lie in more than one split."""

    paths: tuple[str, ...]
    across: bool


@dataclass(frozen=True)
class NearDuplicate:
    """A picture and its nearest of another patient in another split, `bits` of 256 apart."""

    path: str
    like: str
    bits: int


@dataclass(frozen=True)
class CheckReport:
    """What `check` found. failed: files that gave no picture, as {path, outcome, reason}."""

    n_images: int
    counts: Counts
    one_sided: tuple[str, ...]
    patients_unknown: int
    missing: tuple[str, ...]
    failed: tuple[Mapping[str, str], ...]
    leaks: tuple[Leak, ...]
    duplicates: tuple[Twins, ...]
    near_duplicates: tuple[NearDuplicate, ...]

    @property
    def leaking(self) -> bool:
        """Is a patient, or the same file, in more than one split?"""
        return bool(self.leaks) or any(twins.across for twins in self.duplicates)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "leaking": self.leaking}


@dataclass(frozen=True)
class _Seen:
    """What is kept of a decoded file. hashes: (frames, 256)."""

    content_hash: str
    patient: str | None
    hashes: Bool
    outcome: Outcome
    reason: str | None


def check(
    refs: Sequence[ImageRef],
    pseudonyms: Pseudonyms,
    *,
    near_bits: int = NEAR_BITS,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> CheckReport:
    """Counts, missing and unreadable files, patients and pictures that are in more than one split.

    Patients are compared as pseudonyms, from the manifest or else from the file itself.
    """
    present = [ref for ref in refs if ref.path.is_file()]
    seen: dict[str, _Seen] = {}
    for done, file in enumerate(decode_all(present, THUMBNAIL, pseudonyms, workers=workers), start=1):
        seen[file.ref.shown] = _see(file)
        if on_progress:
            on_progress(done, len(present))
    patients = [_patient(ref, seen, pseudonyms) for ref in refs]
    counts = count(refs, [ref.split for ref in refs], patients)
    return CheckReport(
        n_images=len(refs),
        counts=counts,
        one_sided=one_sided(counts),
        patients_unknown=patients.count(None),
        missing=tuple(ref.shown for ref in refs if not ref.path.is_file()),
        failed=tuple(_failure(path, file) for path, file in seen.items() if not len(file.hashes)),
        leaks=_leaks(refs, patients),
        duplicates=_twins(refs, seen),
        near_duplicates=tuple(_near_duplicates(refs, patients, seen, near_bits)),
    )


def _see(file: Decoded) -> _Seen:
    hashes = [difference_hash(image.pixels[0]) for image in file.images]
    return _Seen(
        content_hash=file.content_hash,
        patient=patient_of(file),
        hashes=np.array(hashes, dtype=bool).reshape(len(hashes), HASH_ROWS * (HASH_COLUMNS - 1)),
        outcome=file.outcome,
        reason=file.reason,
    )


def _patient(ref: ImageRef, seen: Mapping[str, _Seen], pseudonyms: Pseudonyms) -> str | None:
    if ref.patient:
        return pseudonyms.of("patient", ref.patient)
    return seen[ref.shown].patient if ref.shown in seen else None


def _failure(path: str, file: _Seen) -> dict[str, str]:
    return {"path": path, "outcome": file.outcome, "reason": file.reason or ""}


def _leaks(refs: Sequence[ImageRef], patients: Sequence[str | None]) -> tuple[Leak, ...]:
    """The patients in more than one split; images without a split or a patient are left out."""
    places: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for ref, patient in zip(refs, patients, strict=True):
        if patient and ref.split:
            places[patient][ref.split].append(ref.shown)
    return tuple(
        Leak(
            patient,
            images={side: len(paths) for side, paths in sorted(sides.items())},
            example={side: min(paths) for side, paths in sorted(sides.items())},
        )
        for patient, sides in sorted(places.items())
        if len(sides) > 1
    )


def _twins(refs: Sequence[ImageRef], seen: Mapping[str, _Seen]) -> tuple[Twins, ...]:
    same: dict[str, list[ImageRef]] = defaultdict(list)
    for ref in refs:
        if ref.shown in seen and seen[ref.shown].content_hash:  # there is none of a file that could not be read
            same[seen[ref.shown].content_hash].append(ref)
    groups = [sorted(group, key=lambda ref: ref.shown) for group in same.values() if len(group) > 1]
    return tuple(
        Twins(tuple(ref.shown for ref in group), across=len({ref.split for ref in group}) > 1)
        for group in sorted(groups, key=lambda group: group[0].shown)
    )


def difference_hash(grey: UInt8) -> Bool:
    """256 bits of a picture: is each of 17 x 16 cells (columns x rows) darker than its right neighbour?

    grey: (rows, columns). Returns bool (256,). The cells are area means; brightness and contrast do
    not matter.
    """
    rows, columns = grey.shape
    cells = _area(HASH_ROWS, rows) @ grey.astype(np.float32) @ _area(HASH_COLUMNS, columns).T
    darker: Bool = cells[:, :-1] < cells[:, 1:]
    return darker.reshape(-1)


def _area(n_cells: int, n_pixels: int) -> Float32:
    """How much of each pixel lies in each of n_cells equal cells: (n_cells, n_pixels), rows sum to 1."""
    edges = np.arange(n_cells + 1) * (n_pixels / n_cells)
    starts = np.arange(n_pixels)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    weights: Float32 = (np.clip(overlap, 0, None) * (n_cells / n_pixels)).astype(np.float32)
    return weights


def _near_duplicates(
    refs: Sequence[ImageRef], patients: Sequence[str | None], seen: Mapping[str, _Seen], near_bits: int
) -> Iterator[NearDuplicate]:
    """For each picture of a split, its nearest of another patient in each split later by name, when near."""
    pictures: dict[str, list[tuple[str, str, Bool]]] = defaultdict(list)
    for ref, patient in zip(refs, patients, strict=True):
        if ref.split and ref.shown in seen and len(seen[ref.shown].hashes):
            person = patient or ref.shown
            pictures[ref.split] += [(ref.shown, person, bits) for bits in seen[ref.shown].hashes]
    for here, there in combinations(sorted(pictures), 2):
        paths, people, hashes = zip(*pictures[here], strict=True)
        other_paths, other_people, others = zip(*pictures[there], strict=True)
        bits, nearest = nearest_hash(np.array(hashes), np.array(others), people, other_people)
        for row in np.flatnonzero(bits <= near_bits):
            yield NearDuplicate(paths[row], other_paths[nearest[row]], int(bits[row]))


def nearest_hash(hashes: Bool, others: Bool, people: Sequence[str], other_people: Sequence[str]) -> tuple[Int, Int]:
    """Bits to, and row of, the nearest of others that is of another person: two arrays (n,).

    hashes (n, bits), others (m, bits); people (n,), other_people (m,): who each is of. One more than all bits
    where everybody else is the same person. Written as +1 and -1, the scalar product of two hashes is the
    number of bits minus twice those that differ, so BLAS counts them, exactly.
    """
    n_bits = hashes.shape[1]
    signs, other_signs = (np.where(h, np.float32(1), np.float32(-1)) for h in (hashes, others))
    _, who = np.unique([*people, *other_people], return_inverse=True)
    bits, nearest = np.empty(len(hashes), dtype=np.int64), np.empty(len(hashes), dtype=np.int64)
    for start in range(0, len(hashes), BLOCK):
        block = slice(start, min(start + BLOCK, len(hashes)))
        differ = (n_bits - signs[block] @ other_signs.T) / 2
        differ[who[block, None] == who[len(hashes) :]] = n_bits + 1
        nearest[block] = differ.argmin(axis=1)
        bits[block] = differ.min(axis=1)
    return bits, nearest
