"""What is kept of a method: one fit for the methods that share it, every layer, and nothing that is not whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbmir.baselines import Method, TrainPart
from cbmir.baselines.pixels import Pixels
from cbmir.baselines.projection import Projected
from cbmir.benchmark.cache import Bench, Features, features_of, folder_name
from cbmir.benchmark.collection import Images
from cbmir.benchmark.protocols import Fold
from cbmir.encoder import Encoded
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

    def fit(self, train: TrainPart, **options: Any) -> None:
        Toy.fits += 1
        super().fit(train, **options)

    def encode(self, images: UInt8) -> Encoded:
        return Encoded({self.name: first_pixel(images)}, None)


def first_pixel(images: UInt8) -> Float32:
    return images[:, 0, 0, :1].astype(np.float32)


class Shared(Toy):
    """Two layers under two names, one fit. passes: how often anyone of them looked at images."""

    fit_name = "toy"
    passes = 0

    def encode(self, images: UInt8) -> Encoded:
        Shared.passes += 1
        return Encoded({"toy-one": first_pixel(images), "toy-two": 2 * first_pixel(images)}, None)


class Layered(Toy):
    layers = ("first", "second")

    def encode(self, images: UInt8) -> Encoded:
        return Encoded({"first": first_pixel(images), "second": 2 * first_pixel(images)}, None)


class Short(Toy):
    def encode(self, images: UInt8) -> Encoded:
        return Encoded({self.name: first_pixel(images)[1:]}, None)


class OnTop(Toy):
    """Stands on a toy."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.base = Toy()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    Toy.fits = Shared.passes = 0
    return Bench(tmp_path, RECORDS, "data", 24, lambda done, total, words: None)


def made(method: Method, bench: Bench) -> Features:
    return features_of(method, IMAGES, FOLD, bench)


def test_features_are_of_the_rows_of_the_fold(bench: Bench) -> None:
    found = made(Toy(), bench)
    assert found.gallery["toy"].ravel().tolist() == [0, 4, 8, 12]
    assert found.queries["toy"].ravel().tolist() == [16, 20]
    assert found.posterior is None


def test_methods_of_one_fit_name_are_fitted_once(bench: Bench) -> None:
    one, two = made(Shared("toy-one"), bench), made(Shared("toy-two"), bench)
    assert (Toy.fits, Shared.passes) == (1, 2)  # of the gallery and of the queries, for both
    assert (list(one.queries), list(two.queries)) == (["toy-one"], ["toy-two"])
    assert two.queries["toy-two"].tolist() == (2 * one.queries["toy-one"]).tolist()


def test_a_base_is_fitted_once_for_all_that_stand_on_it_in_any_order(bench: Bench) -> None:
    made(OnTop("upper"), bench)
    made(Toy(), bench)
    made(OnTop("other"), bench)
    assert Toy.fits == 3
    assert made(OnTop("upper"), bench).seconds_to_fit > made(Toy(), bench).seconds_to_fit


def test_a_projection_asks_its_base_for_nothing_that_is_kept(bench: Bench) -> None:
    made(Shared("toy-one"), bench)
    for _ in range(2):  # computed, then read
        found = made(Projected(Shared("toy-two"), "lda"), bench)
        assert (Toy.fits, Shared.passes) == (1, 2)
        assert found.classes == ("a", "b")
        assert found.posterior is not None
        assert list(found.gallery) == ["toy-two+lda"]


def test_a_method_with_several_layers_keeps_them_all(bench: Bench) -> None:
    for _ in range(2):  # computed, then read
        found = made(Layered(), bench)
        assert list(found.gallery) == ["first", "second"]
        assert found.queries["second"].ravel().tolist() == [32, 40]


@pytest.mark.parametrize("lost", ["state/state.npz", "fitted.json", "features.json", "queries-0.npy"])
def test_what_is_lost_is_made_again(lost: str, bench: Bench) -> None:
    first = made(Toy(), bench)
    (bench.home("toy", FOLD) / lost).unlink()
    again = made(Toy(), bench)
    assert again.queries["toy"].tolist() == first.queries["toy"].tolist()


def test_a_lost_fit_takes_its_features_with_it(bench: Bench) -> None:
    made(Toy(), bench)
    home = bench.home("toy", FOLD)
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
