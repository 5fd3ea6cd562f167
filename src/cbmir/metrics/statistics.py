"""Means, intervals and tests over queries. The patient is the unit: images of one patient are not independent.

    bootstrap_ci(values, patients) -> [low, high]           interval of a mean (or of a mean over classes)
    paired_test(first, second, patients) -> Paired          does one method rank better than another?
    compare(methods, patients) -> [Paired, ...]             every pair, p corrected for their number (Holm)

values: float64 (n,), one per query, NaN where the query has no value. patients: int64 (n,), codes from 0.
classes: int64 (n,), codes from 0: the mean over classes of the class means instead of the mean over queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from ..types import Bool, Int
from .ranked import Float

DRAW_BLOCK = 4_000_000  # numbers drawn at once: 32 MB
SMALLEST_AP = 1e-5
"""What an AP of 0 counts in the geometric mean, as in trec_eval."""

_ROUNDING = 1e-12  # two sums in another order are still equal


# --- means ---


def mean(values: Float) -> float | None:
    """Mean of the values that are not NaN; None when there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def macro_mean(values: Float, classes: Int) -> float | None:
    """Mean over classes of the class means; NaN values and classes without a value are left out."""
    means = [mean(values[classes == code]) for code in np.unique(classes)]
    return mean(np.array([value for value in means if value is not None]))


def logarithms(values: Float) -> Float:
    """log of values, none smaller than SMALLEST_AP: exp of their mean is the geometric mean (GM-MAP)."""
    return np.log(np.maximum(values, SMALLEST_AP))


def geometric_mean(values: Float) -> float | None:
    """exp of the mean logarithm, values below 1e-5 taken as 1e-5; None when all are NaN."""
    found = mean(logarithms(values))
    return None if found is None else float(np.exp(found))


def mean_and_sd(values: Any) -> dict[str, float]:
    """Mean and sample standard deviation (n - 1; 0 for one value)."""
    array = np.asarray(values, dtype=np.float64)
    return {"mean": float(array.mean()), "sd": float(array.std(ddof=1)) if len(array) > 1 else 0.0}


# --- intervals: bootstrap over patients ---


def draw_patients(n_patients: int, draws: int, seed: int) -> Iterator[Float]:
    """How often each patient comes in each bootstrap draw: float64 blocks of (draws, n_patients)."""
    generator = np.random.default_rng(seed)
    for size in _blocks(draws, n_patients):
        drawn = generator.integers(n_patients, size=(size, n_patients))
        cells = drawn + np.arange(size)[:, None] * n_patients
        counts = np.bincount(cells.ravel(), minlength=size * n_patients)
        yield counts.reshape(size, n_patients).astype(np.float64)


