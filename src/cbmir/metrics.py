"""Retrieval and classification metrics: plain NumPy on ranked lists, every definition named.

A ranking arrives as `relevant`: bool (n_hits,), best hit first, True where the hit is judged alike. What
the gate left out is absent. `n_relevant` (R) is how many relevant records the gallery holds, found or not.
A query with R = 0 has no value (NaN): it is left out of every mean and counted. Ties of distance are
already broken (by id) in the ranking.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .types import Bool, Int

Float = npt.NDArray[np.float64]
Denominator = Literal["R", "min(R,k)", "k", "hits"]

RECALL_LEVELS: Float = np.linspace(0, 1, 101)
DRAW_BLOCK = 4_000_000  # numbers drawn at once in a bootstrap: 32 MB

DEFINITIONS: dict[str, str] = {
    "mAP": (
        "Mean over all queries of average precision: the sum of the precision at the rank of each relevant "
        "hit, divided by R, all relevant records of the gallery; relevant records not retrieved count 0 "
        "(trec_eval)."
    ),
    "mAP_macro": "The mean over classes of the mean average precision of the class's queries.",
    "mAP_seed_compatible": (
        "As mAP, but divided by the whole class in the data base, gallery and queries together (reading B "
        "of the paper's eq. 11): a perfect ranking reaches the gallery's share of its class, 0.70 for a "
        "70/30 split."
    ),
    "mAP@10": "Mean of average precision over the first 10 hits, divided by min(R, 10).",
    "P@1": "Share of queries whose first hit is relevant.",
    "P@10": "Relevant among the first 10 hits, divided by 10 even where the gate leaves fewer (eq. 10).",
    "recall@10": "Relevant among the first 10 hits, divided by R (eq. 11; set recall, not hit rate).",
    "nDCG@10": (
        "Sum of 1 / log2(rank + 1) over the relevant of the first 10 hits, divided by the same sum for "
        "min(R, 10) relevant hits in front."
    ),
    "MMV@5": ("Share of queries whose class wins the vote of the first 5 hits; a tied vote goes to the nearest."),
    "pr_curve": (
        "At 101 recall levels 0, 0.01 ... 1 the highest precision at that recall or more, 0 where the "
        "ranking never reaches it, averaged over queries."
    ),
    "ci95": (
        "2.5 and 97.5 percentile over bootstrap draws of patients (all queries of a drawn patient come together)."
    ),
    "top1": "Share of queries whose likeliest class is their label.",
    "macro_precision": "Mean over classes of TP / (TP + FP) (eq. 6); a class never predicted counts 0.",
    "macro_recall": (
        "Mean over classes of TP / (TP + FN) (eq. 7, where the paper prints TN for FN); the mean diagonal "
        "of Table 1, which the paper calls accuracy."
    ),
    "F1": "Harmonic mean of macro_precision and macro_recall (eq. 9).",
    "accuracy_eq8": (
        "Mean over classes of (TP + TN) / (TP + TN + FP + FN) (eq. 8): nearly 1 whenever there are many "
        "classes, so never compare it with top1."
    ),
    "confusion": "Counts; rows are labels, columns are predicted classes.",
    "relevant": (
        "A gallery record is relevant when it has the query's class; with another label column, when it "
        "has the query's class and value there; unlabelled records are not relevant."
    ),
    "n_queries_without_relevant": ("Queries with nothing relevant in the gallery: left out of every retrieval mean."),
}


def average_precision(relevant: Bool, n_relevant: int) -> float:
    """AP of a whole ranking: sum of precision at each relevant rank, over R (trec_eval); NaN if R is 0."""
    return average_precision_at(relevant, n_relevant, max(len(relevant), 1), denominator="R")


def average_precision_at(relevant: Bool, n_relevant: int, k: int, *, denominator: Denominator = "min(R,k)") -> float:
    """AP of the first k hits. Published numbers differ by the denominator alone, so it has a name.

    "R": trec_eval. "min(R,k)": a perfect top k is 1. "k": harsh where R < k. "hits": relevant hits found in
    the top k, generous (one hit at rank 1, nothing after is 1); the usual 'mAP' of hashing papers.
    """
    if n_relevant == 0:
        return float("nan")
    ranks = np.flatnonzero(relevant[:k]) + 1
    if len(ranks) == 0:
        return 0.0
    total = float((np.arange(1, len(ranks) + 1) / ranks).sum())
    divisors = {"R": n_relevant, "min(R,k)": min(n_relevant, k), "k": k, "hits": len(ranks)}
    return total / divisors[denominator]


def precision_at(relevant: Bool, n_relevant: int, k: int) -> float:
    """Relevant among the first k, divided by k (eq. 10); NaN if R is 0."""
    return float("nan") if n_relevant == 0 else int(relevant[:k].sum()) / k


def recall_at(relevant: Bool, n_relevant: int, k: int) -> float:
    """Set recall: relevant among the first k, divided by R (eq. 11); NaN if R is 0."""
    return float("nan") if n_relevant == 0 else int(relevant[:k].sum()) / n_relevant


def ndcg_at(relevant: Bool, n_relevant: int, k: int) -> float:
    """Binary nDCG: discount 1 / log2(rank + 1), ideal is min(R, k) relevant hits in front; NaN if R is 0."""
    if n_relevant == 0:
        return float("nan")
    discount = 1 / np.log2(np.arange(2, k + 2))
    found = relevant[:k]
    return float(discount[: len(found)][found].sum() / discount[: min(n_relevant, k)].sum())


def majority_vote(hits: Int, k: int) -> int:
    """The code most of the first k hits have; a tie goes to the one met first; -1 (no label) has no vote."""
    top = hits[:k]
    top = top[top >= 0]
    if len(top) == 0:
        return -1
    codes, first, votes = np.unique(top, return_index=True, return_counts=True)
    return int(codes[np.lexsort((first, -votes))[0]])


def mmv_at(hits: Int, wanted: int, n_relevant: int, k: int) -> float:
    """1 when most of the first k hits (class codes, best first) are `wanted`, else 0; NaN if R is 0."""
    return float("nan") if n_relevant == 0 else float(majority_vote(hits, k) == wanted)


def pr_curve(relevant: Bool, n_relevant: int) -> Float:
    """Precision at RECALL_LEVELS, interpolated: the highest at that recall or more, 0 if never reached.

    Returns float64 (101,); NaN everywhere if R is 0. At recall 0 it is the highest precision anywhere.
    """
    if n_relevant == 0:
        return np.full(len(RECALL_LEVELS), np.nan)
    ranks = np.flatnonzero(relevant) + 1
    precision = np.arange(1, len(ranks) + 1) / ranks
    ceiling = np.zeros(n_relevant + 1)
    ceiling[1 : len(ranks) + 1] = np.maximum.accumulate(precision[::-1])[::-1]
    needed = np.ceil(RECALL_LEVELS * n_relevant - 1e-9).astype(np.int64)  # hits needed for each level
    return ceiling[np.maximum(needed, 1)]


def measure(hits: Int, wanted: int, n_relevant: int, n_in_database: int) -> tuple[dict[str, float], Float]:
    """Every retrieval metric of one query, and its PR curve.

    hits: class codes of the ranking, best first, -1 without label. wanted: the query's code.
    n_relevant: R. n_in_database: records of that class in gallery and queries together (mAP_seed_compatible).
    """
    relevant = hits == wanted
    precise = average_precision(relevant, n_relevant)
    values = {
        "mAP": precise,
        "mAP_seed_compatible": precise * n_relevant / n_in_database if n_in_database else float("nan"),
        "mAP@10": average_precision_at(relevant, n_relevant, 10),
        "P@1": precision_at(relevant, n_relevant, 1),
        "P@10": precision_at(relevant, n_relevant, 10),
        "recall@10": recall_at(relevant, n_relevant, 10),
        "nDCG@10": ndcg_at(relevant, n_relevant, 10),
        "MMV@5": mmv_at(hits, wanted, n_relevant, 5),
    }
    return values, pr_curve(relevant, n_relevant)


def mean(values: Float) -> float | None:
    """Mean of the values that are not NaN; None when there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def macro_mean(values: Float, classes: Int) -> float | None:
    """Mean over classes of the class means; NaN values and classes without a value are left out."""
    means = [mean(values[classes == code]) for code in np.unique(classes)]
    return mean(np.array([value for value in means if value is not None]))


