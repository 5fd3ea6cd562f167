"""Every kind of search of a gallery, with features known by eye: an image's only feature is its name's number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbmir.errors import BadGallery, UsageError
from cbmir.extract import Extracted
from cbmir.gallery import Gallery, NewImage, Query
from cbmir.images.worker import Decoded
from cbmir.places import entry_of
from cbmir.privacy import Pseudonyms
from cbmir.types import OWNERS, Feedback, ImageRef, Ranking, Record
from cbmir.where import parse
from toys import ToyEncoder


class OneNumber(ToyEncoder):
    """Features of one number; an image is dark or bright with certainty, as its label says."""

    layers = {"number": 1}  # noqa: RUF012
    calibration = {"soft_gate_tau": {"number": 2.0}}  # noqa: RUF012


# id -> number, patient, series, modality, class
IMAGES = {
    "a0": (0, "p1", "p1-1", "CT", "dark"),
    "a1": (1, "p1", "p1-1", "CT", "dark"),
    "a5": (5, "p1", "p1-2", "MR", "bright"),
    "b2": (2, "p2", "p2-1", "CT", "dark"),
    "b3": (3, "p2", "p2-1", "MR", "bright"),
    "b9": (9, "p2", "p2-2", "CT", "dark"),
    "c4": (4, "p3", "p3-1", "MR", "dark"),
    "c8": (8, "p3", "p3-1", "MR", "bright"),
    "x6": (6, None, None, "CR", "dark"),
    "x7": (7, None, None, None, "bright"),
}


def record(name: str) -> Record:
    number, patient, series, modality, label = IMAGES[name]
    return Record(
        id=name, patient=patient, study=series and f"study of {series}", series=series, modality=modality,
        labels={"class": label, "parity": "even" if number % 2 == 0 else "odd"}, attributes={"rows": str(number)},
    )  # fmt: skip


def file_of(name: str, number: float | None = None) -> Extracted:
    """number: another one than that of its name."""
    bright = float(IMAGES[name][4] == "bright")
    return Extracted(
        Decoded(ImageRef(Path("/data") / f"{name}.png", f"{name}.png"), "decoded", None, (), f"hash of {name}", 1, 1),
        (record(name),),
        {"number": np.array([[IMAGES[name][0] if number is None else number]], np.float32)},
        np.array([[bright, 1 - bright]], np.float32),
    )


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterable[Gallery]:
    key = Pseudonyms(b"a key for tests, 32 bytes long..")
    directory = tmp_path_factory.mktemp("search") / "gallery"
    with Gallery.create(directory, cast(Any, OneNumber()), key) as gallery:
        gallery.add([file_of(name) for name in IMAGES if name not in ("b2", "b3", "x7")], key)
        gallery.add([file_of("b3", number=0)], key)
        gallery.search_id("a0")  # the matrix is made now; what follows comes beside it, and one row is out of date
        gallery.add([file_of(name) for name in ("b2", "b3", "x7")], key)
        yield gallery


def ids(ranking: Ranking) -> str:
    return " ".join(hit.id for hit in ranking)


def new(number: float, **known: Any) -> NewImage:
    return NewImage(np.array([number], np.float32), None, Record(**known) if known else None)


def test_a_filter_acts_inside_the_search(gallery: Gallery) -> None:
    """Of k hits none is lost to the filter: it is no sieve for what was found without it."""
    ranking = gallery.search_id("a0", k=3, where=parse("modality=CT or rows>7"))
    assert ids(ranking) == "b2 c8 b9"
    assert (ranking.n_candidates, ranking.n_allowed) == (3, 5)  # a0 and a1 are hidden
    assert ranking.where == "modality=CT or rows>7"
    assert ids(gallery.search_id("a0", where=parse("parity=odd"))) == "b3 x7 b9"
    assert ids(gallery.search_id("a0", where=parse("class=bright", 'modality=""'))) == "x7"


def test_a_filter_that_lets_nothing_pass_is_noted(gallery: Gallery) -> None:
    ranking = gallery.search_id("a0", where=parse("modality=XA"))
    assert (ids(ranking), ranking.n_candidates, ranking.n_allowed) == ("", 0, 0)
    assert ranking.notes == ('modality=XA holds for no image; there are CT (4), MR (4), "" (1), CR (1)',)
    with pytest.raises(UsageError, match="did you mean modality"):
        gallery.search_id("a0", where=parse("modlity=CT"))


def test_what_was_removed_is_in_no_note_and_no_facet(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    """Its row is only hidden until the matrix is made again."""
    with Gallery.create(tmp_path / "gallery", cast(Any, OneNumber()), pseudonyms) as gallery:
        gallery.add([file_of(name) for name in IMAGES], pseudonyms)
        gallery.search_id("a0")
        gallery.store.remove("id", ["x6"], lambda _: ())
        ranking = gallery.search_id("a0", where=parse("modality=CR"))
        assert ranking.notes == ('modality=CR holds for no image; there are CT (4), MR (4), "" (1)',)
        assert (len(ranking), ranking.n_allowed) == (0, 0)
        assert "CR" not in gallery.facets()["modality"]


def test_a_filter_and_a_gate_and_hiding_go_together(gallery: Gallery) -> None:
    ranking = gallery.search_id("a0", gate="hard", where=parse("modality in (CT, MR)"))
    assert (ids(ranking), ranking.n_candidates) == ("b2 c4 b9", 3)


def test_several_images_are_one_query_by_their_mean_or_by_the_nearest(gallery: Gallery) -> None:
    assert ids(gallery.search(Query(ids=["a0", "b9"], hide="none", k=4))) == "a5 c4 b3 x6"  # 4.5 away from both
    assert ids(gallery.search(Query(ids=["a0", "b9"], hide="none", k=4, combine="max"))) == "a1 c8 b2 x7"
    both = gallery.search(Query(ids=["a0", "b9"], hide="none"))
    assert (both.query_ids, both.query_id) == (("a0", "b9"), None)


def test_the_patient_of_every_query_image_is_hidden(gallery: Gallery) -> None:
    assert ids(gallery.search(Query(ids=["a0", "b9"]))) == "c4 x6 x7 c8"
    assert ids(gallery.search(Query(ids=["a0"], images=[new(9, id="new", patient="p2")]))) == "c4 x6 x7 c8"
    assert ids(gallery.search(Query(ids=["a0"], images=[new(9, id="b9")]))) == "c4 x6 x7 c8"


def test_the_opinion_on_several_images_is_the_mean_of_those_on_each(gallery: Gallery) -> None:
    ranking = gallery.search(Query(ids=["a0", "a1", "a5"], gate="hard"))
    assert ranking.predicted == (("dark", pytest.approx(2 / 3)), ("bright", pytest.approx(1 / 3)))
    assert {hit.record.group for hit in ranking} == {"dark"}


def test_judgements_move_the_query_and_are_no_hits(gallery: Gallery) -> None:
    """Liked 7: 0.75 x 7 / 1.75 = 3. Not liked 3 besides: (0.75 x 7 - 0.15 x 3) / 1.6 = 3."""
    liked = gallery.search_id("a0", k=3, feedback=Feedback(like=("x7",)))
    assert [(hit.id, hit.distance) for hit in liked] == [("b3", 0), ("b2", 1), ("c4", 1)]
    later = liked.feedback.then(Feedback(unlike=("b3",)))
    more = gallery.search_id("a0", k=3, feedback=later)
    assert more.feedback == later == Feedback(("x7",), ("b3",))
    assert [hit.id for hit in more] == ["b2", "c4", "x6"]
    assert [hit.distance for hit in more] == pytest.approx([1, 1, 3], abs=1e-6)


def test_what_is_liked_hides_its_patient_and_what_is_not_only_itself(gallery: Gallery) -> None:
    liked = gallery.search_id("x6", feedback=Feedback(like=("c4",)))
    assert set(ids(liked).split()) == IMAGES.keys() - {"x6", "c4", "c8"}
    assert "c8" in ids(gallery.search_id("x6", feedback=Feedback(unlike=("c4",)))).split()


def test_a_later_judgement_counts() -> None:
    earlier = Feedback(like=("a", "b"), unlike=("c",))
    assert earlier.then(Feedback(like=("c",), unlike=("a",))) == Feedback(("b", "c"), ("a",))
    with pytest.raises(ValueError, match="not both: a"):
        Feedback(like=("a",), unlike=("a",))


def test_the_least_similar_come_from_the_other_end(gallery: Gallery) -> None:
    ranking = gallery.search_id("a0", k=3, order="least")
    assert ids(ranking) == "b9 c8 x7"
    assert ranking.order == "least"
    assert ids(gallery.search(Query(ids=["a0", "b9"], hide="none", order="least", combine="max", k=2))) == "a5 c4"


def test_of_each_patient_the_first_hit(gallery: Gallery) -> None:
    """An image of an unknown patient is its own; its images are those that were compared."""
    ranking = gallery.search_id("a0", group_by="patient")
    assert [(hit.id, hit.n_images) for hit in ranking] == [("b2", 3), ("c4", 2), ("x6", 1), ("x7", 1)]
    assert (ranking.grouped_by, ranking.n_candidates) == ("patient", 7)
    ranking = gallery.search_id("a0", group_by="series", where=parse("rows>2"))
    assert [(hit.id, hit.n_images) for hit in ranking] == [("b3", 1), ("c4", 2), ("x6", 1), ("x7", 1), ("b9", 1)]


def test_a_stored_series_finds_series(gallery: Gallery) -> None:
    """Slices 0 and 1. p2-1 has 2 and 3: (2 + 1) / 2; p3-1 4: (4 + 3) / 2; then x6, x7 and p2-2."""
    ranking = gallery.search(Query(series="p1-1", rank_series="mean"))
    assert [(hit.id, hit.distance, hit.n_images, hit.votes) for hit in ranking] == [
        ("b2", 1.5, 2, None), ("c4", 3.5, 2, None), ("x6", 5.5, 1, None), ("x7", 6.5, 1, None), ("b9", 8.5, 1, None),
    ]  # fmt: skip
    assert ranking.grouped_by == "series"
    assert ids(gallery.search(Query(series="p1-1", rank_series="mean", hide="series"))).startswith("b2 c4 a5")
    assert ids(gallery.search(Query(series="p1-1", rank_series="mean", order="least", k=2))) == "b9 x7"


def test_series_by_votes(gallery: Gallery) -> None:
    """4 is as near to a5 as to b3, 8 to b9 as to x7: the first id has the vote. Without votes the distance counts."""
    ranking = gallery.search(Query(series="p3-1", rank_series="votes", k=3))
    assert [(hit.id, hit.distance, hit.votes) for hit in ranking] == [("a5", 2, 1), ("b9", 3, 1), ("x6", 2, 0)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "a search needs an image"),
        ({"ids": ["a0", "b\udcff"]}, r"no image or series is named 'b\?'"),
        ({"series": "\x1b[2J"}, r"no image or series is named '\?\[2J'"),
        ({"ids": ["a0"], "feedback": Feedback(unlike=("\ud800",))}, r"no image or series is named '\?'"),
        ({"ids": ["a0"], "k": 0}, "k must be at least 1"),
        ({"ids": ["a0"], "offset": -1}, "the offset must be at least 0"),
        ({"ids": ["a0"], "combine": "min"}, "combined by centroid, max, not 'min'"),
        ({"ids": ["a0"], "order": "best"}, "the orders are most, least, not 'best'"),
        ({"ids": ["a0"], "group_by": "class"}, "grouped by patient, study, series, not 'class'"),
        ({"ids": ["a0"], "rank_series": "sum"}, "series are ranked by mean, votes, not 'sum'"),
        ({"ids": ["a0"], "rank_series": "mean", "group_by": "patient"}, "not grouped by patient"),
        ({"ids": ["a0"], "rank_series": "mean", "gate": "soft"}, "the soft gate ranks images"),
        ({"ids": ["a0"], "rank_series": "votes", "order": "least"}, "no votes"),
    ],
)
def test_what_cannot_be_asked_is_told(gallery: Gallery, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        gallery.search(Query(**options))


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"ids": ["a0", "nobody"]}, "no image nobody"),
        ({"ids": ["a0"], "feedback": Feedback(like=("nobody",))}, "no image nobody"),
        ({"series": "nothing"}, "no series nothing"),
    ],
)
def test_what_is_not_there_is_told(gallery: Gallery, query: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadGallery, match=sentence):
        gallery.search(Query(**query))


def test_facets_count_what_a_filter_lets_pass(gallery: Gallery) -> None:
    told = gallery.facets(parse("parity=even"))
    assert told["modality"] == {"CT": 2, "MR": 2, "CR": 1}
    assert gallery.facets()["class"] == {"dark": 6, "bright": 4}


def test_a_gallery_whose_encoder_was_swapped_meanwhile_is_opened_again(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    """Features of a query made with the old one would be measured against those of the new one."""
    with Gallery.create(tmp_path / "gallery", cast(Any, OneNumber()), pseudonyms) as gallery:
        gallery.add([file_of(name) for name in IMAGES], pseudonyms)
        gallery.search_id("a0")
        with Gallery.open(gallery.directory) as other, other.writing():
            other.store.begin_next({"name": "other"}, {"number": 1})
            other.store.put_next(entry_of(file_of(name), pseudonyms) for name in IMAGES)
            assert other.store.audit_next() == []
            other.store.swap_next()
        with pytest.raises(BadGallery, match="has another encoder now; open it again"):
            gallery.search_id("a0")


names = st.sampled_from(sorted(IMAGES))
queries = st.builds(
    Query,
    ids=st.lists(names, min_size=1, max_size=3, unique=True),
    hide=st.sampled_from(["patient", "study", "series", "none"]),
    gate=st.sampled_from(["off", "hard", "top3", "soft"]),
    where=st.sampled_from([None, parse("modality=CT"), parse("parity=odd or rows>6"), parse("modality=XA")]),
    combine=st.sampled_from(["centroid", "max"]),
    order=st.sampled_from(["most", "least"]),
    group_by=st.sampled_from([None, *OWNERS]),
    k=st.integers(1, 12),
)


series_queries = st.builds(
    Query,
    series=st.sampled_from(["p1-1", "p1-2", "p3-1"]),
    rank_series=st.sampled_from(["mean", "votes"]),
    hide=st.sampled_from(["patient", "series", "none"]),
    gate=st.sampled_from(["off", "hard"]),
    where=st.sampled_from([None, parse("modality=CT"), parse("rows>6")]),
)


@given(st.one_of(queries, series_queries), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_pages_follow_one_another_without_a_gap_or_a_repeat(gallery: Gallery, query: Query, size: int) -> None:
    whole = gallery.search(replace(query, k=20))
    pages = [gallery.search(replace(query, k=size, offset=offset)) for offset in range(0, 20, size)]
    assert [hit for page in pages for hit in page] == list(whole)


@given(queries)
@settings(max_examples=300, deadline=None)
def test_a_search_is_what_plain_python_says(gallery: Gallery, query: Query) -> None:
    own = {IMAGES[name][:3] for name in query.ids}
    hidden = {name for name in IMAGES if name in query.ids}
    for kind, place in (("patient", 1), ("series", 2), ("study", 2)):
        if query.hide == kind:
            hidden |= {name for name, told in IMAGES.items() if told[place] in {mine[place] for mine in own} - {None}}
    passing = {
        None: lambda number, modality: True,
        "modality=CT": lambda number, modality: modality == "CT",
        "parity=odd or rows>6": lambda number, modality: number % 2 == 1 or number > 6,
        "modality=XA": lambda number, modality: False,
    }[None if query.where is None else str(query.where)]
    bright = sum(IMAGES[name][4] == "bright" for name in query.ids) / len(query.ids)
    likelihood = {"bright": bright, "dark": 1 - bright}
    likeliest = "bright" if bright >= 0.5 else "dark"
    numbers = [float(IMAGES[name][0]) for name in query.ids]
    if query.combine == "centroid":
        numbers = [float(np.float32(sum(numbers) / len(numbers)))]

    def key(name: str) -> float:
        near = float(np.float32(min(abs(IMAGES[name][0] - number) for number in numbers)))
        penalty = -4 * np.log(np.clip(np.float64(np.float32(likelihood[IMAGES[name][4]])), 1e-12, 1))
        return near**2 + (penalty if query.gate == "soft" else 0)

    compared = [
        name
        for name, (number, _, _, modality, label) in IMAGES.items()
        if name not in hidden and passing(number, modality) and (query.gate != "hard" or label == likeliest)
    ]
    order = sorted(compared, key=lambda name: (key(name) if query.order == "most" else -key(name), name))
    if query.group_by:
        first: dict[str, str] = {}
        for name in order:
            owner = IMAGES[name][1 if query.group_by == "patient" else 2]
            first.setdefault(owner or f"image {name}", name)
        order = list(first.values())

    ranking = gallery.search(query)

    assert ids(ranking).split() == order[: query.k]
    assert ranking.n_candidates == len(compared)
