"""The features of each handcrafted method, on pictures whose answer is known by eye."""

from __future__ import annotations

import numpy as np
import pytest
from pictures_of_classes import stripes, train_part

from cbmir.baselines import TrainPart, _global, bovw_sift, frar_abtsvm, grey_histogram, lbp_svm_ae, svm_fusion
from cbmir.baselines import _frar as frar
from cbmir.types import Float32, UInt8


def grey(side: int, value: int = 100) -> UInt8:
    return np.full((side, side), value, np.uint8)


def ramp(side: int) -> UInt8:
    """Grey rises to the right."""
    return np.tile(np.arange(side, dtype=np.uint8), (side, 1))


def rgb(picture: UInt8) -> UInt8:
    return np.repeat(picture[None], 3, axis=0)


# --- grey-histogram ---


def test_the_grey_histogram_counts_four_grey_levels_per_bin() -> None:
    found = grey_histogram.histogram(np.array([[0, 3], [4, 255]], np.uint8))
    assert {i: v for i, v in enumerate(found.tolist()) if v} == {0: 0.5, 1: 0.25, 63: 0.25}


# --- bovw-sift ---


def test_a_gradient_to_the_right_is_all_in_direction_0_and_down_in_direction_2() -> None:
    for picture, direction in ((ramp(64), 0), (ramp(64).T, 2), (ramp(64)[:, ::-1], 4)):
        inside = bovw_sift.direction_maps(np.ascontiguousarray(picture))[8:-8, 8:-8]
        expected = np.zeros(8)
        expected[direction] = 1  # one grey level per pixel
        np.testing.assert_allclose(inside, np.broadcast_to(expected, inside.shape), atol=1e-3)


def test_a_gradient_between_two_directions_is_shared() -> None:
    slope = (np.arange(64)[:, None] * 1.0 + np.arange(64)[None, :] * 2.0).astype(np.uint8)  # 26.57 degrees
    middle = bovw_sift.direction_maps(slope)[20, 20]
    assert middle[1] / middle.sum() == pytest.approx(np.rad2deg(np.arctan2(1, 2)) / 45, abs=1e-3)


def test_descriptors_are_unit_vectors_and_flat_places_have_none() -> None:
    half = np.where(np.arange(64) < 32, grey(64), stripes(64, 8, standing=True))
    fine, coarse = bovw_sift.dense_sift(half.astype(np.uint8))
    assert fine.shape == (7 * 7, 128)  # centres 8, 16, ..., 56
    assert coarse.shape == (5 * 5, 128)  # centres 16, ..., 48
    lengths = np.linalg.norm(fine, axis=1).reshape(7, 7)
    np.testing.assert_allclose(lengths[:, 4:], 1, rtol=1e-5)
    assert (lengths[:, :2] == 0).all()


def test_each_descriptor_counts_for_its_nearest_word() -> None:
    picture = stripes(64, 8, standing=True)
    seen = bovw_sift._descriptors_of(picture)
    words = np.stack([seen[0], -seen[0], np.zeros(128, np.float32)])
    counts = bovw_sift._word_counts(picture, words, (words**2).sum(axis=1) / 2)
    nearest = np.argmin(((seen[:, None] - words[None]) ** 2).sum(axis=-1), axis=1)
    assert counts.tolist() == np.bincount(nearest, minlength=3).tolist()


def test_a_picture_without_words_is_far_from_all_others_not_near() -> None:
    side = bovw_sift.SIDE
    pictures = [stripes(side, period, standing=standing) for period in (9, 14, 21) for standing in (True, False)]
    images = np.stack([*pictures, grey(side)])[:, None]
    method = bovw_sift.BovwSift(n_words=40)
    method.fit(TrainPart(images, ["a"] * 7, list("abcdefg")), seed=1)
    features = method.features(images)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    to_flat = np.linalg.norm(features[:6] - features[6], axis=1)
    np.testing.assert_allclose(to_flat, np.sqrt(2), rtol=1e-5)


# --- lbp-svm-ae ---


def test_a_flat_picture_has_the_pattern_of_all_ones_everywhere() -> None:
    found = lbp_svm_ae.lbp_of_blocks(grey(128))
    inside = found.reshape(8, 8, 59)[1:-1, 1:-1]
    assert (inside[:, :, 57] == 1).all()  # scikit-image pads with black, which only the border sees


def test_a_block_has_the_pattern_of_its_own_pixels() -> None:
    picture = grey(128)
    picture[32:48, 48:64] = stripes(16, 4, standing=True)  # block row 2, column 3
    found = lbp_svm_ae.lbp_of_blocks(picture)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    changed = np.flatnonzero(np.abs(found - lbp_svm_ae.lbp_of_blocks(grey(128))).sum(axis=1) > 0.3)
    assert changed.tolist() == [2 * 8 + 3]


def test_blocks_are_cut_along_rows() -> None:
    numbered = np.repeat(np.repeat(np.arange(64).reshape(8, 8), 16, axis=0), 16, axis=1)
    assert (lbp_svm_ae._blocks(numbered) == np.arange(64)[:, None]).all()


