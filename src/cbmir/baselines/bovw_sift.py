"""Bag of visual words over SIFT [24]: dense root-SIFT, k-means words, tf-idf.

From the paper (Sivic, Russell, Efros, Zisserman, Freeman, Discovering objects and their location in images, ICCV 2005;
the retrieval scheme is Sivic and Zisserman, Video Google, ICCV 2003): images are histograms of vector-quantised SIFT;
words are weighted by how often the image has them and how few images have them (tf-idf), vectors are normalised.

What we had to choose: SIFT on a dense grid, upright and at two scales, in place of interest points, of which smooth
images (ultrasound, PET) have next to none; the flat-window variant that VLFeat calls fast dsift (box filters over
eight orientation maps, here by OpenCV; cv2.SIFT on a grid takes 20 times as long); root-SIFT (Arandjelović and
Zisserman, CVPR 2012); a patch without contrast gets no word; 1,000 words by mini-batch k-means; tf damped by a square
root, for frequent words come in bursts (Jégou et al., CVPR 2009). We leave out pLSA topics. Tried on train folds and
not better: counting per quarter of the picture as well (5,000 values), undamped tf.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..distances import Distance
from ..encoder import Encoded
from ..preprocess import Preprocessing
from ..types import Float32, Progress, UInt8
from . import TrainPart
from ._handmade import drawn, image_rows
from ._states import ArrayMethod, Arrays

SIDE = 192
STEP = 8
SCALES = (4, 8)
"""Pixels a side of one of the 4 x 4 bins of a descriptor."""

N_WORDS = 1000
N_IMAGES_FOR_WORDS = 1500
N_DESCRIPTORS_FOR_WORDS = 100_000
_FLAT = 2.0  # mean gradient of a patch, in grey levels per pixel, below which it says nothing


class BovwSift(ArrayMethod):
    """tf-idf of the words, and a last value that is 1 where a picture has no word at all (else it would be nearer to
    most pictures than they are to each other); at least 0, of Euclidean length 1. dim 1,001.
    """

    name = "bovw-sift"
    distance: Distance = "euclidean"
    preprocessing = Preprocessing(size=SIDE, crop=SIDE)

    def __init__(self, n_words: int = N_WORDS) -> None:
        self.words = np.zeros((n_words, 128), np.float32)
        self.idf = np.zeros(n_words, np.float32)

    def fit(self, train: TrainPart, *, seed: int, on_progress: Progress | None = None) -> None:
        """Words by k-means on descriptors of drawn images, idf by all images."""
        self.words = self._learn_words(train.images, np.random.default_rng(seed), seed)
        counts = self._counts(train.images, on_progress)
        has = (counts > 0).sum(axis=0)
        self.idf = np.log((len(train) + 1) / (has + 1)).astype(np.float32)
        self.fitted = True

    def encode(self, images: UInt8) -> Encoded:
        self._need_fit()
        weighted = np.sqrt(self._counts(images)) * self.idf
        length = np.linalg.norm(weighted, axis=1, keepdims=True)
        unit = np.divide(weighted, length, out=np.zeros_like(weighted), where=length > 0)
        return Encoded({self.name: np.concatenate([unit, (length == 0).astype(np.float32)], axis=1)}, None)

    def _learn_words(self, images: UInt8, rng: np.random.Generator, seed: int) -> Float32:
        from sklearn.cluster import MiniBatchKMeans

        chosen = drawn(len(images), N_IMAGES_FOR_WORDS, rng)
        each = max(1, N_DESCRIPTORS_FOR_WORDS // len(chosen))
        samples = []
        for i in chosen:
            seen = _descriptors_of(np.asarray(images[i, 0]))
            samples.append(seen[drawn(len(seen), each, rng)])
        found = np.concatenate(samples)
        n_words = min(len(self.words), len(found))
        if n_words == 0:
            return np.zeros((1, 128), np.float32)
        clusters = MiniBatchKMeans(
            n_words, batch_size=4096, max_iter=20, n_init=1, random_state=seed, compute_labels=False
        )
        return np.asarray(clusters.fit(found).cluster_centers_, np.float32)

    def _counts(self, images: UInt8, on_progress: Progress | None = None) -> Float32:
        half = (self.words**2).sum(axis=1) / 2
        return image_rows(images, lambda image: _word_counts(image[0], self.words, half), len(self.words), on_progress)

    def _state(self) -> Arrays:
        return {"words": self.words, "idf": self.idf}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.words, self.idf = arrays["words"], arrays["idf"]


def dense_sift(image: UInt8) -> list[Float32]:
    """Upright root-SIFT on a grid of STEP pixels: one float32 (m, 128) per scale, rows of length 1, or 0 where flat.

    image: uint8 (side, side). Values run over four bin rows, four bin columns, then eight directions of the gradient.
    """
    maps = direction_maps(image)
    return [_root(_sampled(maps, bin_side)) for bin_side in SCALES]


def direction_maps(image: UInt8) -> Float32:
    """How much gradient each pixel has in eight directions, shared linearly by two neighbours: (side, side, 8).

    Direction k is k * 45 degrees, 0 where grey rises to the right, 2 where it rises downward; grey levels per pixel.
    """
    import cv2

    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.8)
    across, down = cv2.Sobel(smooth, -1, 1, 0, scale=1 / 8), cv2.Sobel(smooth, -1, 0, 1, scale=1 / 8)
    strength, degrees = cv2.cartToPolar(across, down, angleInDegrees=True)
    turn = np.asarray(degrees, np.float32).ravel() / 45
    below = np.floor(turn)
    part, direction = turn - below, below.astype(np.int64)
    maps = np.zeros((image.size, 8), np.float32)
    pixels = np.arange(image.size)
    maps[pixels, direction % 8] = strength.ravel() * (1 - part)
    maps[pixels, (direction + 1) % 8] = strength.ravel() * part
    return maps.reshape(*image.shape, 8)


def _sampled(maps: Float32, bin_side: int) -> Float32:
    """Mean gradient of the 4 x 4 bins around each place of the grid, float32 (m, 128)."""
    import cv2

    pooled = cv2.boxFilter(maps, -1, (bin_side, bin_side), borderType=cv2.BORDER_REFLECT_101)
    side = len(maps)
    centres = np.arange(2 * bin_side, side - 2 * bin_side + 1, STEP)  # every descriptor whole inside the picture
    offsets = np.round((np.arange(4) - 1.5) * bin_side).astype(np.int64)
    places = np.minimum(centres[:, None] + offsets[None, :], side - 1)  # (centres, 4)
    found = np.asarray(pooled, np.float32)[places[:, None, :, None], places[None, :, None, :]].reshape(-1, 128)
    return np.asarray(np.maximum(found, 0), np.float32)  # the running sums of a box filter leave some just below


def _root(found: Float32) -> Float32:
    """SIFT's normalisation (cut at 0.2, Lowe 2004), then root-SIFT: L1 norm and square root."""
    contrast = found.sum(axis=1, keepdims=True) / 16  # mean gradient of the patch
    length = np.linalg.norm(found, axis=1, keepdims=True)
    cut = np.minimum(found / np.maximum(length, 1e-12), np.float32(0.2))
    rooted = np.sqrt(cut / np.maximum(cut.sum(axis=1, keepdims=True), 1e-12))
    return np.asarray(np.where(contrast < _FLAT, 0, rooted), np.float32)


def _descriptors_of(image: UInt8) -> Float32:
    """Those that are not flat, float32 (m, 128)."""
    found = np.concatenate(dense_sift(image))
    return found[found.any(axis=1)]


def _word_counts(image: UInt8, words: Float32, half: Float32) -> Float32:
    """How often the picture has each word: float32 (words,). half: |word|^2 / 2; the nearest has most w.d - half."""
    nearest = np.argmax(_descriptors_of(image) @ words.T - half, axis=1)
    return np.bincount(nearest, minlength=len(words)).astype(np.float32)
