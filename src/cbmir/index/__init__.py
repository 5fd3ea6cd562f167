"""Nearest neighbours behind one small protocol. An index is derived from the store and can be rebuilt from it.

An index speaks of positions (rows of its matrix, from 0) and groups (the class of a record); what a position
is called outside, and whose it is, the matrix beside it knows (index/matrix.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..types import Float32, Int

Float64 = npt.NDArray[np.float64]

NO_POSITIONS: Int = np.empty(0, np.int64)


@dataclass(frozen=True)
class Scope:
    """Which rows take part in a search, and what their group costs them.

    groups: names of the groups that take part, None for all; a name without rows is allowed.
    penalties: per group, added to the squared distance to give the ranking key (at least 0; absent is 0).
    hidden: positions that take no part, in any order.
    rows: the positions that alone take part (a filter), ascending; None for all.
    farthest: the largest keys come first instead of the smallest; ties by id all the same.
    exact: no approximate index may be used (ann.py).
    """

    groups: tuple[str, ...] | None = None
    penalties: Mapping[str, float] = field(default_factory=dict)
    hidden: Int = field(default_factory=lambda: NO_POSITIONS)
    rows: Int | None = None
    farthest: bool = False
    exact: bool = False

    def __post_init__(self) -> None:
        if not all(penalty >= 0 for penalty in self.penalties.values()):
            raise ValueError("a penalty is a number of at least 0")
        if self.rows is not None and not (self.rows[1:] > self.rows[:-1]).all():
            raise ValueError("the rows of a scope ascend")


@dataclass(frozen=True)
class Found:
    """Rows in ranked order: distances float32 (n,), Euclidean; positions int64 (n,).

    n_candidates: how many rows the scope left to compare with. keys: float64 (n,), distance^2 + penalty of the group;
    of what is re-ranked, those of the search that found it (rerank.py).
    by: how they were found: "exact", "exact, int8 first", "ann", or why that was not used.
    """

    distances: Float32
    positions: Int
    n_candidates: int
    keys: Float64
    by: str = "exact"

    def __len__(self) -> int:
        return len(self.positions)

    def at(self, places: Int | slice) -> Found:
        """Some of the rows, or all in another order."""
        return replace(self, distances=self.distances[places], positions=self.positions[places], keys=self.keys[places])


class Index(Protocol):
    """Finds the nearest rows. Ordered by distance^2 + penalty of the group, ties by the id of the record.

    groups: the names of all groups. len: how many positions there are, those of rows that are out of date too.
    """

    def __len__(self) -> int: ...

    @property
    def dim(self) -> int: ...

    @property
    def groups(self) -> Collection[str]: ...

    def search(self, query: Float32, k: int, scope: Scope = ...) -> Found:
        """At most k rows of the scope, nearest first. query: float32 (dim,); k: at least 1."""
        ...

    def distances(self, queries: Float32) -> Float32:
        """All distances of several queries. queries: float32 (b, dim). Returns float32 (b, n)."""
        ...

    def rank(self, distances: Float32, scope: Scope = ...) -> Found:
        """All rows of the scope in order, from one line of `distances`, or from any such numbers: float32 (n,)."""
        ...

    def features(self, positions: Int) -> Float32:
        """float32 (len(positions), dim)."""
        ...
