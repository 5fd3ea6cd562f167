"""The demo: the whole job on one folder. With classes: index, search, evaluate; without: index and search.

A network is trained first where a recipe is named. Folders are classes only where somebody says so: a folder per
patient looks the same, and classes are kept as they are.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import dataset, jobs
from .encoder import NAMES, load_encoder
from .errors import BadManifest, CbmirError, UsageError
from .evaluate import evaluate_split
from .gallery import Gallery, Query
from .ingest import IndexReport
from .places import root_of
from .privacy import load_pseudonyms
from .recipes import Recipe
from .report import write_report, write_search_report
from .sources import labelled, open_source, shown_of
from .types import Gate, ImageRef, Ranking

if TYPE_CHECKING:
    from .fitting import TrainingProgress

OpenProgress = Callable[[int, int | None], None]
"""As Progress, while the total may not be known yet."""
N_EXAMPLES = 3
"""Searches shown."""


def run_demo(
    source: Path | None,
    out: Path,
    *,
    encoder_name: str = "default",
    recipe: Recipe | None = None,
    class_folders: bool = False,
    workers: int | None = None,
    say: Callable[[str], None],
    on_progress: OpenProgress | None = None,
    on_training: TrainingProgress | None = None,
) -> dict[str, Any]:
    """Do the whole job on `source`, or on pydicom's own files, and write it into a folder of its own in `out`.

    recipe: what an encoder is trained by, instead of encoder_name. class_folders: without a manifest, the first folder
    below the source is the class of its files. Started again on the same source, it goes on there.
    Returns {"gallery", "report", "encoder", "indexed": the index report, "mAP": of the default layer or None}.
    Raises UsageError for a source that is missing, or has no classes where there is a recipe; BadManifest for one
    without class folders where they are asked for.
    """
    out = work_folder(source, out, class_folders, encoder_name if recipe is None else recipe)
    source = bundled_files() if source is None else source
    refs = _labelled_or_none(source, class_folders)
    say(f"writing into {out}")
    if refs is None:
        if recipe is not None:
            raise UsageError("Training needs classes: of a manifest, or of folders with --classes-from-folders.")
        return _search_only(source, out, encoder_name, workers, say, on_progress)
    refs = _with_splits(refs, workers)
    encoder = encoder_name
    if recipe is not None:
        encoder = _trained(refs, out / "encoder", recipe, workers, say, on_progress, on_training)
    say("indexing the train side")
    indexed = jobs.index_refs(
        out / "gallery",
        jobs.of_split(refs, "train"),
        encoder_name=encoder,
        settings=jobs.IndexSettings(workers=workers),
        on_progress=_counted(on_progress),
    )
    with Gallery.open(out / "gallery") as gallery:
        _search(gallery, _one_of_each(jobs.of_split(refs, "test"))[:N_EXAMPLES], out, say)
    say("evaluating: gallery is the train side, queries are the test side")
    evaluation = evaluate_split(
        refs, load_encoder(encoder), load_pseudonyms(), workers=workers, on_progress=on_progress
    )
    report = write_report(
        evaluation.metrics,
        out / "report",
        examples=evaluation.examples,
        samples=evaluation.samples,
        pictures=evaluation.pictures,
    )
    layer = next(iter(load_encoder(encoder).layers))
    mean_ap = evaluation.metrics["retrieval"][layer]["off"]["mAP"]
    return _result(out, report, encoder, indexed) | {"layer": layer, "mAP": mean_ap}


def _search(gallery: Gallery, refs: Sequence[ImageRef], out: Path, say: Callable[[str], None]) -> None:
    """One search per file, told and drawn. Files go by their handles; one that gives no image is told too."""
    gate: Gate = "hard" if gallery.encoder.classes else "off"
    pseudonyms = load_pseudonyms()
    for number, ref in enumerate(refs, start=1):
        handle = pseudonyms.handle(root_of(ref), ref.shown)
        try:
            ranking, frame_number = jobs.search_images(gallery, jobs.Asked(files=[ref]), Query(k=8, gate=gate))
        except CbmirError as error:
            say(f"{handle}: {error}")
            continue
        say(f"{handle}: {_told(ranking)}")
        jobs.draw_strip(gallery, ranking, ref, frame_number, _strip(out, number))


def work_folder(source: Path | None, out: Path, class_folders: bool, by: str | Recipe) -> Path:
    """Where the job on one source is written: two sources share neither an encoder nor a gallery, nor does one source
    with classes and without, nor by two encoders. Its name tells nothing of the source's. by: an encoder or a recipe.
    """
    parts = ["pydicom" if source is None else f"source-{_pseudonym(source)}"]
    parts += ["classes"] if class_folders else []
    if isinstance(by, Recipe):
        parts.append(f"trained-{by.name}")
    elif by != "default":
        parts.append(by if by in NAMES else f"encoder-{_pseudonym(Path(by))}")
    return out / "-".join(parts)


def _pseudonym(folder: Path) -> str:
    return load_pseudonyms().of("folder", shown_of(folder.resolve()))[:8]


def bundled_files() -> Path:
    """The real DICOM files that come with pydicom."""
    found = importlib.util.find_spec("pydicom")
    if found is None or found.origin is None:
        raise CbmirError("pydicom is not installed: install cbmir again.")
    return Path(found.origin).parent / "data" / "test_files"


def _labelled_or_none(source: Path, class_folders: bool) -> list[ImageRef] | None:
    if not source.exists():
        raise UsageError(f"There is no {source}.")
    if not source.is_dir() and source.suffix.lower() != ".csv":
        raise UsageError("That is not a folder or manifest: the demo needs a collection to search.")
    try:
        refs = labelled(source, class_folders=class_folders)
    except BadManifest:
        if class_folders:
            raise
        return None
    return refs if len({ref.label for ref in refs}) > 1 else None


def _with_splits(refs: Sequence[ImageRef], workers: int | None) -> list[ImageRef]:
    """As the manifest says; else split by patient, 70 to 30. What each says of its own patient stays as it is."""
    if {"train", "test"} <= {ref.split for ref in refs}:
        return list(refs)
    sides = dataset.split(dataset.with_patients(refs, load_pseudonyms(), workers))
    return [replace(ref, split=side) for ref, side in zip(refs, sides, strict=True)]


def _trained(
    refs: Sequence[ImageRef],
    out: Path,
    recipe: Recipe,
    workers: int | None,
    say: Callable[[str], None],
    on_progress: OpenProgress | None,
    on_training: TrainingProgress | None,
) -> str:
    """The encoder trained on the train side, or the one an earlier run left."""
    if (out / "encoder.json").is_file():
        say(f"using the encoder trained before: {out}")
        return str(out)
    from .train import train

    say(f"training by the recipe '{recipe.name}', {recipe.epochs} epochs")
    train(
        jobs.of_split(refs, "train"),
        recipe,
        out,
        pseudonyms=load_pseudonyms(),
        workers=workers,
        on_decode=on_progress,
        on_progress=on_training,
    )
    return str(out)


def _search_only(
    source: Path,
    out: Path,
    encoder: str,
    workers: int | None,
    say: Callable[[str], None],
    on_progress: OpenProgress | None,
) -> dict[str, Any]:
    """No classes: index everything, and search with images of the gallery itself."""
    say(f"indexing with the encoder '{encoder}'")
    indexed = jobs.index_refs(
        out / "gallery",
        list(open_source(source)),
        encoder_name=encoder,
        settings=jobs.IndexSettings(workers=workers),
        on_progress=_counted(on_progress),
    )
    strips: list[tuple[str, Path]] = []
    with Gallery.open(out / "gallery") as gallery:
        for number, record_id in enumerate(_one_of_each_modality(gallery)[:N_EXAMPLES], start=1):
            ranking = gallery.search_id(record_id, k=8)
            picture = _strip(out, number)
            say(f"image {record_id}: {_told(ranking)}")
            jobs.draw_strip(gallery, ranking, None, 1, picture)
            strips.append((_told(ranking), picture))
        about = gallery.info()
    report = write_search_report(about, indexed.as_dict(), strips, out / "report")
    return _result(out, report, encoder, indexed) | {"layer": None, "mAP": None}


def _strip(out: Path, number: int) -> Path:
    """Numbered: a class may be named as no file can be."""
    return out / "searches" / f"{number:02d}.png"


def _result(out: Path, report: Path, encoder: str, indexed: IndexReport) -> dict[str, Any]:
    return {
        "gallery": str(out / "gallery"),
        "report": str(report),
        "encoder": encoder,
        "indexed": indexed.as_dict(),
    }


def _one_of_each(refs: Sequence[ImageRef]) -> list[ImageRef]:
    """The first image of every class, in the order of the manifest."""
    firsts: dict[str | None, ImageRef] = {}
    for ref in refs:
        firsts.setdefault(ref.label, ref)
    return list(firsts.values())


def _one_of_each_modality(gallery: Gallery) -> list[str]:
    """An image of every modality, the commonest first."""
    of: dict[str, list[str]] = {}
    for record in gallery.records(gallery.ids()).values():
        if record.modality and record.modality != "OT":
            of.setdefault(record.modality, []).append(record.id)
    return [ids[0] for ids in sorted(of.values(), key=lambda ids: (-len(ids), ids[0]))] or gallery.ids()


def _told(ranking: Ranking) -> str:
    """One line on a ranking: what was predicted, and the classes (or modalities) found."""
    found = ", ".join(hit.record.group or hit.record.modality or "unknown" for hit in ranking) or "nothing"
    predicted = f"looks like {ranking.predicted[0][0]}; " if ranking.predicted else ""
    return f"{predicted}found {found}"


def _counted(on_progress: OpenProgress | None) -> Callable[[int, int | None, Mapping[Any, int]], None] | None:
    return None if on_progress is None else lambda done, total, _: on_progress(done, total)
