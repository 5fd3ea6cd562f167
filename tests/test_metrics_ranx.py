"""Our metrics against ranx, an independent library, on random rankings with graded judgements.

ranx compiles its functions for half a minute; as plain Python (NUMBA_DISABLE_JIT) it takes seconds, and in a process of
its own nothing else notices.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from cbmir import metrics

N_QUERIES = 40

RANX = """
import json, sys
import ranx
asked = json.load(sys.stdin)
qrels, run = ranx.Qrels(asked["qrels"]), ranx.Run(asked["run"])
fine = {name: ranx.evaluate(qrels, run, name, return_mean=False).tolist() for name in asked["names"]}
json.dump(fine, sys.stdout)
"""

NAMES = {
    "mAP": "map",
    "mAP@10/R": "map@10",
    "R-precision": "r-precision",
    "MRR": "mrr",
    "bpref": "bpref",
    "nDCG@10_graded": "ndcg@10",
    **{f"P@{k}": f"precision@{k}" for k in (1, 5, 10, 20)},
    **{f"recall@{k}": f"recall@{k}" for k in (5, 10, 20, 100)},
    **{f"hit@{k}": f"hit_rate@{k}" for k in (5, 10)},
}
"""Ours -> theirs."""


@cache
def random_grades() -> tuple[np.ndarray, ...]:
    """Per query the grades of its whole gallery in ranked order; at least one is relevant."""
    generator = np.random.default_rng(24)
    drawn = []
    for _ in range(N_QUERIES):
        grades = generator.choice(3, size=generator.integers(3, 70), p=(0.7, 0.2, 0.1))
        grades[generator.integers(len(grades))] = 1
        drawn.append(grades)
    return tuple(drawn)


@pytest.fixture(scope="module")
def by_ranx(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """What ranx finds; record names are shuffled, so that no order but that of the scores can help."""
    generator = np.random.default_rng(7)
    qrels, run = {}, {}
    for query, grades in enumerate(random_grades()):
        names = [f"d{name}" for name in generator.permutation(len(grades))]
        qrels[f"q{query:03d}"] = dict(zip(names, grades.tolist(), strict=True))
        run[f"q{query:03d}"] = {name: 1 / (rank + 1) for rank, name in enumerate(names)}
    asked = {"qrels": qrels, "run": run, "names": [*NAMES.values(), "ndcg_burges@10", "ndcg@1000"]}
    home = str(tmp_path_factory.mktemp("home"))  # ir_datasets, which ranx imports, makes folders there
    done = subprocess.run(
        [sys.executable, "-c", RANX],
        input=json.dumps(asked),
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "HOME": home, "IR_DATASETS_HOME": home},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


@cache
def by_us() -> list[dict[str, float]]:
    told = []
    for grades in random_grades():
        alike = (grades > 0).astype(np.int64)
        n_alike, n_fine = int(alike.sum()), int((grades == 2).sum())
        judged = metrics.Judged(grades[:10], (n_alike - n_fine, n_fine), len(grades) - n_alike, n_alike)
        told.append(metrics.measure(alike, 1, n_alike, len(grades), judged=judged)[0])
    return told


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_agrees_with_ranx(name: str, by_ranx: dict[str, list[float]]) -> None:
    assert [values[name] for values in by_us()] == pytest.approx(by_ranx[NAMES[name]])


@pytest.mark.parametrize(
    ("theirs", "gain", "k"), [("ndcg_burges@10", "exponential", 10), ("ndcg@1000", "linear", 1000)]
)
def test_both_gains_of_ndcg_agree_with_ranx(
    theirs: str, gain: metrics.Gain, k: int, by_ranx: dict[str, list[float]]
) -> None:
    ours = [
        metrics.graded_ndcg_at(grades, (int((grades == 1).sum()), int((grades == 2).sum())), k, gain=gain)
        for grades in random_grades()
    ]
    assert ours == pytest.approx(by_ranx[theirs])
