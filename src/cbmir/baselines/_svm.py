"""Support vector machines with a posterior, out of two-class ones: one against one, or a binary tree of classes.

Both are a table of codes (classes, machines): machine m tells the classes of code 1 from those of -1, and 0 take no
part. One against one, the classes are voted for (Knerr et al. 1990): a class gets from each of its machines
(1 + code g) / 2, with g = 2 f cut to [-1, 1], and the posterior is softmax(T votes). In a tree it is the probability
of the path, the product of sigmoid(T code f). T is fitted on held-out patients, after Platt 1999 and Guo et al., On
Calibration of Modern Neural Networks, ICML 2017. Tried on train folds: products of sigmoids in place of votes, one
against one, name fewer images rightly (0.85, not 0.91, with the features of svm-fusion).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..types import Bool, Float32, Int
from ._handmade import drawn

Float64 = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int8]
Plan = Literal["one against one", "tree"]

MOST_IMAGES = 8000
"""Of more, so many are drawn: the kernel matrix is then 512 MB."""

_HELD = 0.25
_TEMPERATURES: Float64 = 2.0 ** np.arange(-6, 6.5, 0.5)


@dataclass(frozen=True)
class Svm:
    """classes: sorted. plan, codes: who is told from whom, int8 (K, machines). mean, scale: of the features, (dim,).

    gamma: of the kernel exp(-gamma |x - y|^2 / dim) on standardised features; 0 is the linear kernel x.y / dim.
    supports: the standardised images the machines stand on (m, dim); weights (m, machines); bias (machines,).
    A linear one needs no supports: weights are then (dim, machines).
    """

    classes: tuple[str, ...]
    plan: Plan
    codes: Codes
    mean: Float32
    scale: Float32
    gamma: float
    supports: Float32
    weights: Float32
    bias: Float32
    temperature: float

    def posterior(self, features: Float32) -> Float32:
        """float32 (n, K), rows sum to 1. features: float32 (n, dim)."""
        x = (features - self.mean) * self.scale
        inputs = x if self.gamma == 0 else _kernel(x, self.supports, self.gamma)
        decisions = inputs @ self.weights + self.bias
        return couple(decisions, self.codes, self.plan, self.temperature).astype(np.float32)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it but the classes, for an npz."""
        return {f"svm_{name}": np.array(getattr(self, name)) for name in _SAVED}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Svm:
        """The inverse of arrays; `classes` is read from there too."""
        saved: dict[str, Any] = {name: arrays[f"svm_{name}"] for name in _SAVED}
        saved |= {name: float(saved[name]) for name in ("gamma", "temperature")} | {"plan": str(saved["plan"])}
        return cls(classes=tuple(str(name) for name in arrays["classes"]), **saved)


_SAVED = ("plan", "codes", "mean", "scale", "gamma", "supports", "weights", "bias", "temperature")


def fit_svm(
    features: Float32,
    labels: Sequence[str],
    patients: Sequence[str],
    *,
    plan: Plan,
    gamma: float,
    seed: int,
    penalty: float = 10.0,
) -> Svm:
    """features: float32 (n, dim). gamma: of the kernel, see Svm. penalty: C of the machines; their classes balanced."""
    rng = np.random.default_rng(seed)
    classes, found = np.unique(np.array(labels, dtype=np.str_), return_inverse=True)
    one_each = np.unique(found, return_index=True)[1]
    chosen = np.union1d(drawn(len(features), MOST_IMAGES, rng), one_each)
    numbers, who = found[chosen].astype(np.int64), np.array(patients, dtype=np.str_)[chosen]
    mean, scale = _standard(features[chosen])
    x: Float32 = (features[chosen] - mean) * scale
    codes = binary_tree(x, numbers, len(classes)) if plan == "tree" else one_against_one(len(classes))
    kernel = _kernel(x, x, gamma)
    temperature = _temperature(kernel, numbers, codes, plan, held_out(numbers, who, rng), penalty)
    weights, bias = _machines(kernel, numbers, codes, penalty)
    names, used = tuple(str(name) for name in classes), weights.any(axis=1)
    supports, weights = x[used], weights[used]
    if gamma == 0:
        weights, supports = np.asarray(supports.T @ weights, np.float32), x[:0]
    return Svm(names, plan, codes, mean, scale, gamma, supports, weights, bias, temperature)


# --- codes ---


def one_against_one(n_classes: int) -> Codes:
    """One machine per pair of classes."""
    pairs = [(i, j) for i in range(n_classes) for j in range(i + 1, n_classes)]
    codes = np.zeros((n_classes, len(pairs)), np.int8)
    for machine, (i, j) in enumerate(pairs):
        codes[i, machine], codes[j, machine] = 1, -1
    return codes


