"""The whole job: download what is missing, keep the slices, record them, write the manifest."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import CbmirError, UsageError
from ...privacy import Pseudonyms
from ...types import ImageRef, Progress
from ..splits import Counts, Side, count, split, with_patients, write_manifest
from .folders import copy_some
from .idc import Fetch, download
from .ledger import DOWNLOADING, LICENCES, MISSING, Ledger, folder_key, write_licences, write_rows
from .plan import Draw, Plan
from .recipe import ClassRecipe
from .slices import choose, is_whole

MANIFEST = "manifest.csv"
BATCH_MB, BATCH_SERIES = 1000.0, 20
"""What is downloaded at once, before its slices are kept and the rest is deleted; lost when a run is killed."""
SPARE_MB = 100.0
AGAIN = "run the same command again; it goes on where it stopped"


@dataclass(frozen=True)
class FetchReport:
    """missing: series that did not arrive whole. short: how many have fewer pictures than the plan takes. damaged: how
    many images had changed since they were fetched. absent: class -> what to do, for those without a folder.
    """

    manifest: Path
    counts: Counts
    missing: tuple[str, ...]
    short: int
    damaged: int
    absent: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "manifest": str(self.manifest)}


def run_plan(
    plan: Plan,
    out: Path,
    pseudonyms: Pseudonyms,
    *,
    index_version: str = "",
    places: Mapping[str, Path] | None = None,
    fetch: Fetch = download,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> FetchReport:
    """Make `out` the data set of a plan. Started again, it checks what is there and fetches only what is not.

    places: class -> the folder of the user's that has its images. on_progress: series done, series in all.
    Raises UsageError when `out` holds something else, or a place is of no folder class; CbmirError for a full disk,
    and when nothing at all could be downloaded.
    """
    places = dict(places or {})
    _check_places(plan, places)
    ledger = Ledger.open(out, plan, index_version)
    shutil.rmtree(out / DOWNLOADING, ignore_errors=True)
    damaged = ledger.verify()
    try:
        for kind in plan.folders:
            _copy_folder(kind, plan, ledger, places, pseudonyms, workers)
        _download(plan, ledger, fetch, on_progress)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CbmirError(f"The disk is full: make room, then {AGAIN}.") from None
        raise
    finally:
        shutil.rmtree(out / DOWNLOADING, ignore_errors=True)
    return _finish(plan, ledger, pseudonyms, len(damaged), workers)


def _check_places(plan: Plan, places: Mapping[str, Path]) -> None:
    strangers = sorted(set(places) - {kind.name for kind in plan.folders})
    if strangers:
        raise UsageError(f"The recipe takes no folder for {', '.join(strangers)}.")


def _copy_folder(
    kind: ClassRecipe,
    plan: Plan,
    ledger: Ledger,
    places: Mapping[str, Path],
    pseudonyms: Pseudonyms,
    workers: int | None,
) -> None:
    key = folder_key(kind.name)
    if kind.name in places and key not in ledger.entries:
        shutil.rmtree(ledger.out / kind.slug, ignore_errors=True)
        paths = copy_some(places[kind.name], kind, ledger.out, plan.wanted, pseudonyms, seed=plan.seed, workers=workers)
        ledger.add(key, paths)
        ledger.save()


def _download(plan: Plan, ledger: Ledger, fetch: Fetch, on_progress: Progress | None) -> None:
    """Batch by batch; ends early when a batch brings nothing, for then the next ones will not either."""
    left = [draw for draw in plan.draws if draw.series not in ledger.entries]
    done = len(plan.draws) - len(left)
    _check_disk(left, ledger.out)
    for batch in list(_batches(left)):
        folder = ledger.out / DOWNLOADING
        folder.mkdir(exist_ok=True)
        fetch(batch, folder)
        arrived = [draw for draw in batch if is_whole(folder / draw.series, draw)]
        for draw in arrived:
            ledger.add(draw.series, _keep(draw, folder / draw.series, ledger.out))
        ledger.save()
        shutil.rmtree(folder)
        done += len(arrived)
        if on_progress:
            on_progress(done, len(plan.draws))
        if not arrived:
            return _check_disk(batch, ledger.out)
    return None


def _check_disk(left: Sequence[Draw], out: Path) -> None:
    needed = sum(draw.mb * draw.take / draw.n_instances for draw in left) + SPARE_MB
    needed += max((sum(draw.mb for draw in batch) for batch in _batches(left)), default=0.0)
    free = shutil.disk_usage(out).free / 1e6
    if left and free < needed:
        raise CbmirError(f"The disk has {free:.0f} MB free and {needed:.0f} MB are needed: make room, then {AGAIN}.")


def _batches(draws: Sequence[Draw]) -> Iterator[list[Draw]]:
    batch: list[Draw] = []
    for draw in draws:
        full = len(batch) == BATCH_SERIES or sum(one.mb for one in batch) + draw.mb > BATCH_MB
        if batch and full:
            yield batch
            batch = []
        batch.append(draw)
    if batch:
        yield batch


def _keep(draw: Draw, folder: Path, out: Path) -> list[str]:
    """Move the slices to their places; fewer than planned where a series has fewer pictures than instances."""
    (out / draw.slug).mkdir(exist_ok=True)
    kept = list(zip(choose(folder, draw), draw.paths, strict=False))
    for file, path in kept:
        os.replace(file, out / path)
    return [path for _, path in kept]


@dataclass(frozen=True)
class _Row:
    """A row of the manifest; patient: whom it counts for, also where the manifest does not name him."""

    ref: ImageRef
    side: Side
    patient: str | None


def _finish(plan: Plan, ledger: Ledger, pseudonyms: Pseudonyms, damaged: int, workers: int | None) -> FetchReport:
    there = {draw.series: len(ledger.entries.get(draw.series, ())) for draw in plan.draws}
    write_licences(ledger.out / LICENCES, [draw for draw in plan.draws if there[draw.series]], there)
    _write_missing(ledger.out / MISSING, [draw for draw in plan.draws if there[draw.series] < draw.take], there)
    rows = [*_drawn(plan, ledger), *_own(plan, ledger, pseudonyms, workers)]
    if not rows:
        raise CbmirError(f"Nothing arrived from IDC: check the network (and a proxy), then {AGAIN}.")
    refs, sides = [row.ref for row in rows], [row.side for row in rows]
    write_manifest(refs, sides, ledger.out / MANIFEST)
    return FetchReport(
        manifest=ledger.out / MANIFEST,
        counts=count(refs, sides, [row.patient for row in rows]),
        missing=tuple(series for series, n in there.items() if not n),
        short=sum(0 < there[draw.series] < draw.take for draw in plan.draws),
        damaged=damaged,
        absent={
            kind.name: kind.folder.how
            for kind in plan.folders
            if kind.folder and folder_key(kind.name) not in ledger.entries
        },
    )


def _write_missing(path: Path, missing: Sequence[Draw], there: Mapping[str, int]) -> None:
    if not missing:
        path.unlink(missing_ok=True)
        return
    columns = ("series_instance_uid", "collection", "class", "images_wanted", "images_there")
    rows = [(d.series, d.collection, d.label, str(d.take), str(there[d.series])) for d in missing]
    write_rows(path, columns, [dict(zip(columns, row, strict=True)) for row in rows])


def _drawn(plan: Plan, ledger: Ledger) -> Iterator[_Row]:
    """The images from IDC that are there, on the sides that the plan gives them, whatever else has arrived."""
    for draw in plan.draws:
        for path in ledger.entries.get(draw.series, ()):
            yield _Row(
                _ref(ledger, path, draw.label, draw.modality, draw.collection, draw.patient), draw.split, draw.patient
            )


def _own(plan: Plan, ledger: Ledger, pseudonyms: Pseudonyms, workers: int | None) -> list[_Row]:
    """The user's images, split by the patients the files tell; whom the plan knows too stays on his side."""
    refs = [
        _ref(ledger, path, kind.name, kind.folder.modality, kind.folder.source)
        for kind in plan.folders
        if kind.folder
        for path in ledger.entries.get(folder_key(kind.name), ())
    ]
    if not refs:
        return []
    known = with_patients(refs, pseudonyms, workers)
    drawn = {pseudonyms.of("patient", draw.patient): draw.split for draw in plan.draws}
    return [
        _Row(ref, drawn.get(told.patient or "", side), told.patient)
        for ref, told, side in zip(refs, known, split(known, seed=plan.seed), strict=True)
    ]


def _ref(ledger: Ledger, path: str, label: str, modality: str, source: str, patient: str | None = None) -> ImageRef:
    place = (ledger.out / path).absolute()
    return ImageRef(place, path, labels={"class": label}, modality=modality, source=source, patient=patient)
