"""Rankings and judgements as TREC files, for trec_eval, ranx and others. Ids are the pseudonyms of the records.

run      QUERY Q0 IMAGE RANK SCORE METHOD     score falls by 1 with every rank, so that no ties are left
qrels    QUERY 0 IMAGE 1                      the relevant images that the query may see
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from ..evaluate.rankings import EvaluationSide, Judgement
from ..files import write_text
from ..index import Found
from ..types import Gate


class RunFile:
    """The rankings of all queries without gate, fold after fold; the file is there when all are in it.

    depth: hits of each query that are written. Only a run of whole rankings gives the benchmark's mAP.
    """

    def __init__(self, path: Path, method: str, depth: int | None = None) -> None:
        self.path, self.method, self.depth = path, "_".join(method.split()), depth
        self._new = path.with_name(path.name + ".new")

    def __enter__(self) -> RunFile:
        self._stream = self._new.open("w", encoding="ascii", errors="replace")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if kind is None:
            os.replace(self._new, self.path)
        else:
            self._new.unlink(missing_ok=True)

    def passing(
        self, rankings: Iterator[dict[Gate, Found]], gallery: EvaluationSide, queries: EvaluationSide
    ) -> Iterator[dict[Gate, Found]]:
        """The same rankings, written as they pass."""
        names = [record.id for record in gallery.records]
        for record, found in zip(queries.records, rankings, strict=True):
            rows = found["off"].positions[: self.depth].tolist()
            self._stream.writelines(
                f"{record.id} Q0 {names[row]} {rank} {len(rows) + 1 - rank} {self.method}\n"
                for rank, row in enumerate(rows, start=1)
            )
            yield found


def write_qrels(path: Path, folds: Sequence[tuple[EvaluationSide, EvaluationSide, Judgement]]) -> None:
    """folds: (gallery, queries, judgement) each. A query with nothing relevant has no line."""
    lines: list[str] = []
    for gallery, queries, judgement in folds:
        for query, record in enumerate(queries.records):
            if judgement.queries[query] >= 0:
                relevant = np.flatnonzero(judgement.gallery == judgement.queries[query])
                seen = np.setdiff1d(relevant, judgement.hidden[query])
                lines += [f"{record.id} 0 {gallery.records[row].id} 1\n" for row in seen]
    write_text(path, "".join(lines))
