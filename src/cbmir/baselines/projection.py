"""What can stand behind any method: PCA whitening, and a linear discriminant projection. `NAME+whiten`, `NAME+lda`.

Whitening: Jegou and Chum, Negative evidences and co-occurrences, ECCV 2012. Discriminant: Fisher 1936 and Rao 1948,
with the part s of the within-class covariance replaced by a multiple of the identity. We chose: s, and how many
dimensions are whitened, by the mAP of three inner folds of the train part by patient; unit vectors in the end, where
Euclidean distance ranks as the cosine. Whitening takes from mAP over whole classes what it gives to the first hits.

The features of the train part come from a method that was fitted on that same part, so a network's are too good there;
this is what a user has, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..dataset import folds
from ..distances import Distance
from ..encoder import Encoded
from ..errors import UsageError
from ..metrics import average_precision
from ..preprocess import Preprocessing
from ..types import Float32, ImageRef, Int, Progress, UInt8
from . import Method, TrainPart
from ._states import Arrays, damaged, not_fitted, read_state, write_state

Kind = Literal["whiten", "lda"]
Float64 = npt.NDArray[np.float64]
Names = npt.NDArray[np.str_]
Project = Callable[[Float32], Float32]
N_FOLDS = 3
WHITENED_DIMS = (16, 32, 64, 128, 256)
WHITENED_DIM_UNTRIED = 64
SHRINKAGES = (0.003, 0.01, 0.03, 0.1, 0.3)
SHRINKAGE_UNTRIED = 0.1
"""The untried ones are for a train part with too few patients for inner folds."""
SMALLEST_VARIANCE = 1e-6
"""Directions with less than this part of the largest variance are noise, and are dropped."""


@dataclass(frozen=True)
class Whitening:
    """mean: (dim,); matrix: (dim, kept)."""

    mean: Float32
    matrix: Float32

    def __call__(self, features: Float32) -> Float32:
        return unit((features - self.mean) @ self.matrix)

    def as_arrays(self) -> Arrays:
        return {"mean": self.mean, "matrix": self.matrix}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], name: str) -> Whitening:
        """Raises CbmirError, about the method of that name, when they are not what as_arrays gave."""
        try:
            return cls(arrays["mean"], arrays["matrix"])
        except KeyError:
            raise damaged(name) from None


@dataclass(frozen=True)
class Discriminant:
    """mean: (dim,); matrix: (dim, at most K - 1); weights (dim, K), biases (K,): log-odds of the classes."""

    mean: Float32
    matrix: Float32
    weights: Float32
    biases: Float32
    shrinkage: float

    def __call__(self, features: Float32) -> Float32:
        return unit((features - self.mean) @ self.matrix)

    def posterior(self, features: Float32) -> Float32:
        """Of Gaussian classes with one covariance, priors as in the train part; float32 (n, K)."""
        scores = ((features - self.mean) @ self.weights + self.biases).astype(np.float64)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        posterior: Float32 = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        return posterior

    def as_arrays(self) -> Arrays:
        return {name: np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], name: str) -> Discriminant:
        """Raises CbmirError, about the method of that name, when they are not what as_arrays gave."""
        try:
            mean, matrix, weights, biases = (arrays[key] for key in ("mean", "matrix", "weights", "biases"))
            return cls(mean, matrix, weights, biases, float(arrays["shrinkage"]))
        except (KeyError, ValueError):
            raise damaged(name) from None


def unit(rows: Float32 | Float64) -> Float32:
    """Each row with length 1; a row of zeros stays one."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Float32 = (rows / np.maximum(length, 1e-12)).astype(np.float32)
    return scaled


def fit_whitening(features: Float32, dim: int) -> Whitening:
    """The principal axes of (n, d) features, at most `dim`, each scaled to variance 1."""
    from scipy.linalg import eigh

    mean = features.mean(axis=0, dtype=np.float64)
    centred = features - mean
    d = len(mean)
    variances, axes = eigh(centred.T @ centred / len(features), subset_by_index=(max(0, d - dim), d - 1))
    kept = np.flatnonzero(variances > SMALLEST_VARIANCE * variances.max())[::-1]
    matrix = axes[:, kept] / np.sqrt(variances[kept])
    return Whitening(mean.astype(np.float32), matrix.astype(np.float32))


