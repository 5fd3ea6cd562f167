"""Re-ranking: the query among its first hits, and who is whose neighbour; each beside a naive version."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cbmir.rerank
from cbmir.errors import UsageError
from cbmir.fusion import most_similar
from cbmir.index import Found, Scope
from cbmir.index.exact import ExactIndex, from_features
from cbmir.rerank import Aqe, KReciprocal, expanded, reranked, reranking_of
from cbmir.rerank_fit import fit_rerank
from cbmir.search import rank_all, scope_of, search
from cbmir.types import Float32

ZHONG = KReciprocal(k1=6, k2=3, share=0.3)
CLASSES = ("bright", "dark")


def blobs(n: int = 60, dim: int = 5, seed: int = 0) -> Float32:
    """Rows around four centres, so that there are neighbourhoods."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 3, (4, dim))[np.arange(n) % 4] + rng.normal(size=(n, dim))
    return np.asarray(rows, np.float32)


def unit(rows: Float32) -> Float32:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def index_of(rows: Float32) -> ExactIndex:
    index, _ = from_features(
        rows, [CLASSES[row % 2] for row in range(len(rows))], [f"{r:04d}" for r in range(len(rows))]
    )
    return index


# --- alpha query expansion ---


def test_a_query_is_expanded_by_its_first_hits_as_much_as_they_are_alike() -> None:
    """cos is 1 and 0.6: with alpha 1 the weights of query and hits are 1, 1 and 0.6."""
    query = np.array([1, 0], np.float32)
    hits = np.array([[2, 0], [3, 4], [9, 9]], np.float32)
    np.testing.assert_allclose(expanded(query, hits, Aqe(2, 1)), [(1 + 2 + 0.6 * 3) / 2.6, 0.6 * 4 / 2.6], rtol=1e-6)
    np.testing.assert_allclose(expanded(query, hits, Aqe(2, 0)), [2, 4 / 3], rtol=1e-6)
    np.testing.assert_allclose(expanded(query, hits, Aqe(1, 3)), [1.5, 0], rtol=1e-6)


def test_what_points_the_other_way_does_not_count() -> None:
    query = np.array([1, 0], np.float32)
    assert expanded(query, np.array([[-1, 0.5], [0, 0]], np.float32), Aqe(2, 1)).tolist() == [1, 0]


def naive_aqe(rows: Float32, query: Float32, aqe: Aqe) -> list[int]:
    """As the paper has it, for unit-length rows: neighbours by cosine, their sum scaled to unit length."""
    order = np.argsort(-(rows @ query), kind="stable")[: aqe.n]
    moved = query + sum(max(float(rows[i] @ query), 0) ** aqe.alpha * rows[i] for i in order)
    return np.argsort(-(rows @ (moved / np.linalg.norm(moved)))).tolist()


@pytest.mark.parametrize("aqe", [Aqe(1, 3), Aqe(5, 3), Aqe(20, 0)])
def test_rows_of_unit_length_are_ranked_as_in_the_paper(aqe: Aqe) -> None:
    rows = unit(blobs())
    index, origin = from_features(rows[1:], [""] * 59, [f"{r:04d}" for r in range(59)])
    found = search(index, rows[0], k=59, reranking=aqe)
    assert origin[found.positions].tolist() == naive_aqe(rows[1:], rows[0], aqe)


# --- k-reciprocal ---


