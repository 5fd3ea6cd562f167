"""Files looked at, for `info`, `render`, `search`, `explain` and the server, in processes that a hostile file may take
down: what of them is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import BadImage, CbmirError, UsageError
from ..images import decode, read_ref
from ..images.apart import Apart, in_fresh_workers
from ..images.limits import guarded
from ..images.worker import Decoded, Prepared, no_picture, pixel_digest, record_of
from ..preprocess import Preprocessing, masked, part_of, preprocess, seen_box
from ..privacy import Pseudonyms
from ..types import DecodedImage, ImageRef, UInt8
from ..wire import Wire, on_the_wire

VOLUMES = ("NIfTI", "NRRD")
Made = TypeVar("Made")
Wanted = tuple[ImageRef, int | None]
"""A file and the number of a frame, from 1; None as chosen_frame."""
UNITS = ("HU", "SUVbw", "SUVlbm", "SUVbsa")
VIEW_SIDE = 800
"""Pixels of the longer side of a View's picture, at most: enough for a figure."""


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


@dataclass(frozen=True)
class Looked:
    """What is in a file: how far its frame numbers go, the chosen one, and what that one is."""

    n_frames: int
    frame_number: int
    rows: int
    columns: int
    modality: str | None


@dataclass(frozen=True)
class Shown:
    """A frame with all of its values. unit: of these, None where nobody knows; id, pixel_digest: as a record has it."""

    wire: Wire
    frame_number: int
    modality: str | None
    unit: str | None
    monochrome1: bool
    pixel_aspect: float
    pixel_spacing_mm: tuple[float, float] | None
    id: str
    pixel_digest: str


@dataclass(frozen=True)
class View:
    """A frame as an encoder takes it, and for eyes.

    inputs: uint8 (C, side, side), one a recipe. picture: uint8 (rows, columns[, 3]), as `render` draws it but small,
    and without what the recipe masks. shape: rows and columns at full size; box: left, top, right, bottom of what the
    inputs show, in pixels of that.
    """

    inputs: tuple[UInt8, ...]
    picture: UInt8
    shape: tuple[int, int]
    box: tuple[float, float, float, float]
    pixel_aspect: float
    frame_number: int
    id: str
    pixel_digest: str


def glance(path: Path, pseudonyms: Pseudonyms) -> Glance:
    """Raises BadImage when the file gives no image."""
    seen: Glance = _in_a_worker(_glance, ImageRef(path, path.name), pseudonyms)
    return seen


def drawing(
    path: Path, pseudonyms: Pseudonyms, frame_number: int | None, window: tuple[float, float] | None
) -> Drawing:
    """frame_number: None as chosen_frame. Raises BadImage, and UsageError for a frame or window that cannot be."""
    drawn: Drawing = _in_a_worker(_drawing, ImageRef(path, path.name), pseudonyms, frame_number, window)
    return drawn


def views(
    wanted: Sequence[Wanted], recipes: Sequence[Preprocessing], pseudonyms: Pseudonyms, apart: Apart = in_fresh_workers
) -> list[View | CbmirError]:
    """A region of a file is looked at as extract does. An error is that of its file: BadImage, or UsageError for a
    frame that is not there.
    """
    return apart(_view, wanted, recipes, pseudonyms)


def prepared(
    wanted: Sequence[Wanted], recipe: Preprocessing, pseudonyms: Pseudonyms, apart: Apart = in_fresh_workers
) -> list[Decoded | CbmirError]:
    """Of each file the one frame, ready for an encoder; frames that cannot be made ready do not count. An error as
    `views` has it.
    """
    return apart(_prepared, wanted, recipe, pseudonyms)


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


def _in_a_worker(work: Callable[..., Any], ref: ImageRef, *arguments: Any) -> Any:
    """work(ref, *arguments) in one worker; its CbmirError is raised here."""
    [result] = in_fresh_workers(work, [ref], *arguments)
    if isinstance(result, CbmirError):
        raise result
    return result


def images_of(ref: ImageRef, pseudonyms: Pseudonyms, only: int | None = None) -> Iterator[DecodedImage]:
    """One after the other, so that one is in memory; the end of a partial file is no error where there were some.

    only: as `decode` has it.

    Raises BadImage when there is none.
    """
    n_images = 0
    try:
        for image in decode(read_ref(ref), pseudonyms, patient=ref.patient, modality=ref.modality, only=only):
            n_images += 1
            yield image
    except BadImage as error:
        if error.outcome != "partial" or not n_images:
            raise
    if not n_images:
        raise BadImage("not_an_image", "The file holds no image.")


def look(ref: ImageRef, pseudonyms: Pseudonyms) -> Looked:
    """For a worker: goes through a file once. Raises BadImage when it gives no image."""
    seen: dict[int, tuple[str | None, int, int, str | None]] = {}
    format_ = None
    for image in images_of(ref, pseudonyms):
        format_ = image.provenance.format
        seen[image.frame_index] = (image.attributes.get("plane"), *image.pixels.shape[:2], image.modality)
    index = chosen_frame([(index, plane) for index, (plane, *_) in seen.items()], format_, None)
    _, rows, columns, modality = seen[index]
    return Looked(max(seen) + 1, index + 1, rows, columns, modality)


