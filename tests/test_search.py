"""What the gates mean, and that the ranking which is measured is the one which is shipped."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from cbmir.errors import UsageError
from cbmir.index.exact import ExactIndex, from_features
from cbmir.search import rank_all, rocchio, scope_of, search
from cbmir.types import GATES, Gate

CLASSES = ("brain", "knee", "lung", "skin")
LIKELY = np.array([0.2, 0.5, 0.3, 0.0], np.float32)
ZERO = np.zeros(1, np.float32)


@pytest.fixture
def index() -> ExactIndex:
    """One row per class at distance 1, 2, 3, 4 of zero, and one of a class the encoder does not know at 5."""
    features = np.arange(1, 6, dtype=np.float32)[:, None]
    return from_features(features, [*CLASSES, "wrist"], ["a", "b", "c", "d", "e"])[0]


@pytest.mark.parametrize(
    ("gate", "positions"),
    [("off", [0, 1, 2, 3, 4]), ("hard", [1]), ("top3", [0, 1, 2])],
)
def test_a_gate_leaves_the_groups_it_names(index: ExactIndex, gate: Gate, positions: list[int]) -> None:
    found = search(index, ZERO, gate=gate, posterior=LIKELY, classes=CLASSES)
    assert found.positions.tolist() == positions
    assert found.n_candidates == len(positions)


def test_the_soft_gate_ranks_by_squared_distance_minus_tau_squared_log_probability(index: ExactIndex) -> None:
    """Keys for tau 2: brain 1 + 4 ln 5 = 7.4; knee 4 + 4 ln 2 = 6.8; lung 9 + 4 ln(10/3) = 13.8; skin 16 + 110.5."""
    found = search(index, ZERO, gate="soft", posterior=LIKELY, classes=CLASSES, tau=2.0)
    assert found.positions.tolist() == [1, 0, 2, 3, 4]
    assert found.distances.tolist() == [2, 1, 3, 4, 5]


def test_the_soft_gate_clips_probabilities_and_unknown_classes_at_1e_12() -> None:
    penalties = scope_of("soft", [*CLASSES, "wrist", ""], LIKELY, CLASSES, tau=1.0).penalties
    assert penalties["skin"] == penalties["wrist"] == penalties[""] == pytest.approx(12 * np.log(10))
    assert penalties["knee"] == pytest.approx(np.log(2))


def test_the_soft_gate_with_tau_0_is_no_gate(index: ExactIndex) -> None:
    found = search(index, ZERO, gate="soft", posterior=LIKELY, classes=CLASSES, tau=0.0)
    assert found.positions.tolist() == [0, 1, 2, 3, 4]


def test_of_equally_likely_classes_the_first_counts() -> None:
    even = np.full(4, 0.25, np.float32)
    assert scope_of("hard", CLASSES, even, CLASSES).groups == ("brain",)
    assert scope_of("top3", CLASSES, even, CLASSES).groups == ("brain", "knee", "lung")


def test_top3_of_two_classes_is_both() -> None:
    assert scope_of("top3", "ab", np.array([0.4, 0.6], np.float32), "ab").groups == ("b", "a")


def test_a_class_without_records_gives_nothing(index: ExactIndex) -> None:
    posterior = np.array([0, 1], np.float32)
    assert len(search(index, ZERO, gate="hard", posterior=posterior, classes=("brain", "foot"))) == 0


def test_k_is_at_least_1(index: ExactIndex) -> None:
    with pytest.raises(UsageError, match="k must be at least 1"):
        search(index, ZERO, k=0)


def test_an_unknown_gate_is_refused_with_those_there_are(index: ExactIndex) -> None:
    with pytest.raises(UsageError, match="off, hard, top3, soft"):
        search(index, ZERO, gate=cast(Any, "harder"))


@pytest.mark.parametrize("gate", ["hard", "top3", "soft"])
def test_a_gate_needs_predicted_classes(index: ExactIndex, gate: Gate) -> None:
    with pytest.raises(UsageError, match="use gate off"):
        search(index, ZERO, gate=gate)


def test_the_soft_gate_needs_a_tau(index: ExactIndex) -> None:
    with pytest.raises(UsageError, match="tau"):
        search(index, ZERO, gate="soft", posterior=LIKELY, classes=CLASSES)


@pytest.mark.parametrize("posterior", [[0.5, 0.5], [np.nan, 1, 0, 0], [-1, 1, 0, 1]])
def test_a_posterior_is_one_probability_per_class(posterior: list[float]) -> None:
    with pytest.raises(ValueError, match="probabilit"):
        scope_of("hard", CLASSES, np.array(posterior, np.float32), CLASSES)


def test_what_is_measured_is_what_is_shipped() -> None:
    """rank_all gives for every query and gate what search gives when it is asked for everything."""
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 4, (300, 6)).astype(np.float32)
    groups = [CLASSES[i] for i in rng.integers(0, 4, 300)]
    index, _ = from_features(rows, groups, [f"{i:03}" for i in rng.permutation(300)])
    queries = rng.integers(0, 4, (20, 6)).astype(np.float32)
    posterior = rng.dirichlet(np.ones(4), 20).astype(np.float32)
    hidden = [rng.integers(0, 300, i % 4) for i in range(20)]

    ranked = list(rank_all(index, queries, gates=GATES, posterior=posterior, classes=CLASSES, tau=1.5, hidden=hidden))

    assert len(ranked) == 20
    for query, opinion, own, rankings in zip(queries, posterior, hidden, ranked, strict=True):
        for gate in GATES:
            found = search(index, query, k=300, gate=gate, posterior=opinion, classes=CLASSES, tau=1.5, hidden=own)
            assert rankings[gate].positions.tolist() == found.positions.tolist()
            assert rankings[gate].distances.tolist() == found.distances.tolist()
            assert rankings[gate].n_candidates == found.n_candidates


def test_rank_all_goes_in_blocks(monkeypatch: pytest.MonkeyPatch, index: ExactIndex) -> None:
    monkeypatch.setattr("cbmir.search._BLOCK_DISTANCES", 10)  # two queries at once
    queries = np.arange(5, dtype=np.float32)[:, None]
    nearest = [ranked["off"].positions[0] for ranked in rank_all(index, queries)]
    assert nearest == [0, 0, 1, 2, 3]


NOTHING = np.empty((0, 2), np.float32)


def test_judgements_move_a_query_towards_what_is_liked_and_away_from_what_is_not() -> None:
    """Weights 1, 0.75 and -0.15 over their sum: (0 + 0.75 x 7) / 1.75 = 3; (0 - 0.15 x 17) / 0.85 = -3."""
    query = np.zeros(2, np.float32)
    liked, unliked = np.array([[6, 14], [8, 0]], np.float32), np.array([[17, 0]], np.float32)
    assert rocchio(query, liked, NOTHING).tolist() == pytest.approx([3, 3])
    assert rocchio(query, NOTHING, unliked).tolist() == pytest.approx([-3, 0])
    assert rocchio(query, liked, unliked).tolist() == pytest.approx([(5.25 - 2.55) / 1.6, 5.25 / 1.6])
    assert rocchio(query, NOTHING, NOTHING).tolist() == [0, 0]


def test_a_moved_query_moves_with_the_features() -> None:
    rng = np.random.default_rng(1)
    query, liked, unliked = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 2), (2, 2), (4, 2)))
    moved = rocchio(query + 100, liked + 100, unliked + 100)
    assert moved == pytest.approx(rocchio(query, liked, unliked) + 100, abs=1e-4)


def test_rows_of_unit_length_are_ranked_as_the_classical_formula_ranks_them_by_cosine() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(50, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    query, liked, unliked = rows[0], rows[1:3], rows[3:6]
    classical = query + 0.75 * liked.mean(axis=0) - 0.15 * unliked.mean(axis=0)
    index, origin = from_features(rows, [""] * 50, [f"{row:02}" for row in range(50)])
    found = search(index, rocchio(query, liked, unliked), k=50)
    assert origin[found.positions].tolist() == np.argsort(-(rows @ classical)).tolist()


def test_only_the_rows_of_a_filter_take_part(index: ExactIndex) -> None:
    found = search(index, ZERO, rows=np.array([1, 3, 4]), hidden=np.array([3]))
    assert (found.positions.tolist(), found.n_candidates) == ([1, 4], 2)
    found = search(index, ZERO, rows=np.array([1, 3]), gate="hard", posterior=LIKELY, classes=CLASSES)
    assert found.positions.tolist() == [1]
