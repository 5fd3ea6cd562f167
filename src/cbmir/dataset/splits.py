"""Splits and folds that keep every patient on one side, and the manifest that holds them."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..images.worker import Decoded, decode_all
from ..preprocess import Preprocessing
from ..privacy import Pseudonyms
from ..sources import shown_of
from ..types import Bool, ImageRef, Int, Progress

Float64 = npt.NDArray[np.float64]
Side = Literal["train", "test"]
Unit = Literal["patient", "source"]
THUMBNAIL = Preprocessing(size=64, crop=64)
"""Small pictures, for when a file is only read for its patient or its difference hash."""
CLASS_WEIGHT, FINER_WEIGHT = 1.0, 0.3
"""Of a class, and of a modality and source inside it, when a patient is given a side."""
MANIFEST_COLUMNS = ("path", "class", "modality", "patient", "source", "split")


def split(
    refs: Sequence[ImageRef], *, test_fraction: float = 0.3, seed: int = 24, group: Unit = "patient"
) -> list[Side]:
    """One side for each image: patients (or sources) whole, the fraction held in every class as far as they allow.

    An image without a patient stands for itself. The same for a seed, whatever the order of refs.
    Raises UsageError for a fraction that is not between 0 and 1, and without images.
    """
    if not 0 < test_fraction < 1:
        raise UsageError(f"The test fraction lies between 0 and 1, not at {test_fraction:g}.")
    sides: tuple[Side, Side] = ("train", "test")
    parts = _assign(refs, _groups(refs, group), (1 - test_fraction, test_fraction), seed)
    return [sides[part] for part in parts]


def keep_back(refs: Sequence[ImageRef], fraction: float, *, seed: int) -> Bool:
    """bool (n,): which images are kept from training for validation, patients whole; none with a fraction of 0.

    Raises UsageError when one of the parts would be empty.
    """
    if fraction == 0:
        return np.zeros(len(refs), np.bool_)
    kept: Bool = np.array([side == "test" for side in split(refs, test_fraction=fraction, seed=seed)])
    if kept.all() or not kept.any():
        raise UsageError("Too few patients for a validation part: use --validation 0, or more images.")
    return kept


def folds(refs: Sequence[ImageRef], k: int, *, seed: int = 24, group: Unit = "patient") -> Int:
    """A fold from 0 to k - 1 for each image, shape (n,): patients (or whole sources) together, classes even.

    Raises UsageError when k is below 2, or above the number of patients (sources).
    """
    groups = _groups(refs, group)
    n_groups = int(groups.max(initial=-1)) + 1
    if k < 2:
        raise UsageError(f"Cross-validation needs at least 2 folds, not {k}.")
    if k > n_groups:
        raise UsageError(f"{n_groups} {group}s cannot fill {k} folds.")
    return _assign(refs, groups, (1 / k,) * k, seed)


def _groups(refs: Sequence[ImageRef], unit: Unit) -> Int:
    """A number for each image, shape (n,); images of one patient (and, if asked, of one source) share it.

    Numbered by the smallest path of a group, so that the order of refs does not matter.
    """
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, ref in enumerate(refs):
        members[("patient", ref.patient) if ref.patient else ("path", ref.shown)].append(i)
        if unit == "source" and ref.source:
            members[("source", ref.source)].append(i)
    parent = list(range(len(refs)))
    for images in members.values():
        for i in images[1:]:
            parent[_root(parent, i)] = _root(parent, images[0])
    roots = [_root(parent, i) for i in range(len(refs))]
    names: dict[int, str] = {}
    for root, ref in zip(roots, refs, strict=True):
        names[root] = min(ref.shown, names.get(root, ref.shown))
    number = {root: n for n, root in enumerate(sorted(names, key=lambda root: names[root]))}
    return np.array([number[root] for root in roots], dtype=np.int64)


def _root(parent: list[int], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


def _assign(refs: Sequence[ImageRef], groups: Int, shares: Sequence[float], seed: int) -> Int:
    """A part for each image, shape (n,): each group to the part that lacks most of what the group has.

    Largest groups first, equal ones in an order drawn from seed. What counts are the classes, and with less
    weight the modalities and sources inside a class (else the large groups, whole CT series, would all train and
    only single pictures be tested). Choosing the part b with the greatest sum over these strata of
    w_s n_s (share_b N_s - taken_bs) / N_s makes the squared deviations from the shares, weighted by w_s / N_s,
    as small as this one step can. Ties go to the emptier part.
    """
    if not refs:
        raise UsageError("There are no images to split.")
    has, weights = _strata(refs, groups)
    totals = has.sum(axis=0)
    lacks = np.outer(shares, totals)  # (parts, strata)
    order = np.random.default_rng(seed).permutation(len(has))
    order = order[np.argsort(-has.sum(axis=1)[order], kind="stable")]
    part = np.zeros(len(has), dtype=np.int64)
    for group in order:
        wish = np.round(lacks @ (weights * has[group] / totals), 9)
        part[group] = max(range(len(shares)), key=lambda b: (wish[b], lacks[b].sum(), -b))
        lacks[part[group]] -= has[group]
    return part[groups]


def _strata(refs: Sequence[ImageRef], groups: Int) -> tuple[Float64, Float64]:
    """How many images of each stratum a group has (groups, strata), and the strata's weights (strata,)."""
    classes = [(ref.label or "",) for ref in refs]
    finer = [(ref.label or "", ref.modality or "", ref.source or "") for ref in refs]
    names = {name: column for column, name in enumerate(sorted({*classes, *finer}))}
    has = np.zeros((int(groups.max()) + 1, len(names)))
    for of_image in (classes, finer):
        np.add.at(has, (groups, np.array([names[name] for name in of_image])), 1)
    return has, np.array([CLASS_WEIGHT if len(name) == 1 else FINER_WEIGHT for name in names])


