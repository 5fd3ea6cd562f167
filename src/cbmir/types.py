"""The nouns: frozen, self-checking. One word for one thing, as in docs/architecture.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]

Progress = Callable[[int, int], None]
"""Called with how much is done, and how much there is in all."""

Gate = Literal["off", "hard", "top3", "soft"]
"""How the query's predicted class limits the search; see search.py."""
GATES: tuple[Gate, ...] = get_args(Gate)

Protocol = Literal["split", "patients", "sources", "one-patient-out", "within"]
"""Who is searched and who asks in a benchmark; see benchmark/protocols.py."""
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

Hide = Literal["patient", "study", "series", "none"]
HIDES: tuple[Hide, ...] = get_args(Hide)

Owner = Literal["patient", "study", "series"]
"""Whose an image is: what hits are grouped by."""
OWNERS: tuple[Owner, ...] = get_args(Owner)

Order = Literal["most", "least"]
"""Which images come first: the most similar ones, or the least."""
ORDERS: tuple[Order, ...] = get_args(Order)

Combine = Literal["centroid", "max"]
"""How several query images are one query: their mean, or the one that is nearest to an image; see fusion.py."""
COMBINES: tuple[Combine, ...] = get_args(Combine)

SeriesRule = Literal["mean", "votes"]
"""What ranks series: the mean over the query's slices of the nearest distance, or votes first; see fusion.py."""
SERIES_RULES: tuple[SeriesRule, ...] = get_args(SeriesRule)

Rerank = Literal["none", "aqe", "kreciprocal"]
"""How a ranking is made better by the gallery itself: alpha query expansion, k-reciprocal; see rerank.py."""
RERANKS: tuple[Rerank, ...] = get_args(Rerank)


Rectangle = tuple[int, int, int, int]
"""left, top, right, bottom in pixels; right and bottom are the first outside."""


@dataclass(frozen=True)
class ImageRef:
    """Where images come from: one file, or one member of a zip archive, with what a manifest or folder says about it.

    path: the file, absolute. shown: where it is below its source, for the person at the terminal; never written down,
    since paths may name patients. member: the name inside the zip archive at path; `shown` then ends with it.
    refused: why the source will not have it read (a path that leaves its root, say), one sentence.
    labels: label columns, `class` among them when known; patient, modality, source, split, fold (from 0): as the
    manifest says. region: the part of every picture that is looked at, None for the whole.
    """

    path: Path
    shown: str
    labels: Mapping[str, str] = field(default_factory=dict)
    patient: str | None = None
    modality: str | None = None
    source: str | None = None
    split: str | None = None
    fold: int | None = None
    member: str | None = None
    refused: str | None = None
    region: Rectangle | None = None

    @property
    def label(self) -> str | None:
        return self.labels.get("class")

    @property
    def shown_on_disk(self) -> str:
        """What is shown of the file itself, without the member of an archive."""
        return self.shown if self.member is None else self.shown.removesuffix("/" + self.member)


WindowFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
WINDOW_FUNCTIONS: tuple[WindowFunction, ...] = get_args(WindowFunction)


@dataclass(frozen=True)
class Window:
    """A window candidate of a DICOM header, in modality values (CT: HU).

    Source: DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3 (function).
    """

    center: float
    width: float
    function: WindowFunction = "LINEAR"


@dataclass(frozen=True)
class Provenance:
    """How pixels were obtained. format: DICOM, PNG, NIfTI, ...; decoder: its library; notes: what was mended.

    values: what the pixels are: HU, SUVbw, Bq/ml, ...; a phrase of this program's, never text of the file.
    """

    format: str
    transfer_syntax: str | None = None
    decoder: str | None = None
    values: str | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "transfer_syntax": self.transfer_syntax,
            "decoder": self.decoder,
            "values": self.values,
            "notes": list(self.notes),
        }


ObjectKind = Literal["picture", "segmentation", "dose grid", "parametric map"]
"""What the pixels show. Only pictures are indexed; the others decode, and are counted as decoded."""


