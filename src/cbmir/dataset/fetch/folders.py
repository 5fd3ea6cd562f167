"""Classes whose images the user has: some of a folder, copied under names that tell nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from ... import archives
from ...errors import UsageError
from ...images.worker import decode_all
from ...privacy import Pseudonyms
from ...sources import folder
from ...types import ImageRef, Progress
from ..splits import THUMBNAIL
from .recipe import ClassRecipe

SUFFIXES = re.compile(r"\.(dcm|tiff?|png|jpe?g)", re.IGNORECASE)


def copy_some(
    place: Path,
    kind: ClassRecipe,
    out: Path,
    wanted: int,
    pseudonyms: Pseudonyms,
    *,
    seed: int,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> list[str]:
    """Copy `wanted` images below place (or inside a zip archive there), drawn from seed, to out/SLUG/0001.dcm, ...

    Files that give no image are passed over. Returns the new paths below out, in order; fewer where there are fewer.
    Raises UsageError when the folder is not there, or has no image.
    """
    if not place.is_dir():
        raise UsageError(f"The folder for {kind.name} is not there: {_how(kind)}.")
    refs = sorted(folder(place), key=lambda ref: ref.shown)
    rng = np.random.default_rng([seed, *kind.name.encode()])
    shuffled = [refs[i] for i in rng.permutation(len(refs))]
    good = islice(_pictures(shuffled, pseudonyms, wanted, workers), wanted)
    (out / kind.slug).mkdir(parents=True, exist_ok=True)
    paths: list[str] = []
    for number, ref in enumerate(good, start=1):
        paths.append(f"{kind.slug}/{number:04d}{_suffix(ref)}")
        _copy(ref, out / paths[-1])
        if on_progress:
            on_progress(number, wanted)
    if not paths:
        raise UsageError(f"The folder for {kind.name} has no image that can be read: {_how(kind)}.")
    return paths


def _how(kind: ClassRecipe) -> str:
    return kind.folder.how if kind.folder else "name another"


def _pictures(refs: Sequence[ImageRef], pseudonyms: Pseudonyms, wanted: int, workers: int | None) -> Iterator[ImageRef]:
    """Those that decode, `wanted` at a time: a folder may have far more."""
    for start in range(0, len(refs), wanted):
        chunk = refs[start : start + wanted]
        yield from (file.ref for file in decode_all(chunk, THUMBNAIL, pseudonyms, workers=workers) if file.images)


def _suffix(ref: ImageRef) -> str:
    """That of a kind of image; every other file that decodes is taken for DICOM, whose files often have none."""
    suffix = Path(ref.member or ref.path.name).suffix.lower()
    return suffix if SUFFIXES.fullmatch(suffix) else ".dcm"


def _copy(ref: ImageRef, to: Path) -> None:
    if ref.member is None:
        shutil.copyfile(ref.path, to)
    else:
        to.write_bytes(archives.read_member(ref.path, ref.member))