def write_manifest(
    refs: Sequence[ImageRef], splits: Sequence[str], path: Path, fold: Sequence[int] | None = None
) -> None:
    """Write a manifest CSV: one row per image, paths relative to it, all label columns, no empty column.

    fold: written as a column of its own; below 0 is left empty.
    Raises UsageError when its folder is not there, or an image does not lie below it or has a name not in UTF-8.
    """
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent} to write {path.name} into.")
    rows = [
        {
            **ref.labels,
            "path": _below(ref, path),
            "modality": ref.modality or "",
            "patient": ref.patient or "",
            "source": ref.source or "",
            "split": side,
        }
        for ref, side in zip(refs, splits, strict=True)
    ]
    if fold is not None:
        rows = [{**row, "fold": str(f) if f >= 0 else ""} for row, f in zip(rows, fold, strict=True)]
    filled = {column for row in rows for column, value in row.items() if value}
    others = sorted(filled - set(MANIFEST_COLUMNS))
    columns = [column for column in MANIFEST_COLUMNS if column in filled] + others
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, path)


def _below(ref: ImageRef, manifest: Path) -> str:
    try:
        below = ref.path.absolute().relative_to(manifest.resolve().parent).as_posix()
    except ValueError:
        raise UsageError(f"Images do not lie below {manifest.parent}: write it into the images' folder.") from None
    if shown_of(PurePosixPath(below)) != below:
        raise UsageError(
            "An image has a name that is not UTF-8, which a manifest cannot hold: rename those with odd characters."
        )
    return below


@dataclass(frozen=True)
class Count:
    images: int
    patients: int


Counts = Mapping[str, Mapping[str, Count]]
"""class -> split -> how many."""


def count(refs: Sequence[ImageRef], splits: Sequence[str | None], patients: Sequence[str | None]) -> Counts:
    """Images and patients of each class and split; an image without a patient stands for itself."""
    cells: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for ref, side, patient in zip(refs, splits, patients, strict=True):
        cells[ref.label or ""][side or ""].append(f"patient {patient}" if patient else f"path {ref.shown}")
    return {
        label: {side: Count(len(who), len(set(who))) for side, who in sorted(sides.items())}
        for label, sides in sorted(cells.items())
    }


def one_sided(counts: Counts) -> tuple[str, ...]:
    """The classes missing from a split that others are in: nothing to find, or never asked for."""
    every = {side for sides in counts.values() for side in sides}
    return tuple(label for label, sides in counts.items() if set(sides) != every)


@dataclass(frozen=True)
class SplitReport:
    manifest: Path
    counts: Counts
    one_sided: tuple[str, ...]
    patients_unknown: int
    n_folds: int

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "manifest": str(self.manifest), "one_sided": list(self.one_sided)}


def make_split(
    refs: Sequence[ImageRef],
    out: Path,
    pseudonyms: Pseudonyms,
    *,
    test_fraction: float = 0.3,
    n_folds: int = 0,
    group: Unit = "patient",
    seed: int = 24,
    overwrite: bool = False,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> SplitReport:
    """Split refs and write the manifest; with n_folds, number folds inside the train side (column `fold`).

    group: what is never on both sides, nor in two folds; a source takes all its patients with it.

    A file whose patient the manifest does not tell is read for it, so that the slices of a DICOM series stay
    together. Such a patient is only used, not written: every reading of the file finds it again.
    Raises UsageError when out is there already and overwrite is not set, and as split, folds, write_manifest.
    """
    if out.exists() and not overwrite:
        raise UsageError(f"{out} is there already: choose another name, or overwrite it.")
    known = with_patients(refs, pseudonyms, workers, on_progress)
    sides = split(known, test_fraction=test_fraction, seed=seed, group=group)
    numbers = np.full(len(refs), -1, dtype=np.int64)
    if n_folds:
        train = [i for i, side in enumerate(sides) if side == "train"]
        numbers[train] = folds([known[i] for i in train], n_folds, seed=seed, group=group)
    write_manifest(refs, sides, out, numbers.tolist() if n_folds else None)
    patients = [ref.patient for ref in known]
    counts = count(refs, sides, patients)
    return SplitReport(out, counts, one_sided(counts), patients.count(None), n_folds)


def with_patients(
    refs: Sequence[ImageRef],
    pseudonyms: Pseudonyms,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> list[ImageRef]:
    """Copies of refs for `split` and `folds` only: `patient` is the pseudonym, as the manifest or else the file tells.

    None where neither does. So the same patient counts once, whether a manifest or a DICOM header names him. Whatever
    reads the files gets refs themselves: it would make a pseudonym of the pseudonym.
    """
    asked = [ref for ref in refs if not ref.patient and ref.path.is_file()]
    found: dict[str, str | None] = {}
    for done, file in enumerate(decode_all(asked, THUMBNAIL, pseudonyms, workers=workers), start=1):
        found[file.ref.shown] = patient_of(file)
        if on_progress:
            on_progress(done, len(asked))
    told = [pseudonyms.of("patient", ref.patient) if ref.patient else found.get(ref.shown) for ref in refs]
    return [replace(ref, patient=patient) for ref, patient in zip(refs, told, strict=True)]


def patient_of(file: Decoded) -> str | None:
    return next((image.record.patient for image in file.images if image.record.patient), None)
