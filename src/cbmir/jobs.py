"""What a verb does, where it takes more than one call: the modules put together, for the command line and others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BadEncoder, BadGallery, CbmirError, UsageError
from .gallery import Gallery
from .types import DecodedImage, Gate, Hide, ImageRef, Ranking

if TYPE_CHECKING:  # searching by id and `info` need none of them
    from .extract import Extracted
    from .ingest import IndexReport, Progress


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
        raise UsageError(f"{path} is neither a gallery nor an encoder; `cbmir index {path} --gallery DIR` makes one.")
    return {"kind": "file", **_file(path)}


def _encoder(path: Path) -> dict[str, Any]:
    from .encoder import load_encoder

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
    from .images import read_image
    from .privacy import load_pseudonyms

    images = read_image(path, load_pseudonyms())
    first = images[0]
    return {
        "images": len(images),
        "id": first.id,
        "modality": first.modality,
        "rows": first.pixels.shape[0],
        "columns": first.pixels.shape[1],
        "colour": first.is_colour,
        "values": _values(first),
        "monochrome1": first.monochrome1,
        "windows": [[window.center, window.width, window.function] for window in first.windows],
        "attributes": dict(first.attributes),
        **first.provenance.as_dict(),
    }


def _values(image: DecodedImage) -> list[float] | None:
    """The smallest and largest value that means something; None when none does."""
    import numpy as np

    shown = image.pixels if image.padding is None else image.pixels[~image.padding]
    known = shown[np.isfinite(shown)]
    return [float(known.min()), float(known.max())] if known.size else None


def of_split(refs: Sequence[ImageRef], split: str | None) -> list[ImageRef]:
    """The images of one split; all of them when no split is named. Raises UsageError when it has none."""
    if split is None:
        return list(refs)
    chosen = [ref for ref in refs if ref.split == split]
    if not chosen:
        splits = sorted({ref.split for ref in refs if ref.split})
        raise UsageError(f"No image is in split '{split}'; the splits are: {', '.join(splits) or 'none'}.")
    return chosen


def index_into(
    directory: Path,
    sources: Sequence[Path],
    *,
    encoder_name: str | None = None,
    runtime: str = "auto",
    precision: str = "auto",
    split: str | None = None,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> IndexReport:
    """Bring the gallery in `directory` up to date with the sources; make it when it is not there.

    encoder_name: a directory or name; None is `pixels` for a new gallery, and the encoder a gallery was made with.
    Raises UsageError for a source that is missing or empty, BadGallery for an encoder that is not the gallery's.
    """
    from .sources import open_source

    refs = of_split(list(chain.from_iterable(open_source(source) for source in sources)), split)
    if not refs:
        raise UsageError(f"There are no files in {', '.join(str(source) for source in sources)}.")
    return index_refs(
        directory,
        refs,
        encoder_name=encoder_name,
        runtime=runtime,
        precision=precision,
        workers=workers,
        on_progress=on_progress,
    )


def index_refs(
    directory: Path,
    refs: Sequence[ImageRef],
    *,
    encoder_name: str | None = None,
    runtime: str = "auto",
    precision: str = "auto",
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> IndexReport:
    """As index_into, for images that are known already."""
    from .ingest import index_source
    from .privacy import load_pseudonyms

    pseudonyms = load_pseudonyms()
    with _gallery_for(directory, encoder_name, runtime, precision) as gallery:
        encoder = encoder_of(gallery, encoder_name)
        return index_source(refs, gallery, encoder, pseudonyms, workers=workers, on_progress=on_progress)


def _gallery_for(directory: Path, encoder_name: str | None, runtime: str, precision: str) -> Gallery:
    from .encoder import load_encoder
    from .privacy import load_pseudonyms

    if (directory / "gallery.sqlite").is_file():
        gallery = Gallery.open(directory)
        made = gallery.encoder.precision  # openvino-bf16; of pixels f32, for nothing runs it
        if "-" in made and any(wanted not in ("auto", *made.split("-")) for wanted in (runtime, precision)):
            gallery.close()
            raise BadGallery(f"The gallery {directory} was made in {made}, not {runtime}-{precision}.")
        return gallery
    name = encoder_name or "pixels"
    encoder = load_encoder(name, runtime=runtime, precision=precision)
    where = name if name == "pixels" else str(Path(name).resolve())
    return Gallery.create(directory, encoder, load_pseudonyms(), encoder_path=where)


def encoder_of(gallery: Gallery, encoder_name: str | None = None) -> Any:
    """The gallery's encoder in the gallery's precision, from where it was, or from `encoder_name`.

    Raises BadEncoder when it is no longer there, BadGallery when it is not the one.
    """
    from .encoder import load_encoder

    try:
        encoder = load_encoder(encoder_name or gallery.encoder_path, precision=gallery.encoder.precision)
    except UsageError as error:
        if encoder_name:
            raise
        raise BadEncoder(
            f"The gallery's encoder {gallery.encoder} is no longer at {gallery.encoder_path}; say where with --encoder."
        ) from error
    gallery.check_encoder(encoder)
    return encoder


def search_file(
    gallery: Gallery,
    file: Path,
    *,
    k: int = 10,
    layer: str | None = None,
    gate: Gate = "off",
    hide: Hide = "patient",
    frame_number: int = 1,
    encoder_name: str | None = None,
) -> Ranking:
    """Images of the gallery like one frame (from 1) of a file. Raises CbmirError when the file gives no image."""
    from .extract import extract
    from .privacy import load_pseudonyms

    if k < 1:
        raise UsageError("k must be at least 1.")
    layer = gallery.layer_named(layer)
    ref = query_ref(file)
    pseudonyms = load_pseudonyms()
    gallery.check_pseudonyms(pseudonyms)
    [extracted] = extract([ref], encoder_of(gallery, encoder_name), pseudonyms, workers=1)
    frame = _frame_of(extracted, file, frame_number)
    return gallery.search_features(
        extracted.features[layer][frame],
        None if extracted.posterior is None else extracted.posterior[frame],
        k,
        layer=layer,
        gate=gate,
        hide=hide,
        query=extracted.records[frame],
    )


def query_ref(file: Path) -> ImageRef:
    """A file somebody named. Raises UsageError when it is not there or is a folder."""
    if not file.is_file():
        raise UsageError(f"There is no file {file}." if not file.exists() else f"{file} is a folder, not an image.")
    return ImageRef(path=file.absolute(), shown=file.name)


def _frame_of(extracted: Extracted, file: Path, frame_number: int) -> int:
    """Row of the wanted frame, counted from 1 as DICOM does."""
    if not extracted.records:
        raise CbmirError(f"{file} gives no image ({extracted.decoded.outcome}): {extracted.decoded.reason}")
    wanted = frame_number - 1
    for row, record in enumerate(extracted.records):
        if record.frame_index == wanted:
            return row
    raise UsageError(f"{file} has no readable frame {frame_number}; it has {len(extracted.records)}.")


def check_strip(path: Path) -> None:
    """Raises UsageError, before any work is done, for a path that draw_strip could not write."""
    from .figures import check_picture

    check_picture(path)


def draw_strip(gallery: Gallery, ranking: Ranking, file: Path | None, frame_number: int, out: Path) -> None:
    """Draw the query and its hits, left to right, into a picture; hits of another class are framed in red.

    file: the query's file, None for a query by id. out: its suffix chooses the format, .png or .svg. The class is the
    query's label where the gallery knows it, else its predicted class. A hit whose file is gone is drawn blank.
    """
    import numpy as np

    from .evaluate.examples import THUMBNAIL, thumbnails
    from .figures import Tile, ranking_row, save_as, strip_figure
    from .privacy import load_pseudonyms

    own = gallery.records([ranking.query_id]).get(ranking.query_id) if ranking.query_id else None
    predicted = ranking.predicted[0][0] if ranking.predicted else None
    expected = (own.group if own else None) or predicted
    frames = {hit.id: (gallery.image_path(hit.id), hit.record.frame_index) for hit in ranking}
    asked = (gallery.image_path(own.id), own.frame_index) if file is None and own else (file, frame_number - 1)
    places = [(path, frame) for path, frame in (*frames.values(), asked) if path]
    pictures = thumbnails(places, load_pseudonyms(), workers=2)
    shown = {name: pictures[path, frame] for name, (path, frame) in frames.items() if (path, frame) in pictures}
    blank = np.full((THUMBNAIL.crop, THUMBNAIL.crop), 235, np.uint8)
    query = Tile(pictures.get(asked, blank), expected or "")
    save_as(strip_figure(query, [ranking_row(ranking, shown, expected)]), out)
