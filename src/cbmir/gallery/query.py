"""What is asked of a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

from ..errors import UsageError
from ..types import (
    COMBINES,
    HIDES,
    ORDERS,
    OWNERS,
    RERANKS,
    SERIES_RULES,
    Combine,
    Feedback,
    Float32,
    Gate,
    Hide,
    Order,
    Owner,
    Record,
    Rerank,
    SeriesRule,
)
from ..where import Where, one_line


@dataclass(frozen=True)
class NewImage:
    """An image from outside the gallery. features: float32 (dim,) of the layer; posterior: float32 (K,) or None.

    record: what is known of it; its patient, study or series is hidden as the query says, and so is the image itself
    unless nothing is hidden. An image that is in the gallery is also of whom the gallery says: a manifest may know
    the patient that the file does not tell.
    """

    features: Float32
    posterior: Float32 | None = None
    record: Record | None = None


@dataclass(frozen=True)
class Query:
    """A search: by images of the gallery, new ones, the images of one of its series, or several of these.

    ids: of images of the gallery, which are never among their own hits. series: a pseudonym of the gallery.
    k: how many hits, after the first `offset` ones. layer: None for the default. hide: whose images are left out, of
    every image of the query and every liked one; an unknown patient hides nothing but the image itself.
    where: which images are searched. feedback: what somebody judged; judged images are no hits.
    combine: how several images are one query. order: which images come first. rerank: what makes the ranking better,
    after all judgements; only images that take part in the search do. group_by: of each patient, study or
    series only the first hit. rank_series: series are ranked instead of images, by this rule (fusion.py), and the
    images of the query are its slices. exact: without the approximate index, where there is one.
    Raises UsageError for what does not go together.
    """

    ids: Sequence[str] = ()
    images: Sequence[NewImage] = ()
    series: str | None = None
    k: int = 10
    offset: int = 0
    layer: str | None = None
    gate: Gate = "off"
    hide: Hide = "patient"
    where: Where | None = None
    feedback: Feedback = field(default_factory=Feedback)
    combine: Combine = "centroid"
    order: Order = "most"
    rerank: Rerank = "none"
    group_by: Owner | None = None
    rank_series: SeriesRule | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        names = (*self.ids, *self.feedback.like, *self.feedback.unlike, *((self.series,) if self.series else ()))
        for name in names:
            if not name.isprintable():  # bytes that are no text, or what a terminal would obey
                raise UsageError(f"no image or series is named {one_line(name)!r}")
        if self.k < 1:
            raise UsageError("k must be at least 1")
        if self.offset < 0:
            raise UsageError("the offset must be at least 0")
        _check("the gates are", self.gate, get_args(Gate))
        _check("one hides", self.hide, HIDES)
        _check("several images are combined by", self.combine, COMBINES)
        _check("the orders are", self.order, ORDERS)
        _check("one re-ranks by", self.rerank, RERANKS)
        if self.rerank != "none" and self.order == "least":
            raise UsageError("the least similar images are not re-ranked: only near ones tell of each other")
        if self.group_by is not None:
            _check("hits are grouped by", self.group_by, OWNERS)
        if self.rank_series is not None:
            _check("series are ranked by", self.rank_series, SERIES_RULES)
            self._check_series()

    def _check_series(self) -> None:
        if self.group_by not in (None, "series"):
            raise UsageError(f"series are ranked as such, and not grouped by {self.group_by}")
        if self.rerank != "none":
            raise UsageError("images are re-ranked, not series; search for images, or without re-ranking")
        if self.gate == "soft":
            raise UsageError("the soft gate ranks images, not series; use another gate")
        if self.order == "least" and self.rank_series == "votes":
            raise UsageError("a series that is nobody's nearest has no votes: rank the least similar ones by mean")


def _check(sentence: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UsageError(f"{sentence} {', '.join(allowed)}, not {value!r}")