@dataclass(frozen=True)
class Scatter:
    """What a discriminant needs of the train part. means: (K, d) around the overall mean; within: (d, d) covariance."""

    mean: Float64
    means: Float64
    priors: Float64
    within: Float64

    def discriminant(self, shrinkage: float) -> Discriminant:
        """W = (1 - s) within + s trace(within) / d I. The axes A have A^T W A = 1 and separate the class means most.

        With M the class means, W^-1 M^T times the eigenvectors of M W^-1 M^T are those axes: one linear solve.
        """
        dim = len(self.within)
        shrunk = (1 - shrinkage) * self.within
        shrunk.flat[:: dim + 1] += shrinkage * (np.trace(self.within) / dim or 1)  # 0: every class is one point
        solved = np.linalg.solve(shrunk, self.means.T)  # (d, K)
        root = np.sqrt(self.priors)
        between, vectors = np.linalg.eigh(root[:, None] * (self.means @ solved) * root)
        kept = np.flatnonzero(between > 1e-9 * between.max())[::-1]
        matrix = (solved * root) @ vectors[:, kept] / np.sqrt(between[kept])
        biases = np.log(self.priors) - (self.means * solved.T).sum(axis=1) / 2
        mean, matrix, solved, biases = (part.astype(np.float32) for part in (self.mean, matrix, solved, biases))
        return Discriminant(mean, matrix, solved, biases, shrinkage)


def scatter_of(features: Float32, numbers: Int) -> Scatter:
    """numbers: (n,), index of the class from 0, every class there."""
    mean = features.mean(axis=0, dtype=np.float64)
    counts = np.bincount(numbers)
    centred = features - mean
    means = np.stack([centred[numbers == number].mean(axis=0) for number in range(len(counts))])
    rest = centred - means[numbers]
    return Scatter(mean, means, counts / len(numbers), rest.T @ rest / len(numbers))


def choose_shrinkage(features: Float32, labels: Sequence[str], patients: Sequence[str], seed: int) -> float:
    """One of SHRINKAGES, by `best_of`; SHRINKAGE_UNTRIED with too few patients."""

    def candidates(gallery: Float32, names: Names) -> Iterator[Project]:
        scatter = scatter_of(gallery, numbers_of(names))
        return (scatter.discriminant(shrinkage) for shrinkage in SHRINKAGES)

    best = best_of(candidates, features, labels, patients, seed)
    return SHRINKAGE_UNTRIED if best is None else SHRINKAGES[best]


def choose_dim(features: Float32, labels: Sequence[str], patients: Sequence[str], seed: int) -> int:
    """One of WHITENED_DIMS, by `best_of`; WHITENED_DIM_UNTRIED with too few patients."""

    def candidates(gallery: Float32, _: Names) -> Iterator[Project]:
        whitening = fit_whitening(gallery, max(WHITENED_DIMS))
        return (Whitening(whitening.mean, whitening.matrix[:, :dim]) for dim in WHITENED_DIMS)

    best = best_of(candidates, features, labels, patients, seed)
    return WHITENED_DIM_UNTRIED if best is None else WHITENED_DIMS[best]


def best_of(
    candidates: Callable[[Float32, Names], Iterable[Project]],
    features: Float32,
    labels: Sequence[str],
    patients: Sequence[str],
    seed: int,
) -> int | None:
    """The position of the candidate with the best mAP, mean of three folds by patient; None with less than 3 patients.

    candidates: fitted on the features and class names of two folds, the gallery; the third folds' images are queries.
    """
    if len(set(patients)) < N_FOLDS:
        return None
    refs = [
        ImageRef(Path(str(i)), str(i), labels={"class": label}, patient=patient)
        for i, (label, patient) in enumerate(zip(labels, patients, strict=True))
    ]
    fold_of, names = folds(refs, N_FOLDS, seed=seed), np.array(labels)
    values = []
    for fold in range(N_FOLDS):
        of_query = fold_of == fold
        gallery, queries = features[~of_query], features[of_query]
        values.append(
            [
                mean_ap(project(queries), names[of_query], project(gallery), names[~of_query])
                for project in candidates(gallery, names[~of_query])
            ]
        )
    return int(np.mean(values, axis=0).argmax())


