"""Re-ranking in a gallery: with everything else that can be asked, each beside the same over the rows that are left."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import cbmir.rerank
from cbmir.cli import cli
from cbmir.errors import UsageError
from cbmir.evaluate.rankings import EvaluationSide, judge, rank_and_measure
from cbmir.extract import Extracted
from cbmir.gallery import Gallery, NewImage, Query
from cbmir.images.worker import Decoded
from cbmir.index.exact import from_features
from cbmir.privacy import Pseudonyms
from cbmir.rerank import Aqe, KReciprocal, expanded, reranking_of
from cbmir.search import rocchio, search
from cbmir.types import Feedback, Float32, ImageRef, Ranking, Record, Rerank
from cbmir.where import parse
from toys import ToyEncoder

FITTED = {
    "aqe": {"n": 4, "alpha": 3.0, "gain": 0.1},
    "kreciprocal": {"k1": 5, "k2": 3, "lambda": 0.3, "gain": 0.1},
}
CALIBRATION = {"rerank": {"plane": FITTED}}
BOTH: tuple[Rerank, ...] = ("aqe", "kreciprocal")


class Plane(ToyEncoder):
    layers = {"plane": 2}  # noqa: RUF012
    calibration = CALIBRATION


NAMES = [f"i{row:02d}" for row in range(48)]
_RNG = np.random.default_rng(5)
FEATURES: Float32 = np.asarray(
    _RNG.normal(0, 2, (4, 2))[np.arange(48) % 4] + _RNG.normal(0, 0.7, (48, 2)) + 6, np.float32
)
ROW = {name: row for row, name in enumerate(NAMES)}


def record(name: str) -> Record:
    row = ROW[name]
    return Record(
        id=name, patient=f"p{row // 6}", study=f"s{row // 6}", series=f"r{row // 3}",
        modality="CT" if row % 3 else "MR", labels={"class": "dark" if row % 2 else "bright"},
    )  # fmt: skip


def file_of(name: str) -> Extracted:
    dark = float(ROW[name] % 2)
    ref = ImageRef(Path("/data") / f"{name}.png", f"{name}.png")
    return Extracted(
        Decoded(ref, "decoded", None, (), f"hash of {name}", 1, 1),
        (record(name),),
        {"plane": FEATURES[ROW[name]][None]},
        np.array([[1 - dark, dark]], np.float32),
    )


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterable[Gallery]:
    """Half of the images come after the matrix is made, and are searched beside it."""
    key = Pseudonyms(b"a key for tests, 32 bytes long..")
    directory = tmp_path_factory.mktemp("rerank") / "gallery"
    with Gallery.create(directory, cast(Any, Plane()), key) as gallery:
        gallery.add([file_of(name) for name in NAMES[::2]], key)
        gallery.search_id("i00")
        gallery.add([file_of(name) for name in NAMES[1::2]], key)
        yield gallery


def ids(ranking: Ranking) -> list[str]:
    return [hit.id for hit in ranking]


def others(*patients: str) -> list[str]:
    return [name for name in NAMES if record(name).patient not in patients]


def ranked(query: Float32, left: list[str], rerank: Rerank) -> list[str]:
    """The ranking where the gallery holds nothing but these images."""
    index, _ = from_features(FEATURES[[ROW[name] for name in left]], [""] * len(left), left)
    found = search(index, query, k=len(left), reranking=reranking_of(rerank, CALIBRATION, "plane"))
    return [left[position] for position in found.positions]


@pytest.mark.parametrize("rerank", BOTH)
def test_the_hidden_patient_has_no_part(gallery: Gallery, rerank: Rerank) -> None:
    ranking = gallery.search_id("i00", k=48, rerank=rerank)
    assert ids(ranking) == ranked(FEATURES[0], others("p0"), rerank)
    assert ids(ranking) != ids(gallery.search_id("i00", k=48))
    assert (ranking.rerank, ranking.notes, ranking.n_candidates) == (rerank, (), 42)
    for hit in ranking:
        assert hit.distance == pytest.approx(float(np.linalg.norm(FEATURES[ROW[hit.id]] - FEATURES[0])), rel=1e-5)


@pytest.mark.parametrize("rerank", BOTH)
def test_neither_have_filtered_images_nor_other_classes(gallery: Gallery, rerank: Rerank) -> None:
    ranking = gallery.search_id("i00", k=48, rerank=rerank, where=parse("modality=CT"), gate="hard")
    left = [name for name in others("p0") if ROW[name] % 3 and ROW[name] % 2 == 0]
    assert ids(ranking) == ranked(FEATURES[0], left, rerank)
    assert len(left) > 10


@pytest.mark.parametrize("rerank", BOTH)
@pytest.mark.parametrize("depth", [1000, 15])
def test_pages_fit_together(gallery: Gallery, rerank: Rerank, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cbmir.rerank, "DEPTH", depth)
    whole = ids(gallery.search_id("i00", k=48, rerank=rerank))
    pages = [gallery.search_id("i00", k=7, offset=offset, rerank=rerank) for offset in range(0, 48, 7)]
    assert [name for page in pages for name in ids(page)] == whole


@pytest.mark.parametrize("rerank", BOTH)
def test_groups_are_of_the_better_ranking(gallery: Gallery, rerank: Rerank) -> None:
    whole = ids(gallery.search_id("i00", k=48, rerank=rerank))
    owners = [str(record(name).patient) for name in whole]
    first = [name for place, name in enumerate(whole) if owners[place] not in owners[:place]]
    for k in (2, 7):
        assert ids(gallery.search_id("i00", k=k, rerank=rerank, group_by="patient")) == first[:k]


@pytest.mark.parametrize("rerank", BOTH)
def test_judgements_move_the_query_first(gallery: Gallery, rerank: Rerank) -> None:
    feedback = Feedback(like=("i07",), unlike=("i20",))
    ranking = gallery.search(Query(ids=["i00"], feedback=feedback, rerank=rerank, k=48))
    left = [name for name in others("p0", "p1") if name != "i20"]
    moved = rocchio(FEATURES[0], FEATURES[[7]], FEATURES[[20]])
    assert ids(ranking) == ranked(moved, left, rerank)


@pytest.mark.parametrize("rerank", BOTH)
def test_several_images_are_one_query_by_their_mean(gallery: Gallery, rerank: Rerank) -> None:
    ranking = gallery.search(Query(ids=["i00", "i13"], rerank=rerank, k=48))
    assert ids(ranking) == ranked(FEATURES[[0, 13]].mean(axis=0), others("p0", "p2"), rerank)


def test_by_the_nearest_each_is_expanded_by_its_own_hits(gallery: Gallery) -> None:
    ranking = gallery.search(Query(ids=["i00", "i13"], rerank="aqe", k=48, combine="max"))
    left = others("p0", "p2")
    rows = FEATURES[[ROW[name] for name in left]]
    moved = []
    for query in FEATURES[[0, 13]]:
        hits = rows[np.argsort(np.linalg.norm(rows - query, axis=1))]
        moved.append(expanded(query, hits, Aqe(4, 3.0)))
    nearest = np.linalg.norm(rows[:, None] - np.array(moved), axis=2).min(axis=1)
    assert ids(ranking) == [left[place] for place in np.argsort(nearest)]


def test_by_the_nearest_twice_the_same_image_is_once(gallery: Gallery) -> None:
    image = NewImage(FEATURES[0], None, record("i00"))
    twice = gallery.search(Query(images=[image, image], rerank="kreciprocal", k=48, combine="max"))
    assert ids(twice) == ids(gallery.search(Query(images=[image], rerank="kreciprocal", k=48)))


def test_what_cannot_be_re_ranked_is_refused(gallery: Gallery) -> None:
    with pytest.raises(UsageError, match="least similar images are not re-ranked"):
        Query(ids=["i00"], order="least", rerank="aqe")
    with pytest.raises(UsageError, match="images are re-ranked, not series"):
        Query(ids=["i00"], rank_series="mean", rerank="kreciprocal")
    with pytest.raises(UsageError, match="one re-ranks by none, aqe, kreciprocal, not 'magic'"):
        Query(ids=["i00"], rerank=cast(Any, "magic"))


def galleries_of(calibration: dict[str, Any], directory: Path, key: Pseudonyms) -> Iterator[Gallery]:
    encoder = Plane()
    encoder.calibration = cast(Any, calibration)
    with Gallery.create(directory, cast(Any, encoder), key) as gallery:
        gallery.add([file_of(name) for name in NAMES], key)
        yield gallery


def test_an_encoder_without_parameters_is_told_so(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    for gallery in galleries_of({}, tmp_path / "gallery", pseudonyms):
        with pytest.raises(UsageError, match="needs parameters fitted on validation, and this encoder has none"):
            gallery.search_id("i00", rerank="aqe")


def test_parameters_that_change_nothing_are_told(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    idle = {"aqe": {"n": 0, "alpha": 0.0, "gain": 0.0}, "kreciprocal": {"k1": 1, "k2": 1, "lambda": 1.0, "gain": 0.0}}
    for gallery in galleries_of({"rerank": {"plane": idle}}, tmp_path / "gallery", pseudonyms):
        without = gallery.search_id("i00", k=48)
        for rerank in BOTH:
            ranking = gallery.search_id("i00", k=48, rerank=rerank)
            assert (ids(ranking), ranking.notes) == (
                ids(without),
                (f"{rerank} made no ranking better on validation, and changes nothing here",),
            )


def test_the_verb_says_what_it_did(gallery: Gallery, capsys: pytest.CaptureFixture[str]) -> None:
    def told_by(*arguments: str) -> str:
        cli.main(arguments, standalone_mode=False)
        return capsys.readouterr().out

    arguments = ["search", "--id", "i00", "--gallery", str(gallery.directory), "--rerank", "aqe", "-k", "3"]
    told = json.loads(told_by(*arguments, "--json"))
    assert told["rerank"] == "aqe"
    assert [hit["id"] for hit in told["hits"]] == ids(gallery.search_id("i00", k=3, rerank="aqe"))
    assert told_by(*arguments).splitlines()[1] == "layer plane, gate off, re-ranked by aqe, 42 images compared"
    assert json.loads(told_by(*arguments[:-4], "--json"))["rerank"] == "none"


@pytest.mark.parametrize("rerank", BOTH)
def test_what_is_evaluated_is_what_is_searched(gallery: Gallery, rerank: Rerank) -> None:
    rows = [0, 13, 30]
    everything = EvaluationSide(tuple(record(name) for name in NAMES), {"plane": FEATURES})
    asking = EvaluationSide(tuple(record(NAMES[row]) for row in rows), {"plane": FEATURES[rows]})
    reranking = reranking_of(rerank, CALIBRATION, "plane")
    assert reranking is not None
    measured = rank_and_measure(
        everything,
        asking,
        judge(everything, asking),
        layers=["plane"],
        gates=["off"],
        rerankings={"plane": reranking},
    )["plane"]["off"]
    for row, top, distances in zip(rows, measured.top_rows, measured.top_distances, strict=True):
        ranking = gallery.search_id(NAMES[row], rerank=rerank)
        assert [NAMES[place] for place in top] == ids(ranking)
        np.testing.assert_allclose(distances, [hit.distance for hit in ranking], rtol=1e-6)


def test_the_smallest_neighbourhoods_are_allowed() -> None:
    with pytest.raises(ValueError, match="at least 1 row"):
        KReciprocal(0, 1, 0.5)
