"""What is kept of a method: one fit for the methods that share it, every layer, and nothing that is not whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbmir.baselines.pixels import Pixels
from cbmir.benchmark.cache import Bench, Features, features_of, folder_name
from cbmir.benchmark.collection import Images
from cbmir.benchmark.protocols import Fold
from cbmir.errors import CbmirError
from cbmir.types import Float32, Record, UInt8

RECORDS = tuple(Record(id=f"{n}", patient=f"p{n}", labels={"class": "ab"[n % 2]}) for n in range(6))
FOLD = Fold("split", np.array([0, 1, 2, 3]), np.array([4, 5]))
IMAGES = Images(np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 2, 2), np.arange(6))


class Toy(Pixels):
    """Features: the first pixel. fits: how often anyone of them was fitted."""

    fits = 0

    def __init__(self, name: str = "toy") -> None:
        self.name = name

    def fit(self, images: UInt8, labels: Sequence[str], **options: Any) -> None:
        Toy.fits += 1
        super().fit(images, labels, **options)

    def features(self, images: UInt8) -> Float32:
        return images[:, 0, 0, :1].astype(np.float32)


class Shared(Toy):
    """Two layers under two names, one fit."""

    fit_name = "toy"

    def __init__(self, layer: str) -> None:
        super().__init__("toy")
        self.layers = (layer,)


class Layered(Toy):
    layers = ("first", "second")

    def features_by_layer(self, images: UInt8) -> dict[str, Float32]:
        return {"first": self.features(images), "second": 2 * self.features(images)}


class Short(Toy):
    def features(self, images: UInt8) -> Float32:
        return super().features(images)[1:]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    Toy.fits = 0
    return Bench(tmp_path, RECORDS, "data", 24, lambda done, total, words: None)


def made(method: Toy, bench: Bench, asked: str = "toy") -> Features:
    return features_of(method, asked, IMAGES, FOLD, bench)


def test_features_are_of_the_rows_of_the_fold(bench: Bench) -> None:
    found = made(Toy(), bench)
    assert found.gallery["toy"].ravel().tolist() == [0, 4, 8, 12]
    assert found.queries["toy"].ravel().tolist() == [16, 20]
    assert found.posterior is None


def test_methods_of_one_fit_name_are_fitted_once(bench: Bench) -> None:
    made(Shared("one"), bench, "toy-one")
    made(Shared("two"), bench, "toy-two")
    assert Toy.fits == 1


def test_a_method_with_several_layers_keeps_them_all(bench: Bench) -> None:
    for _ in range(2):  # computed, then read
        found = made(Layered(), bench)
        assert list(found.gallery) == ["first", "second"]
        assert found.queries["second"].ravel().tolist() == [32, 40]


@pytest.mark.parametrize("lost", ["state/state.npz", "fitted.json", "features.json", "queries-0.npy"])
def test_what_is_lost_is_made_again(lost: str, bench: Bench) -> None:
    first = made(Toy(), bench)
    (bench.home("toy", "toy", FOLD) / lost).unlink()
    again = made(Toy(), bench)
    assert again.queries["toy"].tolist() == first.queries["toy"].tolist()


def test_a_lost_fit_takes_its_features_with_it(bench: Bench) -> None:
    made(Toy(), bench)
    home = bench.home("toy", "toy", FOLD)
    before = (home / "features.json").read_text()
    (home / "fitted.json").unlink()
    made(Toy(), bench)
    assert (home / "features.json").read_text() != before


def test_rows_that_are_missing_are_said(bench: Bench) -> None:
    with pytest.raises(CbmirError, match="for 4 images"):
        made(Short(), bench)


def test_a_folder_holds_no_path_and_tells_models_of_one_name_apart() -> None:
    one, other = (folder_name("frozen:model", f"frozen:{where}/model") for where in ("here", "there"))
    assert one != other
    assert "here" not in one
    assert folder_name("pixels+lda", "pixels+lda") == "pixels+lda"
