"""Who is searched and who asks: every protocol as folds of a gallery and its queries.

split            gallery = train, queries = test; no patient on both sides
patients         k folds by patient inside the train side
sources          three folds grouped by source, of the (class, modality) cells that have two or more sources
one-patient-out  every patient asks in the gallery of all others
within           every image asks in the gallery of all others; itself, its patient and its series are left out
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..dataset import folds as draw_folds
from ..errors import BadManifest, UsageError
from ..types import PROTOCOLS, ImageRef, Int, Protocol, Record
from .collection import Collection

N_FOLDS: Mapping[str, int] = {"patients": 5, "sources": 3}
"""Folds when no number is named."""

MOST_REFITS = 25
"""Patients up to which one-patient-out fits every method anew for each. Above, only methods that learn nothing run."""

SHOWN_ROWS = 20


@dataclass(frozen=True)
class Fold:
    """gallery, queries: int64, rows of the collection. A method is fitted on the gallery, and on nothing else.

    leaks: the queries are in the gallery too, so that a method that learns has seen them.
    """

    name: str
    gallery: Int
    queries: Int
    leaks: bool = False


@dataclass(frozen=True)
class Plan:
    """excluded: what was left out, as {"class", "modality", "reason", "n_images"}. Notes: sentences for the report."""

    protocol: Protocol
    folds: tuple[Fold, ...]
    excluded: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    only_unlearned: bool = False

    def as_dict(self) -> dict[str, Any]:
        sizes = [{"fold": f.name, "n_gallery": len(f.gallery), "n_queries": len(f.queries)} for f in self.folds]
        return {
            "name": self.protocol,
            "folds": sizes,
            "excluded": list(self.excluded),
            "notes": list(self.notes),
        }


def plan(collection: Collection, protocol: Protocol, *, n_folds: int | None = None, seed: int = 24) -> Plan:
    """The folds of a protocol. Raises BadManifest where the data do not allow it, UsageError for a wrong call."""
    if protocol not in PROTOCOLS:
        raise UsageError(f"There is no protocol '{protocol}': choose one of {', '.join(PROTOCOLS)}.")
    if n_folds is not None and protocol not in N_FOLDS:
        raise UsageError(f"--folds has no meaning with --protocol {protocol}.")
    made = {
        "split": _split,
        "patients": lambda c: _patients(c, n_folds, seed),
        "sources": lambda c: _sources(c, n_folds or N_FOLDS["sources"], seed),
        "one-patient-out": _one_patient_out,
        "within": _within,
    }[protocol](collection)
    _refuse_twice(collection, made.folds)
    for fold in made.folds:
        if not fold.leaks:
            refuse_both_sides(collection, fold)
    return replace(made, notes=(*made.notes, *_absent(collection.records, made.folds)))


def _refuse_twice(collection: Collection, folds: Sequence[Fold]) -> None:
    """An image that the manifest puts on both sides of a split cannot stand twice in one gallery."""
    for fold in folds:
        for rows in (fold.gallery, fold.queries):
            seen: dict[str, int] = {}
            for row in rows:
                first = seen.setdefault(collection.records[row].id, int(row))
                if first != row:
                    both = _rows([collection.manifest_row(first), collection.manifest_row(int(row))])
                    raise BadManifest(f"The manifest has one image twice, in rows {both}: remove one.")


def refuse_both_sides(collection: Collection, fold: Fold) -> None:
    """Raises BadManifest, naming rows, when a patient or an image is in the gallery and among the queries."""
    owners = {side: _owners(collection, rows) for side, rows in (("gallery", fold.gallery), ("query", fold.queries))}
    both = sorted(owners["gallery"].keys() & owners["query"].keys())
    if not both:
        return
    told = "; ".join(
        f"rows {_rows(owners['gallery'][owner])} in the gallery and rows {_rows(owners['query'][owner])} ask"
        for owner in both[:3]
    )
    more = f" and {len(both) - 3} more patients" if len(both) > 3 else ""
    what = "One patient is" if len(both) == 1 else f"{len(both)} patients are"
    raise BadManifest(f"{what} on both sides: {told}{more}. Make the split with `cbmir dataset split`.")


def _owners(collection: Collection, rows: Int) -> dict[str, list[int]]:
    """Patient, or image where nobody tells the patient -> rows of the manifest."""
    found: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        record = collection.records[row]
        found[record.owner].append(collection.manifest_row(int(row)))
    return found


def _rows(numbers: Sequence[int]) -> str:
    unique = sorted(set(numbers))
    shown = ", ".join(map(str, unique[:SHOWN_ROWS]))
    return shown + (f" and {len(unique) - SHOWN_ROWS} more" if len(unique) > SHOWN_ROWS else "")


def _of_split(collection: Collection, split: str) -> Int:
    return np.array([row for row in range(len(collection)) if collection.split_of(row) == split], np.int64)


def _split(collection: Collection) -> Plan:
    gallery, queries = _of_split(collection, "train"), _of_split(collection, "test")
    if not (len(gallery) and len(queries)):
        raise BadManifest(
            "The protocol split needs images of split train (gallery) and test (queries): make the column split with "
            "`cbmir dataset split`."
        )
    return Plan("split", (Fold("split", gallery, queries),))


def _refs(collection: Collection, rows: Iterable[int]) -> list[ImageRef]:
    """One ref per image, with its patient's pseudonym, for dataset.folds; frames of one file stay together."""
    told = [(collection.refs[collection.positions[row]], collection.records[row]) for row in rows]
    return [replace(ref, patient=record.patient, modality=record.modality) for ref, record in told]


