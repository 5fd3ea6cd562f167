"""What every handcrafted method keeps to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures_of_classes import CLASSES, pictures, train_part

from cbmir.baselines import DISTANCES, NAMES, Method, TrainPart, method_named
from cbmir.baselines.bovw_sift import BovwSift
from cbmir.distances import distances
from cbmir.errors import CbmirError, UsageError
from cbmir.types import UInt8

HANDMADE = ("pixels", "grey-histogram", "bovw-sift", "lbp-svm-ae", "frar-abtsvm", "svm-fusion")
FITTED = ("bovw-sift", "lbp-svm-ae", "frar-abtsvm", "svm-fusion")
CLASSIFYING = ("lbp-svm-ae", "frar-abtsvm", "svm-fusion")

Fitted = tuple[Method, UInt8]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer words and passes than for a real collection."""
    monkeypatch.setattr("cbmir.baselines.bovw_sift.N_DESCRIPTORS_FOR_WORDS", 1500)
    monkeypatch.setattr("cbmir.baselines.lbp_svm_ae.N_PASSES", 2)


def new(name: str) -> Method:
    return BovwSift(n_words=30) if name == "bovw-sift" else method_named(name)


def fitted(name: str, seed: int = 1) -> Fitted:
    method = new(name)
    train = train_part(method.preprocessing)
    method.fit(train, seed=seed)
    return method, train.images


@pytest.mark.parametrize("name", HANDMADE)
def test_the_nearest_other_picture_is_of_the_same_class(name: str) -> None:
    method, _ = fitted(name)
    images, labels, _ = pictures(method.preprocessing, seed=9)  # not those it was fitted on
    features = method.features(images)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert method.distance in DISTANCES
    apart = distances(features, features, method.distance)
    np.fill_diagonal(apart, np.inf)
    nearest = [labels[i] for i in apart.argmin(axis=1)]
    right = np.mean([a == b for a, b in zip(nearest, labels, strict=True)])
    assert right > (0.6 if name in ("pixels", "grey-histogram") else 0.95)


@pytest.mark.parametrize("name", CLASSIFYING)
def test_the_posterior_names_the_class_and_sums_to_one(name: str) -> None:
    method, _ = fitted(name)
    images, labels, _ = pictures(method.preprocessing, seed=9)
    posterior = method.classify(images)
    assert posterior is not None
    assert posterior.dtype == np.float32
    assert method.classes == CLASSES
    np.testing.assert_allclose(posterior.sum(axis=1), 1, atol=1e-5)
    assert [method.classes[k] for k in posterior.argmax(axis=1)] == labels


@pytest.mark.parametrize("name", sorted(set(HANDMADE) - set(CLASSIFYING)))
def test_a_method_without_a_classifier_says_so(name: str) -> None:
    method, images = fitted(name)
    assert method.classify(images) is None
    assert method.classes == ()


@pytest.mark.parametrize("name", HANDMADE)
def test_a_method_saved_and_loaded_answers_the_same(name: str, tmp_path: Path) -> None:
    method, images = fitted(name)
    method.save(tmp_path / "state")
    again = method_named(name)
    again.load(tmp_path / "state")
    assert again.classes == method.classes
    np.testing.assert_array_equal(again.features(images), method.features(images))
    posterior, before = again.classify(images), method.classify(images)
    assert (posterior is None) == (before is None)
    if posterior is not None and before is not None:
        np.testing.assert_array_equal(posterior, before)


@pytest.mark.parametrize("name", FITTED)
def test_the_same_seed_gives_the_same_method(name: str) -> None:
    (one, images), (other, _) = fitted(name, seed=3), fitted(name, seed=3)
    np.testing.assert_array_equal(one.features(images), other.features(images))


@pytest.mark.parametrize("name", FITTED)
def test_a_picture_is_described_the_same_alone_and_among_others(name: str) -> None:
    method, images = fitted(name)
    np.testing.assert_allclose(method.features(images[3:4]), method.features(images)[3:4], atol=1e-6)


@pytest.mark.parametrize("name", HANDMADE)
def test_black_white_and_no_pictures_give_finite_features(name: str) -> None:
    method, images = fitted(name)
    flat = np.stack([np.zeros_like(images[0]), np.full_like(images[0], 255)])
    features = method.features(flat)
    assert np.isfinite(features).all()
    assert method.features(images[:0]).shape == (0, features.shape[1])


@pytest.mark.parametrize("name", FITTED)
def test_one_class_of_flat_pictures_can_be_fitted(name: str) -> None:
    method = new(name)
    side, channels = method.preprocessing.crop, method.preprocessing.n_channels
    images = np.zeros((3, channels, side, side), np.uint8)
    method.fit(TrainPart(images, ["only"] * 3, ["a", "b", "c"]), seed=1)
    assert np.isfinite(method.features(images)).all()
    posterior = method.classify(images)
    assert posterior is None or posterior.tolist() == [[1], [1], [1]]


@pytest.mark.parametrize("name", FITTED)
def test_a_method_that_is_not_fitted_says_so(name: str) -> None:
    method = method_named(name)
    side, channels = method.preprocessing.crop, method.preprocessing.n_channels
    with pytest.raises(UsageError, match=f"'{name}' is not fitted"):
        method.features(np.zeros((1, channels, side, side), np.uint8))


def test_labels_and_patients_are_one_per_image() -> None:
    images, labels, patients = pictures(method_named("svm-fusion").preprocessing)
    with pytest.raises(UsageError, match=r"18 images need as many labels \(17\)"):
        TrainPart(images, labels[:-1], patients)
    with pytest.raises(UsageError, match="no images"):
        TrainPart(images[:0], [], [])


def test_the_state_of_another_method_or_none_or_half_a_file_is_refused(tmp_path: Path) -> None:
    method, _ = fitted("grey-histogram")
    with pytest.raises(CbmirError, match="was not saved there"):
        method.load(tmp_path)
    method.save(tmp_path)
    with pytest.raises(CbmirError, match="not of the method 'pixels'"):
        method_named("pixels").load(tmp_path)
    state = tmp_path / "state.npz"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(CbmirError, match="is damaged"):
        method.load(tmp_path)


def test_progress_counts_the_images() -> None:
    method = method_named("svm-fusion")
    seen: list[tuple[int, int]] = []
    method.fit(train_part(method.preprocessing), seed=1, on_progress=lambda done, of: seen.append((done, of)))
    assert seen == [(i, 18) for i in range(1, 19)]


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no method 'magic': choose one of pixels, .*frozen:PATH, encoder:PATH"):
        method_named("magic")
    assert set(HANDMADE) < set(NAMES)
