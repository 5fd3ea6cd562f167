"""The gallery, its failed files, its records, and the stack an image lies in."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request

from ...confidence import farthest_usual, scores
from ...errors import UsageError
from ...gallery import Gallery
from ...rerank import reranking_of
from ...types import RERANKS, Record, Rerank
from ..answers import Reader, known
from ..context import Context, context_of
from ..models import (
    Can,
    EncoderTold,
    FailedFile,
    FailedFiles,
    GalleryLimits,
    GalleryTold,
    Id,
    RecordTold,
    SeriesTold,
    Slice,
    record_told,
)
from ..problems import Problem

router = APIRouter(tags=["gallery"])
PAGE_NOTE = "Research use only. Not for diagnosis."


@router.get("/gallery")
def gallery(request: Request, _: Reader) -> GalleryTold:
    """What is in it, and what can be asked of it."""
    context = context_of(request)
    limits = context.settings.limits
    with context.desk.gallery() as opened:
        counts = context.desk.counts(opened)
        return GalleryTold(
            name=opened.directory.name,
            generation=opened.store.generation(),
            records=opened.count,
            patients=counts["patients"],
            files=counts["files"],
            by_class=counts["by_class"],
            by_modality=counts["by_modality"],
            by_source=counts["by_source"],
            encoder=_encoder(opened, context),
            limits=GalleryLimits(k=limits.k, upload_bytes=limits.upload_bytes),
            page_note=PAGE_NOTE,
        )


def _encoder(opened: Gallery, context: Context) -> EncoderTold:
    card, layer = opened.encoder, opened.default_layer
    return EncoderTold(
        name=card.name,
        fingerprint=card.fingerprint,
        precision=card.precision,
        layers=dict(card.layers),
        classes=list(card.classes),
        can=Can(
            soft_gate=card.calibration.get("soft_gate_tau", {}).get(layer) is not None,
            score=scores(np.empty(0, np.float32), card.calibration, layer) is not None,
            in_distribution=farthest_usual(card.calibration, layer) is not None,
            rerank=[name for name in RERANKS if _can_rerank(name, opened, layer)],
            maps=_has_maps(opened, context),
        ),
    )


def _can_rerank(name: Rerank, opened: Gallery, layer: str) -> bool:
    try:
        reranking_of(name, opened.encoder.calibration, layer)
    except UsageError:
        return False
    return True


def _has_maps(opened: Gallery, context: Context) -> bool:
    """Not where the encoder is no longer there: what needs it says so."""
    try:
        return context.workers.encoder_of(opened).has_maps
    except Problem:
        return False


@router.get("/gallery/failed")
def failed(
    request: Request,
    _: Reader,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> FailedFiles:
    """Files that gave no image, and why."""
    with context_of(request).desk.gallery() as opened:
        total, files = opened.store.failed(offset, limit)
    return FailedFiles(
        total=total,
        failed=[FailedFile(handle=file.handle, outcome=file.outcome, reason=file.reason) for file in files],
    )


@router.get("/records/{record_id}")
def record(request: Request, _: Reader, record_id: Id) -> RecordTold:
    """What the gallery knows of an image."""
    with context_of(request).desk.gallery() as opened:
        return record_told(known(opened, record_id))


@router.get("/records/{record_id}/series")
def series(request: Request, _: Reader, record_id: Id) -> SeriesTold:
    """The images that lie in one stack with this one, or came one after the other."""
    with context_of(request).desk.gallery() as opened:
        own = known(opened, record_id)
        records = [own] if own.series is None else _stack(own, opened)
    slices = [Slice(id=one.id, frame=one.frame_index + 1, digest=one.pixel_digest) for one in records]
    return SeriesTold(series=own.series, index=[one.id for one in slices].index(own.id), slices=slices)


def _stack(own: Record, opened: Gallery) -> list[Record]:
    """Of its series and plane: a volume has three, a scan its localizers. By place, then as they were taken."""
    records = opened.records(opened.store.ids_of("series", [own.series or ""])).values()
    plane = own.attributes.get("plane")
    return sorted((one for one in records if one.attributes.get("plane") == plane), key=_place)


def _place(record: Record) -> tuple[float, int, int, str]:
    attributes = record.attributes
    return (
        float(attributes.get("slice_position_mm", 0)),
        int(attributes.get("instance_number", 0)),
        record.frame_index,
        record.id,
    )
