"""What a gallery holds, for other programs: records and features as arrays or tables, and rankings as a TREC run.

Ids and owners are pseudonyms, as everywhere; places of files are never exported.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadGallery, UsageError
from ..gallery import Gallery
from ..store import Block
from ..tables import TABLE_SUFFIXES, ColumnType, TableFile, check_place
from ..types import Progress, Record

SUFFIXES = (".npz", *TABLE_SUFFIXES, ".trec")

FIXED: dict[str, ColumnType] = {
    "id": "text",
    "patient": "text",
    "study": "text",
    "series": "text",
    "frame_index": "whole number",
    "modality": "text",
    "source": "text",
    "class": "text",
    "predicted": "text",
    "probability": "number",
    "pixel_digest": "text",
}
"""Columns that every record has. After them come its labels as label_NAME and its attributes by their names."""

N_HITS = 100


def export(
    gallery: Gallery, to: Path, *, layer: str | None = None, k: int = N_HITS, on_progress: Progress | None = None
) -> dict[str, Any]:
    """Writes the file, of the kind its suffix says; an older one is replaced when it is whole.

    .npz: arrays `features` float32 (n, dim) of the layer and one of text for each column of FIXED. .parquet: the same
    and all labels and attributes. .csv: the same without features, unless a layer is named; text that a spreadsheet
    would run is made harmless. .trec: each image searches the gallery, as `search` does, for k hits of other patients.
    layer: None for the default. Rows are in (class, id) order. Raises UsageError for another suffix or no such layer.
    """
    suffix = to.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"An export ends in {', '.join(SUFFIXES)}, and not as {to.name} does.")
    check_place(to)
    if to.resolve().is_relative_to(gallery.directory.resolve()):
        raise UsageError("An export does not lie in the gallery itself: give --to another folder.")
    of_layer = gallery.layer_named(layer)
    if suffix == ".trec":
        n_rows = _write_run(gallery, to, of_layer, k, on_progress)
    elif suffix == ".npz":
        n_rows = _write_arrays(gallery, to, of_layer, on_progress)
    else:
        with_features = suffix == ".parquet" or layer is not None
        n_rows = _write_table(gallery, to, of_layer, with_features, on_progress)
    return {"file": str(to), "records": n_rows, "layer": of_layer, "encoder": gallery.encoder_fingerprint}


def _records(gallery: Gallery, layer: str) -> Iterator[tuple[list[Record], Block]]:
    """All records and their features. In a snapshot. Raises BadGallery at the end when some have none."""
    n_records = 0
    for block in gallery.store.blocks(layer):
        records = gallery.records(block.ids)
        yield [records[record_id] for record_id in block.ids], block
        n_records += len(records)
    if n_records != gallery.count:
        raise BadGallery("some images have no features: `cbmir verify` says what is wrong")


def _fixed(record: Record, column: str) -> Any:
    return record.group or None if column == "class" else getattr(record, column)


def _write_table(gallery: Gallery, to: Path, layer: str, with_features: bool, on_progress: Progress | None) -> int:
    with gallery.store.snapshot():
        n_all = gallery.count
        labels, attributes = _names(gallery)
        columns: dict[str, ColumnType] = {
            **FIXED,
            **{f"label_{name}": "text" for name in labels},
            **{name: "text" for name in attributes if name not in FIXED},
        }
        if with_features:
            columns["features"] = "features"
        done = 0
        with TableFile(to, columns, gallery.layers[layer]) as table:
            for records, block in _records(gallery, layer):
                values: dict[str, Any] = {name: [_fixed(r, name) for r in records] for name in FIXED}
                values |= {f"label_{name}": [r.labels.get(name) for r in records] for name in labels}
                values |= {name: [r.attributes.get(name) for r in records] for name in attributes if name not in FIXED}
                table.write({**values, "features": block.features})
                done += len(records)
                if on_progress:
                    on_progress(done, n_all)
    return done


def _names(gallery: Gallery) -> tuple[list[str], list[str]]:
    """All label columns and all attributes that any record has, in order."""
    labels: set[str] = set()
    attributes: set[str] = set()
    for records in gallery.store.describe():
        for record in records:
            labels.update(record.labels)
            attributes.update(record.attributes)
    return sorted(labels), sorted(attributes)


def _write_arrays(gallery: Gallery, to: Path, layer: str, on_progress: Progress | None) -> int:
    """The features stream into the archive; of the records the columns are gathered."""
    new = to.with_name(to.name + ".new")
    gathered: dict[str, list[Any]] = {name: [] for name in FIXED}
    with gallery.store.snapshot():
        n_rows = gallery.count
        shape = (n_rows, gallery.layers[layer])
        try:
            with zipfile.ZipFile(new, "w", allowZip64=True) as archive:
                with archive.open("features.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
                    for records, block in _records(gallery, layer):
                        file.write(block.features.astype("<f4", copy=False).tobytes())
                        for name, values in gathered.items():
                            values += [_fixed(record, name) for record in records]
                        if on_progress:
                            on_progress(len(gathered["id"]), n_rows)
                for name, kind in FIXED.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                        np.lib.format.write_array(file, _array(gathered.pop(name), kind), allow_pickle=False)
            os.replace(new, to)
        finally:
            new.unlink(missing_ok=True)
    return n_rows


def _array(values: Sequence[Any], kind: ColumnType) -> npt.NDArray[Any]:
    """Text that is not known is empty, and a number is nan."""
    if kind == "whole number":
        return np.array(values, np.int64)
    if kind == "number":
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array([value or "" for value in values], np.str_)


def _write_run(gallery: Gallery, to: Path, layer: str, k: int, on_progress: Progress | None) -> int:
    """QUERY Q0 IMAGE RANK SCORE METHOD, a line a hit; the score falls by 1 with every rank: no ties are left."""
    if k < 1:
        raise UsageError("k must be at least 1.")
    ids = gallery.ids()
    new = to.with_name(to.name + ".new")
    try:
        with new.open("w", encoding="ascii") as file:
            for done, record_id in enumerate(ids, 1):
                hits = gallery.search_id(record_id, k, layer=layer).hits
                file.writelines(
                    f"{record_id} Q0 {hit.id} {hit.rank} {len(hits) + 1 - hit.rank} cbmir-{layer}\n" for hit in hits
                )
                if on_progress:
                    on_progress(done, len(ids))
        os.replace(new, to)
    finally:
        new.unlink(missing_ok=True)
    return len(ids)
