"""A search by every file of a folder, into one table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CbmirError, UsageError
from ..gallery import Gallery, Query
from ..places import root_of
from ..tables import ColumnType, TableFile, csv_text
from ..types import Progress, Ranking, Rectangle
from .indexing import encoder_of
from .searching import USUAL_QUERY, frame_of_file, new_image

if TYPE_CHECKING:
    from ..extract import Extracted

COLUMNS: Mapping[str, ColumnType] = {
    "query": "text", "frame": "whole number", "query_id": "text", "in_distribution": "text",
    "rank": "whole number", "id": "text", "distance": "number", "score": "number", "class": "text",
    "label": "text", "predicted": "text", "modality": "text", "patient": "text", "study": "text",
    "series": "text", "images": "whole number", "votes": "whole number",
}  # fmt: skip
"""One row a hit. query: the handle of the file that was searched by; path: where it is, only when that is asked for."""

_OF_THE_QUERY = ("query", "frame", "query_id", "in_distribution")
_YES_NO = {True: "yes", False: "no", None: None}


def search_folder(
    gallery: Gallery,
    sources: Sequence[Path],
    out: Path,
    query: Query = USUAL_QUERY,
    *,
    region: Rectangle | None = None,
    with_paths: bool = False,
    encoder_name: str | None = None,
    workers: int | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Search by the first readable image of every file (of a volume the middle axial slice), in the order of files.

    sources: as open_source has them. query: all but the images. out: .csv or .parquet, there when all is done.
    with_paths: the table also tells where each file is below its source, which may name patients.
    Returns {"queries", "hits": how many, "failed": [{"path": handle, "outcome", "reason"}], "out"}.
    Raises UsageError when there are no files, or for a query or an `out` that cannot be.
    """
    from ..extract import extract
    from ..privacy import load_pseudonyms
    from ..sources import distinct, open_source

    layer = gallery.layer_named(query.layer)
    refs = [replace(ref, region=region) for source in distinct(sources) for ref in open_source(source)]
    if not refs:
        raise UsageError("There are no files in what is searched by.")
    pseudonyms = load_pseudonyms(make=False)
    gallery.check_pseudonyms(pseudonyms)
    n_queries = n_hits = 0
    failed: list[dict[str, Any]] = []
    columns = {**COLUMNS, "path": "text"} if with_paths else COLUMNS
    with TableFile(out, columns) as table:
        files = extract(refs, encoder_of(gallery, encoder_name), pseudonyms, workers=workers)
        for extracted in _told(files, len(refs), on_progress):
            handle = pseudonyms.handle(root_of(extracted.decoded.ref), extracted.decoded.ref.shown)
            try:
                frame = frame_of_file(extracted)
            except CbmirError:
                outcome, reason = extracted.decoded.outcome, extracted.decoded.reason
                failed.append({"path": handle, "outcome": outcome, "reason": reason})
                continue
            ranking = gallery.search(replace(query, images=[new_image(extracted, frame, layer)]))
            rows = list(_rows(ranking, extracted, frame, handle))
            table.write({name: [row[name] for row in rows] for name in columns})
            n_queries, n_hits = n_queries + 1, n_hits + len(rows)
    return {"queries": n_queries, "hits": n_hits, "failed": failed, "out": str(out)}


def write_hits(ranking: Ranking) -> str:
    """The hits of one search as CSV, in the columns of a table of many, but for what tells of the query."""
    columns = [name for name in COLUMNS if name not in _OF_THE_QUERY]
    return csv_text(columns, [[hit.as_dict()[name] for name in columns] for hit in ranking])


def _told(files: Iterable[Extracted], total: int, on_progress: Progress | None) -> Iterator[Extracted]:
    for done, extracted in enumerate(files, start=1):
        yield extracted
        if on_progress:
            on_progress(done, total)


def _rows(ranking: Ranking, extracted: Extracted, frame: int, handle: str) -> Iterator[dict[str, Any]]:
    for hit in ranking:
        yield {
            "query": handle,
            "frame": extracted.records[frame].frame_index + 1,
            "query_id": extracted.records[frame].id,
            "in_distribution": _YES_NO[ranking.in_distribution],
            **hit.as_dict(),
            "path": extracted.decoded.ref.shown,
        }
