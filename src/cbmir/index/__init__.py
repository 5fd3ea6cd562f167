"""Nearest neighbours behind one small protocol. An index is derived from the store and can be rebuilt from it.

An index speaks of positions (rows of its matrix, from 0) and groups (the class of a record); what a position
is called outside, and whose it is, the matrix beside it knows (index/matrix.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..types import Float32, Int

NO_POSITIONS: Int = np.empty(0, np.int64)


@dataclass(frozen=True)
class Scope:
    """Which rows take part in a search, and what their group costs them.

    groups: names of the groups that take part, None for all; a name without rows is allowed.
    penalties: per group, added to the squared distance to give the ranking key (at least 0; absent is 0).
    hidden: positions that take no part, in any order.
    """

    groups: tuple[str, ...] | None = None
    penalties: Mapping[str, float] = field(default_factory=dict)
    hidden: Int = field(default_factory=lambda: NO_POSITIONS)

    def __post_init__(self) -> None:
        if not all(penalty >= 0 for penalty in self.penalties.values()):
            raise ValueError("a penalty is a number of at least 0")


@dataclass(frozen=True)
class Found:
    """Rows in ranked order: distances float32 (n,), Euclidean; positions int64 (n,).

    n_candidates: how many rows the scope left to compare with.
    """

    distances: Float32
    positions: Int
    n_candidates: int

    def __len__(self) -> int:
        return len(self.positions)


class Index(Protocol):
    """Finds the nearest rows. Ordered by distance^2 + penalty of the group, ties by the id of the record."""

    def __len__(self) -> int: ...

    @property
    def dim(self) -> int: ...

    @property
    def groups(self) -> Mapping[str, slice]: ...

    def search(self, query: Float32, k: int, scope: Scope = ...) -> Found:
        """At most k rows of the scope, nearest first. query: float32 (dim,); k: at least 1."""
        ...
