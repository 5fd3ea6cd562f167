"""A labelled collection, decoded once, as one uint8 file on disk that training maps into memory.

Training then reads any image in any order with no decoding and bounded memory, and a run that is resumed finds its
images packed already.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from .files import write_json
from .errors import BadManifest
from .images.worker import decode_all
from .preprocess import Preprocessing
from .privacy import Pseudonyms
from .types import ImageRef, UInt8

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Packed:
    """images: uint8 (n, C, side, side), memory-mapped. rows: for each image, the position of its file in the refs.

    patients: for each image its patient's pseudonym or None. failed: what became of files that gave no image.
    """

    images: UInt8
    rows: tuple[int, ...]
    patients: tuple[str | None, ...]
    failed: tuple[dict[str, str], ...]


def pack(
    refs: Sequence[ImageRef],
    preprocessing: Preprocessing,
    pseudonyms: Pseudonyms,
    folder: Path,
    *,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> Packed:
    """Decode every file into folder/images.u8, or take what an earlier call with the same files left there.

    Raises BadManifest when not one file gives an image.
    """
    identity = _identity(refs, preprocessing, pseudonyms)
    index = folder / "packed.json"
    kept: dict[str, Any] = json.loads(index.read_text()) if index.is_file() else {}
    if kept.get("identity") != identity:
        kept = _decode(refs, preprocessing, pseudonyms, folder, workers, on_progress) | {"identity": identity}
        write_json(index, kept)
    if not kept["rows"]:
        reason = kept["failed"][0]["reason"] if kept["failed"] else "there are no files"
        raise BadManifest(f"Not one of {len(refs)} files gives an image; the first: {reason}")
    shape = (len(kept["rows"]), preprocessing.n_channels, preprocessing.crop, preprocessing.crop)
    images = np.memmap(folder / "images.u8", np.uint8, "r", shape=shape)
    return Packed(images, tuple(kept["rows"]), tuple(kept["patients"]), tuple(kept["failed"]))


def _decode(
    refs: Sequence[ImageRef],
    preprocessing: Preprocessing,
    pseudonyms: Pseudonyms,
    folder: Path,
    workers: int | None,
    on_progress: Progress | None,
) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[int] = []
    patients: list[str | None] = []
    failed: list[dict[str, str]] = []
    with (folder / "images.u8").open("wb") as out:
        for position, file in enumerate(decode_all(refs, preprocessing, pseudonyms, workers=workers)):
            for image in file.images:
                out.write(image.pixels.tobytes())
                rows.append(position)
                patients.append(image.record.patient)
            if not file.images:
                failed.append({"path": file.ref.shown, "outcome": file.outcome, "reason": file.reason or ""})
            if on_progress:
                on_progress(position + 1, len(refs))
    return {"rows": rows, "patients": patients, "failed": failed}


def _identity(refs: Sequence[ImageRef], preprocessing: Preprocessing, pseudonyms: Pseudonyms) -> str:
    """Of the files by name, size and time, and of how they are read."""
    digest = sha256(json.dumps([preprocessing.as_dict(), pseudonyms.fingerprint], sort_keys=True).encode())
    for ref in refs:
        state = ref.path.stat() if ref.path.exists() else None
        digest.update(repr((ref.shown, ref.patient, state and (state.st_size, state.st_mtime_ns))).encode())
    return digest.hexdigest()