@dataclass(frozen=True)
class DecodedImage:
    """One decoded 2-D picture (one DICOM frame, one file, one TIFF page, one slice of a volume), not windowed.

    pixels: grey float32 (rows, columns) in modality-LUT values (CT: HU), or colour uint8 (rows, columns, 3) RGB.
    value_range: the (black, white) values the encoding could hold, e.g. (0, 255); the fallback window.
    made_for_eye: stored in at most eight bits, or floats shown as they are: no HU or scanner units to find a window in.
    padding: bool (rows, columns), True where the pixel is padding and means nothing; None when there is none.
    windows: VOI candidates of the header, first is preferred; voi_lut: an explicit VOI LUT as (first value, table in
    [0, 1]), wins over them.
    monochrome1: low values are white; inverted by preprocess, last.
    pixel_aspect: height of a pixel over its width, 1 where the file tells nothing.
    regions: where an ultrasound picture holds a scan (PS3.3 C.8.5.5.1.1); outside are text and scales. Empty: unknown.
    kind: what the pixels show; only pictures are indexed.
    id, patient, study, series: keyed pseudonyms (privacy.py); patient, study, series None where the file tells nothing.
    attributes: white-listed attributes by lower-case DICOM keyword in snake case.
    """

    pixels: npt.NDArray[Any]
    value_range: tuple[float, float]
    id: str
    provenance: Provenance
    frame_index: int = 0
    modality: str | None = None
    padding: Bool | None = None
    windows: tuple[Window, ...] = ()
    voi_lut: tuple[float, Float32] | None = None
    monochrome1: bool = False
    made_for_eye: bool = False
    pixel_aspect: float = 1.0
    regions: tuple[Rectangle, ...] = ()
    kind: ObjectKind = "picture"
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        grey = self.pixels.ndim == 2 and self.pixels.dtype == np.float32
        colour = self.pixels.ndim == 3 and self.pixels.shape[2] == 3 and self.pixels.dtype == np.uint8
        if not (grey or colour):
            raise ValueError(
                f"pixels are float32 (rows, columns) or uint8 (rows, columns, 3), not "
                f"{self.pixels.dtype} {self.pixels.shape}"
            )
        if min(self.pixels.shape[:2]) < 1:
            raise ValueError("an image has at least one pixel")
        if self.padding is not None and self.padding.shape != self.pixels.shape[:2]:
            raise ValueError("the padding mask has the shape of the image")
        if not 0 < self.pixel_aspect < float("inf"):
            raise ValueError("the aspect of a pixel is a positive number")

    @property
    def is_colour(self) -> bool:
        return self.pixels.ndim == 3


@dataclass(frozen=True)
class Record:
    """What a gallery knows of one image.

    id, patient, study, series: pseudonyms.
    labels: label columns (`class` is the label); predicted and posterior (probability): the encoder's opinion.
    pixel_digest: keyed digest of the decoded pixels; equal for the same picture in two files.
    """

    id: str
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    frame_index: int = 0
    modality: str | None = None
    source: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    predicted: str | None = None
    probability: float | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    pixel_digest: str | None = None

    @property
    def label(self) -> str | None:
        return self.labels.get("class")

    @property
    def owner(self) -> str:
        """The patient, or the image itself where nobody tells the patient."""
        return self.patient or f"image {self.id}"

    @property
    def group(self) -> str:
        """The class of a record: its label when it has one, else its predicted class, else ''. The gate uses this."""
        return self.label or self.predicted or ""


@dataclass(frozen=True)
class Feedback:
    """What somebody judged: ids of images that are like what is meant, and of images that are not."""

    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if both := set(self.like) & set(self.unlike):
            raise ValueError(f"an image is liked or unliked, not both: {sorted(both)[0]}")

    def then(self, later: Feedback) -> Feedback:
        """These judgements and later ones, which count where they differ."""
        judged = {*later.like, *later.unlike}
        like, unlike = ([name for name in names if name not in judged] for names in (self.like, self.unlike))
        return Feedback((*like, *dict.fromkeys(later.like)), (*unlike, *dict.fromkeys(later.unlike)))