# --- intervals: bootstrap over patients ---


def draw_patients(n_patients: int, draws: int, seed: int) -> Iterator[Float]:
    """How often each patient comes in each bootstrap draw: float64 blocks of (draws, n_patients)."""
    generator = np.random.default_rng(seed)
    block = max(1, DRAW_BLOCK // max(n_patients, 1))
    for start in range(0, draws, block):
        size = min(block, draws - start)
        drawn = generator.integers(n_patients, size=(size, n_patients))
        cells = drawn + np.arange(size)[:, None] * n_patients
        counts = np.bincount(cells.ravel(), minlength=size * n_patients)
        yield counts.reshape(size, n_patients).astype(np.float64)


def bootstrap_means(
    values: Float, patients: Int, *, classes: Int | None = None, draws: int = 1000, seed: int = 0
) -> Float:
    """The mean of `values` in each draw of patients with replacement; float64 (draws,).

    values: (n,), NaN left out. patients: (n,) codes from 0. classes: (n,) codes from 0: take the macro mean
    instead (a class that a draw lacks is left out of that draw). NaN for a draw without any value.
    """
    known = ~np.isnan(values)
    patients, classes = patients[known], (np.zeros_like(patients) if classes is None else classes)[known]
    n_patients, n_classes = int(patients.max(initial=-1)) + 1, int(classes.max(initial=-1)) + 1
    cell = patients * n_classes + classes
    shape = (n_patients, n_classes)
    sums = np.bincount(cell, weights=values[known], minlength=n_patients * n_classes).reshape(shape)
    counts = np.bincount(cell, minlength=n_patients * n_classes).reshape(shape)
    present = np.flatnonzero(counts.sum(axis=1))  # patients left, each drawn with the same probability
    if len(present) == 0:
        return np.full(draws, np.nan)
    blocks = []
    for weights in draw_patients(len(present), draws, seed):
        total, number = weights @ sums[present], weights @ counts[present]
        here = number > 0
        means = np.divide(total, number, out=np.zeros_like(total), where=here)
        blocks.append(means.sum(axis=1) / here.sum(axis=1))
    return np.concatenate(blocks)


def interval(draws: Float) -> list[float] | None:
    """The 95 % percentile interval of bootstrap draws; None when there are none."""
    draws = draws[~np.isnan(draws)]
    return [float(end) for end in np.percentile(draws, [2.5, 97.5])] if len(draws) else None


def bootstrap_ci(
    values: Float, patients: Int, *, classes: Int | None = None, draws: int = 1000, seed: int = 0
) -> list[float] | None:
    """95 % interval of the mean (with classes: of the macro mean) over patients; see bootstrap_means."""
    return interval(bootstrap_means(values, patients, classes=classes, draws=draws, seed=seed))


# --- classification ---


def confusion_matrix(truth: Int, predicted: Int, n_classes: int, weights: Float | None = None) -> Float:
    """Counts (n_classes, n_classes): labels in rows, predicted in columns. weights: (n,), 1 without them."""
    cells = np.bincount(truth * n_classes + predicted, weights=weights, minlength=n_classes * n_classes)
    return cells.reshape(n_classes, n_classes).astype(np.float64)


def classification(confusion: Float) -> dict[str, float]:
    """top1, macro_precision (eq. 6), macro_recall (eq. 7 mended), accuracy_eq8, F1 (eq. 9) of a confusion.

    Classes that no image has are left out of the means over classes. An empty matrix is all 0.
    """
    total, true_positive = confusion.sum(), np.diag(confusion)
    labelled, called = confusion.sum(axis=1), confusion.sum(axis=0)
    present = labelled > 0
    if total == 0:
        return dict.fromkeys(("top1", "macro_precision", "macro_recall", "F1", "accuracy_eq8"), 0.0)
    precision = np.divide(true_positive, called, out=np.zeros_like(called), where=called > 0)[present].mean()
    recall = (true_positive[present] / labelled[present]).mean()
    wrong = (called + labelled - 2 * true_positive)[present]  # FP + FN
    harmonic = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return {
        "top1": float(true_positive.sum() / total),
        "macro_precision": float(precision),
        "macro_recall": float(recall),
        "F1": float(harmonic),
        "accuracy_eq8": float((1 - wrong / total).mean()),
    }


def bootstrap_classification(
    truth: Int, predicted: Int, n_classes: int, patients: Int, *, draws: int = 1000, seed: int = 0
) -> dict[str, Float]:
    """The classification metrics in each bootstrap draw of patients: name -> float64 (draws,)."""
    _, codes = np.unique(patients, return_inverse=True)
    rows = [
        classification(confusion_matrix(truth, predicted, n_classes, weights[codes]))
        for block in draw_patients(int(codes.max(initial=-1)) + 1, draws, seed)
        for weights in block
    ]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def mean_and_sd(values: Any) -> dict[str, float]:
    """Mean and sample standard deviation (n - 1; 0 for one value)."""
    array = np.asarray(values, dtype=np.float64)
    return {"mean": float(array.mean()), "sd": float(array.std(ddof=1)) if len(array) > 1 else 0.0}