def naive_jaccard(query: Float32, rows: Float32, how: KReciprocal) -> Any:
    """Zhong et al. 2017, eq. 2, 3, 7, 10 and 11, point by point; the query is point 0."""
    points = np.concatenate([query[None], rows]).astype(np.float64)
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    d = squared / squared.max(axis=1, keepdims=True)
    order = [sorted(range(len(points)), key=lambda g, p=p: (g != p, d[p, g])) for p in range(len(points))]

    def near(p: int, k: int) -> set[int]:
        return set(order[p][: k + 1])

    def reciprocal(p: int, k: int) -> set[int]:
        return {g for g in near(p, k) if p in near(g, k)}

    def star(p: int) -> set[int]:
        grown = own = reciprocal(p, how.k1)
        for g in own:
            others = reciprocal(g, round(how.k1 / 2))
            if 3 * len(own & others) >= 2 * len(others):
                grown = grown | others
        return grown

    v = np.zeros_like(d)
    for p in range(len(points)):
        for g in star(p):
            v[p, g] = np.exp(-d[p, g])
    v /= v.sum(axis=1, keepdims=True)
    v = np.array([v[order[p][: how.k2]].mean(axis=0) for p in range(len(points))])
    return np.array([1 - np.minimum(v[0], g).sum() / np.maximum(v[0], g).sum() for g in v[1:]])


def naive_keys(queries: Float32, rows: Float32, how: KReciprocal) -> Any:
    """Eq. 12; of several queries the smallest."""
    squared = ((queries[:, None] - rows[None]).astype(np.float64) ** 2).sum(axis=2)
    jaccard = np.array([naive_jaccard(query, rows, how) for query in queries])
    return ((1 - how.share) * jaccard + how.share * squared / squared.max()).min(axis=0)


@pytest.mark.parametrize("how", [ZHONG, KReciprocal(20, 6, 0.3), KReciprocal(3, 1, 0.1), KReciprocal(200, 80, 0.5)])
@pytest.mark.parametrize("scale", [1, 1e-6, 1e15])
def test_it_ranks_as_the_formulas_say(how: KReciprocal, scale: float) -> None:
    """Whatever the unit of the features."""
    rows = blobs() * np.float32(scale)
    index, origin = from_features(rows[1:], [""] * 59, [f"{r:04d}" for r in range(59)])
    keys = naive_keys(rows[:1], rows[1:], how)
    found = search(index, rows[0], k=59, reranking=how)
    assert np.diff(keys[origin[found.positions]]).min() > -1e-5
    assert sorted(found.positions.tolist()) == list(range(59))


def test_of_several_queries_the_smallest_key_counts() -> None:
    rows, queries = blobs(), blobs(3, seed=1)
    index, origin = from_features(rows, [""] * 60, [f"{r:04d}" for r in range(60)])

    def find(some: Float32, depth: int) -> Found:
        return most_similar(index, some, depth, Scope(), lambda positions: [f"{p:04d}" for p in positions])

    found = reranked(index, queries, 60, Scope(), ZHONG, find)
    keys = naive_keys(queries, rows, ZHONG)
    assert np.diff(keys[origin[found.positions]]).min() > -1e-5
    nearest = np.linalg.norm(rows[origin[found.positions]][:, None] - queries, axis=2).min(axis=1)
    np.testing.assert_allclose(found.distances, nearest, rtol=1e-6)
    twice = reranked(index, queries[[0, 0]], 60, Scope(), ZHONG, find)
    assert twice.positions.tolist() == search(index, queries[0], k=60, reranking=ZHONG).positions.tolist()


def test_with_lambda_1_the_ranking_is_what_it_was() -> None:
    index, query = index_of(blobs()), blobs(seed=1)[0]
    posterior = np.array([0.9, 0.1], np.float32)
    for gate in ("off", "soft"):
        settings: dict[str, Any] = {"k": 60, "gate": gate, "posterior": posterior, "classes": CLASSES, "tau": 2.0}
        without = search(index, query, **settings)
        assert_same(search(index, query, **settings, reranking=KReciprocal(6, 3, 1.0)), without)


def test_the_soft_gate_still_counts() -> None:
    """With a penalty larger than anything else the likely class comes first, each class re-ranked in itself."""
    index, query = index_of(blobs()), blobs(seed=1)[0]
    sure = np.array([1, 0], np.float32)
    found = search(index, query, k=60, gate="soft", posterior=sure, classes=CLASSES, tau=100.0, reranking=ZHONG)
    assert (found.positions < 30).tolist() == [True] * 30 + [False] * 30  # bright lies first