def _patients(collection: Collection, n_folds: int | None, seed: int) -> Plan:
    """The folds of the manifest's own column where every train image has one, else drawn."""
    train = _of_split(collection, "train")
    rows = train if len(train) else np.arange(len(collection))
    refs = _refs(collection, rows)
    told = [ref.fold for ref in refs]
    if all(fold is not None for fold in told) and n_folds in (None, len(set(told))):
        numbers = np.array(told, np.int64)
        note = "The folds are those of the manifest's column fold."
    else:
        numbers = draw_folds(refs, n_folds or N_FOLDS["patients"], seed=seed)
        note = f"The folds are drawn by patient with seed {seed}."
    where = "the train side; the test side takes no part." if len(train) else "all images."
    return Plan("patients", _as_folds("patients", rows, numbers), notes=(f"{note} They cover {where}",))


def _as_folds(protocol: str, rows: Int, numbers: Int) -> tuple[Fold, ...]:
    known = np.unique(numbers)
    return tuple(
        Fold(f"{protocol}-{place}", rows[numbers != number], rows[numbers == number])
        for place, number in enumerate(known, start=1)
    )


def _sources(collection: Collection, n_folds: int, seed: int) -> Plan:
    """Sources with a patient in common stay together. Train and test images both take part: the sources decide."""
    cells: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, record in enumerate(collection.records):
        cells[record.label or "", record.modality or ""][record.source or ""].append(row)
    kept: list[int] = []
    excluded: list[dict[str, Any]] = []
    for (label, modality), by_source in sorted(cells.items()):
        named = {source: rows for source, rows in by_source.items() if source and label}
        left_out = {source: rows for source, rows in by_source.items() if source not in named}
        if len(named) < 2:
            left_out, named = dict(by_source), {}
        kept += [row for rows in named.values() for row in rows]
        if n_images := sum(map(len, left_out.values())):
            reason = _why_excluded(label, by_source)
            excluded.append({"class": label, "modality": modality, "reason": reason, "n_images": n_images})
    if not kept:
        raise BadManifest("No class has two sources within one modality: the protocol sources has nothing to measure.")
    rows = np.array(sorted(kept), np.int64)
    numbers = draw_folds(_refs(collection, rows), n_folds, seed=seed, group="source")
    note = f"{len(rows)} of {len(collection)} images take part, train and test alike; no source is on both sides."
    return Plan("sources", _as_folds("sources", rows, numbers), tuple(excluded), (note,))


def _why_excluded(label: str, by_source: Mapping[str, Any]) -> str:
    if not label:
        return "no class"
    known = sorted(source for source in by_source if source)
    return f"only one source ({known[0]})" if len(known) == 1 else "no source is told"


def _one_patient_out(collection: Collection) -> Plan:
    """Few patients: every method is fitted anew without each. Many: one fold in which own patients are hidden.

    For a method that learns nothing both are the same rankings. One that learns would have to be fitted as often as
    there are patients, hours each time, and fitted once it would have seen every query.
    """
    owners = [record.owner for record in collection.records]
    known = {owner: place for place, owner in enumerate(dict.fromkeys(owners))}
    rows = np.arange(len(collection))
    if len(known) < 2:
        raise BadManifest("The protocol one-patient-out needs at least two patients.")
    if len(known) <= MOST_REFITS:
        numbers = np.array([known[owner] for owner in owners], np.int64)
        return Plan("one-patient-out", _as_folds("one-patient-out", rows, numbers))
    note = f"{len(known)} patients are too many to fit a method anew without each: only methods that learn nothing run."
    return Plan("one-patient-out", (Fold("one-patient-out", rows, rows, leaks=True),), (), (note,), True)


def _within(collection: Collection) -> Plan:
    rows = np.arange(len(collection))
    note = "A method that learns was fitted on the queries too: its figures are an upper bound."
    return Plan("within", (Fold("within", rows, rows, leaks=True),), (), (note,))


def _absent(records: Sequence[Record], folds: Sequence[Fold]) -> list[str]:
    """Sentences on the classes that are asked for and not in the gallery."""
    told = []
    for fold in folds:
        here = {records[row].label for row in fold.gallery}
        lost = [label for row in fold.queries if (label := records[row].label) is not None and label not in here]
        if lost:
            names = ", ".join(sorted(set(lost)))
            told.append(
                f"{fold.name}: {len(lost)} queries have nothing to find, their class is only asked for: {names}."
            )
    return told
