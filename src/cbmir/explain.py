"""Why two images are alike: their similarity split over the places of each, and a check that the places matter.

A network that pools its last feature map x by generalised means, u_c = (mean over places i of x_ci^p)^(1/p), and
projects that, e = (W u + b) / |W u + b|, has a similarity e_q . e_h that splits over the places of the query without a
rest: channel c contributes u_c (W^T e_h)_c / |W u + b|, of which place i has the share x_ci^p / sum_j x_cj^p, and the
bias is everybody's alike. The same holds for the hit, with the two exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .encoder import Encoder, Maps
from .preprocess import Preprocessing
from .types import Float32, UInt8

Float = npt.NDArray[np.float64]
Similarity = Callable[[UInt8], Float32]
"""Of pictures as the encoder takes them, uint8 (n, C, side, side), with another one."""
Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of a picture; may reach outside."""

FINER = 2
"""Of a map, along a side."""

N_STEPS = 8
"""Of a curve: so many times an equal part of the picture goes or comes."""

BATCH = 64
COARSE = 5
"""Random maps are noise of 5 x 5 places, whatever the map they are compared with: nobody is helped by being finer."""


# --- the similarity, split ---


@dataclass(frozen=True)
class Looked:
    """An image as a network looked at it. pooled: (C,); shares: (C, h, w), of each channel summing to 1; features:
    (dim,), of unit length; length: what they were divided by.
    """

    pooled: Float
    shares: Float
    features: Float
    length: float


@dataclass(frozen=True)
class Alike:
    """Two images and what their places contribute: each map (h, w) sums to the similarity, the cosine of the two."""

    similarity: float
    query: Float
    hit: Float


def look(maps: Maps, finer: Float32 | None = None) -> Looked:
    """maps: of one image, values (C, h, w) above 0. finer: (C, FINER h, FINER w), of the same picture drawn larger: the
    shares are then the mean of both, which measured better than either (docs/decisions/0015). What is split is the
    similarity that a search goes by, in either case.
    """
    pooled = pool(maps.values, maps.p)
    projected = maps.weight.astype(np.float64) @ pooled + maps.bias
    length = float(np.linalg.norm(projected))
    found = shares(maps.values, maps.p)
    if finer is not None:
        found = (spread(found) + shares(finer, maps.p)) / 2
    return Looked(pooled, found, projected / length, length)


def pool(values: Float32, p: Float32) -> Float:
    """(C, h, w) to (C,): the generalised mean of each channel. p: (C,)."""
    largest = values.max(axis=(1, 2)).astype(np.float64)  # taken out first, or a power would overflow
    means = ((values / largest[:, None, None]) ** p[:, None, None]).mean(axis=(1, 2))
    return np.asarray(largest * means ** (1 / p))


def shares(values: Float32, p: Float32) -> Float:
    """(C, h, w): what each place has of its channel's sum of powers. p: (C,)."""
    powers = (values / values.max(axis=(1, 2), keepdims=True).astype(np.float64)) ** p[:, None, None]
    return np.asarray(powers / powers.sum(axis=(1, 2), keepdims=True))


def spread(of_places: Float) -> Float:
    """(C, h, w) to (C, FINER h, FINER w), linear between the middles of places; sums stay what they are."""
    down, across = (_between(np.eye(n), (np.arange(FINER * n) + 0.5) / (FINER * n)) for n in of_places.shape[1:])
    return np.asarray(down @ of_places @ across.T / FINER**2)


def alike(query: Looked, hit: Looked, maps: Maps) -> Alike:
    """maps: of either, for the projection that both share."""
    return Alike(
        float(query.features @ hit.features),
        contributions(query, hit.features, maps),
        contributions(hit, query.features, maps),
    )


def contributions(image: Looked, other: Float, maps: Maps) -> Float:
    """(h, w): what each place of an image contributes to its similarity with the features of another one."""
    of_channel = image.pooled * (maps.weight.T.astype(np.float64) @ other) / image.length
    of_bias = float(maps.bias @ other) / image.length
    return np.asarray(np.tensordot(of_channel, image.shares, 1) + of_bias / image.shares[0].size)


def larger(recipe: Preprocessing) -> Preprocessing:
    """The same part of a picture, drawn FINER times as large: its maps have so many times as many places."""
    return replace(recipe, size=FINER * recipe.size, crop=FINER * recipe.crop)


# --- the map on the picture ---


def laid_over(values: Float, box: Box, shape: tuple[int, int]) -> Float:
    """A map over a picture: float64 (rows, columns), NaN where the encoder did not look.

    box: what of the picture the map (h, w) covers, as preprocess.seen_box has it. Linear between the middles of places.
    """
    left, top, right, bottom = box
    rows, columns = shape
    y: Float = (np.arange(rows, dtype=np.float64) + 0.5 - top) / (bottom - top)
    x: Float = (np.arange(columns, dtype=np.float64) + 0.5 - left) / (right - left)
    over = _between(_between(values, y).T, x).T
    over[(y < 0) | (y > 1)] = np.nan
    over[:, (x < 0) | (x > 1)] = np.nan
    return over


