"""What the API takes and gives. What is not known is refused; every bound is small enough to be answered."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ..types import Combine, Feedback, Gate, Hide, Order, Owner, Record, Rectangle, Rerank, SeriesRule

Id = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}$")]
"""Of an image, or the pseudonym of a series."""
UploadName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
FrameNumber = Annotated[int, Field(ge=1, le=1_000_000)]
Filter = Annotated[str, StringConstraints(max_length=4000)]
"""In the language of `--where`, docs/search.md."""
Pixel = Annotated[int, Field(ge=0, le=1_000_000)]
Side = Annotated[int, Field(ge=1, le=1_000_000)]
Region = tuple[Pixel, Pixel, Side, Side]
"""x, y, width and height, in pixels of the picture as it is drawn."""
Counts = dict[str, int]
Few = 100
Many = 1000


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


def rectangle(region: Region | None) -> Rectangle | None:
    if region is None:
        return None
    left, top, width, height = region
    return left, top, left + width, top + height


class UploadedImage(Strict):
    """frame: from 1; null for the first readable one, of a volume for the middle axial slice."""

    upload: UploadName
    frame: FrameNumber | None = None


class SearchRequest(Strict):
    """As the options of `cbmir search`. series_by: null is mean where a series or all frames search, else none.

    k: the server may allow fewer, see limits of the gallery.
    """

    ids: list[Id] = Field([], max_length=Few)
    uploads: list[UploadedImage] = Field([], max_length=16)
    series: Id | None = None
    all_frames: bool = False
    k: int = Field(24, ge=1, le=10_000)
    offset: int = Field(0, ge=0, le=10_000_000)
    layer: Annotated[str, StringConstraints(max_length=100)] | None = None
    gate: Gate = "off"
    where: Filter | None = None
    hide: Hide = "patient"
    like: list[Id] = Field([], max_length=Many)
    unlike: list[Id] = Field([], max_length=Many)
    combine: Combine = "centroid"
    order: Order = "most"
    rerank: Rerank = "none"
    group_by: Owner | None = None
    region: Region | None = None
    series_by: SeriesRule | Literal["none"] | None = None
    exact: bool = False

    @model_validator(mode="after")
    def _checked(self) -> SearchRequest:
        self.feedback()
        return self

    def feedback(self) -> Feedback:
        """Raises ValueError for an image that is liked and unliked."""
        return Feedback(tuple(dict.fromkeys(self.like)), tuple(dict.fromkeys(self.unlike)))

    @property
    def rank_series(self) -> SeriesRule | None:
        if self.series_by == "none":
            return None
        return self.series_by or ("mean" if self.series or self.all_frames else None)


class ExplainRequest(Strict):
    """An image of the gallery or an uploaded one, and the hit it is like. check: also compare the maps with random
    ones, which takes seconds.
    """

    id: Id | None = None
    upload: UploadedImage | None = None
    hit: Id
    region: Region | None = None
    check: bool = False

    @model_validator(mode="after")
    def _checked(self) -> ExplainRequest:
        if (self.id is None) == (self.upload is None):
            raise ValueError("give an id or an upload, and not both")
        return self


class ExportRequest(Strict):
    search: SearchRequest
    format: Literal["csv", "json"]


class Can(BaseModel):
    """What the encoder was fitted for. rerank: by what hits can be re-ranked."""

    soft_gate: bool
    score: bool
    in_distribution: bool
    rerank: list[Rerank]
    maps: bool


class EncoderTold(BaseModel):
    """layers: the default first, with their dimensions."""

    name: str
    fingerprint: str
    precision: str
    layers: Counts
    classes: list[str]
    can: Can


class GalleryLimits(BaseModel):
    k: int
    upload_bytes: int


class GalleryTold(BaseModel):
    """generation: grows with every change. files: by outcome; by_...: "" counts those of which it is not known."""

    name: str
    generation: int
    records: int
    patients: int
    files: Counts
    by_class: Counts
    by_modality: Counts
    by_source: Counts
    encoder: EncoderTold
    limits: GalleryLimits
    page_note: str


class FailedFile(BaseModel):
    """handle: how `cbmir files` finds it."""

    handle: str
    outcome: str
    reason: str | None


class FailedFiles(BaseModel):
    total: int
    failed: list[FailedFile]


class RecordTold(BaseModel):
    """frame: from 1. class: the label, else the predicted class. digest: of the pixels."""

    id: str
    patient: str | None
    study: str | None
    series: str | None
    frame: int
    label: str | None
    class_: str | None = Field(alias="class")
    predicted: str | None
    probability: float | None
    modality: str | None
    source: str | None
    labels: dict[str, str]
    attributes: dict[str, str]
    provenance: dict[str, Any]
    digest: str | None


def record_told(record: Record) -> RecordTold:
    return RecordTold(
        id=record.id,
        patient=record.patient,
        study=record.study,
        series=record.series,
        frame=record.frame_index + 1,
        label=record.label,
        **{"class": record.group or None},
        predicted=record.predicted,
        probability=record.probability,
        modality=record.modality,
        source=record.source,
        labels=dict(record.labels),
        attributes=dict(record.attributes),
        provenance=dict(record.provenance),
        digest=record.pixel_digest,
    )


class RecordsTold(BaseModel):
    """total: images that pass the filter; records: those of this page."""

    total: int
    records: list[RecordTold]


class Facets(BaseModel):
    """n: images that pass the filter. facets: by column, how many have each value, the most frequent first; "" counts
    those of which nothing is told. more: by column, how many rarer values are left out.
    """

    n: int
    facets: dict[str, Counts]
    more: Counts


class AtlasPoints(BaseModel):
    """Each list has one entry a point. class: which of the classes."""

    id: list[str]
    x: list[float]
    y: list[float]
    class_: list[int] = Field(alias="class")


class AtlasTold(BaseModel):
    """n: images in the part that was asked for; shown: those of them in points, evenly spread. bounds: x0, y0, x1, y1
    of the whole map. same_class: the share of the ten nearest images that are of an image's class, on the map and by
    all features, when it was laid out.
    """

    n: int
    shown: int
    bounds: tuple[float, float, float, float]
    classes: list[str]
    same_class: dict[str, float]
    points: AtlasPoints


class Slice(BaseModel):
    id: str
    frame: int
    digest: str | None


class SeriesTold(BaseModel):
    """slices: in the order of the stack, of the plane of the image that was asked for; index: its place, from 0."""

    series: str | None
    index: int
    slices: list[Slice]


class FrameHeader(BaseModel):
    """The header X-Frame of the pixels of an image: one line of JSON.

    The octets are little endian, row by row. value = stored * slope + intercept, wrong by `error` at most. windows:
    center, width, function (PS3.3 C.11.2.1.2, C.11.2.1.3) and null. window: center and width of what is shown at first,
    with the function of the same one in windows, else LINEAR_EXACT; null for colour. MONOCHROME1 is inverted after the
    window, padding is then black. voi_lut: values are those after the file's own table.
    frame: its number in the file, of `frames`; rule: the window in words.
    """

    rows: int
    columns: int
    channels: Literal[1, 3]
    dtype: Literal["int16", "uint8"]
    slope: float
    intercept: float
    error: float
    unit: str | None
    padding: int | None
    monochrome1: bool
    pixel_aspect: float
    pixel_spacing_mm: tuple[float, float] | None
    windows: list[tuple[float, float, str, None]]
    window: tuple[float, float] | None
    voi_lut: bool
    rule: str
    frame: int
    frames: int
    modality: str | None


class UploadTold(BaseModel):
    """first: the number of the frame that is meant where none is named."""

    upload: str
    frames: int
    first: int
    rows: int
    columns: int
    modality: str | None
    expires_in_s: int


class Predicted(BaseModel):
    class_: str = Field(alias="class")
    probability: float


class QueryTold(BaseModel):
    id: str | None
    ids: list[str]
    frame: int | None
    predicted: list[Predicted]
    in_distribution: bool | None
    layer: str
    gate: Gate
    candidates: int


class FeedbackTold(BaseModel):
    like: list[str]
    unlike: list[str]


class HitTold(BaseModel):
    rank: int
    id: str
    distance: float
    score: float | None
    class_: str | None = Field(alias="class")
    label: str | None
    predicted: str | None
    modality: str | None
    patient: str | None
    study: str | None
    series: str | None
    images: int | None
    votes: int | None
    digest: str | None
    frame: int


class SearchTold(BaseModel):
    """The document of `cbmir search --json`, with digest and frame of each hit."""

    query: QueryTold
    where: str | None
    offset: int
    order: Order
    rerank: Rerank
    grouped_by: Owner | None
    n_candidates: int
    n_allowed: int
    feedback: FeedbackTold
    notes: list[str]
    by: str
    hits: list[HitTold]


class SideTold(BaseModel):
    """map: its places sum to the similarity and cover `box`, left, top, right, bottom in pixels."""

    id: str
    frame: int
    class_: str | None = Field(alias="class")
    rows: int
    columns: int
    box: tuple[float, float, float, float]
    map: list[list[float]]
    check: dict[str, float] | None


class ExplanationTold(BaseModel):
    """The document of `cbmir explain --json`."""

    layer: str
    similarity: float
    distance: float
    query: SideTold
    hit: SideTold


class ReportLine(BaseModel):
    """mAP: of the default layer, without a gate; null where none was measured."""

    name: str
    encoder: str
    n_queries: int
    n_gallery: int
    mAP: float | None  # noqa: N815 (as metrics.json calls it)
