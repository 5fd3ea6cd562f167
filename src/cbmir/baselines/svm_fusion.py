"""An SVM's class as filter, and a fusion of several similarities weighted for that class [5].

From the paper (Rahman, Antani, Thoma, A learning-based similarity fusion and filtering approach for biomedical image
retrieval using SVM classification and relevance feedback, IEEE TITB 15(4), 2011; read in the abstract): a multiclass
SVM says how likely each category is, of the query and of the database; that filters the database, and sets the
weights, computed beforehand, of a linear combination of the similarities under several features.

What we had to choose: 128 x 128 pixels in RGB; four global features: MPEG-7 edge histogram, HSV colour moments,
co-occurrence texture, mean grey of 8 x 8 parts; standardised, Euclidean each, with an equal mean squared distance. The
weight of a feature for a class is the square of its precision among the first ten, on the train part without the
image's own patient; the weights of an image are the mean over its posterior. One SVM against one, RBF.
So that vectors can be stored, each is multiplied by the roots of its own weights: between images of one class the
squared Euclidean distance is then the paper's weighted sum of squared distances; between classes it is close to it.
The filter is the benchmark's gate. Keypoint and concept features and relevance feedback are left out.
Tried on train folds: one set of weights for all classes (mAP 0.61, not 0.62); precision to the power of 1 and 3 (0.62,
0.63).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..distances import Distance, distances
from ..encoder import Encoded
from ..preprocess import Preprocessing
from ..types import Float32, Progress, UInt8
from . import TrainPart
from ._global import DIMS, describe
from ._handmade import drawn, image_rows
from ._states import ArrayMethod, Arrays
from ._svm import Svm, fit_svm

SIDE = 128
GAMMA = 1.0
FIRST = 10
N_IMAGES_FOR_WEIGHTS = 4000
LEAST_PRECISION = 0.02


class SvmFusion(ArrayMethod):
    """Four standardised features, each times the root of its weight for the picture's class. dim 173."""

    name = "svm-fusion"
    distance: Distance = "euclidean"
    preprocessing = Preprocessing(size=SIDE, crop=SIDE, channels="rgb")

    def __init__(self) -> None:
        self.mean = np.zeros(sum(DIMS.values()), np.float32)
        self.scale = np.ones(sum(DIMS.values()), np.float32)
        self.weights = np.ones((0, len(DIMS)), np.float32)
        self.svm: Svm | None = None

    def fit(self, train: TrainPart, *, seed: int, on_progress: Progress | None = None) -> None:
        """Standardisation, the SVM, then each class's weights."""
        found = image_rows(train.images, describe, sum(DIMS.values()), on_progress)
        self.mean, self.scale = _standard(found)
        standard = (found - self.mean) * self.scale
        self.svm = fit_svm(standard, train.labels, train.patients, plan="one against one", gamma=GAMMA, seed=seed)
        self.classes = self.svm.classes
        some = drawn(len(train), N_IMAGES_FOR_WEIGHTS, np.random.default_rng(seed))
        names, who = np.array(train.labels, dtype=np.str_), np.array(train.patients, dtype=np.str_)
        self.weights = class_weights(standard[some], names[some], who[some], self.classes)
        self.fitted = True

    def encode(self, images: UInt8) -> Encoded:
        self._need_fit()
        assert self.svm is not None, "fitted"
        standard = self._standard(images)
        posterior = self.svm.posterior(standard)
        weights = np.repeat(posterior @ self.weights, list(DIMS.values()), axis=1)
        return Encoded({self.name: standard * np.sqrt(weights)}, posterior)

    def _standard(self, images: UInt8) -> Float32:
        return (image_rows(images, describe, sum(DIMS.values())) - self.mean) * self.scale

    def _state(self) -> Arrays:
        own = {"mean": self.mean, "scale": self.scale, "weights": self.weights}
        return own | ({} if self.svm is None else self.svm.arrays())

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.mean, self.scale, self.weights = arrays["mean"], arrays["scale"], arrays["weights"]
        self.svm = Svm.from_arrays(arrays)


def class_weights(
    standard: Float32, names: npt.NDArray[np.str_], patients: npt.NDArray[np.str_], classes: Sequence[str]
) -> Float32:
    """Per class and feature the squared precision among the first hits, scaled to sum 1: float32 (K, features).

    An image's own patient is hidden from it. Precision is at least LEAST_PRECISION, so that no feature is lost.
    """
    weights = np.zeros((len(classes), len(DIMS)), np.float32)
    for feature, columns in enumerate(slices()):
        precise = _precision(np.ascontiguousarray(standard[:, columns]), names, patients)
        for k, name in enumerate(classes):
            own = precise[names == name]
            weights[k, feature] = max(float(own.mean()) if len(own) else 0, LEAST_PRECISION) ** 2
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def slices() -> list[slice]:
    """Where each feature of DIMS lies in a row."""
    ends = np.cumsum(list(DIMS.values())).tolist()
    return [slice(end - dim, end) for end, dim in zip(ends, DIMS.values(), strict=True)]


def _precision(rows: Float32, names: npt.NDArray[np.str_], patients: npt.NDArray[np.str_]) -> Float32:
    """Of every row: the share of its class among the first hits of other patients."""
    found = np.zeros(len(rows), np.float32)
    for start in range(0, len(rows), 500):
        block = slice(start, start + 500)
        apart = distances(rows[block], rows, "euclidean")
        apart[patients[block][:, None] == patients[None, :]] = np.inf
        first = np.argsort(apart, axis=1, kind="stable")[:, :FIRST]
        seen = np.isfinite(np.take_along_axis(apart, first, axis=1))
        found[block] = ((names[first] == names[block][:, None]) & seen).sum(axis=1) / FIRST
    return found


def _standard(found: Float32) -> tuple[Float32, Float32]:
    """Mean, and what gives every value of a feature the same say and two images a mean squared distance of 1."""
    mean, deviation = found.mean(axis=0), found.std(axis=0)
    sizes = np.repeat(list(DIMS.values()), list(DIMS.values()))
    floor = 1e-3 * max(float(deviation.max(initial=0)), 1e-9)
    usable = np.where(deviation > floor * 1e-3, deviation, np.inf)
    return mean.astype(np.float32), (1 / (usable * np.sqrt(2 * sizes))).astype(np.float32)
