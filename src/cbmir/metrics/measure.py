"""Every metric of one query at once; the names are those of DEFINITIONS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..types import Bool, Int
from .ranked import (
    NAN,
    Denominator,
    Float,
    average_precision,
    average_precision_at,
    average_precision_at_r,
    bpref,
    graded_ndcg_at,
    hit_at,
    mmv_at,
    modified_precision_at,
    ndcg_at,
    nmrr,
    pr_curve,
    precision_at,
    r_precision,
    recall_at,
    reciprocal_rank,
)

DEPTHS = (5, 10)
"""k of AP, hit rate and modified precision."""

DENOMINATORS: dict[str, Denominator] = {"": "min(R,k)", "/R": "R", "/k": "k", "/hits": "hits", "/skip": "skip"}
"""What follows mAP@k in a name -> the denominator."""

ELEVEN = slice(None, None, 10)
"""The 11 levels 0, 0.1 ... 1 among RECALL_LEVELS."""


@dataclass(frozen=True)
class Judged:
    """What is known of one query's judgements beyond R.

    grades: int64, of the first hits, best first, at least the first 10: 0 not relevant, 1 alike, 2 more alike.
    available: how many records of grade 1 and of grade 2 the query may see. n_not_relevant: records judged not
    relevant (N of bpref). largest: R of the query that has most (GTM of ANMRR).
    """

    grades: Int
    available: tuple[int, int]
    n_not_relevant: int
    largest: int


def measure(
    hits: Int, wanted: int, n_relevant: int, n_in_database: int, *, judged: Judged | None = None
) -> tuple[dict[str, float], Float]:
    """Every retrieval metric of one query, and its PR curve.

    hits: class codes of the ranking, best first, -1 without label. wanted: the query's code.
    n_relevant: R. n_in_database: records of that class in gallery and queries together (mAP_seed_compatible).
    judged: without it every relevant hit has grade 1, N is counted in the ranking and GTM is R.
    """
    relevant = hits == wanted
    if judged is None:
        not_relevant = int(((hits != wanted) & (hits >= 0)).sum())
        judged = Judged(relevant[:10].astype(np.int64), (n_relevant, 0), not_relevant, n_relevant)
    curve = pr_curve(relevant, n_relevant)
    values = _average_precisions(relevant, n_relevant, n_in_database, curve)
    values |= _of_the_whole(hits, relevant, n_relevant, judged) | _of_the_first(hits, wanted, relevant, n_relevant)
    values["nDCG@10"] = ndcg_at(relevant, n_relevant, 10)
    values["nDCG@10_graded"] = graded_ndcg_at(judged.grades, judged.available, 10) if n_relevant else NAN
    return values, curve


def _average_precisions(relevant: Bool, n_relevant: int, n_in_database: int, curve: Float) -> dict[str, float]:
    precise = average_precision(relevant, n_relevant)
    seed_compatible = precise * n_relevant / n_in_database if n_in_database else NAN
    values = {"mAP": precise, "mAP_seed_compatible": seed_compatible}
    for k in DEPTHS:
        for suffix, denominator in DENOMINATORS.items():
            values[f"mAP@{k}{suffix}"] = average_precision_at(relevant, n_relevant, k, denominator=denominator)
    return values | {
        "mAP/hits": average_precision_at(relevant, n_relevant, max(len(relevant), 1), denominator="hits"),
        "mAP@R": average_precision_at_r(relevant, n_relevant),
        "mAP_11pt": float(curve[ELEVEN].mean()),
    }


def _of_the_whole(hits: Int, relevant: Bool, n_relevant: int, judged: Judged) -> dict[str, float]:
    labelled = hits >= 0
    known = None if labelled.all() else labelled
    return {
        "R-precision": r_precision(relevant, n_relevant),
        "MRR": reciprocal_rank(relevant, n_relevant),
        "ANMRR": nmrr(relevant, n_relevant, judged.largest),
        "bpref": bpref(relevant, n_relevant, judged.n_not_relevant, known),
    }


def _of_the_first(hits: Int, wanted: int, relevant: Bool, n_relevant: int) -> dict[str, float]:
    return {
        **{f"P@{k}": precision_at(relevant, n_relevant, k) for k in (1, 5, 10, 20)},
        **{f"P@min({k},R)": modified_precision_at(relevant, n_relevant, k) for k in DEPTHS},
        **{f"recall@{k}": recall_at(relevant, n_relevant, k) for k in (5, 10, 20, 100)},
        **{f"hit@{k}": hit_at(relevant, n_relevant, k) for k in DEPTHS},
        **{f"MMV@{k}": mmv_at(hits, wanted, n_relevant, k) for k in (3, 5, 10)},
    }


METRICS: tuple[str, ...] = tuple(measure(np.zeros(1, np.int64), 0, 1, 1)[0])
"""Names of all metrics of a query, in the order in which they are told."""
