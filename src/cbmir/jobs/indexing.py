"""A gallery brought up to date, and where its files are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadEncoder, BadGallery, UsageError
from ..files import GALLERY_DATABASE
from ..gallery import Duplicates, Gallery
from ..images.limits import MEMORY_BYTES, TIMEOUT_S
from ..types import ImageRef

if TYPE_CHECKING:  # saying where files are needs neither
    from ..ingest import IndexProgress, IndexReport
    from ..ingest.tally import Total
    from ..privacy import Pseudonyms


USUAL_SPLITS = ("train", "validation", "val", "test")


def of_split(refs: Sequence[ImageRef], split: str | None) -> list[ImageRef]:
    """The images of one split; all of them when no split is named. Raises UsageError when it has none."""
    if split is None:
        return list(refs)
    chosen = [ref for ref in refs if ref.split == split]
    if not chosen:
        splits = {ref.split for ref in refs if ref.split}
        known = ", ".join(name for name in USUAL_SPLITS if name in splits)  # of others nothing is quoted
        there = f"there are {len(splits)} splits" + (f", {known} among them" if known else "")
        raise UsageError(f"No image is in split '{split}'; {there if splits else 'no image is in any split'}.")
    return chosen


@dataclass(frozen=True)
class IndexSettings:
    """How an index run is done.

    runtime, precision: as load_encoder has them. workers: decoding processes, None for one a core. timeout_s: for one
    file; memory_mib: of one worker, None for as much as decode_all allows. duplicates: whether an image whose pixels
    are in the gallery already becomes another one. mask_burned_in: outside the regions of ultrasound all is black; a
    gallery is made with it or without. readmit: images that were removed come in again, now and later.
    """

    runtime: str = "auto"
    precision: str = "auto"
    workers: int | None = None
    timeout_s: float = TIMEOUT_S
    memory_mib: int | None = None
    duplicates: Duplicates = "keep"
    mask_burned_in: bool = False
    readmit: bool = False


USUAL = IndexSettings()


def index_into(
    directory: Path,
    sources: Sequence[Path],
    *,
    encoder_name: str | None = None,
    split: str | None = None,
    settings: IndexSettings = USUAL,
    on_progress: IndexProgress | None = None,
) -> IndexReport:
    """Bring the gallery in `directory` up to date with the sources; make it when it is not there.

    encoder_name: a directory or name; None is `default` for a new gallery, else the encoder a gallery was made with.
    Raises UsageError for a source that is missing or empty, BadGallery for an encoder that is not the gallery's.
    """
    refs = _refs_of(sources, split)
    first = next(refs, None)
    if first is None:
        raise UsageError("There are no files in what is to be indexed.")
    return index_refs(
        directory,
        chain([first], refs),
        encoder_name=encoder_name,
        settings=settings,
        total=lambda: sum(1 for _ in _refs_of(sources, split)),
        on_progress=on_progress,
    )


def _refs_of(sources: Sequence[Path], split: str | None) -> Iterator[ImageRef]:
    """Their images, one after the other: a folder may have millions."""
    from ..sources import distinct, open_source

    refs: Iterator[ImageRef] = chain.from_iterable([open_source(source) for source in distinct(sources)])
    # only manifests know splits, and they are short
    return refs if split is None else iter(of_split(list(refs), split))


def index_refs(
    directory: Path,
    refs: Iterable[ImageRef],
    *,
    encoder_name: str | None = None,
    settings: IndexSettings = USUAL,
    total: Total = None,
    on_progress: IndexProgress | None = None,
) -> IndexReport:
    """As index_into, for images that are known already. A page for people is written beside the run report.

    total: how many they are, or what counts them, for the progress.
    """
    from ..ingest import index_source
    from ..privacy import load_pseudonyms

    memory_bytes = MEMORY_BYTES if settings.memory_mib is None else settings.memory_mib * 2**20
    with _gallery_for(directory, encoder_name, settings) as gallery:
        encoder = encoder_of(gallery, encoder_name)
        pseudonyms = load_pseudonyms(make=False)  # a new gallery has made it, another would not be that of an old one
        gallery.check_pseudonyms(pseudonyms)
        with gallery.writing():  # until the reports are there, or `remove` would miss them
            if settings.readmit:
                gallery.store.readmit()
            report = index_source(
                refs,
                gallery,
                encoder,
                pseudonyms,
                workers=settings.workers,
                timeout_s=settings.timeout_s,
                memory_bytes=memory_bytes,
                duplicates=settings.duplicates,
                total=total,
                on_progress=on_progress,
            )
            return _with_map(report, gallery)


def _with_map(report: IndexReport, gallery: Gallery) -> IndexReport:
    """The map of the gallery as it is now, told in the run report; and the page of that."""
    from ..files import read_json, write_json
    from ..report import write_index_report

    drawn = gallery.draw_atlas().as_dict()
    told = {**read_json(report.report), "atlas": drawn}
    write_json(report.report, told)
    write_index_report(told, report.html)
    return replace(report, atlas=drawn)


def _gallery_for(directory: Path, encoder_name: str | None, settings: IndexSettings) -> Gallery:
    from ..encoder import lasting_name, load_encoder
    from ..privacy import load_pseudonyms

    runtime, precision, masked = settings.runtime, settings.precision, settings.mask_burned_in
    if (directory / GALLERY_DATABASE).is_file():
        gallery = Gallery.open(directory)
        made = gallery.encoder.precision  # openvino-bf16; of pixels f32, for nothing runs it
        if "-" in made and any(wanted not in ("auto", *made.split("-")) for wanted in (runtime, precision)):
            gallery.close()
            raise BadGallery(f"The gallery {directory} was made in {made}, not {runtime}-{precision}.")
        if masked and not gallery.encoder.masked:
            gallery.close()
            raise BadGallery(f"The gallery {directory} was made without --mask-burned-in: make another one.")
        return gallery
    name = encoder_name or "default"
    encoder = load_encoder(name, runtime=runtime, precision=precision, mask_burned_in=masked)
    return Gallery.create(directory, encoder, load_pseudonyms(), encoder_path=lasting_name(name), masked=masked)


def encoder_of(gallery: Gallery, encoder_name: str | None = None) -> Any:
    """The gallery's encoder in the gallery's precision, from where it was, or from `encoder_name`.

    Raises BadEncoder when it is no longer there, BadGallery when it is not the one.
    """
    from ..encoder import load_encoder

    try:
        encoder = load_encoder(
            encoder_name or gallery.encoder_path,
            precision=gallery.encoder.precision,
            mask_burned_in=gallery.encoder.masked,
        )
    except UsageError as error:
        if encoder_name:
            raise
        raise BadEncoder(
            f"The gallery's encoder {gallery.encoder} is no longer at {gallery.encoder_path}; say where with --encoder."
        ) from error
    gallery.check_encoder(encoder)
    return encoder


def places(directory: Path, handles: Sequence[str], outcome: str | None = None) -> list[dict[str, Any]]:
    """Where files of a gallery are: {"handle", "path", "outcome", "reason"} each, in the order of their paths.

    handles: as reports have them, with or without the suffix, or ids of images; none for all files. outcome: only
    those that ended so. path: None where a gallery of an older version does not know it.
    Raises BadGallery for another key, UsageError for a handle that the gallery does not know.
    """
    from ..privacy import load_pseudonyms

    pseudonyms = load_pseudonyms(make=False)
    with Gallery.open(directory) as gallery:
        meant = {word: _handles_of(word, gallery, pseudonyms) for word in handles}
        known = list(gallery.files(pseudonyms, list(set().union(*meant.values()))))
    found = {place.handle for place in known}
    for word, possible in meant.items():
        if found.isdisjoint(possible):
            raise UsageError(f"The gallery knows no file {word}.")
    chosen = [place for place in known if outcome in (None, place.outcome)]
    return [asdict(place) for place in sorted(chosen, key=lambda place: place.path or "")]


def _handles_of(word: str, gallery: Gallery, pseudonyms: Pseudonyms) -> set[str]:
    """The handles that a word may mean: itself; its digits with every suffix; that of the file of an image."""
    from ..places import root_of
    from ..privacy import HANDLE_DIGITS, PSEUDONYM_DIGITS, SUFFIXES

    if len(word) == HANDLE_DIGITS:
        return {word, *(word + suffix for suffix in SUFFIXES)}
    ref = gallery.image_ref(word, pseudonyms) if len(word) == PSEUDONYM_DIGITS else None
    return {word} if ref is None else {pseudonyms.handle(root_of(ref), ref.shown)}
