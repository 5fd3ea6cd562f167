"""From a query's features to ranked positions: gates, hiding, the full ranking that evaluation uses.

    search(index, query, *, k=10, gate="off", posterior=None, classes=(), tau=None, hidden=NO_POSITIONS, rows=None,
           reranking=None) -> Found
    rocchio(query, liked, unliked) -> Float32    the query moved by what somebody judged
    rank_all(index, queries, *, gates=("off",), posterior=None, classes=(), tau=None, hidden=None,
             distances=None, reranking=None)
        -> Iterator[dict[Gate, Found]]       one per query, in order; a Found per gate, over its whole ranking

Both go through `scope_of`, which alone knows what a gate means, and through the index's one order: what is
measured is what is shipped. For features in memory: `index, origin = index.exact.from_features(features, groups,
ids)`; a position p of a Found is row origin[p] of those features, and the rank order of relevance is
`relevant[origin[found.positions]]`. With gate hard or top3 a record outside the gate is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from .errors import UsageError
from .index import NO_POSITIONS, Found, Index, Scope
from .index.exact import ExactIndex
from .rerank import Aqe, KReciprocal, Reranking, expanded, reordered, reranked
from .types import Float32, Gate, Int

ROCCHIO = (1.0, 0.75, 0.15)
"""Weights of the query, of what is liked and of what is not: Manning, Raghavan and Schütze 2008, section 9.1.1."""

SMALLEST_PROBABILITY = 1e-12
"""Probabilities are clipped here before their logarithm; a group outside the encoder's classes gets this one."""

_BLOCK_DISTANCES = 4_000_000  # distances held at once by rank_all (16 MB)


def search(
    index: Index,
    query: Float32,
    *,
    k: int = 10,
    gate: Gate = "off",
    posterior: Float32 | None = None,
    classes: Sequence[str] = (),
    tau: float | None = None,
    hidden: Int = NO_POSITIONS,
    rows: Int | None = None,
    reranking: Reranking | None = None,
) -> Found:
    """The k nearest rows the gate allows, or as many as there are.

    query: float32 (dim,). posterior: float32 (K,) over `classes`, needed by every gate but `off`.
    tau: in units of distance, needed by the soft gate. hidden: positions that are left out (the query's own patient).
    rows: ascending positions that alone take part (those a filter lets pass); None for all.
    Raises UsageError for k below 1, an unknown gate, or a gate that lacks what it needs.
    """
    if k < 1:
        raise UsageError("k must be at least 1")
    scope = scope_of(gate, index.groups, posterior, classes, tau, hidden, rows)
    return reranked(index, query[None], k, scope, reranking, lambda some, depth: index.search(some[0], depth, scope))


