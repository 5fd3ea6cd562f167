"""A labelled collection, decoded once, as one uint8 file on disk that training maps into memory.

Training then reads any image in any order with no decoding and bounded memory, and a run that is resumed finds its
images packed already.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from .errors import BadManifest
from .files import write_json
from .images.worker import decode_all
from .places import root_of
from .preprocess import Preprocessing
from .privacy import Pseudonyms
from .types import ImageRef, Progress, UInt8


@dataclass(frozen=True)
class Packed:
    """images: uint8 (n, C, side, side), memory-mapped. rows: for each image, the position of its file in the refs.

    patients: for each image its patient's pseudonym or None. failed: what became of files that gave no image.
    identity: digest of the files and of how they were read; equal ones give equal images.
    """

    images: UInt8
    rows: tuple[int, ...]
    patients: tuple[str | None, ...]
    failed: tuple[dict[str, str], ...]
    identity: str


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
    packed = folder / "images.u8"
    one = (preprocessing.n_channels, preprocessing.crop, preprocessing.crop)
    kept: dict[str, Any] = json.loads(index.read_text()) if index.is_file() else {}
    if kept.get("identity") != identity or _size(packed) != len(kept["rows"]) * math.prod(one):
        new = folder / "images.u8.new"
        kept = _decode(refs, preprocessing, pseudonyms, new, workers, on_progress) | {"identity": identity}
        index.unlink(missing_ok=True)  # it must never vouch for images that are not its own
        os.replace(new, packed)
        write_json(index, kept)
    if not kept["rows"]:
        reason = kept["failed"][0]["reason"] if kept["failed"] else "there are no files"
        raise BadManifest(f"Not one of {len(refs)} files gives an image; the first: {reason}")
    images = np.memmap(packed, np.uint8, "r", shape=(len(kept["rows"]), *one))
    return Packed(images, tuple(kept["rows"]), tuple(kept["patients"]), tuple(kept["failed"]), identity)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _decode(
    refs: Sequence[ImageRef],
    preprocessing: Preprocessing,
    pseudonyms: Pseudonyms,
    out: Path,
    workers: int | None,
    on_progress: Progress | None,
) -> dict[str, Any]:
    out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[int] = []
    patients: list[str | None] = []
    failed: list[dict[str, str]] = []
    with out.open("wb") as stream:
        for position, file in enumerate(decode_all(refs, preprocessing, pseudonyms, workers=workers)):
            for image in file.images:
                stream.write(image.pixels.tobytes())
                rows.append(position)
                patients.append(image.record.patient)
            if not file.images:
                handle = pseudonyms.handle(root_of(file.ref), file.ref.shown)
                failed.append({"path": handle, "outcome": file.outcome, "reason": file.reason or ""})
            if on_progress:
                on_progress(position + 1, len(refs))
    return {"rows": rows, "patients": patients, "failed": failed}


def _identity(refs: Sequence[ImageRef], preprocessing: Preprocessing, pseudonyms: Pseudonyms) -> str:
    """Of the files by name, size and time, and of how they are read, which a manifest's modality has a say in."""
    digest = sha256(json.dumps([preprocessing.as_dict(), pseudonyms.fingerprint], sort_keys=True).encode())
    for ref in refs:
        state = ref.path.stat() if ref.path.exists() else None
        digest.update(
            repr((ref.shown, ref.patient, ref.modality, state and (state.st_size, state.st_mtime_ns))).encode()
        )
    return digest.hexdigest()
