"""Single files and folders: what they are, and an image drawn for eyes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..files import GALLERY_DATABASE
from ..gallery import Gallery
from ..sources import shown_of
from ..types import ImageRef


def describe(path: Path) -> dict[str, Any]:
    """What a file, encoder or gallery is, by its content; `default`, if nothing is called so, is the shipped encoder.

    Raises UsageError when there is nothing at path.
    """
    if not path.exists():
        if str(path) == "default":
            return {"kind": "encoder", **_encoder("default")}
        raise UsageError(f"There is no {path}.")
    if (path / GALLERY_DATABASE).is_file():
        with Gallery.open(path) as gallery:
            return {"kind": "gallery", **gallery.info()}
    if (path / "encoder.json").is_file():
        return {"kind": "encoder", **_encoder(path)}
    if path.is_dir():
        raise UsageError(
            "The folder is neither a gallery nor an encoder; `cbmir index FOLDER --gallery DIR` makes one."
        )
    return {"kind": "file", **_file(path)}


def _encoder(name_or_directory: str | Path) -> dict[str, Any]:
    from ..encoder import NetworkEncoder, load_encoder

    encoder = load_encoder(name_or_directory)
    assert isinstance(encoder, NetworkEncoder)
    training = encoder.training
    return {
        "name": encoder.name,
        "fingerprint": encoder.fingerprint,
        "digest": encoder.digest,
        "precision": encoder.precision,
        "layers": dict(encoder.layers),
        "classes": list(encoder.classes),
        "calibration": dict(encoder.calibration),
        "recipe": training["recipe"],
        "epochs_done": len(training["log"]),
        "last_epoch": training["log"][-1] if training["log"] else None,
    }


def _file(path: Path) -> dict[str, Any]:
    from ..privacy import load_pseudonyms
    from .frames import glance

    told = glance(path, load_pseudonyms())
    return {"images": told.n_images, **told.first}


def render_file(
    file: Path, out: Path, *, frame_number: int | None = None, window: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Write one frame (from 1) of a file as a PNG at full resolution, as display.render shows it.

    frame_number: None as jobs.Asked has it. Raises UsageError for another suffix or a frame that is not there,
    BadImage when the file gives no image.
    """
    from PIL import Image

    from ..privacy import load_pseudonyms
    from .frames import drawing

    if out.suffix.lower() != ".png":
        raise UsageError("A picture is written as .png.")
    drawn = drawing(query_ref(file).path, load_pseudonyms(), frame_number, window)
    out.parent.mkdir(parents=True, exist_ok=True)
    new = out.with_name(out.name + ".new")
    Image.fromarray(drawn.pixels).save(new, format="PNG")
    os.replace(new, out)
    rows, columns = drawn.pixels.shape[:2]
    shape = {"rows": rows, "columns": columns, "pixel_aspect": drawn.pixel_aspect}
    return {"picture": str(out), "frame": drawn.frame_number, **shape, "window": drawn.rule}


def query_ref(file: Path | ImageRef) -> ImageRef:
    """A file somebody named. Raises UsageError when it is not there or is a folder."""
    if isinstance(file, ImageRef):
        return file
    if not file.is_file():
        raise UsageError(f"There is no file {file}." if not file.exists() else "That is a folder, not an image.")
    path = file.resolve()
    return ImageRef(path=path, shown=shown_of(Path(path.name)))