def _between(values: Float, at: Float) -> Float:
    """Rows at places `at` of the whole height (0 ... 1), linear between the middles of rows, level beyond them."""
    n = len(values)
    place = np.clip(at * n - 0.5, 0, n - 1)
    low = np.minimum(place.astype(int), max(n - 2, 0))
    part = (place - low)[:, None]
    return np.asarray(values[low] * (1 - part) + values[np.minimum(low + 1, n - 1)] * part)


# --- does it matter? ---


@dataclass(frozen=True)
class Curves:
    """How similar a picture stays while it is taken away, and becomes while it is put in, where the map is largest
    first: (N_STEPS + 1,) each, from nothing done to all done. What is away is blurred.
    Source: Petsiuk, Das, Saenko, RISE, BMVC 2018 (there with the probability of a class).
    """

    deletion: Float
    insertion: Float

    @property
    def score(self) -> float:
        """Area under insertion minus area under deletion: above 0 when what the map shows first matters most."""
        return area(self.insertion) - area(self.deletion)


@dataclass(frozen=True)
class Check:
    """A map's curves and the scores of random maps on the same picture."""

    curves: Curves
    random: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """beats: the part of the random maps with a lower score."""
        return {
            "insertion": area(self.curves.insertion),
            "deletion": area(self.curves.deletion),
            "score": self.curves.score,
            "random": float(np.mean(self.random)),
            "beats": float(np.mean([self.curves.score > score for score in self.random])),
        }


def check(picture: UInt8, values: Float, random: Sequence[Float], similarity: Similarity) -> Check:
    """picture: uint8 (C, side, side), as the encoder takes it. values, random: maps (h, w) of it."""
    of_map, *of_random = curves(picture, [values, *random], similarity)
    return Check(of_map, tuple(one.score for one in of_random))


def similarity_with(encoder: Encoder, other: Float32) -> Similarity:
    """other: (dim,), features of the encoder's first layer, of unit length as all of them."""
    layer = next(iter(encoder.layers))

    def similarity(pictures: UInt8) -> Float32:
        parts = [pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH)]
        return np.concatenate([encoder.encode(part).features[layer] @ other for part in parts])

    return similarity


def curves(picture: UInt8, maps: Sequence[Float], similarity: Similarity) -> list[Curves]:
    """The curves of several maps of one picture; the first and last points are those of all."""
    away = blurred(picture)
    stages = []
    for values in maps:
        ranks = order(values, picture.shape[1:])
        for step in range(1, N_STEPS):
            first = ranks < ranks.size * step / N_STEPS
            stages += [np.where(first, away, picture), np.where(first, picture, away)]
    found = similarity(np.stack([picture, away, *stages])).astype(np.float64)
    whole, nothing = found[:2]
    of_maps = found[2:].reshape(len(maps), N_STEPS - 1, 2)
    return [Curves(np.array([whole, *one[:, 0], nothing]), np.array([nothing, *one[:, 1], whole])) for one in of_maps]


def order(values: Float, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """(rows, columns): the place of each pixel among all, from 0, where the map laid over the picture is largest."""
    rows, columns = shape
    over = laid_over(values, (0, 0, columns, rows), (rows, columns)).ravel()
    ranks = np.empty(over.size, np.int64)
    ranks[np.argsort(-over, kind="stable")] = np.arange(over.size)
    return ranks.reshape(rows, columns)


def blurred(picture: UInt8) -> UInt8:
    """What stands where a picture is taken away: itself, so blurred (a Gaussian of an eighth of its side) that no form
    is left, while its levels are those that the network knows.
    """
    planes = [Image.fromarray(plane) for plane in picture]
    return np.stack([np.asarray(plane.filter(_blur(plane))) for plane in planes])


def _blur(plane: Image.Image) -> Any:
    from PIL import ImageFilter

    return ImageFilter.GaussianBlur(plane.height / 8)


def area(curve: Float) -> float:
    """Under a curve over 0 ... 1, by trapezia."""
    return float((curve[:-1] + curve[1:]).mean() / 2)


def random_maps(n: int, shape: tuple[int, int], generator: np.random.Generator) -> list[Float]:
    """Smooth noise (h, w), with which a map is compared: COARSE x COARSE normal numbers, linear between them."""
    noise = generator.standard_normal((n, COARSE, COARSE))
    return [laid_over(one, (0, 0, shape[1], shape[0]), shape) for one in noise]
