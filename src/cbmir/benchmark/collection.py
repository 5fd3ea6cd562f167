"""The images of a benchmark: what is known of each, read once, and their pixels as each method wants them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset.splits import THUMBNAIL
from ..errors import BadManifest, CbmirError
from ..files import write_json
from ..images.worker import Decoded, decode_all
from ..packing import pack
from ..places import root_of
from ..preprocess import VERSION, Preprocessing
from ..privacy import Pseudonyms
from ..types import ImageRef, Int, Progress, Record, UInt8

KEPT = ("id", "patient", "study", "series", "frame_index", "modality")


@dataclass(frozen=True)
class Images:
    """pixels: uint8 (all images of all files, C, side, side), memory-mapped. of: int64, the pixels of each record."""

    pixels: UInt8
    of: Int

    def take(self, rows: Int) -> UInt8:
        """The pixels of some records: uint8 (rows, C, side, side)."""
        return np.asarray(self.pixels[self.of[rows]])


@dataclass(frozen=True)
class Collection:
    """records: one per image. positions: its file's place in refs; counted: its place among all images of all files.

    An image whose patient nobody tells counts under its series, where it has one. failed: files without an image.
    identity: digest of the files, of their labels and of their patients.
    """

    refs: tuple[ImageRef, ...]
    records: tuple[Record, ...]
    positions: tuple[int, ...]
    counted: Int
    rows_of_all: tuple[int, ...]
    failed: tuple[dict[str, str], ...]
    n_duplicates: int
    pseudonyms: Pseudonyms
    identity: str

    def __len__(self) -> int:
        return len(self.records)

    def split_of(self, row: int) -> str | None:
        return self.refs[self.positions[row]].split

    def manifest_row(self, row: int) -> int:
        """Where the image stands in its manifest; the header is row 1."""
        return self.positions[row] + 2

    def images(
        self, preprocessing: Preprocessing, folder: Path, workers: int | None, on_progress: Progress | None
    ) -> Images:
        """Every record's pixels, decoded once into a folder of this preprocessing's own.

        Raises CbmirError when another set of images comes out of the files than was recorded.
        """
        told = [preprocessing.as_dict(), VERSION]
        own = sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
        packed = pack(self.refs, preprocessing, self.pseudonyms, folder / own, workers=workers, on_progress=on_progress)
        if packed.rows != self.rows_of_all:
            raise CbmirError("Prepared for this method the files give other images than for the rest.")
        return Images(packed.images, self.counted)


def read_collection(
    refs: Sequence[ImageRef],
    pseudonyms: Pseudonyms,
    folder: Path,
    *,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> Collection:
    """Read every file for what is known of its images, or take what an earlier call left in folder/records.json.

    The same image twice counts once, on each side of a split. Raises BadManifest when no file gives an image.
    """
    identity = _identity(refs, pseudonyms)
    kept_in = folder / "records.json"
    kept: dict[str, Any] = json.loads(kept_in.read_text(encoding="utf-8")) if kept_in.is_file() else {}
    if kept.get("identity") != identity:
        kept = _read(refs, pseudonyms, workers, on_progress) | {"identity": identity}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(kept_in, kept)
    if not kept["images"]:
        raise BadManifest(f"Not one of {len(refs)} files gives an image.")
    return _collection(refs, kept, pseudonyms)


def _read(
    refs: Sequence[ImageRef], pseudonyms: Pseudonyms, workers: int | None, on_progress: Progress | None
) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for position, file in enumerate(decode_all(refs, THUMBNAIL, pseudonyms, workers=workers)):
        images += [
            {name: getattr(image.record, name) for name in KEPT} | {"position": position} for image in file.images
        ]
        if not file.images:
            failed.append(_failure(file, pseudonyms))
        if on_progress:
            on_progress(position + 1, len(refs))
    return {"images": images, "failed": failed}


def _failure(file: Decoded, pseudonyms: Pseudonyms) -> dict[str, str]:
    handle = pseudonyms.handle(root_of(file.ref), file.ref.shown)
    return {"path": handle, "outcome": file.outcome, "reason": file.reason or ""}


def _collection(refs: Sequence[ImageRef], kept: dict[str, Any], pseudonyms: Pseudonyms) -> Collection:
    records: list[Record] = []
    counted: list[int] = []
    seen: set[tuple[str | None, str]] = set()
    for place, told in enumerate(kept["images"]):
        ref = refs[told["position"]]
        if (ref.split, told["id"]) in seen:
            continue
        seen.add((ref.split, told["id"]))
        record = Record(**{name: told[name] for name in KEPT}, source=ref.source, labels=dict(ref.labels))
        records.append(replace(record, patient=record.patient or record.series))
        counted.append(place)
    rows_of_all = tuple(told["position"] for told in kept["images"])
    return Collection(
        refs=tuple(refs),
        records=tuple(records),
        positions=tuple(rows_of_all[place] for place in counted),
        counted=np.array(counted, np.int64),
        rows_of_all=rows_of_all,
        failed=tuple(kept["failed"]),
        n_duplicates=len(rows_of_all) - len(counted),
        pseudonyms=pseudonyms,
        identity=kept["identity"],
    )


def _identity(refs: Sequence[ImageRef], pseudonyms: Pseudonyms) -> str:
    """Of the files by name, size and time, of all that the manifest says of them, and of the pipeline."""
    digest = sha256(f"{VERSION} {pseudonyms.fingerprint}".encode())
    for ref in refs:
        state = ref.path.stat() if ref.path.exists() else None
        name = pseudonyms.file_name("", ref.shown)
        told = (sorted(ref.labels.items()), ref.patient, ref.modality, ref.source, ref.split, ref.fold)
        digest.update(repr((name, told, state and (state.st_size, state.st_mtime_ns))).encode())
    return digest.hexdigest()
