"""DICOM: frames as modality values, with what is needed to show them.

The order of operations is the standard's: header (parse.py, header.py), fragments to frames (fragments.py), stored
values (pixels.py), palette and colour (colour.py), padding on stored values, modality LUT (values.py, suv.py). Window
candidates are collected, not applied; MONOCHROME1 is flagged, not inverted: preprocess does both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset

from ...errors import BadImage
from ...privacy import WHITE_LIST, Kind, Pseudonyms, white_listed
from ...types import DecodedImage, ObjectKind, Provenance, Rectangle
from ..limits import guarded
from .colour import palette_colours, to_rgb
from .elements import text_of, value_of
from .fragments import group_frames
from .geometry import burned_in_risk, pixel_aspect, scan_regions, slice_place
from .header import Layout, kind_of, read_layout, refuse_without_pixels, settle_syntax
from .parse import DAMAGED_HEADER, Parsed, PixelElement, known_name, parse_file
from .pixels import DAMAGED, Pixels, Stored
from .values import is_inverted, modality_rule, padding_of, stored_range, voi_lut_of, windows_of

__all__ = ["read_dicom"]

NAMES = ("PatientName", "PatientID", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName")
CUT = "the end of the pixels is missing in the file and marked as padding"


@dataclass(frozen=True)
class _File:
    """What all frames of one file share."""

    dataset: Dataset
    pixels: Pixels
    kind: ObjectKind
    uid_or_content: str | bytes
    attributes: Mapping[str, str]
    regions: tuple[Rectangle, ...]
    patient: str | None
    study: str | None
    series: str | None
    notes: tuple[str, ...]

    @property
    def layout(self) -> Layout:
        return self.pixels.layout


def read_dicom(data: bytes, pseudonyms: Pseudonyms, only: int | None = None) -> Iterator[DecodedImage]:
    """The frames of a DICOM file, one image each; only: the frame of this index alone.

    Raises BadImage; after images with outcome `partial` when other frames, or the end of the only one, are missing.
    """
    with guarded("corrupt", DAMAGED_HEADER), disable_value_validation():
        file = _open(data, pseudonyms)
    n_frames = file.layout.n_frames
    failures: list[BadImage] = []
    there = range(min(n_frames, file.pixels.n_available))
    for index in there if only is None else there[only : only + 1]:
        try:
            with guarded("corrupt", DAMAGED), disable_value_validation():
                stored = file.pixels.decode(index)
                image = _image(file, stored, index, pseudonyms)
        except BadImage as error:
            failures.append(error.with_traceback(None))  # which would hold the frame's arrays
            continue
        yield image
        if stored.missing is not None:
            percent = 100 * np.count_nonzero(stored.missing) / stored.missing.size
            raise BadImage("partial", f"The file is cut: {percent:.1f} % of the pixels are missing.")
    if only is None:
        _account_for(failures, n_frames, file.pixels.n_available)
    elif failures:
        raise failures[0]


def _account_for(failures: list[BadImage], n_frames: int, n_available: int) -> None:
    """Raises BadImage when not every frame became an image."""
    n_missing = max(n_frames - n_available, 0) + len(failures)
    if not n_missing:
        return
    reason = failures[0].reason if failures else DAMAGED
    if n_missing == n_frames:
        raise failures[0] if failures else BadImage("corrupt", DAMAGED)
    raise BadImage("partial", f"{n_missing} of {n_frames} frames could not be decoded: {reason}")


def _open(data: bytes, pseudonyms: Pseudonyms) -> _File:
    """The header, read and found to be of an image that may be decoded."""
    parsed = parse_file(data)
    dataset, notes = parsed.dataset, list(parsed.notes)
    element = refuse_without_pixels(parsed)
    pixels = _find_pixels(parsed, element, notes)
    regions = scan_regions(dataset, pixels.layout)
    return _File(
        dataset=dataset,
        pixels=pixels,
        kind=kind_of(dataset),
        uid_or_content=text_of(dataset, "SOPInstanceUID") or hashlib.sha256(data).digest(),
        attributes=_attributes(dataset, regions),
        regions=regions,
        patient=_pseudonym(pseudonyms, "patient", dataset, "PatientID"),
        study=_pseudonym(pseudonyms, "study", dataset, "StudyInstanceUID"),
        series=_pseudonym(pseudonyms, "series", dataset, "SeriesInstanceUID"),
        notes=tuple(notes),
    )


def _find_pixels(parsed: Parsed, element: PixelElement, notes: list[str]) -> Pixels:
    layout = read_layout(parsed.dataset, element, notes)
    syntax = settle_syntax(parsed, element, layout, notes)
    if not element.encapsulated:
        return Pixels(element, layout, syntax)
    table = value_of(parsed.dataset, "ExtendedOffsetTable")
    extended = np.frombuffer(table[: len(table) // 8 * 8], "<u8").tolist() if isinstance(table, bytes) else ()
    return Pixels(element, layout, syntax, group_frames(element, layout.n_frames, extended))


def _attributes(dataset: Dataset, regions: tuple[Rectangle, ...]) -> dict[str, str]:
    """What a record may keep, and why a name may be in the pixels."""
    values = {keyword: text_of(dataset, keyword) for keyword in WHITE_LIST}
    values["SOPClassUID"] = known_name(values["SOPClassUID"]) or ""
    attributes = white_listed(values, [text_of(dataset, name) for name in NAMES])
    risk = burned_in_risk(dataset, regions)
    return {**attributes, "burned_in": risk} if risk else attributes


def _pseudonym(pseudonyms: Pseudonyms, kind: Kind, dataset: Dataset, keyword: str) -> str | None:
    text = text_of(dataset, keyword)
    return pseudonyms.of(kind, text) if text else None


def _image(file: _File, stored: Stored, index: int, pseudonyms: Pseudonyms) -> DecodedImage:
    """One frame as an image."""
    values, content = _content(file, stored, index)
    notes = (*file.notes, *stored.notes, *((CUT,) if stored.missing is not None else ()))
    return DecodedImage(
        id=pseudonyms.image(file.uid_or_content, index),
        provenance=Provenance("DICOM", file.pixels.syntax, stored.decoder, values, notes),
        frame_index=index,
        modality=file.attributes.get("modality"),
        pixel_aspect=pixel_aspect(file.dataset, index),
        regions=file.regions,
        kind=file.kind,
        patient=file.patient,
        study=file.study,
        series=file.series,
        attributes={**file.attributes, **slice_place(file.dataset, index)},
        **content,
    )


def _content(file: _File, stored: Stored, index: int) -> tuple[str, dict[str, Any]]:
    """What the pixels are, and the part of a DecodedImage that says what they look like."""
    dataset, layout = file.dataset, file.layout
    if layout.photometric == "PALETTE COLOR":
        pixels = palette_colours(stored.pixels, dataset, signed=stored.signed)
        return "colour", {"pixels": pixels, "value_range": (0.0, 255.0)}
    if stored.pixels.ndim == 3:
        pixels = to_rgb(stored.pixels, stored.bits, stored.colour or layout.photometric)
        return "colour", {"pixels": pixels, "value_range": (0.0, 255.0)}
    rule = modality_rule(dataset, index, file.kind, signed=stored.signed)
    value_range = rule.value_range(*stored_range(stored))
    picture = file.kind == "picture"
    return rule.phrase, {
        "pixels": rule.apply(stored.pixels),
        "value_range": value_range,
        "padding": padding_of(stored, dataset),
        "windows": windows_of(dataset, index, rule.factor) if picture else (),
        "voi_lut": voi_lut_of(dataset, index, signed=value_range[0] < 0) if picture else None,
        "monochrome1": is_inverted(dataset),
        "made_for_eye": stored.bits <= 8,
    }
