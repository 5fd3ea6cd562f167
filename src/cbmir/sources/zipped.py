"""The files inside a zip archive, each with why it is not to be read where that is so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..archives import members
from ..errors import BadImage
from ..types import ImageRef

SUFFIX = ".zip"


def zipped(path: Path, shown: str) -> Iterator[ImageRef]:
    """One ref per file of the archive at path, shown as `shown`/member.

    An archive that cannot be opened, is refused or holds no file stands for itself: whoever reads it reports why.
    """
    try:
        found = members(path)
    except BadImage as error:
        yield ImageRef(path, shown, refused=error.reason if error.outcome == "refused" else None)
        return
    if not found:
        yield ImageRef(path, shown)
    for member in found:
        yield ImageRef(path, f"{shown}/{member.name}", member=member.name, refused=member.refused)
