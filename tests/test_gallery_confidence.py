"""Scores of hits and whether a query belongs, with features known by eye: an image's only feature is a number."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cbmir import console
from cbmir.extract import Extracted
from cbmir.gallery import Gallery, NewImage, Query
from cbmir.images.worker import Decoded
from cbmir.privacy import Pseudonyms
from cbmir.types import Feedback, Hit, ImageRef, Ranking, Record
from cbmir.where import parse
from toys import ToyEncoder


class Calibrated(ToyEncoder):
    """A hit at distance 2 is relevant in one of two cases; 5 images within 3 on average are usual."""

    layers = {"number": 1}  # noqa: RUF012
    calibration = {  # noqa: RUF012
        "soft_gate_tau": {"number": 2.0},
        "score": {"number": {"slope": 1.0, "intercept": 2.0, "n_queries": 9}},
        "in_distribution": {"number": {"threshold": 3.0, "share": 0.05, "neighbours": 5, "n_queries": 9}},
    }


NUMBERS = {"p1": (0, 1, 2), "p2": (3, 4, 5), "p3": (6, 7, 8), "p4": (40, 41)}
"""Patient -> the numbers of its images, each an image named by it: n0, n1, ..."""


def file_of(patient: str, number: int) -> Extracted:
    name = f"n{number}"
    record = Record(
        name, patient=patient, series=f"series of {patient}", modality="CT" if number % 2 else "MR",
        labels={"class": "dark" if number < 9 else "bright"},
    )  # fmt: skip
    ref = ImageRef(Path("/data") / f"{name}.png", f"{name}.png")
    decoded = Decoded(ref, "decoded", None, (), f"hash of {name}", 1, 1)
    bright = float(number >= 9)
    opinion = np.array([[bright, 1 - bright]], np.float32)
    return Extracted(decoded, (record,), {"number": np.array([[number]], np.float32)}, opinion)


def filled(directory: Path, encoder: object) -> Gallery:
    key = Pseudonyms(b"a key for tests, 32 bytes long..")
    gallery = Gallery.create(directory, cast(Any, encoder), key)
    gallery.add([file_of(patient, number) for patient, numbers in NUMBERS.items() for number in numbers], key)
    return gallery


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterable[Gallery]:
    with filled(tmp_path_factory.mktemp("confidence") / "gallery", Calibrated()) as gallery:
        yield gallery


def new(number: float, **known: Any) -> NewImage:
    opinion = np.array([0.0, 1.0], np.float32)
    return NewImage(np.array([number], np.float32), opinion, Record(**known) if known else None)


def asked(gallery: Gallery, *numbers: float, **options: Any) -> Ranking:
    return gallery.search(Query(images=[new(number) for number in numbers], **options))


# --- score ---


def test_a_score_is_the_probability_at_the_distance(gallery: Gallery) -> None:
    ranking = asked(gallery, 2.0, k=3)
    assert [(hit.id, hit.distance) for hit in ranking] == [("n2", 0), ("n1", 1), ("n3", 1)]
    assert [hit.score for hit in ranking] == pytest.approx([1 / (1 + np.exp(d - 2)) for d in (0, 1, 1)])


@pytest.mark.parametrize(
    "options",
    [
        {"gate": "hard"}, {"gate": "soft"}, {"where": parse("modality=CT")}, {"offset": 2}, {"order": "least"},
        {"group_by": "patient"}, {"combine": "max"},
    ],
)  # fmt: skip
def test_the_score_is_of_the_distance_however_the_hit_was_found(gallery: Gallery, options: dict[str, Any]) -> None:
    ranking = asked(gallery, 2.5, **options)
    assert len(ranking) > 1
    for hit in ranking:
        assert hit.score == pytest.approx(1 / (1 + np.exp(hit.distance - 2)))


def test_of_several_images_by_the_nearest_the_score_is_that_to_the_nearest(gallery: Gallery) -> None:
    ranking = asked(gallery, 2.0, 41.0, combine="max")
    assert [hit.score for hit in ranking] == pytest.approx([1 / (1 + np.exp(hit.distance - 2)) for hit in ranking])


@pytest.mark.parametrize(
    "options",
    [
        {"images": [new(2), new(5)]},
        {"images": [new(2)], "feedback": Feedback(like=("n5",))},
        {"images": [new(2)], "feedback": Feedback(unlike=("n5",))},
        {"images": [new(2)], "rank_series": "mean"},
        {"series": "series of p1", "rank_series": "votes"},
    ],
    ids=["mean", "liked", "unliked", "one slice", "series"],
)
def test_a_distance_that_is_not_of_two_images_has_no_score(gallery: Gallery, options: dict[str, Any]) -> None:
    ranking = gallery.search(Query(**options))
    assert len(ranking) > 1
    assert {hit.score for hit in ranking} == {None}


# --- in distribution ---


def test_an_image_amid_the_gallery_belongs_and_a_far_one_does_not(gallery: Gallery) -> None:
    assert asked(gallery, 4.0).in_distribution is True
    far = asked(gallery, 20.0)
    assert far.in_distribution is False
    # 8, 7, 6, 5, 4 are 12 to 16 away
    assert far.notes == (
        "this image is unlike the gallery: the 5 nearest are 14 away on average, and for 95 of 100 images of the kinds "
        "the encoder knows it is 3 at most",
    )


def test_two_images_far_away_are_no_company(gallery: Gallery) -> None:
    """Near 40 and 41 lie only these: the third nearest is 32 away."""
    assert asked(gallery, 40.0).in_distribution is False


@pytest.mark.parametrize(
    "options",
    [
        {"k": 1}, {"k": 20}, {"offset": 3}, {"gate": "hard"}, {"gate": "soft"}, {"order": "least"},
        {"where": parse("modality=CT")}, {"where": parse("class=bright")}, {"where": parse("modality=XA")},
        {"group_by": "patient"}, {"rank_series": "mean"}, {"feedback": Feedback(like=("n40",))},
        {"feedback": Feedback(unlike=("n3", "n4", "n5"))}, {"combine": "max"}, {"exact": True},
    ],
)  # fmt: skip
@pytest.mark.parametrize(("number", "belongs"), [(4.0, True), (5.8, True), (20.0, False)])
def test_it_is_the_image_and_the_whole_gallery_that_count(
    gallery: Gallery, options: dict[str, Any], number: float, belongs: bool
) -> None:
    """Not how one searches: a filter that lets no brain pass does not make a brain unlike the gallery."""
    assert asked(gallery, number, **options).in_distribution is belongs


def test_what_is_hidden_is_no_company(gallery: Gallery) -> None:
    """Without 3, 4 and 5 the five nearest of 4 are 2, 6, 1, 7 and 0 (or 8): 14 / 5; of 1 without 0 and 2: 3 to 7."""
    assert gallery.search_id("n4").in_distribution is True
    assert gallery.search_id("n1").in_distribution is False
    assert gallery.search_id("n1", hide="none").in_distribution is True  # 0, 2, 3, 4, 5
    known = gallery.search(Query(images=[new(1, id="other", patient="p1")]))
    assert known.in_distribution is False


def test_several_images_do_not_belong_where_half_of_them_do_not(gallery: Gallery) -> None:
    assert asked(gallery, 4.0, 5.0, 20.0).in_distribution is True
    half = asked(gallery, 4.0, 20.0)
    assert half.in_distribution is False
    assert half.notes[0].startswith("1 of 2 images of the query are unlike the gallery: the 5 nearest are 14 away")
    middle = asked(gallery, -20.0, 28.0)  # their mean would belong
    assert middle.in_distribution is False


def test_of_a_long_series_some_images_are_looked_at(gallery: Gallery) -> None:
    ranking = asked(gallery, *([20.0] * 40))
    assert ranking.notes[0].startswith("16 of 16 images of the query")


def test_a_gallery_of_few_images_tells_nothing(tmp_path: Path) -> None:
    with filled(tmp_path / "gallery", Calibrated()) as gallery:
        gallery.store.remove("patient", ["p1", "p2"], lambda _: ())
        assert asked(gallery, 7.0).in_distribution is False
        gallery.store.remove("patient", ["p4"], lambda _: ())
        ranking = asked(gallery, 7.0)
        assert (ranking.in_distribution, ranking.notes) == (None, ())
        assert ranking.hits[0].score is not None


def test_an_encoder_without_these_parts_tells_neither(tmp_path: Path) -> None:
    class Old(Calibrated):
        calibration = {"soft_gate_tau": {"number": 2.0}}  # noqa: RUF012

    with filled(tmp_path / "gallery", Old()) as gallery:
        ranking = asked(gallery, 20.0)
        assert (ranking.in_distribution, ranking.notes) == (None, ())
        assert {hit.score for hit in ranking} == {None}


def test_no_second_search_where_the_first_has_the_nearest(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    index = gallery._matrix("number").index
    calls: list[int] = []

    def counting(self: Any, query: Any, k: int, scope: Any) -> Any:
        calls.append(k)
        return usual(self, query, k, scope)

    usual = type(index).search
    monkeypatch.setattr(type(index), "search", counting)
    asked(gallery, 4.0)
    assert calls == [10]
    asked(gallery, 4.0, k=3)
    assert calls == [10, 3, 5]


# --- what is told ---


def test_json_and_text_tell_both(gallery: Gallery) -> None:
    document = asked(gallery, 20.0, k=1).as_dict()
    assert document["query"]["in_distribution"] is False
    assert document["hits"][0]["score"] == pytest.approx(1 / (1 + np.exp(10)))
    lines = console.ranking_lines(document)
    assert any(line.startswith("note: this image is unlike the gallery") for line in lines)
    assert lines[-2:] == ["rank  distance  class  modality  id  score", "1     12.0000   dark   MR        n8  0.00"]


def test_a_score_is_a_probability() -> None:
    with pytest.raises(ValueError, match="a score is a probability"):
        Hit(1, "n1", 0.5, Record("n1"), score=1.5)