def test_equal_images_stay_side_by_side() -> None:
    rows = np.repeat(blobs(12), 4, axis=0)
    index, _ = from_features(rows, [""] * 48, [f"{r:04d}" for r in range(48)])
    found = search(index, rows[0], k=48, reranking=ZHONG)
    assert sorted(found.positions[:4].tolist()) == [0, 1, 2, 3]
    same = search(index_of(np.ones((7, 3), np.float32)), np.ones(3, np.float32), k=7, reranking=ZHONG)
    assert len(same) == 7


# --- both ---


def assert_same(some: Found, other: Found) -> None:
    assert some.positions.tolist() == other.positions.tolist()
    np.testing.assert_allclose(some.distances, other.distances, rtol=1e-6)


RERANKINGS = (Aqe(5, 3.0), ZHONG)


@pytest.mark.parametrize("reranking", RERANKINGS)
def test_only_rows_of_the_scope_take_part(reranking: Aqe | KReciprocal) -> None:
    """The ranking is that of a gallery which holds nothing else: what is hidden, filtered or gated leaves no trace."""
    rows, query = blobs(), blobs(seed=1)[0]
    index = index_of(rows)
    hidden, passing = np.array([0, 7, 31]), np.flatnonzero(np.arange(60) % 5)
    scope = scope_of("hard", index.groups, np.array([1, 0], np.float32), CLASSES, hidden=hidden, rows=passing)
    left = index.rank(np.zeros(60, np.float32), scope).positions
    assert len(left) == 23  # of the 30 bright ones
    alone, _ = from_features(index.rows[left], [""] * 23, [f"{r:04d}" for r in range(23)])
    found = search(
        index, query, k=60, gate="hard", posterior=np.array([1, 0], np.float32), classes=CLASSES, hidden=hidden,
        rows=passing, reranking=reranking,
    )  # fmt: skip
    wanted = search(alone, query, k=60, reranking=reranking)
    assert found.positions.tolist() == left[wanted.positions].tolist()
    assert found.n_candidates == 23


@pytest.mark.parametrize("reranking", RERANKINGS)
def test_distances_are_those_to_the_query_as_it_was_asked(reranking: Aqe | KReciprocal) -> None:
    index, query = index_of(blobs()), blobs(seed=1)[0]
    found = search(index, query, k=60, reranking=reranking)
    np.testing.assert_allclose(found.distances, np.linalg.norm(index.rows[found.positions] - query, axis=1), rtol=1e-6)
    assert (np.diff(found.distances) < 0).any()


@pytest.mark.parametrize("reranking", RERANKINGS)
def test_a_longer_ranking_goes_on_where_a_shorter_one_ends(
    monkeypatch: pytest.MonkeyPatch, reranking: Aqe | KReciprocal
) -> None:
    """Also past the depth of the pool: what follows comes in its old order."""
    monkeypatch.setattr(cbmir.rerank, "DEPTH", 20)
    index, query = index_of(blobs()), blobs(seed=1)[0]
    whole = search(index, query, k=60, reranking=reranking).positions.tolist()
    assert [search(index, query, k=k, reranking=reranking).positions.tolist() for k in (1, 7, 20, 33)] == [
        whole[:k] for k in (1, 7, 20, 33)
    ]
    if isinstance(reranking, KReciprocal):
        assert whole[20:] == search(index, query, k=60).positions.tolist()[20:]


@pytest.mark.parametrize("reranking", RERANKINGS)
def test_what_is_measured_is_what_is_shipped(reranking: Aqe | KReciprocal) -> None:
    index, queries = index_of(blobs()), blobs(9, seed=1)
    posterior = np.random.default_rng(2).dirichlet([1, 1], 9).astype(np.float32)
    hidden = [np.array([row, row + 3]) for row in range(9)]
    gates: tuple[Any, ...] = ("off", "hard", "soft")
    settings: dict[str, Any] = {"classes": CLASSES, "tau": 1.5, "reranking": reranking}
    ranked = list(rank_all(index, queries, gates=gates, posterior=posterior, hidden=hidden, **settings))
    for row, of_gates in enumerate(ranked):
        for gate in gates:
            opinion = {"posterior": posterior[row], "hidden": hidden[row]}
            assert_same(of_gates[gate], search(index, queries[row], k=60, gate=gate, **opinion, **settings))