def test_positions_most_classes_find_hard_are_kept() -> None:
    errors = np.array([[5, 4, 3, 0], [5, 4, 3, 0], [0, 4, 3, 9]], np.float32)  # three of four are kept
    assert lbp_svm_ae.kept_positions(errors).tolist() == [0, 1, 2]
    assert lbp_svm_ae.kept_positions(np.array([[1, 2, 0, 3]], np.float32)).tolist() == [0, 1, 3]


def test_an_autoencoder_leaves_more_error_where_there_is_noise() -> None:
    rng = np.random.default_rng(0)
    images = np.zeros((12, 1, 128, 128), np.uint8)
    images[:, :, :64] = rng.integers(0, 255, (12, 1, 64, 128), dtype=np.uint8)
    errors = lbp_svm_ae._errors_by_class(images, ["a"] * 12, seed=1)[0]
    assert errors[:32].min() > errors[32:].max()


# --- frar-abtsvm ---


def test_the_weights_of_the_model_are_those_of_the_paper() -> None:
    theta, phi, alpha = np.pi / 5, np.pi / 4, 1.5
    expected = np.array([np.sin(r * theta) * np.cos(r * phi) / alpha**r for r in (1, 2, 3, 4)])
    expected /= np.linalg.norm(expected)
    assert np.isclose(frar.grid(), expected, atol=1e-6).all(axis=1).any()
    assert len(frar.grid()) == frar.N_CELLS


def test_the_fit_agrees_with_least_squares_window_by_window() -> None:
    values = np.random.default_rng(2).integers(0, 255, (40, 40)).astype(np.float32)
    fitted = frar.fit_frar(values)
    row, column, cell = 9, 7, 5  # the window around pixel (18, 14)
    window = [(y, x) for y in range(16, 21) for x in range(12, 17)]
    pixels = np.array([values[y, x] for y, x in window], np.float64)
    neighbours = np.array([sum_of_rings(values, y, x) for y, x in window]) @ frar.grid().T  # (25, cells)
    pixels, neighbours = pixels - pixels.mean(), neighbours - neighbours.mean(axis=0)
    k = (neighbours * pixels[:, None]).mean(axis=0) / ((neighbours**2).mean(axis=0) + frar.QUANTISATION)
    left = (pixels**2).mean() - k * (neighbours * pixels[:, None]).mean(axis=0) + frar.QUANTISATION
    posterior = (left / left.min()) ** (-25 / 2)
    posterior /= posterior.sum()
    assert fitted.posterior[row, column, cell] == pytest.approx(posterior[cell], rel=2e-2)
    assert fitted.noise[row, column] == pytest.approx((posterior * left).sum() - frar.QUANTISATION, rel=1e-3)


def sum_of_rings(values: Float32, y: int, x: int) -> list[float]:
    """Mean of the neighbours at city-block distance 1, 2, 3, 4 in the 5 x 5 neighbourhood."""
    rings: dict[int, list[float]] = {}
    for down in range(-2, 3):
        for right in range(-2, 3):
            rings.setdefault(abs(down) + abs(right), []).append(float(values[y + down, x + right]))
    return [float(np.mean(rings[r])) for r in (1, 2, 3, 4)]


def test_a_flat_picture_has_no_noise_and_no_opinion_of_its_texture() -> None:
    fitted = frar.fit_frar(np.full((128, 128), 90, np.float32))
    assert fitted.noise.max() == pytest.approx(0, abs=1e-3)
    texture = frar.micro_texture(fitted)
    np.testing.assert_allclose(texture[: frar.N_CELLS], 1 / frar.N_CELLS, rtol=1e-3)
    assert texture[frar.N_CELLS] == 1  # least noise, least explained


def test_the_autocorrelogram_counts_pairs_of_one_code() -> None:
    codes = np.random.default_rng(0).integers(-1, 2, (16, 16))  # -1 is no code
    found = frar_abtsvm.autocorrelogram(codes, 2).reshape(4, 2)
    for i, apart in enumerate((1, 3, 5, 7)):
        pairs = [
            (codes[y, x], codes[y + down * apart, x + right * apart])
            for down, right in frar_abtsvm.DIRECTIONS
            for y in range(16)
            for x in range(16)
            if 0 <= y + down * apart < 16 and 0 <= x + right * apart < 16
        ]
        expected = [sum(a == b == code for a, b in pairs) / len(pairs) for code in (0, 1)]
        np.testing.assert_allclose(found[i], expected, rtol=1e-6)


def test_standing_stripes_have_edges_of_orientation_0_and_lying_ones_a_quarter_turn_on() -> None:
    everywhere = np.ones((128, 128), np.bool_)
    for standing, cell in ((True, 0), (False, 6)):
        cylinder = frar_abtsvm.hsv_cylinder(rgb(stripes(128, 16, standing=standing)))
        found = frar_abtsvm.edge_orientations(cylinder, everywhere)
        assert set(found[found >= 0].tolist()) == {cell}