def shown(wanted: Wanted, mask_burned_in: bool, pseudonyms: Pseudonyms) -> Shown:
    """For a worker: one frame, black outside the regions of ultrasound where that is asked for. Raises as frame_of."""
    ref, frame_number = wanted
    image = frame_of(ref, pseudonyms, frame_number)
    return Shown(
        wire=on_the_wire(masked(image, Preprocessing(regions_only=mask_burned_in))),
        frame_number=image.frame_index + 1,
        modality=image.modality,
        unit=_unit(image.provenance.values),
        monochrome1=image.monochrome1,
        pixel_aspect=image.pixel_aspect,
        pixel_spacing_mm=_spacing_mm(image),
        id=image.id,
        pixel_digest=pixel_digest(image, pseudonyms),
    )


def _unit(values: str | None) -> str | None:
    """Of values that mean the same in another image; "stored values" and the like do not."""
    if values and values.startswith("Bq/ml"):
        return "Bq/ml"
    return values if values in UNITS else None


def _spacing_mm(image: DecodedImage) -> tuple[float, float] | None:
    """Between rows, and between columns (PS3.3 10.7.1.3)."""
    numbers = [float(part) for part in image.attributes.get("pixel_spacing", "").split("\\") if part]
    return (numbers[0], numbers[1]) if len(numbers) == 2 and min(numbers) > 0 else None


def _glance(ref: ImageRef, pseudonyms: Pseudonyms) -> Glance:
    images = images_of(ref, pseudonyms)
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
    ref: ImageRef, pseudonyms: Pseudonyms, frame_number: int | None, window: tuple[float, float] | None
) -> Drawing:
    from ..display import rendered

    image = frame_of(ref, pseudonyms, frame_number)
    pixels, rule = rendered(image, window)
    return Drawing(np.ascontiguousarray(pixels), image.frame_index + 1, image.pixel_aspect, rule)


def _view(wanted: Wanted, recipes: Sequence[Preprocessing], pseudonyms: Pseudonyms) -> View:
    from ..display import render

    ref, frame_number = wanted
    image = frame_of(ref, pseudonyms, frame_number)
    left, top = (0, 0) if ref.region is None else ref.region[:2]
    looked_at = image if ref.region is None else part_of(image, ref.region)
    box = seen_box(looked_at, recipes[0])
    return View(
        inputs=tuple(preprocess(looked_at, recipe).pixels for recipe in recipes),
        picture=_small(render(masked(image, recipes[0]))),
        shape=(image.pixels.shape[0], image.pixels.shape[1]),
        box=(box[0] + left, box[1] + top, box[2] + left, box[3] + top),
        pixel_aspect=image.pixel_aspect,
        frame_number=image.frame_index + 1,
        id=image.id,
        pixel_digest=pixel_digest(image, pseudonyms),
    )


def _small(pixels: UInt8) -> UInt8:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((VIEW_SIDE, VIEW_SIDE))
    return np.asarray(picture)


def _prepared(wanted: Wanted, recipe: Preprocessing, pseudonyms: Pseudonyms) -> Decoded:
    ref, frame_number = wanted

    def make(image: DecodedImage) -> Prepared:
        if image.kind != "picture":
            raise BadImage("decoded", no_picture(image.kind))
        with guarded("unsupported", "The image cannot be prepared for the encoder."):
            made = preprocess(image if ref.region is None else part_of(image, ref.region), recipe)
        return Prepared(record_of(image, ref, made.window, pseudonyms), made.pixels)

    return Decoded(ref, "decoded", None, (of_frame(ref, pseudonyms, frame_number, make),))


def frame_of(ref: ImageRef, pseudonyms: Pseudonyms, frame_number: int | None) -> DecodedImage:
    """The chosen frame. Raises BadImage, and UsageError when it is not there."""
    return of_frame(ref, pseudonyms, frame_number, lambda image: image)


def of_frame(
    ref: ImageRef, pseudonyms: Pseudonyms, frame_number: int | None, make: Callable[[DecodedImage], Made]
) -> Made:
    """What `make` makes of the chosen frame, among those of which it makes anything.

    A volume of which no frame is named is gone through twice: its middle is known at its end. Raises BadImage, that of
    the first frame where there is nothing to choose from, and UsageError when the frame is not there.
    """
    if frame_number is not None and (named := _of_named(ref, pseudonyms, frame_number, make)):
        return named[0]
    readable: list[tuple[int, str | None]] = []
    failures: list[BadImage] = []
    format_ = None
    for image in images_of(ref, pseudonyms):
        format_ = image.provenance.format
        try:
            made = make(image)
        except BadImage as error:
            failures.append(error.with_traceback(None))
            continue
        if frame_number is None and format_ not in VOLUMES:
            return made
        readable.append((image.frame_index, image.attributes.get("plane")))
    if not readable:
        raise failures[0]
    index = chosen_frame(readable, format_, frame_number)
    return next(make(image) for image in images_of(ref, pseudonyms, index))


def _of_named(
    ref: ImageRef, pseudonyms: Pseudonyms, frame_number: int, make: Callable[[DecodedImage], Made]
) -> list[Made]:
    """Of one frame, without a look at the others; nothing when it is not there or nothing can be made of it."""
    try:
        return [make(image) for image in images_of(ref, pseudonyms, frame_number - 1)] if frame_number > 0 else []
    except BadImage:
        return []
