"""Why two images are alike: the split of their similarity, where its map lies, and whether it is believed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir import explain
from cbmir.encoder import Maps
from cbmir.explain import alike, blurred, check, curves, laid_over, larger, look, pool, random_maps, shares, spread
from cbmir.preprocess import Preprocessing, part_of, preprocess, seen_box
from cbmir.types import DecodedImage, Provenance, Rectangle


def drawn_maps(generator: np.random.Generator, p: float, side: int) -> tuple[Maps, Maps, list[np.ndarray]]:
    """Of a query and a hit of one network, five channels, and the finer values of both."""
    weight, bias = generator.normal(size=(3, 5)).astype(np.float32), generator.normal(size=3).astype(np.float32)
    values = [np.maximum(generator.normal(size=(5, side, side)), 1e-6).astype(np.float32) for _ in range(2)]
    finer = [np.maximum(generator.normal(size=(5, 2 * side, 2 * side)), 1e-6).astype(np.float32) for _ in range(2)]
    query, hit = (Maps(of_one, np.full(5, p), weight, bias) for of_one in values)
    return query, hit, finer


# --- the similarity, split ---


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), p=st.floats(1, 8), side=st.integers(1, 6), finer=st.booleans())
def test_each_map_sums_to_the_similarity(seed: int, p: float, side: int, finer: bool) -> None:
    query, hit, fine = drawn_maps(np.random.default_rng(seed), p, side)
    features = []
    for maps in (query, hit):  # as the network computes them
        pooled = (maps.values.astype(np.float64) ** p).mean(axis=(1, 2)) ** (1 / p)
        projected = maps.weight @ pooled + maps.bias
        features.append(projected / np.linalg.norm(projected))
    first, second = (look(maps, fine[i] if finer else None) for i, maps in enumerate((query, hit)))
    found = alike(first, second, query)
    assert found.similarity == pytest.approx(features[0] @ features[1], abs=1e-6)
    assert found.query.sum() == pytest.approx(found.similarity, abs=1e-9)
    assert found.hit.sum() == pytest.approx(found.similarity, abs=1e-9)
    assert found.query.shape == ((2 * side, 2 * side) if finer else (side, side))


def test_a_place_has_its_share_of_each_channel() -> None:
    """Two channels, two places, the plain mean: u = (2, 1), W = 1, and the hit is like the first channel only."""
    weight, bias = np.eye(2, dtype=np.float32), np.zeros(2, np.float32)
    query = look(Maps(np.array([[[1, 3]], [[1, 1]]], np.float32), np.ones(2, np.float32), weight, bias))
    maps = Maps(np.array([[[5, 5]], [[0.0, 0.0]]], np.float32) + np.float32(1e-9), np.ones(2, np.float32), weight, bias)
    found = alike(query, look(maps), maps)
    assert found.query == pytest.approx(np.array([[0.5, 1.5]]) / 5**0.5, abs=1e-6)
    assert found.hit == pytest.approx(np.array([[1, 1]]) / 5**0.5, abs=1e-6)


def test_the_bias_is_everybodys_alike() -> None:
    maps = Maps(
        np.full((1, 1, 4), 1e-6, np.float32),
        np.full(1, 3.0, np.float32),
        np.zeros((2, 1), np.float32),
        np.array([3, 4], np.float32),
    )
    found = alike(look(maps), look(maps), maps)
    assert found.query == pytest.approx(np.full((1, 4), 1 / 4))


@pytest.mark.parametrize("p", [1, 3, 500])
def test_a_great_power_neither_overflows_nor_vanishes(p: float) -> None:
    values = np.array([[[1e-6, 2e-6]], [[3, 6]]], np.float32)
    assert shares(values, np.full(2, p)) == pytest.approx(np.broadcast_to([[[1, 2.0**p]]], (2, 1, 2)) / (1 + 2.0**p))
    assert pool(values, np.full(2, p))[1] / pool(values, np.full(2, p))[0] == pytest.approx(3e6)


def test_spreading_keeps_sums_and_is_linear_between_the_middles() -> None:
    spreaded = spread(np.array([[[4.0, 8.0]]]))
    assert spreaded.tolist() == [[[1, 1.25, 1.75, 2], [1, 1.25, 1.75, 2]]]
    some = np.random.default_rng(0).random((3, 5, 4))
    assert spread(some).sum(axis=(1, 2)) == pytest.approx(some.sum(axis=(1, 2)))


# --- the map on the picture ---


def test_a_map_is_linear_between_the_middles_of_its_places_and_nowhere_else() -> None:
    over = laid_over(np.array([[0.0, 4.0]]), (1, 0, 5, 2), (2, 6))
    assert np.isnan(over).tolist() == [[True, False, False, False, False, True]] * 2
    assert over[:, 1:5].tolist() == [[0, 1, 3, 4]] * 2


STRETCHED = Preprocessing(size=64, crop=64)
CROPPED = Preprocessing(size=80, crop=64)
KEPT = Preprocessing(size=80, crop=64, aspect="kept")


@pytest.mark.parametrize("recipe", [STRETCHED, CROPPED, KEPT], ids=["stretched", "cropped", "kept"])
@pytest.mark.parametrize(
    ("shape", "aspect", "region"),
    [((100, 100), 1, None), ((60, 200), 1, None), ((200, 60), 2, None), ((90, 120), 1, (20, 10, 100, 80)),
     ((6200, 50), 0.01, None)],
)  # fmt: skip
def test_a_map_lies_on_the_picture_where_the_encoder_saw_it(
    recipe: Preprocessing, shape: tuple[int, int], aspect: float, region: Rectangle | None
) -> None:
    """The encoder's input itself, taken for a map of its pixels, fits on the picture it was made of."""
    left, top, right, bottom = region or (0, 0, shape[1], shape[0])
    y, x = np.mgrid[: shape[0], : shape[1]]
    across, down = (x - left) / (right - left), (y - top) / (bottom - top)
    pixels = (60 + 90 * across + 90 * down).astype(np.float32)  # a ramp is the same at any size
    image = DecodedImage(pixels, (0, 255), "a", Provenance("PNG"), made_for_eye=True, pixel_aspect=aspect)
    looked_at = image if region is None else part_of(image, region)
    seen = preprocess(looked_at, recipe).pixels[0].astype(np.float64)
    box = seen_box(looked_at, recipe)
    over = laid_over(seen, (box[0] + left, box[1] + top, box[2] + left, box[3] + top), shape)
    known = ~np.isnan(over)
    expected = pixels if region is None else np.where((across >= 0) & (down >= 0), pixels, np.nan)
    inner = known & (abs(across - 0.5) < 0.35) & (abs(down - 0.5) < 0.35)
    assert inner.sum() > 0.3 * (right - left) * (bottom - top)
    window = np.polyfit(expected[inner], over[inner], 1)  # grey levels are windowed, linearly
    assert np.abs(np.polyval(window, expected[inner]) - over[inner]).max() < 4
    assert np.corrcoef(expected[inner], over[inner])[0, 1] > 0.999


