"""Folds together: measurements, judgements and posteriors of several, as if of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..evaluate.rankings import Judgement, Measured
from ..types import Float32, Int


def pooled(parts: Sequence[Measured]) -> Measured:
    """The queries of all folds one after the other."""
    return Measured(
        {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values},
        np.concatenate([part.curves for part in parts]),
        np.concatenate([part.top_rows for part in parts]),
        np.concatenate([part.top_distances for part in parts]),
        np.concatenate([part.n_candidates for part in parts]),
    )


def pooled_judgement(parts: Sequence[Judgement]) -> Judgement:
    """For means and counts over the queries of all folds: one code for one class in every fold.

    What belongs to the gallery of one fold (its codes, what is hidden, grades) is the first fold's.
    """
    names = sorted({name for part in parts for name in part.names})
    code = {name: place for place, name in enumerate(names)}

    def recoded(part: Judgement) -> Int:
        table = np.array([*(code[name] for name in part.names), -1], np.int64)
        return np.asarray(table[part.queries], np.int64)  # -1 takes the last

    return replace(
        parts[0],
        names=tuple(names),
        queries=np.concatenate([recoded(part) for part in parts]),
        n_relevant=np.concatenate([part.n_relevant for part in parts]),
        n_not_relevant=np.concatenate([part.n_not_relevant for part in parts]),
        n_in_database=np.concatenate([part.n_in_database for part in parts]),
        hidden=tuple(rows for part in parts for rows in part.hidden),
    )


def pooled_posterior(
    posteriors: Sequence[Float32 | None], classes: Sequence[tuple[str, ...]]
) -> tuple[Float32 | None, tuple[str, ...]]:
    """Over the classes of all folds; a class that a fold does not know has probability 0 there."""
    if any(posterior is None for posterior in posteriors):
        return None, ()
    every = tuple(sorted({name for known in classes for name in known}))
    rows = []
    for posterior, known in zip(posteriors, classes, strict=True):
        if posterior is not None:
            wide = np.zeros((len(posterior), len(every)), np.float32)
            wide[:, [every.index(name) for name in known]] = posterior
            rows.append(wide)
    return np.concatenate(rows), every
