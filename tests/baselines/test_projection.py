"""Whitening and the discriminant projection: checked with scikit-learn and by hand, and behind a toy method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cbmir.baselines import Method, TrainPart
from cbmir.baselines.projection import (
    SHRINKAGE_UNTRIED,
    SHRINKAGES,
    WHITENED_DIM_UNTRIED,
    WHITENED_DIMS,
    Projected,
    choose_dim,
    choose_shrinkage,
    fit_whitening,
    mean_ap,
    numbers_of,
    scatter_of,
    unit,
)
from cbmir.distances import Distance
from cbmir.encoder import Encoded
from cbmir.errors import CbmirError, UsageError
from cbmir.preprocess import Preprocessing
from cbmir.types import Float32, Progress, UInt8


class Flat:
    """The picture's pixels as they are; no classes."""

    name = fit_name = "flat"
    layers = ("flat",)
    base: Method | None = None
    learns = True
    distance: Distance = "manhattan"
    preprocessing = Preprocessing(size=4, crop=4)
    classes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.n_fits = 0

    def fit(self, train: TrainPart, *, seed: int, on_progress: Progress | None = None) -> None:
        self.n_fits += 1

    def encode(self, images: UInt8) -> Encoded:
        return Encoded({"flat": self.features(images)}, None)

    def features(self, images: UInt8) -> Float32:
        return images.reshape(len(images), -1).astype(np.float32)

    def classify(self, images: UInt8) -> Float32 | None:
        return None

    def save(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "flat").write_text("here")

    def load(self, folder: Path) -> None:
        assert (folder / "flat").read_text() == "here"


def clouds(n: int = 240, seed: int = 0) -> tuple[Float32, list[str], list[str]]:
    """Three classes that differ in two of 16 values, which a third, common one drowns; four images a patient."""
    rng = np.random.default_rng(seed)
    labels = [("a", "b", "c")[i % 3] for i in range(n)]
    rows = rng.normal(size=(n, 16)).astype(np.float32)
    rows[:, 2] *= 30
    rows[:, 0] += [3.0 * (label == "a") for label in labels]
    rows[:, 1] += [3.0 * (label == "b") for label in labels]
    return rows, labels, [f"patient {i // 12} {i % 3}" for i in range(n)]


def as_images(rows: Float32) -> UInt8:
    images: UInt8 = np.clip(np.rint(rows * 2 + 128), 0, 255).astype(np.uint8).reshape(-1, 1, 4, 4)
    return images


def test_whitening_is_that_of_scikit_learn_made_to_unit_length() -> None:
    rows, _, _ = clouds()
    ours = fit_whitening(rows, 5)(rows)
    theirs = unit(PCA(5, whiten=True, svd_solver="full").fit_transform(rows.astype(np.float64)))
    signs = np.sign((ours * theirs).sum(axis=0))
    assert np.allclose(ours, theirs * signs, atol=1e-4)
    assert np.linalg.norm(ours, axis=1) == pytest.approx(np.ones(len(rows)), abs=1e-5)


def test_directions_without_variance_are_dropped_instead_of_blown_up() -> None:
    rows, _, _ = clouds()
    doubled = np.hstack([rows, rows])  # 32 values, 16 directions
    assert fit_whitening(doubled, 32).matrix.shape == (32, 16)


@pytest.mark.parametrize("shrinkage", [0.01, 0.5])
def test_the_posterior_is_that_of_scikit_learn(shrinkage: float) -> None:
    rows, labels, _ = clouds()
    ours = scatter_of(rows, numbers_of(labels)).discriminant(shrinkage)
    within = scatter_of(rows, numbers_of(labels)).within
    assert within.shape == (16, 16)
    # scikit-learn standardises each class before it shrinks, so it is given the shrunk covariance to estimate
    theirs = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Fixed(within, shrinkage)).fit(rows, labels)
    assert np.allclose(ours.posterior(rows), theirs.predict_proba(rows), atol=1e-4)


class Fixed:
    """A covariance estimator that has made up its mind: (1 - s) S + s trace(S) / d I."""

    def __init__(self, within: np.ndarray, shrinkage: float) -> None:
        self.within, self.shrinkage = within, shrinkage

    def get_params(self, deep: bool = True) -> dict[str, object]:
        return {"within": self.within, "shrinkage": self.shrinkage}

    def fit(self, rows: np.ndarray) -> Fixed:
        identity = np.eye(len(self.within)) * np.trace(self.within) / len(self.within)
        self.covariance_ = (1 - self.shrinkage) * self.within + self.shrinkage * identity
        return self