def test_nothing_to_rank_is_no_ranking() -> None:
    index = index_of(blobs(4))
    for reranking in RERANKINGS:
        assert len(search(index, index.rows[0], hidden=np.arange(4), reranking=reranking)) == 0
        assert len(search(index, index.rows[0], hidden=np.arange(3), reranking=reranking)) == 1


def test_parameters_come_from_the_calibration() -> None:
    calibration = {
        "rerank": {
            "main": {"aqe": {"n": 5, "alpha": 3.0, "gain": 0.1}, "kreciprocal": {"k1": 6, "k2": 3, "lambda": 0.3}}
        }
    }
    assert reranking_of("aqe", calibration, "main") == Aqe(5, 3.0)
    assert reranking_of("kreciprocal", calibration, "main") == ZHONG
    assert reranking_of("none", {}, "main") is None
    with pytest.raises(UsageError, match="this encoder has none for layer other"):
        reranking_of("aqe", calibration, "other")
    with pytest.raises(ValueError, match="lambda is from 0 to 1"):
        KReciprocal(6, 3, 1.5)
    with pytest.raises(ValueError, match="alpha of at least 0"):
        Aqe(3, -1.0)


# --- tuning ---


def test_what_is_fitted_gains_what_it_says() -> None:
    """Of a class that lies along a line the far end is found through what is between."""
    rng = np.random.default_rng(0)
    along = np.linspace(0, 10, 40)
    rows = np.concatenate([np.stack([along, 4 * side + rng.normal(0, 0.3, 40)], axis=1) for side in (0, 1)])
    labels = ["low"] * 40 + ["high"] * 40
    queries = np.array([[0, 0.5], [10, 0.5], [0, 3.5], [10, 3.5]])
    asked = ["low", "low", "high", "high"]
    fitted = fit_rerank(rows.astype(np.float32), labels, queries.astype(np.float32), asked)
    index, origin = from_features(rows.astype(np.float32), labels, [f"{r:08d}" for r in range(80)])
    alike = np.array([[label == want for label in labels] for want in asked])[:, origin]

    def mean_ap(name: Any) -> float:
        reranking = reranking_of(name, {"rerank": {"line": fitted}}, "line")
        ranked = [found["off"].positions for found in rank_all(index, queries.astype(np.float32), reranking=reranking)]
        hits = [np.flatnonzero(row[positions]) for row, positions in zip(alike, ranked, strict=True)]
        return float(np.mean([(np.arange(1, 41) / (places + 1)).mean() for places in hits]))

    for name in ("aqe", "kreciprocal"):
        assert fitted[name]["gain"] > 0.01
        assert fitted[name]["gain"] == pytest.approx(mean_ap(name) - mean_ap("none"), abs=1e-9)


def test_where_nothing_gains_nothing_changes() -> None:
    """Each class is one heap: the ranking is right already."""
    rows = np.array([[0, 1], [0, 1.1], [5, 1], [5, 1.1]], np.float32)
    fitted = fit_rerank(rows, ["a", "a", "b", "b"], np.array([[0, 1.2]], np.float32), ["a"])
    assert reranking_of("aqe", {"rerank": {"x": fitted}}, "x") == Aqe(0, 0.0)
    assert fitted["kreciprocal"]["lambda"] == 1
    assert [fitted[name]["gain"] for name in fitted] == [0, 0]
    nobody = fit_rerank(rows, ["a", "a", "b", "b"], np.array([[0, 1.2]], np.float32), ["c"])
    assert nobody["aqe"]["n"] == 0
