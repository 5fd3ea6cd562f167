"""The verbs that keep a gallery in order: opened with its key, and with its encoders where they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..atlas import AtlasReport
from ..errors import BadGallery, UsageError
from ..gallery import Gallery
from ..store import Unit
from ..types import Progress
from .indexing import IndexSettings

if TYPE_CHECKING:  # whoever only looks needs no encoder
    from ..upkeep.reindexing import ReindexReport

USUAL = IndexSettings()


def remove_images(
    directory: Path,
    what: Unit,
    values: Sequence[str],
    *,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Removes images and proves it, or says what would go. Raises UsageError for a value that cannot be one."""
    from ..privacy import load_pseudonyms
    from ..upkeep import remove, what_would_go

    if not all(value.strip() for value in values):
        raise UsageError(f"An empty --{what} names nobody.")
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        raise UsageError(f"A --{what} is no text in UTF-8.") from None
    pseudonyms = load_pseudonyms(make=False)
    with Gallery.open(directory) as gallery:
        if dry_run:
            return what_would_go(gallery, what, values, pseudonyms)
        return remove(gallery, what, values, pseudonyms, on_progress=on_progress).as_dict()


def reindex_images(
    directory: Path,
    encoder_name: str,
    *,
    settings: IndexSettings = USUAL,
    drop_missing: bool = False,
    on_progress: Progress | None = None,
) -> ReindexReport:
    """Takes a gallery over to another encoder, and makes the matrices it is searched with. settings: duplicates and
    mask_burned_in have no meaning here; a gallery that masks goes on masking.
    """
    from ..encoder import lasting_name, load_encoder
    from ..images.limits import MEMORY_BYTES
    from ..privacy import load_pseudonyms
    from ..upkeep.reindexing import Limits, reindex

    pseudonyms = load_pseudonyms(make=False)
    memory_bytes = MEMORY_BYTES if settings.memory_mib is None else settings.memory_mib * 2**20
    with Gallery.open(directory) as gallery:
        encoder = load_encoder(
            encoder_name,
            runtime=settings.runtime,
            precision=settings.precision,
            mask_burned_in=gallery.encoder.masked,
        )
        report = reindex(
            gallery,
            encoder,
            pseudonyms,
            encoder_path=lasting_name(encoder_name),
            limits=Limits(settings.workers, settings.timeout_s, memory_bytes),
            drop_missing=drop_missing,
            on_progress=on_progress,
        )
    drawn = _make_derived(directory) if report.swapped else None
    return report if drawn is None else replace(report, atlas=drawn.as_dict())


def change_encoder(directory: Path, step: Literal["back", "forget", "cancel"]) -> dict[str, Any]:
    """Goes back to the encoder before, forgets it, or gives up a change that is under way; the status after it."""
    from ..upkeep.reindexing import cancel, forget_old, go_back, status

    steps = {"back": go_back, "forget": forget_old, "cancel": cancel}
    with Gallery.open(directory) as gallery:
        steps[step](gallery)
    if step == "back":
        _make_derived(directory)
    with Gallery.open(directory) as gallery:
        return status(gallery)


def encoder_status(directory: Path) -> dict[str, Any]:
    """The encoders of a gallery, and how far a change has come."""
    from ..upkeep.reindexing import status

    with Gallery.open(directory) as gallery:
        return status(gallery)


def _make_derived(directory: Path) -> AtlasReport | None:
    """Matrices and map of the encoder that is current now, so that the first search after a change need not wait, and
    what is not searched any more takes no room. None while another process writes: then matrices are left to the first
    search, and the map to the next index run.
    """
    from ..gallery.upkeep import compact

    with suppress(BadGallery), Gallery.open(directory) as gallery, gallery.writing():
        compact(gallery.store)
        return gallery.draw_atlas()
    return None
