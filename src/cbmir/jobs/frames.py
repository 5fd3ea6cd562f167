"""One file looked at, for `info` and `render`, in a process that a hostile file may take down: what of it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadImage, CbmirError, Outcome, UsageError
from ..images import decode, read_file
from ..images.limits import MEMORY_BYTES, TIMEOUT_S, guarded
from ..images.pool import Job, run_in_workers
from ..images.worker import UNEXPECTED
from ..privacy import Pseudonyms
from ..types import DecodedImage, UInt8

VOLUMES = ("NIfTI", "NRRD")


@dataclass(frozen=True)
class Glance:
    """What is known of a file once it was decoded: how many images, and what one of them is."""

    n_images: int
    first: dict[str, Any]


@dataclass(frozen=True)
class Drawing:
    """A frame for eyes. pixels: uint8 (rows, columns[, 3]); rule: of its window, in the words of display.rendered."""

    pixels: UInt8
    frame_number: int
    pixel_aspect: float
    rule: str


def glance(path: Path, pseudonyms: Pseudonyms) -> Glance:
    """Raises BadImage when the file gives no image."""
    seen: Glance = _in_a_worker(_glance, path, pseudonyms)
    return seen


def drawing(
    path: Path, pseudonyms: Pseudonyms, frame_number: int | None, window: tuple[float, float] | None
) -> Drawing:
    """frame_number: None as chosen_frame. Raises BadImage, and UsageError for a frame or window that cannot be."""
    drawn: Drawing = _in_a_worker(_drawing, path, pseudonyms, frame_number, window)
    return drawn


def chosen_frame(readable: Sequence[tuple[int, str | None]], format_: str | None, frame_number: int | None) -> int:
    """The index of the wanted frame. readable: index (from 0) and plane of each frame that can be had, in order.

    frame_number: from 1; None for the first frame, of a volume (told by its format) for the middle axial slice.
    Raises UsageError when it is not among them.
    """
    indices = [index for index, _ in readable]
    if frame_number is None:
        axial = [index for index, plane in readable if plane == "axial"] or indices
        return axial[len(axial) // 2] if format_ in VOLUMES else indices[0]
    if frame_number - 1 not in indices:
        there = f"frames {indices[0] + 1} to {indices[-1] + 1}" if len(indices) > 1 else f"frame {indices[0] + 1}"
        gaps = "" if len(indices) == indices[-1] - indices[0] + 1 else f", {len(indices)} of them"
        raise UsageError(f"The file has no readable frame {frame_number}; readable are {there}{gaps}.")
    return frame_number - 1


def _in_a_worker(work: Callable[..., Any], path: Path, *arguments: Any) -> Any:
    """work(path, *arguments) in one worker, under the limits of an index run; its CbmirError is raised here."""
    job = Job(_caught, (work, *arguments), _lost, lambda _: 0, TIMEOUT_S, MEMORY_BYTES)
    [result] = run_in_workers([path], job, 1)
    if isinstance(result, CbmirError):
        raise result
    return result


def _caught(path: Path, work: Callable[..., Any], *arguments: Any) -> Any:
    try:
        with guarded("crashed", UNEXPECTED):
            try:
                return work(path, *arguments)
            except CbmirError as error:
                return error
    except BadImage as error:
        return error


def _lost(_: Path, outcome: Outcome, reason: str) -> BadImage:
    return BadImage(outcome, reason)


def _images(path: Path, pseudonyms: Pseudonyms) -> Iterator[DecodedImage]:
    """One after the other, so that one is in memory; the end of a partial file is no error where there were some.

    Raises BadImage when there is none.
    """
    n_images = 0
    try:
        for image in decode(read_file(path), pseudonyms):
            n_images += 1
            yield image
    except BadImage as error:
        if error.outcome != "partial" or not n_images:
            raise
    if not n_images:
        raise BadImage("not_an_image", "The file holds no image.")


def _glance(path: Path, pseudonyms: Pseudonyms) -> Glance:
    images = _images(path, pseudonyms)
    first = _told(next(images))
    return Glance(1 + sum(1 for _ in images), first)


def _told(image: DecodedImage) -> dict[str, Any]:
    provenance = image.provenance.as_dict()
    unit = provenance.pop("values")  # what they are; their smallest and largest stand under that name
    return {
        "id": image.id,
        "modality": image.modality,
        "rows": image.pixels.shape[0],
        "columns": image.pixels.shape[1],
        "colour": image.is_colour,
        "values": _values(image),
        "unit": unit,
        "monochrome1": image.monochrome1,
        "windows": [[window.center, window.width, window.function] for window in image.windows],
        "attributes": dict(image.attributes),
        **provenance,
    }


def _values(image: DecodedImage) -> list[float] | None:
    """The smallest and largest value that means something; None when none does."""
    shown = image.pixels if image.padding is None else image.pixels[~image.padding]
    known = shown[np.isfinite(shown)]
    return [float(known.min()), float(known.max())] if known.size else None


def _drawing(
    path: Path, pseudonyms: Pseudonyms, frame_number: int | None, window: tuple[float, float] | None
) -> Drawing:
    from ..display import rendered

    image = _frame(path, pseudonyms, frame_number)
    pixels, rule = rendered(image, window)
    return Drawing(np.ascontiguousarray(pixels), image.frame_index + 1, image.pixel_aspect, rule)


def _frame(path: Path, pseudonyms: Pseudonyms, frame_number: int | None) -> DecodedImage:
    """A volume of which no frame is named is gone through twice: its middle is known at its end."""
    readable: list[tuple[int, str | None]] = []
    format_ = None
    for image in _images(path, pseudonyms):
        format_ = image.provenance.format
        is_first = frame_number is None and format_ not in VOLUMES
        if is_first or (frame_number is not None and image.frame_index == frame_number - 1):
            return image
        readable.append((image.frame_index, image.attributes.get("plane")))
    index = chosen_frame(readable, format_, frame_number)
    return next(image for image in _images(path, pseudonyms) if image.frame_index == index)