def test_a_change_of_colour_alone_is_an_edge_of_the_hsv_cylinder() -> None:
    picture = np.zeros((3, 128, 128), np.uint8)
    picture[0, :, :64] = picture[2, :, 64:] = 200  # red beside blue, of the same value
    found = frar_abtsvm.edge_orientations(frar_abtsvm.hsv_cylinder(picture), np.ones((128, 128), np.bool_))
    assert np.flatnonzero((found >= 0).any(axis=0)).tolist() == [63, 64]


def test_colours_are_64_cells() -> None:
    picture = np.array([[[255]], [[0]], [[64]]], np.uint8)
    assert frar_abtsvm.colours(picture).item() == 3 * 16 + 0 * 4 + 1


def test_parts_get_the_same_mean_distance() -> None:
    found = np.random.default_rng(0).random((50, 6), dtype=np.float32) * np.array([1, 1, 1, 9, 9, 9], np.float32)
    scaled = found * frar_abtsvm.equal_parts(found, (3, 3))
    apart = np.abs(scaled - np.roll(scaled, 25, axis=0)).mean(axis=0)
    np.testing.assert_allclose([apart[:3].sum(), apart[3:].sum()], 1, rtol=1e-5)


# --- svm-fusion ---


@pytest.mark.parametrize(
    ("picture", "kind"),
    [
        (stripes(128, 4, standing=True), 0),
        (stripes(128, 4, standing=False), 1),
        (np.where(np.add.outer(np.arange(128) // 2, np.arange(128) // 2) % 2 == 0, 200, 0).astype(np.uint8), 4),
    ],
    ids=["standing", "lying", "chequered"],
)
def test_the_edge_histogram_tells_the_kinds_of_edges(picture: UInt8, kind: int) -> None:
    found = _global.edge_histogram(picture).reshape(16, 5)
    assert (found.argmax(axis=1) == kind).all()
    assert (found[:, kind] == 1).all()


def test_a_flat_picture_has_no_edges_and_one_pair_of_grey_levels() -> None:
    assert (_global.edge_histogram(grey(128)) == 0).all()
    energy, contrast, homogeneity, _, entropy = _global.texture(grey(128)).reshape(5, 4)
    assert (energy == 1).all()
    assert (contrast == 0).all()
    assert (homogeneity == 1).all()
    assert (entropy == 0).all()


def test_colour_moments_by_head() -> None:
    hsv = np.zeros((1, 4, 3), np.float32)
    hsv[0, :, 0] = 180  # half a turn
    hsv[0, :, 2] = [0, 0, 0, 1]  # mean 1/4, variance 3/16, third moment 3/32
    found = _global.moments(hsv).reshape(3, 3)
    np.testing.assert_allclose(found[:, 0], [0.5, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found[:, 2], [1 / 4, np.sqrt(3 / 16), np.cbrt(3 / 32)], rtol=1e-6)


def test_the_layout_is_the_mean_grey_of_parts_along_rows() -> None:
    picture = grey(128, 0)
    picture[16:32, 32:48] = 255  # part row 1, column 2
    assert np.flatnonzero(_global.layout(picture)).tolist() == [8 + 2]
    assert _global.layout(picture).max() == 1


def test_a_feature_that_finds_its_class_weighs_most_and_patients_are_hidden_from_themselves() -> None:
    rng = np.random.default_rng(0)
    n = 60
    names = np.array(["a", "b"] * (n // 2))
    patients = np.array([f"p{i // 2 % 15}{name}" for i, name in enumerate(names)])
    rows = rng.random((n, sum(_global.DIMS.values())), dtype=np.float32)
    rows[:, svm_fusion.slices()[0]] += (names == "a")[:, None] * np.float32(5)  # edges tell a from b
    weights = svm_fusion.class_weights(rows, names, patients, ("a", "b"))
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    assert (weights.argmax(axis=1) == 0).all()
    alone = np.array(["p"] * n)  # one patient: nothing may be found, so every feature is at the least precision
    np.testing.assert_allclose(svm_fusion.class_weights(rows, names, alone, ("a", "b")), 1 / len(_global.DIMS))


def test_the_vectors_realise_the_weighted_sum_of_squared_distances() -> None:
    method = svm_fusion.SvmFusion()
    train = train_part(method.preprocessing)
    method.fit(train, seed=1)
    images = train.images
    posterior = method.classify(images[:2])
    assert posterior is not None
    weights = posterior @ method.weights  # both lie: nearly the same weights
    standard = method._standard(images[:2])
    fused = sum(
        w * float(((standard[0, part] - standard[1, part]) ** 2).sum())
        for w, part in zip(weights.mean(axis=0), svm_fusion.slices(), strict=True)
    )
    x, y = method.features(images[:2])
    assert float(((x - y) ** 2).sum()) == pytest.approx(fused, rel=0.02)
