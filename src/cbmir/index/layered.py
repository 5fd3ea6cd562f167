"""An index of two: a large base that is some changes old, and a small delta with what has come or changed since.

The rows of the base that are out of date are hidden in every search. Positions of the delta follow those of the base.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from ..errors import UsageError
from ..types import Float32, Int
from . import Found, Index, Scope
from .exact import ExactIndex, ranked


@dataclass(frozen=True)
class LayeredIndex:
    """base: exact, or one that only looks like it (ann.py). delta: its rows are not in the base, or outdated there.

    outdated: positions of the base that take no part, ascending. id_order: int64 (len(base) + len(delta),), ascends
    with the ids of base and delta together.
    """

    base: Index
    delta: ExactIndex
    outdated: Int
    id_order: Int

    def __post_init__(self) -> None:
        if len(self.id_order) != len(self):
            raise ValueError("id_order has one entry per row of base and delta")

    def __len__(self) -> int:
        return len(self.base) + len(self.delta)

    @property
    def dim(self) -> int:
        return self.base.dim

    @property
    def groups(self) -> Collection[str]:
        return sorted({*self.base.groups, *self.delta.groups})

    def search(self, query: Float32, k: int, scope: Scope = Scope()) -> Found:  # noqa: B008 (frozen)
        """At most k rows of the scope, nearest first. query: float32 (dim,), finite; k: at least 1."""
        if k < 1:
            raise UsageError("k must be at least 1")
        below, above = self._split(scope)
        return self._merged(self.base.search(query, k, below), self.delta.search(query, k, above), scope, k)

    def distances(self, queries: Float32) -> Float32:
        """All distances of several queries, also to rows that are out of date. Returns float32 (b, n)."""
        return np.concatenate([self.base.distances(queries), self.delta.distances(queries)], axis=1)

    def rank(self, distances: Float32, scope: Scope = Scope()) -> Found:  # noqa: B008 (frozen)
        """All rows of the scope in order, from one line of `distances` (float32 (n,))."""
        n, (below, above) = len(self.base), self._split(scope)
        return self._merged(self.base.rank(distances[:n], below), self.delta.rank(distances[n:], above), scope, None)

    def features(self, positions: Int) -> Float32:
        """float32 (len(positions), dim)."""
        found = np.empty((len(positions), self.dim), np.float32)
        in_base = positions < len(self.base)
        found[in_base] = self.base.features(positions[in_base])
        found[~in_base] = self.delta.features(positions[~in_base] - len(self.base))
        return found

    def _split(self, scope: Scope) -> tuple[Scope, Scope]:
        """What a scope means in the base and in the delta."""
        n = len(self.base)
        hidden, rows = scope.hidden, scope.rows
        cut = None if rows is None else int(np.searchsorted(rows, n))
        return (
            replace(
                scope,
                hidden=np.concatenate([self.outdated, hidden[hidden < n]]),
                rows=None if rows is None else rows[:cut],
            ),
            replace(scope, hidden=hidden[hidden >= n] - n, rows=None if rows is None else rows[cut:] - n),
        )

    def _merged(self, base: Found, delta: Found, scope: Scope, k: int | None) -> Found:
        """One ranking of two; by: how the base was searched, the delta is always so small that it is read through."""
        positions = np.concatenate([base.positions, delta.positions + len(self.base)])
        keys = np.concatenate([base.keys, delta.keys])
        best = ranked(keys, self.id_order[positions], scope.farthest)[:k]
        distances = np.concatenate([base.distances, delta.distances])[best]
        return Found(distances, positions[best], base.n_candidates + delta.n_candidates, keys[best], base.by)