def _blocks(draws: int, width: int) -> Iterator[int]:
    """Sizes of the blocks in which `draws` rows of `width` numbers are drawn."""
    block = max(1, DRAW_BLOCK // max(width, 1))
    yield from (min(block, draws - start) for start in range(0, draws, block))


def bootstrap_table(
    table: Mapping[str, Float], patients: Int, *, classes: Int | None = None, draws: int = 1000, seed: int = 0
) -> dict[str, Float]:
    """The mean of every column in each draw of patients with replacement: name -> float64 (draws,).

    Columns whose values are known for the same queries share their draws. Patients without a value are not drawn;
    a class that a draw lacks is left out of that draw. NaN for a draw without any value.
    """
    alike: dict[bytes, list[str]] = {}
    for name, values in table.items():
        alike.setdefault(np.isnan(values).tobytes(), []).append(name)
    found: dict[str, Float] = {}
    for names in alike.values():
        known = ~np.isnan(table[names[0]])
        groups = np.zeros_like(patients) if classes is None else classes
        columns = [table[name][known] for name in names]
        found |= dict(zip(names, _drawn_means(columns, patients[known], groups[known], draws, seed), strict=True))
    return {name: found[name] for name in table}


def _drawn_means(columns: Sequence[Float], patients: Int, classes: Int, draws: int, seed: int) -> list[Float]:
    """bootstrap_table for columns without NaN."""
    n_patients, n_classes = int(patients.max(initial=-1)) + 1, int(classes.max(initial=-1)) + 1
    cell = patients * n_classes + classes

    def per_cell(weights: Float | None) -> Float:
        summed = np.bincount(cell, weights=weights, minlength=n_patients * n_classes)
        return summed.astype(np.float64).reshape(n_patients, n_classes)

    counts = per_cell(None)
    present = np.flatnonzero(counts.sum(axis=1))  # patients left, each drawn with the same probability
    if len(present) == 0:
        return [np.full(draws, np.nan) for _ in columns]
    sums = [per_cell(values)[present] for values in columns]
    blocks: list[list[Float]] = [[] for _ in columns]
    for weights in draw_patients(len(present), draws, seed):
        number = weights @ counts[present]
        here = number > 0
        for column, of_column in zip(sums, blocks, strict=True):
            means = np.divide(weights @ column, number, out=np.zeros_like(number), where=here)
            of_column.append(means.sum(axis=1) / here.sum(axis=1))
    return [np.concatenate(of_column) for of_column in blocks]


def bootstrap_means(
    values: Float, patients: Int, *, classes: Int | None = None, draws: int = 1000, seed: int = 0
) -> Float:
    """The mean of `values` in each draw of patients; float64 (draws,). See bootstrap_table."""
    return bootstrap_table({"": values}, patients, classes=classes, draws=draws, seed=seed)[""]


def interval(draws: Float) -> list[float] | None:
    """The 95 % percentile interval of bootstrap draws; None when there are none."""
    draws = draws[~np.isnan(draws)]
    return [float(end) for end in np.percentile(draws, [2.5, 97.5])] if len(draws) else None


def bootstrap_ci(
    values: Float, patients: Int, *, classes: Int | None = None, draws: int = 1000, seed: int = 0
) -> list[float] | None:
    """95 % interval of the mean (with classes: of the macro mean) over patients; see bootstrap_table."""
    return interval(bootstrap_means(values, patients, classes=classes, draws=draws, seed=seed))


# --- two methods ---


@dataclass(frozen=True)
class Paired:
    """Two methods on the same queries. difference: mean of first minus mean of second, interval95 its bootstrap.

    p: two-sided, of the randomisation test; p_holm: corrected for the comparisons made together (p when alone).
    n_queries: those where both have a value; n_patients: of these.
    """

    first: str
    second: str
    difference: float | None
    interval95: list[float] | None
    p: float | None
    p_holm: float | None
    n_queries: int
    n_patients: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def paired_test(
    first: Float,
    second: Float,
    patients: Int,
    *,
    classes: Int | None = None,
    draws: int = 10_000,
    bootstrap_draws: int = 1000,
    seed: int = 0,
    names: tuple[str, str] = ("first", "second"),
) -> Paired:
    """Randomisation test of the difference of two means, and its interval.

    If the methods were alike, swapping them for one patient would change nothing: the test flips the sign of each
    patient's summed difference. With 2^patients <= draws every pattern of signs is tried and p is their share with
    a difference at least as large; else p = (1 + that many of `draws` random patterns) / (1 + draws).
    Source: Smucker, Allan, Carterette, CIKM 2007, with the patient as the unit.
    """
    known = ~(np.isnan(first) | np.isnan(second))
    if not known.any():
        return Paired(*names, None, None, None, None, 0, 0)
    apart, groups = first[known] - second[known], None if classes is None else classes[known]
    _, codes = np.unique(patients[known], return_inverse=True)
    sums = np.bincount(codes, weights=apart * _weights(len(apart), groups)).astype(np.float64)
    p = _share_as_large(sums, draws, seed)
    ends = bootstrap_ci(apart, codes, classes=groups, draws=bootstrap_draws, seed=seed)
    return Paired(*names, float(sums.sum()), ends, p, p, len(apart), len(sums))


def _weights(n: int, classes: Int | None) -> Float:
    """What each query counts in the mean, or in the mean over classes: float64 (n,), summing to 1."""
    if classes is None:
        return np.full(n, 1 / n)
    _, codes, counts = np.unique(classes, return_inverse=True, return_counts=True)
    return 1 / (len(counts) * counts[codes].astype(np.float64))


def _share_as_large(sums: Float, draws: int, seed: int) -> float:
    """p of paired_test. sums: float64 (patients,), their difference is its sum."""
    limit = abs(sums.sum()) - _ROUNDING
    if len(sums) < 40 and 2 ** len(sums) <= draws:
        patterns = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        return float((np.abs((2.0 * patterns - 1) @ sums) >= limit).mean())
    generator = np.random.default_rng(seed)
    larger = 0
    for size in _blocks(draws, len(sums)):
        signs = generator.integers(0, 2, size=(size, len(sums)), dtype=np.int8) * 2.0 - 1
        larger += int((np.abs(signs @ sums) >= limit).sum())
    return (1 + larger) / (1 + draws)


def holm(p_values: Sequence[float]) -> list[float]:
    """p corrected for their number, in the given order: the smallest times m, the next times m - 1, ..., rising.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 1979.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.minimum(np.maximum.accumulate(np.asarray(p_values, np.float64)[order] * factors), 1)
    result = np.empty(len(p_values))
    result[order] = corrected
    return [float(value) for value in result]


def compare(
    methods: Mapping[str, Float],
    patients: Int,
    *,
    classes: Int | None = None,
    pairs: Iterable[tuple[str, str]] | None = None,
    draws: int = 10_000,
    bootstrap_draws: int = 1000,
    seed: int = 0,
) -> list[Paired]:
    """Every pair of methods (or the named ones) tested, p_holm corrected for all of them.

    methods: name -> float64 (n,), the same queries in the same order.
    """
    told = [
        paired_test(
            methods[first],
            methods[second],
            patients,
            classes=classes,
            draws=draws,
            bootstrap_draws=bootstrap_draws,
            seed=seed,
            names=(first, second),
        )
        for first, second in (combinations(methods, 2) if pairs is None else pairs)
    ]
    corrected = iter(holm([pair.p for pair in told if pair.p is not None]))
    return [pair if pair.p is None else replace(pair, p_holm=next(corrected)) for pair in told]


# --- smaller galleries ---


def smaller_galleries(patients: Int, sizes: Sequence[int], draws: int, seed: int) -> Bool:
    """Random parts of a gallery by whole patients: bool (len(sizes) * draws, n), the draws of each size together.

    patients: int64 (n,), codes from 0. A part takes patients in random order until it has at least `size` images;
    parts of one draw lie inside each other. A size of n or more is the whole gallery.
    """
    generator = np.random.default_rng(seed)
    images = np.bincount(patients)
    kept = np.empty((len(sizes), draws, len(patients)), bool)
    for draw in range(draws):
        order = generator.permutation(len(images))
        before = np.empty(len(images), np.int64)  # images of the patients drawn earlier
        before[order] = np.cumsum(images[order]) - images[order]
        for row, size in enumerate(sizes):
            kept[row, draw] = before[patients] < size
    return kept.reshape(-1, len(patients))


def measure_parts(relevant: Bool, kept: Bool, n_relevant: Int) -> Float:
    """AP, P@1 and P@10 of one ranking in many parts of its gallery, without ranking again; float64 (3, parts).

    relevant: bool (n_hits,), best first. kept: bool (parts, n_hits), which hits each part holds, in the same order.
    n_relevant: int64 (parts,), R of each part; NaN where it is 0.
    """
    places = np.flatnonzero(relevant)
    here = kept[:, places]
    rank = np.cumsum(kept, axis=1, dtype=np.int32)[:, places]
    found = np.cumsum(here, axis=1, dtype=np.int32)
    precise = np.divide(found, rank, out=np.zeros(here.shape), where=here).sum(axis=1)
    some = np.where(n_relevant > 0, 1.0, np.nan)
    rows = [precise / np.maximum(n_relevant, 1)] + [(here & (rank <= k)).sum(axis=1) / k for k in (1, 10)]
    return np.stack(rows) * some
