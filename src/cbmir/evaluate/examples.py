"""Which queries and samples the report shows, and their pictures. Chosen by rule, never by hand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from math import ceil
from pathlib import Path

import numpy as np

from ..images.worker import decode_all
from ..preprocess import Preprocessing
from ..privacy import Pseudonyms
from ..types import Gate, Hit, ImageRef, Ranking, Record, UInt8
from .rankings import EvaluationSide, Measured, Rankings

PAPER_CLASSES = ("chest", "renal", "kidney")
"""The paper's Fig. 9 and 10 show chest and renal queries."""

N_EXAMPLES = 4
THUMBNAIL = Preprocessing(size=168, crop=168, aspect="kept")

Frame = tuple[Path, str | None, int]
"""A file, the member of it where it is an archive, and the index of the frame."""


@dataclass(frozen=True)
class Example:
    """A query and its first hits under each gate, with the reason why it is shown."""

    why: str
    query: Record
    rankings: tuple[Ranking, ...]


@dataclass(frozen=True)
class Samples:
    """Records for the sample sheets: one of each class (Fig. 5), several of a few classes (Fig. 6)."""

    one_each: tuple[Record, ...]
    varied: tuple[tuple[str, tuple[Record, ...]], ...]


def choose_examples(gallery: EvaluationSide, queries: EvaluationSide, rankings: Rankings) -> tuple[Example, ...]:
    """Up to N_EXAMPLES queries predicted rightly, one a class, and one predicted wrongly.

    The paper's classes come first, then those with the lowest P@10 without gate. Of a class it is the query with
    the most wrong hits among its first ten, ties by id: the one where a gate does most. First layer only.
    """
    layer, gates = next(iter(rankings.items()))
    if "off" not in gates:
        return ()
    precision = gates["off"].values["P@10"]
    known = [row for row in range(len(queries)) if not np.isnan(precision[row])]
    wrong = [row for row in known if _predicted_wrongly(queries.records[row])]
    right = sorted(set(known) - set(wrong), key=lambda row: (precision[row], queries.records[row].id))
    why = "the query of its class with most wrong hits without a gate"
    why += ", among those predicted rightly" if queries.posterior is not None else ""
    shown = [_example(why, layer, row, gallery, queries, gates) for row in _one_a_class(right, queries, precision)]
    if wrong:
        row = max(wrong, key=lambda row: (precision[row], queries.records[row].id))
        why = "of the queries predicted wrongly, the one with most right hits without a gate: what a hard gate costs"
        shown.append(_example(why, layer, row, gallery, queries, gates))
    return tuple(shown)


def _predicted_wrongly(record: Record) -> bool:
    return record.predicted is not None and record.predicted != record.label


def _one_a_class(rows: Sequence[int], queries: EvaluationSide, precision: np.ndarray) -> list[int]:
    """The first row of each class (rows come worst first); the paper's classes, then the worst."""
    of_class: dict[str, list[int]] = {}
    for row in rows:
        of_class.setdefault(queries.records[row].label or "", []).append(row)
    worst_first = sorted(of_class, key=lambda name: (float(precision[of_class[name]].mean()), name))
    order = [name for name in PAPER_CLASSES if name in of_class]
    order += [name for name in worst_first if name not in order]
    return [of_class[name][0] for name in order[:N_EXAMPLES]]


def _example(
    why: str,
    layer: str,
    row: int,
    gallery: EvaluationSide,
    queries: EvaluationSide,
    gates: Mapping[Gate, Measured],
) -> Example:
    query = queries.records[row]
    predicted = ((query.predicted, query.probability or 0.0),) if query.predicted is not None else ()
    rankings = [
        Ranking(
            hits=_hits(gallery, measured, row),
            layer=layer,
            gate=gate,
            predicted=predicted,
            query_ids=(query.id,),
            n_candidates=int(measured.n_candidates[row]),
        )
        for gate, measured in gates.items()
        if gate in ("hard", "off")
    ]
    return Example(why, query, tuple(sorted(rankings, key=lambda ranking: ranking.gate)))  # hard, then off


def _hits(gallery: EvaluationSide, measured: Measured, row: int) -> tuple[Hit, ...]:
    rows = measured.top_rows[row]
    return tuple(
        Hit(rank, gallery.records[hit].id, float(distance), gallery.records[hit])
        for rank, (hit, distance) in enumerate(zip(rows, measured.top_distances[row], strict=True), start=1)
        if hit >= 0
    )


def choose_samples(records: Sequence[Record], *, n_classes: int = 3, n_images: int = 8) -> Samples:
    """The first of each class, and the classes of most kinds (modality, source) in turn over their kinds."""
    kinds: dict[str, dict[tuple[str, str], list[Record]]] = {}
    for record in records:
        if record.label is not None:
            of_kind = kinds.setdefault(record.label, {})
            of_kind.setdefault((record.modality or "", record.source or ""), []).append(record)
    most_varied = sorted(kinds, key=lambda name: (-len(kinds[name]), name))[:n_classes]
    one_each = tuple(next(iter(kinds[name].values()))[0] for name in sorted(kinds))
    return Samples(one_each, tuple((name, _in_turn(kinds[name].values(), n_images)) for name in most_varied))


def _in_turn(kinds: Collection[Sequence[Record]], n_images: int) -> tuple[Record, ...]:
    """Images of every kind in turn, those of a kind spread over its list: neighbours there are often one series."""
    per_kind = ceil(n_images / len(kinds))
    spread = [
        [records[place] for place in np.linspace(0, len(records) - 1, min(per_kind, len(records))).round().astype(int)]
        for records in kinds
    ]
    turns = (record for turn in zip_longest(*spread) for record in turn if record is not None)
    return tuple(islice(turns, n_images))


def records_shown(examples: Iterable[Example], samples: Samples) -> dict[str, Record]:
    """All records that need a picture, by id."""
    shown = [*samples.one_each, *(record for _, records in samples.varied for record in records)]
    for example in examples:
        shown += [example.query, *(hit.record for ranking in example.rankings for hit in ranking)]
    return {record.id: record for record in shown}


def frame_of(ref: ImageRef, frame_index: int) -> Frame:
    return ref.path, ref.member, frame_index


def thumbnails(
    frames: Iterable[tuple[ImageRef, int]],
    pseudonyms: Pseudonyms,
    *,
    mask_burned_in: bool = False,
    workers: int | None = None,
) -> dict[Frame, UInt8]:
    """Grey pictures of frames (file, frame index) in the windows an encoder sees, uint8 (168, 168), the aspect kept.

    mask_burned_in: as the gallery of the images does. A picture that cannot be had is left out.
    """
    wanted = {frame_of(ref, index): ref for ref, index in frames}
    refs = {(ref.path, ref.member): ref for ref in wanted.values()}
    recipe = replace(THUMBNAIL, regions_only=mask_burned_in)
    pictures: dict[Frame, UInt8] = {}
    for decoded in decode_all(refs.values(), recipe, pseudonyms, workers=workers):
        for image in decoded.images:
            frame = frame_of(decoded.ref, image.record.frame_index)
            if frame in wanted:
                pictures[frame] = image.pixels[0]
    return pictures