def binary_tree(x: Float32, numbers: Int, n_classes: int) -> Codes:
    """A tree that grows with the data: at each node the two classes whose centroids are farthest apart lead, the
    others follow the nearer one. K - 1 machines, root first."""
    centroids = np.stack([x[numbers == k].mean(axis=0) for k in range(n_classes)])
    apart = np.linalg.norm(centroids[:, None] - centroids[None], axis=-1)
    columns: list[Codes] = []
    open_nodes = [np.arange(n_classes)]
    while open_nodes:
        here = open_nodes.pop()
        if len(here) < 2:
            continue
        among = apart[np.ix_(here, here)]
        left, right = np.unravel_index(int(among.argmax()), among.shape)
        follows_left = among[left] <= among[right]
        follows_left[right] = False  # where all centroids are one
        column = np.zeros(n_classes, np.int8)
        column[here] = np.where(follows_left, 1, -1)
        columns.append(column)
        open_nodes += [here[~follows_left], here[follows_left]]
    return np.stack(columns, axis=1) if columns else np.zeros((n_classes, 0), np.int8)


# --- parts of the fit ---


def couple(decisions: npt.NDArray[Any], codes: Codes, plan: Plan, temperature: float) -> Float64:
    """The posterior, float64 (n, K), rows sum to 1. decisions: (n, machines), positive for code 1."""
    f = np.asarray(decisions, np.float64)
    if plan == "tree":
        yes, no = -np.logaddexp(0, -temperature * f), -np.logaddexp(0, temperature * f)  # log sigmoid
        logs = yes @ (codes == 1).T.astype(np.float64) + no @ (codes == -1).T.astype(np.float64)
    else:
        logs = temperature * (np.clip(2 * f, -1, 1) @ codes.T.astype(np.float64)) / 2
    likely = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(likely / likely.sum(axis=1, keepdims=True), np.float64)


def held_out(numbers: Int, patients: npt.NDArray[np.str_], rng: np.random.Generator) -> Bool:
    """bool (n,): about a quarter of the patients of each class; never all of a class."""
    held: set[str] = set()
    for k in np.unique(numbers):
        own = np.unique(patients[numbers == k])
        held.update(str(name) for name in rng.permutation(own)[: int(np.ceil(len(own) * _HELD)) if len(own) > 1 else 0])
    mask = np.isin(patients, sorted(held))
    for k in np.unique(numbers):
        if mask[numbers == k].all():
            mask[numbers == k] = False
    return np.asarray(mask, np.bool_)


def _temperature(kernel: Float32, numbers: Int, codes: Codes, plan: Plan, held: Bool, penalty: float) -> float:
    """The T under which held-out images are least surprising; 1 without any."""
    if not held.any() or codes.shape[1] == 0:
        return 1.0
    weights, bias = _machines(kernel[np.ix_(~held, ~held)], numbers[~held], codes, penalty)
    decisions = kernel[np.ix_(held, ~held)] @ weights + bias
    rows = np.arange(len(decisions))
    losses = [-np.log(couple(decisions, codes, plan, t)[rows, numbers[held]] + 1e-12).mean() for t in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _machines(kernel: Float32, numbers: Int, codes: Codes, penalty: float) -> tuple[Float32, Float32]:
    """Weights of the rows (n, machines) and bias (machines,) of every machine."""
    from sklearn.svm import SVC

    weights = np.zeros((len(kernel), codes.shape[1]), np.float32)
    bias = np.zeros(codes.shape[1], np.float32)
    for machine in range(codes.shape[1]):
        sides = codes[numbers, machine]
        rows = np.flatnonzero(sides)
        svc = SVC(C=penalty, kernel="precomputed", class_weight="balanced", cache_size=64)
        svc.fit(kernel[np.ix_(rows, rows)], sides[rows])
        weights[rows[svc.support_], machine] = svc.dual_coef_[0]
        bias[machine] = svc.intercept_[0]
    return weights, bias


def _standard(features: Float32) -> tuple[Float32, Float32]:
    """Mean and 1 / (deviation sqrt(dim)), so that a row has a length near 1; a constant column counts nothing."""
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    varies = deviation > 1e-6 * max(float(deviation.max(initial=0)), 1e-12)
    scale = np.divide(1, deviation * np.sqrt(features.shape[1]), out=np.zeros_like(deviation), where=varies)
    return mean.astype(np.float32), scale.astype(np.float32)


def _kernel(x: Float32, y: Float32, gamma: float) -> Float32:
    """(n, m) of standardised rows."""
    product: Float32 = x @ y.T
    if gamma == 0:
        return product
    squared = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1)[None, :] - 2 * product
    return np.asarray(np.exp(-gamma * np.maximum(squared, 0)), np.float32)