def test_the_axes_see_what_separates_the_classes_in_units_of_their_spread() -> None:
    rows, labels, _ = clouds(3000)
    fitted = scatter_of(rows, numbers_of(labels)).discriminant(0.0)
    assert fitted.matrix.shape == (16, 2)
    projected = (rows - fitted.mean) @ fitted.matrix
    within = scatter_of(projected, numbers_of(labels)).within
    assert np.allclose(within, np.eye(2), atol=1e-3)
    noise = np.abs(fitted.matrix[3:]).max()
    assert noise < 0.1 < np.abs(fitted.matrix[:2]).max()


def test_classes_of_one_point_each_are_told_apart() -> None:
    features = np.array([[0, 0], [0, 0], [1, 0], [1, 0]], np.float32)
    discriminant = scatter_of(features, np.array([0, 0, 1, 1])).discriminant(0.1)
    assert discriminant.posterior(features).argmax(axis=1).tolist() == [0, 0, 1, 1]


def test_more_values_than_images_are_no_trouble() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(12, 50)).astype(np.float32)
    fitted = scatter_of(rows, np.arange(12) % 3).discriminant(0.1)
    assert np.isfinite(fitted(rows)).all()
    assert (fitted.posterior(rows).argmax(axis=1) == np.arange(12) % 3).all()


def test_mean_ap_ranks_by_cosine_and_leaves_out_queries_without_a_class_in_the_gallery() -> None:
    gallery = unit(np.array([[1, 0], [1, 1], [0, 1]], np.float32))
    queries = unit(np.array([[5, 0], [0, 2]], np.float32))
    value = mean_ap(queries, np.array(["a", "nowhere"]), gallery, np.array(["a", "b", "a"]))
    assert value == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_shrinkage_and_dim_are_chosen_inside_by_patient_and_the_same_for_a_seed() -> None:
    rows, labels, patients = clouds()
    chosen = choose_shrinkage(rows, labels, patients, seed=1), choose_dim(rows, labels, patients, seed=1)
    assert chosen[0] in SHRINKAGES
    assert chosen[1] in WHITENED_DIMS
    assert chosen == (choose_shrinkage(rows, labels, patients, seed=1), choose_dim(rows, labels, patients, seed=1))
    two = ["one" if patient.endswith("0") else "other" for patient in patients]
    assert choose_shrinkage(rows, labels, two, seed=1) == SHRINKAGE_UNTRIED
    assert choose_dim(rows, labels, two, seed=1) == WHITENED_DIM_UNTRIED


def test_a_projected_method_retrieves_and_classifies_better_and_reads_back_what_it_saved(tmp_path: Path) -> None:
    rows, labels, patients = clouds()
    new, truth, _ = clouds(60, seed=9)
    base = Flat()
    method: Method = Projected(base, "lda")
    method.fit(TrainPart(as_images(rows), labels, patients), seed=1)
    assert (method.name, method.distance, method.classes, base.n_fits) == ("flat+lda", "euclidean", ("a", "b", "c"), 1)
    features, posterior = method.features(as_images(new)), method.classify(as_images(new))
    assert posterior is not None
    assert features.shape == (60, 2)
    assert posterior.sum(axis=1) == pytest.approx(np.ones(60), abs=1e-5)
    right = np.array(method.classes)[posterior.argmax(axis=1)] == truth
    assert right.mean() > 0.8
    plain = mean_ap(
        unit(base.features(as_images(new))), np.array(truth), unit(base.features(as_images(rows))), np.array(labels)
    )
    assert mean_ap(features, np.array(truth), method.features(as_images(rows)), np.array(labels)) > plain + 0.2

    method.save(tmp_path)
    loaded = Projected(Flat(), "lda")
    loaded.load(tmp_path)
    assert loaded.classes == method.classes
    assert np.array_equal(loaded.features(as_images(new)), features)
    with pytest.raises(CbmirError, match="not of the method"):
        Projected(Flat(), "whiten").load(tmp_path)


def test_whitening_keeps_the_methods_own_classes(tmp_path: Path) -> None:
    rows, labels, patients = clouds()
    method = Projected(Flat(), "whiten")
    method.fit(TrainPart(as_images(rows), labels, patients), seed=1)
    assert method.classes == ()
    assert method.classify(as_images(rows)) is None
    method.save(tmp_path)
    loaded = Projected(Flat(), "whiten")
    loaded.load(tmp_path)
    assert np.array_equal(loaded.features(as_images(rows)), method.features(as_images(rows)))


def test_what_cannot_be_projected_says_so() -> None:
    images = np.zeros((2, 1, 4, 4), np.uint8)
    with pytest.raises(UsageError, match="whiten or lda"):
        Projected(Flat(), "pca")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not fitted"):
        Projected(Flat(), "lda").features(images)
    with pytest.raises(UsageError, match="two classes"):
        Projected(Flat(), "lda").fit(TrainPart(images, ["a", "a"], ["1", "2"]), seed=1)
