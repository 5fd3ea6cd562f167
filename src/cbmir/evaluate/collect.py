"""Files in: features and records of both sides of a split, and what became of every file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..encoder import Encoder
from ..errors import CbmirError
from ..extract import Extracted, extract
from ..places import root_of
from ..privacy import Pseudonyms
from ..types import Float32, ImageRef, Progress, Record
from .rankings import EvaluationSide


class Collected:
    """Features and records as they come from `extract`, train and test apart."""

    def __init__(self, layers: tuple[str, ...], pseudonyms: Pseudonyms) -> None:
        self.pseudonyms = pseudonyms
        self.records: dict[str, list[Record]] = {"train": [], "test": []}
        self.features: dict[str, dict[str, list[Float32]]] = {
            split: {layer: [] for layer in layers} for split in self.records
        }
        self.posteriors: dict[str, list[Float32]] = {"train": [], "test": []}
        self.seen: dict[str, set[str]] = {"train": set(), "test": set()}
        self.ref_of: dict[str, ImageRef] = {}
        self.outcomes: Counter[str] = Counter()
        self.failed: list[dict[str, str]] = []
        self.n_duplicates = 0

    def add(self, file: Extracted) -> None:
        decoded, split = file.decoded, file.decoded.ref.split or ""
        self.outcomes[decoded.outcome] += 1
        if decoded.reason is not None:
            handle = self.pseudonyms.handle(root_of(decoded.ref), decoded.ref.shown)
            self.failed.append({"path": handle, "outcome": decoded.outcome, "reason": decoded.reason})
        new = [row for row, record in enumerate(file.records) if self._is_new(record, split)]
        self.records[split] += [file.records[row] for row in new]
        for layer, rows in self.features[split].items():
            rows.append(file.features[layer][new])
        if file.posterior is not None:
            self.posteriors[split].append(file.posterior[new])
        self.ref_of |= {file.records[row].id: decoded.ref for row in new}

    def _is_new(self, record: Record, split: str) -> bool:
        """The same image twice on one side counts once, as in a gallery."""
        known = record.id in self.seen[split]
        self.seen[split].add(record.id)
        self.n_duplicates += known
        return not known

    def side(self, split: str) -> EvaluationSide:
        if not self.records[split]:
            raise CbmirError(f"no image of split {split} could be read: nothing can be evaluated")
        features = {layer: np.concatenate(rows) for layer, rows in self.features[split].items()}
        for rows in self.features[split].values():
            rows.clear()  # the parts are not needed any more, and are as large as the whole
        posteriors = self.posteriors[split]
        posterior = np.concatenate(posteriors) if posteriors else None
        return EvaluationSide(tuple(self.records[split]), features, posterior)

    def about(self) -> dict[str, Any]:
        return {
            "outcomes": dict(sorted(self.outcomes.items())),
            "failed": self.failed,
            "n_duplicates": self.n_duplicates,
        }


def collect(
    refs: Sequence[ImageRef],
    encoder: Encoder,
    pseudonyms: Pseudonyms,
    layers: tuple[str, ...],
    workers: int | None,
    on_progress: Progress | None,
) -> Collected:
    """Extract the files of split train and test, the named layers only."""
    wanted = [ref for ref in refs if ref.split in ("train", "test")]
    collected = Collected(layers, pseudonyms)
    for done, file in enumerate(extract(wanted, encoder, pseudonyms, workers=workers), start=1):
        collected.add(file)
        if on_progress:
            on_progress(done, len(wanted))
    return collected