def numbers_of(names: Sequence[str] | Names) -> Int:
    """The index of each name among the sorted names."""
    numbers: Int = np.unique(names, return_inverse=True)[1]
    return numbers


def mean_ap(queries: Float32, of_query: Names, gallery: Float32, of_row: Names) -> float:
    """mAP of unit vectors by cosine, over the queries whose class is in the gallery."""
    order = np.argsort(-(queries @ gallery.T), axis=1, kind="stable")
    relevant = of_row[order] == of_query[:, None]
    values = [average_precision(row, int(row.sum())) for row in relevant if row.any()]
    return float(np.mean(values)) if values else 0.0


class Projected:
    """Another method's features, projected; with `lda` its classes are the discriminant's, with `whiten` the other's.

    lda: dim K - 1. whiten: dim one of WHITENED_DIMS.
    """

    distance: Distance = "euclidean"
    learns = True

    def __init__(self, base: Method, kind: Kind) -> None:
        """Raises UsageError for a kind that is neither whiten nor lda."""
        if kind not in get_args(Kind):
            raise UsageError(f"A method is projected by {' or '.join(get_args(Kind))}, not by '{kind}'.")
        self.base, self.kind = base, kind
        self.name = f"{base.name}+{kind}"
        self.fit_name = f"{base.fit_name}-{base.layers[0]}+{kind}"
        self.layers = (self.name,)
        self.preprocessing: Preprocessing = base.preprocessing
        self._projection: Whitening | Discriminant | None = None
        self._own_classes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.base.classes if self.kind == "whiten" else self._own_classes

    def fit(self, train: TrainPart, *, seed: int, on_progress: Progress | None = None) -> None:
        self.base.fit(train, seed=seed, on_progress=on_progress)
        self.fit_projection(self.base.features(train.images), train.labels, patients=train.patients, seed=seed)

    def fit_projection(self, features: Float32, labels: Sequence[str], *, patients: Sequence[str], seed: int) -> None:
        """Only the projection, on the other method's features of the train part."""
        if self.kind == "whiten":
            self._projection = fit_whitening(features, choose_dim(features, labels, patients, seed))
            return
        self._own_classes = tuple(sorted(set(labels)))
        if len(self._own_classes) < 2:
            raise UsageError("A discriminant needs images of at least two classes.")
        shrinkage = choose_shrinkage(features, labels, patients, seed)
        self._projection = scatter_of(features, numbers_of(labels)).discriminant(shrinkage)

    def encode(self, images: UInt8) -> Encoded:
        self._fitted()
        below = self.base.encode(images)
        return self.project(below.features[self.base.layers[0]], below.posterior)

    def project(self, features: Float32, posterior: Float32 | None) -> Encoded:
        """From what the other method says of some images."""
        projection = self._fitted()
        own = projection.posterior(features) if isinstance(projection, Discriminant) else posterior
        return Encoded({self.name: projection(features)}, own)

    def features(self, images: UInt8) -> Float32:
        return self.encode(images).features[self.name]

    def classify(self, images: UInt8) -> Float32 | None:
        return self.encode(images).posterior

    def _fitted(self) -> Whitening | Discriminant:
        if self._projection is None:
            raise not_fitted(self.name)
        return self._projection

    def save(self, folder: Path) -> None:
        arrays = self._fitted().as_arrays() | {"classes": np.array(self._own_classes, dtype=np.str_)}
        self.base.save(folder / "base")
        write_state(folder, self.name, arrays)

    def load(self, folder: Path) -> None:
        arrays = read_state(folder, self.name)
        kind = Whitening if self.kind == "whiten" else Discriminant
        self._projection = kind.from_arrays(arrays, self.name)
        self._own_classes = tuple(str(name) for name in arrays["classes"])
        self.base.load(folder / "base")
