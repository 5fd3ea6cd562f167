"""Metrics of one query: plain NumPy on a ranked list. Definitions with examples: docs/metrics.md.

A ranking arrives as `relevant`: bool (n_hits,), best hit first, True where the hit is judged alike. What the gate
left out is absent. `n_relevant` (R) is how many relevant records of the gallery the query may see, found or not.
A query with R = 0 has no value: every metric is NaN, so that it can be counted. Ties of distance are already
broken (by id) in the ranking. k is at least 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..types import Bool, Int

Float = npt.NDArray[np.float64]
Denominator = Literal["R", "min(R,k)", "k", "hits", "skip"]
Gain = Literal["linear", "exponential"]

NAN = float("nan")
RECALL_LEVELS: Float = np.linspace(0, 1, 101)
ELEVEN_LEVELS: Float = np.linspace(0, 1, 11)
LARGEST_K = 1000
_DISCOUNT: Float = 1 / np.log2(np.arange(2, LARGEST_K + 2))  # of rank 1, 2, ...


# --- average precision ---


def average_precision(relevant: Bool, n_relevant: int) -> float:
    """AP of a whole ranking: sum of precision at each relevant rank, over R (trec_eval); NaN if R is 0."""
    return average_precision_at(relevant, n_relevant, max(len(relevant), 1), denominator="R")


def average_precision_at(relevant: Bool, n_relevant: int, k: int, *, denominator: Denominator = "min(R,k)") -> float:
    """AP of the first k hits. Published numbers differ by the denominator alone, so it has a name.

    "R": trec_eval's map_cut. "min(R,k)": a perfect top k is 1. "k": harsh where R < k. "hits": relevant hits found
    in the top k, generous (one hit at rank 1, nothing after is 1); the usual 'mAP' of hashing papers.
    "skip": as "min(R,k)", but no value (NaN) where R < k, so rare classes drop out of the mean.
    """
    if n_relevant == 0 or (denominator == "skip" and n_relevant < k):
        return NAN
    ranks = np.flatnonzero(relevant[:k]) + 1
    if len(ranks) == 0:
        return 0.0
    total = float((np.arange(1, len(ranks) + 1) / ranks).sum())
    smaller = min(n_relevant, k)
    divisors = {"R": n_relevant, "min(R,k)": smaller, "k": k, "hits": len(ranks), "skip": smaller}
    return total / divisors[denominator]


def average_precision_at_r(relevant: Bool, n_relevant: int) -> float:
    """mAP@R: precision at the relevant ranks up to R, over R; NaN if R is 0.

    Source: Musgrave, Belongie, Lim, A Metric Learning Reality Check, ECCV 2020, section 3.2.
    """
    return average_precision_at(relevant, n_relevant, n_relevant, denominator="R") if n_relevant else NAN


# --- counts in the first k ---


def precision_at(relevant: Bool, n_relevant: int, k: int) -> float:
    """Relevant among the first k, divided by k (eq. 10); NaN if R is 0."""
    return NAN if n_relevant == 0 else int(relevant[:k].sum()) / k


def modified_precision_at(relevant: Bool, n_relevant: int, k: int) -> float:
    """Precision at min(k, R), so that a rare class can reach 1; NaN if R is 0. Source: Denner et al. 2025, its code."""
    return precision_at(relevant, n_relevant, min(k, n_relevant))


def r_precision(relevant: Bool, n_relevant: int) -> float:
    """Precision at R, where it equals recall; NaN if R is 0."""
    return precision_at(relevant, n_relevant, n_relevant)


def recall_at(relevant: Bool, n_relevant: int, k: int) -> float:
    """Set recall: relevant among the first k, divided by R (eq. 11); NaN if R is 0."""
    return NAN if n_relevant == 0 else int(relevant[:k].sum()) / n_relevant


def hit_at(relevant: Bool, n_relevant: int, k: int) -> float:
    """1 when any of the first k is relevant, else 0; NaN if R is 0. Also called CMC, success, ACC@k, 'Recall@k'."""
    return NAN if n_relevant == 0 else float(relevant[:k].any())


def reciprocal_rank(relevant: Bool, n_relevant: int) -> float:
    """1 over the rank of the first relevant hit, 0 without one; NaN if R is 0."""
    if n_relevant == 0:
        return NAN
    first = int(relevant.argmax()) if len(relevant) else 0
    return 1 / (first + 1) if len(relevant) and relevant[first] else 0.0


# --- grades and votes ---


def ndcg_at(relevant: Bool, n_relevant: int, k: int) -> float:
    """Binary nDCG: discount 1 / log2(rank + 1), ideal is min(R, k) relevant hits in front; NaN if R is 0."""
    return graded_ndcg_at(relevant, (n_relevant,), k)


def graded_ndcg_at(
    grades: npt.NDArray[np.generic], available: Sequence[int], k: int, *, gain: Gain = "linear"
) -> float:
    """nDCG of graded hits: sum of gain / log2(rank + 1), over the same sum of the best possible first k.

    grades: whole numbers from 0 (n_hits,), best hit first. available: how many records of grade 1, 2, ... the query
    may see; NaN if there are none. k: at most 1000. gain: the grade itself (Järvelin and Kekäläinen 2002,
    trec_eval), or 2^grade - 1 (Burges et al. 2005).
    """
    if sum(available) == 0:
        return NAN
    gains = [2**grade - 1 if gain == "exponential" else grade for grade in range(len(available) + 1)]
    found = np.asarray(gains, np.float64)[grades[:k].astype(np.int64)]
    return float((found * _DISCOUNT[: len(found)]).sum()) / _ideal(available, gains, k)


def _ideal(available: Sequence[int], gains: Sequence[int], k: int) -> float:
    """Discounted gain of the first k when the highest grades come first."""
    total, start = 0.0, 0
    for grade in range(len(available), 0, -1):
        end = min(start + available[grade - 1], k)
        total += gains[grade] * float(_DISCOUNT[start:end].sum())
        start = end
    return total


def majority_vote(hits: Int, k: int) -> int:
    """The code most of the first k hits have; a tie goes to the one met first; -1 (no label) has no vote."""
    votes: dict[int, int] = {}
    for code in hits[:k].tolist():
        if code >= 0:
            votes[code] = votes.get(code, 0) + 1
    return max(votes, key=votes.__getitem__, default=-1)  # max keeps the first of equals, and a dict its order


def mmv_at(hits: Int, wanted: int, n_relevant: int, k: int) -> float:
    """1 when most of the first k hits (class codes, best first) are `wanted`, else 0; NaN if R is 0."""
    return NAN if n_relevant == 0 else float(majority_vote(hits, k) == wanted)


# --- the whole ranking ---


def precision_recall_points(relevant: Bool, n_relevant: int) -> tuple[Float, Float]:
    """The full PR curve: recall and precision at the rank of each relevant hit, float64 (found,); empty if R is 0."""
    ranks = np.flatnonzero(relevant) + 1 if n_relevant else np.empty(0, np.int64)
    found = np.arange(1, len(ranks) + 1)
    return found / max(n_relevant, 1), found / np.maximum(ranks, 1)


def pr_curve(relevant: Bool, n_relevant: int, levels: Float = RECALL_LEVELS) -> Float:
    """Precision at recall levels, interpolated: the highest at that recall or more, 0 if never reached.

    Returns float64 (levels,); NaN everywhere if R is 0. At recall 0 it is the highest precision anywhere.
    With ELEVEN_LEVELS it is the 11-point curve of trec_eval (iprec_at_recall).
    """
    if n_relevant == 0:
        return np.full(len(levels), np.nan)
    _, precision = precision_recall_points(relevant, n_relevant)
    ceiling = np.zeros(n_relevant + 1)
    ceiling[1 : len(precision) + 1] = np.maximum.accumulate(precision[::-1])[::-1]
    needed = np.ceil(levels * n_relevant - 1e-9).astype(np.int64)  # hits needed for each level
    return ceiling[np.maximum(needed, 1)]


def nmrr(relevant: Bool, n_relevant: int, largest: int) -> float:
    """MPEG-7's normalised modified retrieval rank: 0 is perfect, 1 is nothing found in time; NaN if R is 0.

    largest: R of the query that has most (GTM). K = min(4 R, 2 GTM); a relevant record after rank K, or absent,
    counts as rank 1.25 K. NMRR = (mean rank - (R + 1) / 2) / (1.25 K - (R + 1) / 2); ANMRR is its mean over queries.
    Source: Manjunath, Ohm, Vasudevan, Yamada, Color and Texture Descriptors, IEEE TCSVT 11(6), 2001, section II.
    """
    if n_relevant == 0:
        return NAN
    window = min(4 * n_relevant, 2 * max(largest, n_relevant))
    ranks = np.flatnonzero(relevant[:window]) + 1
    late = 1.25 * window
    mean_rank = (int(ranks.sum()) + (n_relevant - len(ranks)) * late) / n_relevant
    best = (n_relevant + 1) / 2
    return (mean_rank - best) / (late - best)


def bpref(relevant: Bool, n_relevant: int, n_not_relevant: int, judged: Bool | None = None) -> float:
    """Share of (relevant, not relevant) pairs in the right order, of the first R judged not relevant; NaN if R is 0.

    n_not_relevant: N, records of the gallery judged not relevant, that the query may see. judged: bool (n_hits,),
    all when None; an unjudged hit is passed over. Each relevant hit adds 1 - min(n, R) / min(N, R), n the not
    relevant above it; the sum is divided by R.
    Source: Buckley and Voorhees, SIGIR 2004, as corrected in trec_eval in 2005 (min(N, R)).
    """
    if n_relevant == 0:
        return NAN
    known = relevant if judged is None else relevant[judged]
    places = np.flatnonzero(known)
    above = np.minimum(places - np.arange(len(places)), n_relevant)
    return float((1 - above / max(min(n_not_relevant, n_relevant), 1)).sum()) / n_relevant
