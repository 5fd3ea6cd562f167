"""Single files and folders: what they are, and an image drawn for eyes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import BadImage, UsageError
from ..gallery import Gallery
from ..types import DecodedImage, ImageRef


def describe(path: Path) -> dict[str, Any]:
    """What a file, encoder or gallery is, by its content. Raises UsageError when there is nothing at path."""
    if not path.exists():
        raise UsageError(f"There is no {path}.")
    if (path / "gallery.sqlite").is_file():
        with Gallery.open(path) as gallery:
            return {"kind": "gallery", **gallery.info()}
    if (path / "encoder.json").is_file():
        return {"kind": "encoder", **_encoder(path)}
    if path.is_dir():
        raise UsageError(
            "The folder is neither a gallery nor an encoder; `cbmir index FOLDER --gallery DIR` makes one."
        )
    return {"kind": "file", **_file(path)}


def _encoder(path: Path) -> dict[str, Any]:
    from ..encoder import load_encoder

    encoder = load_encoder(path)
    saved = json.loads((path / "encoder.json").read_text(encoding="utf-8"))
    training = saved["training"]
    return {
        "name": encoder.name,
        "fingerprint": encoder.fingerprint,
        "precision": encoder.precision,
        "layers": dict(encoder.layers),
        "classes": list(encoder.classes),
        "calibration": dict(encoder.calibration),
        "recipe": training["recipe"],
        "epochs_done": len(training["log"]),
        "last_epoch": training["log"][-1] if training["log"] else None,
    }


def _file(path: Path) -> dict[str, Any]:
    from ..images import read_image
    from ..privacy import load_pseudonyms

    images = read_image(path, load_pseudonyms())
    first = images[0]
    provenance = first.provenance.as_dict()
    unit = provenance.pop("values")  # what they are; their smallest and largest stand under that name
    return {
        "images": len(images),
        "id": first.id,
        "modality": first.modality,
        "rows": first.pixels.shape[0],
        "columns": first.pixels.shape[1],
        "colour": first.is_colour,
        "values": _values(first),
        "unit": unit,
        "monochrome1": first.monochrome1,
        "windows": [[window.center, window.width, window.function] for window in first.windows],
        "attributes": dict(first.attributes),
        **provenance,
    }


def _values(image: DecodedImage) -> list[float] | None:
    """The smallest and largest value that means something; None when none does."""
    import numpy as np

    shown = image.pixels if image.padding is None else image.pixels[~image.padding]
    known = shown[np.isfinite(shown)]
    return [float(known.min()), float(known.max())] if known.size else None


def render_file(
    file: Path, out: Path, *, frame_number: int = 1, window: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Write one frame (from 1) of a file as a PNG at full resolution, as display.render shows it.

    Raises UsageError for another suffix or a frame that is not there, BadImage when the file gives no image.
    """
    import numpy as np
    from PIL import Image

    from ..display import rendered

    if out.suffix.lower() != ".png":
        raise UsageError("A picture is written as .png.")
    image = _frame_of_file(query_ref(file).path, frame_number)
    pixels, rule = rendered(image, window)
    out.parent.mkdir(parents=True, exist_ok=True)
    new = out.with_name(out.name + ".new")
    Image.fromarray(np.ascontiguousarray(pixels)).save(new, format="PNG")
    os.replace(new, out)
    rows, columns = pixels.shape[:2]
    shape = {"rows": rows, "columns": columns, "pixel_aspect": image.pixel_aspect}
    return {"picture": str(out), "frame": frame_number, **shape, "window": rule}


def _frame_of_file(path: Path, frame_number: int) -> DecodedImage:
    from ..images import decode, read_file
    from ..privacy import load_pseudonyms

    n_images = 0
    try:
        for image in decode(read_file(path), load_pseudonyms()):
            n_images += 1
            if image.frame_index == frame_number - 1:
                return image
    except BadImage as error:
        if error.outcome != "partial":
            raise
    raise UsageError(f"The file has no readable frame {frame_number}; it has {n_images}.")


def query_ref(file: Path | ImageRef) -> ImageRef:
    """A file somebody named. Raises UsageError when it is not there or is a folder."""
    if isinstance(file, ImageRef):
        return file
    if not file.is_file():
        raise UsageError(f"There is no file {file}." if not file.exists() else "That is a folder, not an image.")
    return ImageRef(path=file.absolute(), shown=file.name)