def rank_all(
    index: ExactIndex,
    queries: Float32,
    *,
    gates: Sequence[Gate] = ("off",),
    posterior: Float32 | None = None,
    classes: Sequence[str] = (),
    tau: float | None = None,
    hidden: Sequence[Int] | None = None,
    distances: Callable[[Float32], Float32] | None = None,
    reranking: Reranking | None = None,
) -> Iterator[dict[Gate, Found]]:
    """The whole ranking of every query under every gate, in blocks of bounded memory.

    queries: float32 (b, dim). posterior: float32 (b, K) or None. hidden: per query, the positions left out.
    distances: from some queries (b, dim) to all rows of the index (b, n); None: the index's own, Euclidean.
    Then it equals `search` with k as large as the index. Only Euclidean rankings are re-ranked.
    """
    if reranking is not None and distances is not None:
        raise ValueError("re-ranking goes by Euclidean distance")

    def scope(gate: Gate, row: int) -> Scope:
        own = NO_POSITIONS if hidden is None else hidden[row]
        return scope_of(gate, index.groups, None if posterior is None else posterior[row], classes, tau, own)

    step = max(1, _BLOCK_DISTANCES // max(1, len(index)))
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        lines = (distances or index.distances)(block)
        scopes = [{gate: scope(gate, row) for gate in gates} for row in range(start, start + len(block))]
        if isinstance(reranking, Aqe):
            yield from _expanded(index, block, lines, scopes, reranking)
            continue
        for query, line, of_gates in zip(block, lines, scopes, strict=True):
            found = {gate: index.rank(line, scope) for gate, scope in of_gates.items()}
            if isinstance(reranking, KReciprocal):
                found = {gate: reordered(index, query[None], one, reranking) for gate, one in found.items()}
            yield found


def _expanded(
    index: ExactIndex, queries: Float32, lines: Float32, scopes: Sequence[dict[Gate, Scope]], aqe: Aqe
) -> Iterator[dict[Gate, Found]]:
    """The rankings of some queries, each among its own first hits. lines: float32 (b, n), their distances."""

    def moved(row: int, gate: Gate) -> Float32:
        hits = index.rank(lines[row], scopes[row][gate]).positions[: aqe.n]
        return expanded(queries[row], index.features(hits), aqe)

    of_gates = {
        gate: index.distances(np.array([moved(row, gate) for row in range(len(queries))], np.float32))
        for gate in scopes[0]
    }
    for row, line in enumerate(lines):
        found = {gate: index.rank(of_gates[gate][row], scope) for gate, scope in scopes[row].items()}
        yield {gate: replace(one, distances=line[one.positions]) for gate, one in found.items()}


def scope_of(
    gate: Gate,
    groups: Iterable[str],
    posterior: Float32 | None = None,
    classes: Sequence[str] = (),
    tau: float | None = None,
    hidden: Int = NO_POSITIONS,
    rows: Int | None = None,
) -> Scope:
    """What a gate means. groups: those of the index; posterior: float32 (K,) over `classes`; rows: as `search`.

    off: everything. hard: the group of the likeliest class (the paper's 'with class prediction').
    top3: the groups of the three likeliest. soft: everything, ranked by d^2 - tau^2 log p(group | query).
    Of two classes equally likely, the one named first in `classes` counts as likelier.
    """
    if gate not in get_args(Gate):
        raise UsageError(f"there is no gate {gate!r}; the gates are {', '.join(get_args(Gate))}")
    if gate == "off":
        return Scope(hidden=hidden, rows=rows)
    opinion = _checked(gate, posterior, classes)
    if gate == "soft":
        return Scope(penalties=soft_penalties(opinion, classes, groups, tau), hidden=hidden, rows=rows)
    likeliest = np.argsort(-opinion, kind="stable")[: 1 if gate == "hard" else 3]
    return Scope(groups=tuple(classes[i] for i in likeliest), hidden=hidden, rows=rows)


def soft_penalties(
    posterior: Float32, classes: Sequence[str], groups: Iterable[str], tau: float | None
) -> dict[str, float]:
    """-tau^2 log p(group | query) for every group. posterior: (K,) over `classes`."""
    if tau is None:
        raise UsageError("the soft gate needs a tau fitted on validation, and this encoder has none; use another gate")
    if not (np.isfinite(tau) and tau >= 0):
        raise ValueError(f"tau is a number of at least 0, not {tau}")
    probability = dict(zip(classes, posterior.tolist(), strict=True))

    def penalty(group: str) -> float:
        likely = min(max(probability.get(group, 0.0), SMALLEST_PROBABILITY), 1.0)
        return float(-(tau**2) * np.log(likely)) + 0.0

    return {group: penalty(group) for group in groups}


def _checked(gate: Gate, posterior: Float32 | None, classes: Sequence[str]) -> Any:
    if posterior is None or not classes:
        raise UsageError(f"the gate {gate} needs predicted classes, and this encoder predicts none; use gate off")
    opinion = np.asarray(posterior, np.float64)
    if opinion.shape != (len(classes),):
        raise ValueError(f"a posterior has one probability per class, {len(classes)}, not {opinion.shape}")
    if not (np.isfinite(opinion).all() and (opinion >= 0).all()):
        raise ValueError("probabilities are numbers of at least 0")
    return opinion


def rocchio(query: Float32, liked: Float32, unliked: Float32) -> Float32:
    """The query moved towards the mean of what is liked and away from the mean of what is not.

    query: float32 (..., dim). liked, unliked: float32 (m, dim), m may be 0. The weights are divided by their sum (of
    those that are used): by angles, for which Rocchio made it, the length of a query does not count, but by
    Euclidean distance a query of three times the length would lie outside the gallery. So moving all features moves
    the result with them, and unit-length rows are ranked as the classical formula ranks them by cosine.
    """
    parts = [(ROCCHIO[0], query.astype(np.float64))]
    if len(liked):
        parts.append((ROCCHIO[1], liked.mean(axis=0, dtype=np.float64)))
    if len(unliked):
        parts.append((-ROCCHIO[2], unliked.mean(axis=0, dtype=np.float64)))
    total = sum(weight * part for weight, part in parts)
    return np.asarray(total / sum(weight for weight, _ in parts), np.float32)
