"""The four distances, each against the sum it stands for."""

from __future__ import annotations

import numpy as np
import pytest

from cbmir.distances import DISTANCES, Distance, distances
from cbmir.errors import UsageError
from cbmir.types import Float32


def rows(*values: list[float]) -> Float32:
    return np.array(values, dtype=np.float32)


def drawn(n: int, dim: int, distance: Distance) -> Float32:
    values = np.random.default_rng(n).random((n, dim), dtype=np.float32)
    return np.round(values) if distance == "hamming" else values * (values > 0.4)


def by_hand(x: Float32, y: Float32, distance: Distance) -> float:
    pairs = [(float(a), float(b)) for a, b in zip(x, y, strict=True)]
    if distance == "euclidean":
        return float(sum((a - b) ** 2 for a, b in pairs) ** 0.5)
    if distance == "manhattan":
        return sum(abs(a - b) for a, b in pairs)
    if distance == "hamming":
        return sum(a != b for a, b in pairs)
    return sum((a - b) ** 2 / (a + b) for a, b in pairs if a + b) / 2


@pytest.mark.parametrize(
    ("distance", "expected"),
    [("euclidean", 5), ("manhattan", 7), ("chi-square", (3 * 3 / 5 + 4 * 4 / 4) / 2)],
)
def test_a_distance_by_head(distance: Distance, expected: float) -> None:
    assert distances(rows([1, 4, 0]), rows([4, 0, 0]), distance) == pytest.approx(expected)


def test_hamming_counts_the_bits_that_differ() -> None:
    assert distances(rows([1, 0, 1, 1]), rows([1, 1, 0, 1], [1, 0, 1, 1]), "hamming").tolist() == [[2, 0]]


@pytest.mark.parametrize("distance", DISTANCES)
def test_many_rows_agree_with_the_sum_pair_by_pair(distance: Distance) -> None:
    queries, gallery = drawn(3, 700, distance), drawn(211, 700, distance)  # more than one block of the gallery
    expected = [[by_hand(x, y, distance) for y in gallery] for x in queries]
    found = distances(queries, gallery, distance)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("distance", DISTANCES)
def test_equal_rows_are_at_zero_and_tie_wherever_they_stand(distance: Distance) -> None:
    gallery = drawn(300, 500, distance)
    gallery[299] = gallery[4]
    found = distances(gallery[[4, 7]], gallery, distance)
    assert found[0, 4] == found[0, 299] == 0
    assert found[1, 4] == found[1, 299] > 0


@pytest.mark.parametrize("distance", DISTANCES)
def test_no_queries_and_no_gallery_give_an_empty_answer(distance: Distance) -> None:
    none = np.empty((0, 4), np.float32)
    assert distances(none, rows([0, 1, 0, 1]), distance).shape == (0, 1)
    assert distances(rows([0, 1, 0, 1]), none, distance).shape == (1, 0)


@pytest.mark.parametrize(
    ("queries", "gallery", "distance", "message"),
    [
        (rows([np.nan, 1]), rows([1, 1]), "euclidean", "not finite"),
        (rows([1, 1]), rows([np.inf, 1]), "manhattan", "not finite"),
        (rows([1, 1, 1]), rows([1, 1]), "manhattan", "same length"),
        (rows([-1, 1]), rows([1, 1]), "chi-square", "at least 0"),
        (rows([0.5, 1]), rows([1, 1]), "hamming", "0 or 1"),
        (rows([1, 1]), rows([1, 1]), "cosine", "there is no distance 'cosine'"),
    ],
)
def test_features_a_distance_is_not_for_are_refused(
    queries: Float32, gallery: Float32, distance: Distance, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        distances(queries, gallery, distance)
