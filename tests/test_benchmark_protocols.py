"""Who is in the gallery and who asks, under every protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbmir.benchmark import Plan, plan
from cbmir.benchmark.collection import Collection
from cbmir.benchmark.measuring import pooled_posterior
from cbmir.errors import BadManifest
from cbmir.evaluate import EvaluationSide
from cbmir.evaluate.rankings import judge, rank_layer
from cbmir.privacy import Pseudonyms
from cbmir.types import ImageRef, Record

Told = tuple[str, str, str, str]


def collected(images: Sequence[Told], pseudonyms: Pseudonyms) -> Collection:
    """(class, patient, source, split) each; the id is the place."""
    refs = tuple(
        ImageRef(Path(f"/{n}.png"), f"{n}.png", {"class": c}, patient=p, source=s or None, split=side or None)
        for n, (c, p, s, side) in enumerate(images)
    )
    records = tuple(
        Record(id=f"{n:04d}", patient=r.patient, modality="CT", source=r.source, labels=r.labels)
        for n, r in enumerate(refs)
    )
    places = tuple(range(len(refs)))
    return Collection(refs, records, places, np.arange(len(refs)), places, (), 0, pseudonyms, "identity")


def planned(images: Sequence[Told], pseudonyms: Pseudonyms, protocol: Any, **options: Any) -> Plan:
    return plan(collected(images, pseudonyms), protocol, **options)


def test_split_searches_train_and_asks_test(pseudonyms: Pseudonyms) -> None:
    (fold,) = planned([("a", "1", "", "train"), ("a", "2", "", "test"), ("b", "3", "", "")], pseudonyms, "split").folds
    assert (fold.gallery.tolist(), fold.queries.tolist()) == ([0], [1])


def test_patients_folds_the_train_side_alone(pseudonyms: Pseudonyms) -> None:
    images = [("ab"[n % 2], f"{n // 2}", "", "train") for n in range(12)] + [("a", "other", "", "test")]
    told = planned(images, pseudonyms, "patients", n_folds=3)
    assert len(told.folds) == 3
    assert sorted(row for fold in told.folds for row in fold.queries) == list(range(12))
    for fold in told.folds:
        assert {images[row][1] for row in fold.gallery}.isdisjoint(images[row][1] for row in fold.queries)


def test_sources_keeps_classes_with_two_sources_and_lists_the_others(pseudonyms: Pseudonyms) -> None:
    images = [("a", f"a{n}", f"s{n % 3}", "train") for n in range(9)] + [("b", "b", "s0", ""), ("c", "c", "", "")]
    told = planned(images, pseudonyms, "sources")
    assert sorted(row for fold in told.folds for row in fold.queries) == list(range(9))
    for fold in told.folds:
        assert {images[row][2] for row in fold.gallery}.isdisjoint(images[row][2] for row in fold.queries)
    assert [(cell["class"], cell["n_images"], cell["reason"]) for cell in told.excluded] == [
        ("b", 1, "only one source (s0)"),
        ("c", 1, "no source is told"),
    ]


def test_sources_with_nothing_to_compare_is_said(pseudonyms: Pseudonyms) -> None:
    with pytest.raises(BadManifest, match="two sources"):
        planned([("a", "1", "s", ""), ("b", "2", "s", "")], pseudonyms, "sources")


def test_few_patients_are_left_out_one_by_one(pseudonyms: Pseudonyms) -> None:
    told = planned([("a", "1", "", ""), ("b", "1", "", ""), ("a", "2", "", "")], pseudonyms, "one-patient-out")
    assert [fold.queries.tolist() for fold in told.folds] == [[0, 1], [2]]
    assert not told.only_unlearned


def test_many_patients_are_left_out_in_one_fold_that_nothing_learns_from(pseudonyms: Pseudonyms) -> None:
    told = planned([("ab"[n % 2], f"{n}", "", "") for n in range(30)], pseudonyms, "one-patient-out")
    assert told.only_unlearned
    assert len(told.folds) == 1


def test_within_hides_the_image_and_its_patient(pseudonyms: Pseudonyms) -> None:
    collection = collected([("a", "1", "", ""), ("a", "1", "", ""), ("a", "2", "", "")], pseudonyms)
    (fold,) = plan(collection, "within").folds
    side = EvaluationSide(collection.records, {})
    assert fold.gallery.tolist() == fold.queries.tolist() == [0, 1, 2]
    assert [rows.tolist() for rows in judge(side, side).hidden] == [[0, 1], [0, 1], [2]]


# --- other distances ---


def line(*places: float, name: str = "g", posterior: Any = None) -> EvaluationSide:
    records = tuple(Record(id=f"{name}{n}", labels={"class": "ab"[n % 2]}) for n in range(len(places)))
    return EvaluationSide(records, {"line": np.array(places, np.float32).reshape(-1, 1)}, posterior)


def order(gallery: EvaluationSide, queries: EvaluationSide, **asked: Any) -> dict[Any, list[int]]:
    (found,) = rank_layer(gallery, queries, judge(gallery, queries), "line", **asked)
    return {gate: hits.positions.tolist() for gate, hits in found.items()}


@pytest.mark.parametrize("distance", ["euclidean", "manhattan"])
def test_every_distance_goes_through_the_same_gates_and_ties(distance: Any) -> None:
    gallery = line(3, 1, 5, 1)  # classes a b a b; the tie is broken by id
    queries = line(0, name="q", posterior=np.array([[0.9, 0.1]], np.float32))
    found = order(gallery, queries, distance=distance, gates=("off", "hard"), classes=("a", "b"))
    assert found == {"off": [1, 3, 0, 2], "hard": [0, 2]}


def test_hamming_counts_bits() -> None:
    assert order(line(1, 0), line(0, name="q"), distance="hamming", gates=("off",)) == {"off": [1, 0]}


def test_posteriors_of_folds_with_other_classes_stand_side_by_side() -> None:
    one, other = np.array([[0.2, 0.8]], np.float32), np.array([[1.0]], np.float32)
    found, classes = pooled_posterior([one, other], [("a", "c"), ("b",)])
    assert classes == ("a", "b", "c")
    assert found is not None
    assert found.tolist() == [pytest.approx([0.2, 0, 0.8]), [0, 1, 0]]
