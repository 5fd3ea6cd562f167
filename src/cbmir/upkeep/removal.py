"""Images leave a gallery for good: out of the store, the matrices, the free pages, the log and the run reports. Then
every byte of every file is read to prove it.

    note what they would leave behind --remove--> store --compact--> matrices --scrub--> free pages, log
        --delete--> run reports that name them --search every byte--> proof

Cut short anywhere, the same command goes on: what is out of the store and not yet out of the files is in its change
log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BadGallery
from ..gallery import Gallery
from ..gallery.upkeep import compact, digest_of, digests_left_by
from ..privacy import Pseudonyms
from ..store import Store, Unit
from ..store.rows import chunks
from ..types import Progress
from .evidence import Evidence, Kind, counted, still_there
from .traces import search_folder

REPORTS = "reports"
_REPORT_ENDS = (".json", ".html", ".json.new", ".html.new")  # the last two where a run was killed


@dataclass(frozen=True)
class Proof:
    """What was looked at, and for. found: {"file", "what", "sequences"} each; empty when nothing is left.

    shared: sequences, of what was looked for, that images which stay have as well (the same pixels, say).
    """

    files: int
    bytes: int
    looked_for: Mapping[str, int]
    shared: Mapping[str, int]
    found: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Removal:
    """records, files: how many are gone now; before: values of which all images had been removed before, and are looked
    for again; reports: run reports that named what is gone, deleted.
    """

    records: int
    files: int
    before: int
    reports: int
    proof: Proof

    def as_dict(self) -> dict[str, Any]:
        counts = {"records": self.records, "files": self.files, "before": self.before, "reports": self.reports}
        return {"removed": counts, "proof": asdict(self.proof)}


@dataclass
class _Chosen:
    """Of the values that were given: the images that go and the pseudonyms by which they do; pseudonyms of what was
    removed before; and which values name nothing (their numbers, from 1).
    """

    ids: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)


def what_would_go(gallery: Gallery, what: Unit, values: Sequence[str], pseudonyms: Pseudonyms) -> dict[str, Any]:
    """What `remove` would remove. Raises as it does."""
    gallery.check_pseudonyms(pseudonyms)
    ids = _chosen(gallery.store, what, values, pseudonyms).ids
    records = gallery.records(ids).values()
    n_owners = {
        name: len({getattr(record, kind) for record in records} - {None})
        for kind, name in (("patient", "patients"), ("study", "studies"), ("series", "series"))
    }
    return {"would_remove": {"records": len(records), **n_owners}, "ids": sorted(ids)}


def remove(
    gallery: Gallery,
    what: Unit,
    values: Sequence[str],
    pseudonyms: Pseudonyms,
    *,
    on_progress: Progress | None = None,
) -> Removal:
    """Removes the images with these ids, or of these series, studies or patients, and proves that they are gone.

    values: pseudonyms as the gallery prints them, or what they stand for (a PatientID, a UID): the key tells. A later
    index run leaves these images out, and further ones of the same patient, study or series, until they are readmitted.
    on_progress: megabytes searched.
    Nothing is removed when one of the values names no image, now or before. Raises BadGallery for that, for another
    key, while another process writes, and when readers keep the log busy: then the images are out of the store, and the
    same call again goes on.
    """
    gallery.check_pseudonyms(pseudonyms)
    store = gallery.store
    with gallery.writing():
        chosen = _chosen(store, what, values, pseudonyms)
        evidence = _evidence(store, what, chosen)
        n_records, n_files = 0, 0
        if chosen.names:
            gone = store.remove(what, chosen.names, digests_left_by(pseudonyms, what))
            evidence.add_handles(gone.handles)  # also of copies that waited behind the images
            n_records, n_files = gone.n_records, gone.n_files
        compact(store)
        sequences = evidence.sequences(store)
        reports = _delete_reports(gallery.directory, sequences)
        store.scrub(store.generation(), smaller=True)  # waits for whoever still reads what was there before,
        compact(store)  # and may just have made matrices of it
        proof = _prove(store, sequences, on_progress)
    return Removal(n_records, n_files, len(chosen.before), reports, proof)


def left_in_files(store: Store) -> list[str]:
    """Images that are out of the store, and that matrices, free pages or the log may still hold."""
    touched = store.changes_since(store.meta()["log_from"]) or []
    there = {record_id for some in chunks(touched) for record_id in store.records(some)}
    return [record_id for record_id in touched if record_id not in there]


def _chosen(store: Store, what: Unit, values: Sequence[str], pseudonyms: Pseudonyms) -> _Chosen:
    chosen = _Chosen()
    for number, value in enumerate(dict.fromkeys(value.strip() for value in values), 1):
        names = [value] if what == "id" else [value, pseudonyms.of(what, value)]
        if there := [name for name in names if store.ids_of(what, [name])]:
            chosen.names += there
        elif erased := [name for name in names if store.are_erased([digest_of(what, name, pseudonyms)])]:
            chosen.before += erased
        else:
            chosen.unknown.append(number)
    chosen.ids = store.ids_of(what, chosen.names)
    if chosen.unknown:
        raise _nobody(what, chosen.unknown)
    return chosen


def _nobody(what: Unit, numbers: Sequence[int]) -> BadGallery:
    """The value itself may be a patient's, and is not repeated."""
    which = "" if numbers == [1] else f" (number {', '.join(map(str, numbers))} of those given)"
    return BadGallery(f"the gallery has no image of this {what}{which}, and nothing was removed")


def _evidence(store: Store, what: Unit, chosen: _Chosen) -> Evidence:
    evidence = Evidence()
    evidence.add_ids(left_in_files(store))
    for name in chosen.before:
        evidence.add_name(name, "ids" if what == "id" else "pseudonyms")
    for some in chunks(chosen.ids):
        for record in store.records(some).values():
            evidence.add_record(record)
            if file := store.file_of(record.id):
                evidence.add_file(file)
    evidence.add_features(store, chosen.ids)
    evidence.add_thumbnails(store.directory, chosen.ids)
    return evidence


def _delete_reports(directory: Path, sequences: Mapping[bytes, Kind]) -> int:
    """Run reports that name an image or a file that is gone, each with its page; how many."""
    folder = directory / REPORTS
    where, _, _ = search_folder(folder, list(sequences))
    named = {str(path) for paths in where.values() for path in paths}
    stems = {name.removesuffix(end) for name in named for end in _REPORT_ENDS if name.endswith(end)}
    for stem in stems:
        for end in _REPORT_ENDS:
            (folder / f"{stem}{end}").unlink(missing_ok=True)
    return len(stems)


def _prove(store: Store, sequences: Mapping[bytes, Kind], on_progress: Progress | None) -> Proof:
    where, n_files, n_bytes = search_folder(store.directory, list(sequences), on_progress)
    shared = still_there(store, where) if where else set()
    found: dict[tuple[str, Kind], int] = {}
    for sequence, paths in where.items():
        for path in paths if sequence not in shared else ():
            key = str(path), sequences[sequence]
            found[key] = found.get(key, 0) + 1
    return Proof(
        files=n_files,
        bytes=n_bytes,
        looked_for=counted(sequences.values()),
        shared=counted(sequences[sequence] for sequence in shared),
        found=[{"file": file, "what": what, "sequences": n} for (file, what), n in sorted(found.items())],
    )