def test_what_is_outside_the_crop_or_the_region_has_no_map() -> None:
    image = DecodedImage(np.eye(80, 100, dtype=np.float32), (0, 1), "a", Provenance("PNG"))
    assert seen_box(image, CROPPED) == pytest.approx((10, 8, 90, 72))
    assert seen_box(image, KEPT) == pytest.approx((10, 0, 90, 80))
    tall = DecodedImage(np.eye(100, 50, dtype=np.float32), (0, 1), "a", Provenance("PNG"))
    assert seen_box(tall, Preprocessing(size=80, crop=80, aspect="kept")) == pytest.approx((-25, 0, 75, 100))
    over = laid_over(np.ones((2, 2)), seen_box(image, CROPPED), (80, 100))
    assert np.isfinite(over).sum() == 80 * 64


def test_a_finer_map_is_of_the_same_part_of_the_picture() -> None:
    image = DecodedImage(np.eye(80, 100, dtype=np.float32), (0, 1), "a", Provenance("PNG"))
    for recipe in (STRETCHED, CROPPED, KEPT):
        assert preprocess(image, larger(recipe)).pixels.shape[1] == 2 * recipe.crop
        assert seen_box(image, larger(recipe)) == pytest.approx(seen_box(image, recipe))


# --- does it matter? ---

PICTURE = np.zeros((1, 16, 16), np.uint8)
PICTURE[0, :8, :8] = np.indices((8, 8)).sum(axis=0) % 2 * 255
QUADRANT = np.pad(np.ones((8, 8)), (0, 8))


def unchanged(pictures: np.ndarray) -> np.ndarray:
    """As similar as its first quadrant is as it was."""
    return (pictures[:, 0, :8, :8] == PICTURE[0, :8, :8]).mean(axis=(1, 2)).astype(np.float32)


def test_a_map_of_what_matters_has_all_of_the_score_and_its_reverse_the_opposite() -> None:
    """The quadrant is a quarter of the picture: it is gone, or there, after two of the eight steps."""
    right, wrong = curves(PICTURE, [QUADRANT, -QUADRANT], unchanged)
    assert right.deletion.tolist() == [1, 0.5, 0, 0, 0, 0, 0, 0, 0]
    assert right.insertion.tolist() == [0, 0.5, 1, 1, 1, 1, 1, 1, 1]
    assert right.score == pytest.approx(7 / 8 - 1 / 8)
    assert wrong.score == pytest.approx(-right.score)
    assert explain.area(np.array([0.0, 1.0])) == 0.5


def test_a_check_tells_how_many_random_maps_a_map_beats() -> None:
    generator = np.random.default_rng(24)
    random = random_maps(200, (16, 16), generator)
    told = check(PICTURE, QUADRANT, random, unchanged).as_dict()
    assert (told["insertion"], told["deletion"], told["score"]) == (7 / 8, 1 / 8, 3 / 4)
    assert told["beats"] == 1
    assert abs(told["random"]) < 0.06  # they know nothing: about 0
    assert check(PICTURE, -QUADRANT, random, unchanged).as_dict()["beats"] == 0


def test_random_maps_are_smooth_and_repeat_with_their_seed() -> None:
    first, second = (random_maps(2, (40, 40), np.random.default_rng(seed)) for seed in (1, 1))
    assert [one.tolist() for one in first] == [one.tolist() for one in second]
    assert first[0].tolist() != first[1].tolist()
    assert np.abs(np.diff(first[0], axis=0)).max() < 0.25 * np.ptp(first[0])


def test_what_is_taken_away_has_the_levels_of_the_picture_but_no_form() -> None:
    checkers = np.tile(np.kron([[0, 255], [255, 0]], np.ones((4, 4))), (4, 4)).astype(np.uint8)[None]
    away = blurred(checkers)
    assert away.shape == checkers.shape
    assert away.mean() == pytest.approx(checkers.mean(), abs=2)
    assert np.ptp(away[:, 8:-8, 8:-8]) < 20