@dataclass(frozen=True)
class Hit:
    """One returned image. distance: Euclidean, smaller is more alike.

    score: the probability that it is of the query's class, by its distance; None without a calibration, and where the
    distance is not that of two images (to a mean of several, to a query moved by judgements, of series).

    n_images: where hits are grouped, how many of the compared images are of the hit's patient, study or series.
    votes: where series are ranked by votes, how many slices of the query have their nearest image in this one.
    """

    rank: int
    id: str
    distance: float
    record: Record
    score: float | None = None
    n_images: int | None = None
    votes: int | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError("ranks start at 1")
        if not self.distance >= 0:
            raise ValueError("a distance is a number of at least 0")
        if self.score is not None and not 0 <= self.score <= 1:
            raise ValueError("a score is a probability")

    def as_dict(self) -> dict[str, Any]:
        """As `cbmir search` tells it (docs/architecture.md, Contract)."""
        return {
            "rank": self.rank,
            "id": self.id,
            "distance": self.distance,
            "score": self.score,
            "class": self.record.group or None,
            "label": self.record.label,
            "predicted": self.record.predicted,
            "modality": self.record.modality,
            "patient": self.record.patient,
            "study": self.record.study,
            "series": self.record.series,
            "images": self.n_images,
            "votes": self.votes,
        }


@dataclass(frozen=True)
class Ranking:
    """The hits of one query, best first, ties by id.

    predicted: (class, probability) of the query, likeliest first; empty when the encoder has no classes.
    in_distribution: False where the query is unlike the gallery, None where that is not known.
    query_ids: the ids of its images, as far as they are known. n_candidates: how many records were compared: all that
    gate and filter let pass and that are not hidden. n_allowed: how many the filter lets pass.
    offset: how many hits come before these. where: the filter, as text. grouped_by: whose best image each hit is.
    order: whether the most or the least similar come first. rerank: by what they were re-ranked; distances then do not
    ascend. feedback: the judgements so far, for the next search.
    notes: what a person should know of this search, a sentence each. by: how the index found them.
    """

    hits: tuple[Hit, ...]
    layer: str
    gate: Gate
    predicted: tuple[tuple[str, float], ...] = ()
    in_distribution: bool | None = None
    query_ids: tuple[str, ...] = ()
    n_candidates: int = 0
    n_allowed: int = 0
    offset: int = 0
    where: str | None = None
    grouped_by: Owner | None = None
    order: Order = "most"
    rerank: Rerank = "none"
    feedback: Feedback = field(default_factory=Feedback)
    notes: tuple[str, ...] = ()
    by: str = "exact"

    def __post_init__(self) -> None:
        for before, after in zip(self.hits, self.hits[1:], strict=False):
            if after.rank != before.rank + 1:
                raise ValueError("hits are ranked 1, 2, 3, ... without a gap")

    @property
    def query_id(self) -> str | None:
        """The id of the only image of the query; None where there are several, or it has none."""
        return self.query_ids[0] if len(self.query_ids) == 1 else None

    def as_dict(self, frame_number: int | None = None) -> dict[str, Any]:
        """As `cbmir search` tells it (docs/architecture.md). frame_number: of the file that was searched by."""
        return {
            "query": {
                "id": self.query_id,
                "ids": list(self.query_ids),
                "frame": frame_number,
                "predicted": [{"class": name, "probability": probability} for name, probability in self.predicted],
                "in_distribution": self.in_distribution,
                "layer": self.layer,
                "gate": self.gate,
                "candidates": self.n_candidates,
            },
            "where": self.where,
            "offset": self.offset,
            "order": self.order,
            "rerank": self.rerank,
            "grouped_by": self.grouped_by,
            "n_candidates": self.n_candidates,
            "n_allowed": self.n_allowed,
            "feedback": {"like": list(self.feedback.like), "unlike": list(self.feedback.unlike)},
            "notes": list(self.notes),
            "by": self.by,
            "hits": [hit.as_dict() for hit in self],
        }

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)
