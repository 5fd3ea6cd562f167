"""Features of a full-range autoregressive model, and a binary tree of SVMs [49]. FRAR-style: see what we had to choose.

From the paper (Seetharaman, Sathiamoorthy, A unified learning framework for content based medical image retrieval using
a statistical model, JKSU-CIS 28(1), 2016): one model, FRAR with Bayesian estimates, is under three features: colour
autocorrelogram, edge-orientation autocorrelogram in HSV space, micro-texture. FRAR predicts a pixel from its
neighbours at distance r with weight K sin(r theta) cos(r phi) / alpha^r. An adaptive binary-tree SVM sorts the
collection, the Manhattan distance ranks inside the class.

What we had to choose: 128 x 128 pixels in RGB (a CT has one window per channel). FRAR on the value of HSV, over the
5 x 5 neighbourhood with r = |row| + |column|, means taken away, estimated in 5 x 5 windows at every second pixel:
theta, phi and alpha have a uniform prior on a grid of 48, K a flat one, the noise variance 1 / variance. Micro-texture
is the mean posterior of the grid's cells, and how often each pair of noise variance and explained share occurs. A pixel
is an edge where the noise variance is above its mean over the picture; its orientation is Di Zenzo's gradient in the
cylinder of HSV (12 orientations). Colours are 64 cells of RGB. Both autocorrelograms count pairs at distances 1, 3, 5
and 7 in four directions, divided by the number of all pairs, not of the colour's pixels, since few are noisy.
Values are square-rooted (better than plain on train folds: mAP 0.59, not 0.57), and the three parts have equal mean
Manhattan distance on the train part. The tree's machines have RBF kernels. Relevance feedback is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..distances import Distance
from ..encoder import Encoded
from ..preprocess import Preprocessing
from ..types import Bool, Float32, Int, Progress, UInt8
from . import TrainPart
from ._frar import N_TEXTURE, Fitted, fit_frar, micro_texture
from ._handmade import image_rows
from ._states import ArrayMethod, Arrays
from ._svm import Svm, fit_svm

SIDE = 128
DISTANCES_APART = (1, 3, 5, 7)
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
N_ORIENTATIONS = 12
N_COLOURS = 64
PARTS = (N_COLOURS * len(DISTANCES_APART), N_ORIENTATIONS * len(DISTANCES_APART), N_TEXTURE)
GAMMA = 1.0


class FrarAbtsvm(ArrayMethod):
    """Colour autocorrelogram (256), edge-orientation autocorrelogram (48), micro-texture (84), each scaled. dim 388."""

    name = "frar-abtsvm"
    distance: Distance = "manhattan"
    preprocessing = Preprocessing(size=SIDE, crop=SIDE, channels="rgb")

    def __init__(self) -> None:
        self.scale = np.ones(sum(PARTS), np.float32)
        self.svm: Svm | None = None

    def fit(self, train: TrainPart, *, seed: int, on_progress: Progress | None = None) -> None:
        """The weights of the parts, then the tree."""
        found = image_rows(train.images, describe, sum(PARTS), on_progress)
        self.scale = equal_parts(found, PARTS)
        self.svm = fit_svm(found * self.scale, train.labels, train.patients, plan="tree", gamma=GAMMA, seed=seed)
        self.classes = self.svm.classes
        self.fitted = True

    def encode(self, images: UInt8) -> Encoded:
        self._need_fit()
        assert self.svm is not None, "fitted"
        rows = image_rows(images, describe, sum(PARTS)) * self.scale
        return Encoded({self.name: rows}, self.svm.posterior(rows))

    def _state(self) -> Arrays:
        return {"scale": self.scale} | ({} if self.svm is None else self.svm.arrays())

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.scale, self.svm = arrays["scale"], Svm.from_arrays(arrays)


def describe(image: UInt8) -> Float32:
    """Square roots of all three parts, float32 (388,). image: uint8 RGB (3, 128, 128)."""
    cylinder = hsv_cylinder(image)
    fitted = fit_frar(cylinder[2] * 255)
    orientations = edge_orientations(cylinder, edges(fitted, image.shape[1]))
    parts = (
        autocorrelogram(colours(image), N_COLOURS),
        autocorrelogram(orientations, N_ORIENTATIONS),
        micro_texture(fitted),
    )
    return np.sqrt(np.concatenate(parts))


def colours(image: UInt8) -> Int:
    """Cells of RGB, 4 levels a channel: int64 (side, side), 0 to 63."""
    levels: Int = (image >> 6).astype(np.int64)
    return np.asarray(levels[0] * 16 + levels[1] * 4 + levels[2], np.int64)


def autocorrelogram(codes: Int, n_codes: int) -> Float32:
    """How often a pixel and another at distance d have the same code: float32 (n_codes * distances,).

    codes: (side, side), 0 to n_codes - 1; below 0 is no code. The share of all pairs in four directions, so that the
    values of one distance sum to at most 1. Source: Huang et al., Image indexing using color correlograms, CVPR 1997.
    """
    found = np.zeros((len(DISTANCES_APART), n_codes), np.float32)
    for i, apart in enumerate(DISTANCES_APART):
        n_pairs = 0
        for down, right in DIRECTIONS:
            here, there = _shifted(codes, down * apart, right * apart)
            same = here[(here == there) & (here >= 0)]
            found[i] += np.bincount(same, minlength=n_codes)
            n_pairs += here.size
        found[i] /= max(n_pairs, 1)
    return found.ravel()


def _shifted(codes: Int, down: int, right: int) -> tuple[Int, Int]:
    """Pixels and their partners so far away, where both are in the picture. down is at least 0."""
    rows, columns = codes.shape
    upper, lower = codes[: rows - down], codes[down:]
    if right >= 0:
        return upper[:, : columns - right], lower[:, right:]
    return upper[:, -right:], lower[:, : columns + right]


def hsv_cylinder(image: UInt8) -> Float32:
    """(S cos H, S sin H, V): float32 (3, side, side), V in [0, 1]. Grey pixels have S = 0."""
    import cv2

    hsv = cv2.cvtColor(np.ascontiguousarray(image.transpose(1, 2, 0)).astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hue, saturation, value = (np.asarray(hsv[:, :, channel], np.float32) for channel in range(3))
    turn = np.deg2rad(hue)
    return np.stack([saturation * np.cos(turn), saturation * np.sin(turn), value])


def edges(fitted: Fitted, side: int) -> Bool:
    """Where the model leaves more noise than on average: bool (side, side)."""
    noisy = fitted.noise > max(float(fitted.noise.mean()), 1.0)
    return np.repeat(np.repeat(noisy, 2, axis=0), 2, axis=1)[:side, :side]


def edge_orientations(cylinder: Float32, edge: Bool) -> Int:
    """Orientation of the gradient of several channels at edges, in 12 cells of 15 degrees; -1 elsewhere.

    0 is centred on a gradient along a row. Source: Di Zenzo, CVGIP 33(1), 1986: main axis of the sum of the channels'
    gradient tensors; Mahmoudi et al., Pattern Recognition 36(8), 2003, for the autocorrelogram.
    """
    import cv2

    across = np.stack([cv2.Sobel(channel, -1, 1, 0) for channel in cylinder])
    down = np.stack([cv2.Sobel(channel, -1, 0, 1) for channel in cylinder])
    xx, yy, xy = (across**2).sum(axis=0), (down**2).sum(axis=0), (across * down).sum(axis=0)
    turn = np.arctan2(2 * xy, xx - yy) / (2 * np.pi)  # of the doubled angle: -0.5 to 0.5
    cells = np.round(turn * N_ORIENTATIONS).astype(np.int64) % N_ORIENTATIONS
    return np.where(edge & (xx + yy > 0), cells, -1)


def equal_parts(found: Float32, parts: Sequence[int]) -> Float32:
    """One weight per column, the same inside a part, that give each part a mean Manhattan distance of 1.

    Between neighbours in the order given and half a collection on, which stands for all pairs.
    """
    other = np.roll(found, len(found) // 2 or 1, axis=0)
    apart = np.abs(found - other).mean(axis=0)
    scale, start = np.empty(len(apart), np.float32), 0
    for size in parts:
        total = float(apart[start : start + size].sum())
        scale[start : start + size] = 1 / total if total > 0 else 1
        start += size
    return scale
