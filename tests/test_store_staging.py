"""A second encoder beside the current one: made bit by bit, audited, swapped in one step. And the log of changes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cbmir.errors import BadGallery
from cbmir.store import Entry, Pending, Store, changes
from cbmir.types import Record
from stores import CARD, LAYERS, entry, file_named, ids_of, new_store

NEXT = {"name": "two"}
NEXT_LAYERS = {"flat": 1, "mean": 4}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "gallery") as store:
        store.add([entry("1", "a", "b", label=None, predicted="knee"), entry("2", "c")])
        yield store


def remade(name: str, *ids: str, value: float = 2.0, predicted: str = "lung") -> Entry:
    """A file as the next encoder sees it."""
    one = entry(name, *ids)
    return replace(
        one,
        records=tuple(replace(record, predicted=predicted, probability=0.75) for record in one.records),
        features={layer: np.full((len(ids), dim), value, np.float32) for layer, dim in NEXT_LAYERS.items()},
        posterior=np.full((len(ids), 3), 0.25, np.float32),
    )


def remake(store: Store) -> None:
    store.begin_next(NEXT, NEXT_LAYERS)
    store.put_next([remade("1", "a", "b"), remade("2", "c")])


def none(record: Record) -> Sequence[str]:
    return ()


def test_features_of_the_next_encoder_grow_beside_those_of_the_current_one(store: Store) -> None:
    generation, current = store.generation(), store.encoder_number()
    store.begin_next(NEXT, NEXT_LAYERS)
    assert (store.card(), store.card("next"), store.card("previous")) == (CARD, NEXT, None)
    assert (store.layers, store.layers_of("next")) == (LAYERS, NEXT_LAYERS)
    assert store.audit_next() == ["a", "b", "c"]
    assert store.put_next([remade("1", "a", "b")]) == ["a", "b"]
    assert store.audit_next() == ["c"]
    assert store.rows("mean", ["b", "c"], "next").features.tolist() == [[2, 2, 2, 2]]
    assert store.rows("mean", ["b"]).features.tolist() == [[1, 1]]
    assert [block.ids for block in store.blocks("flat", "next")] == [("a", "b")]
    assert (store.generation(), store.encoder_number()) == (generation, current)
    assert store.problems() == []


def test_what_is_pending_is_told_file_by_file(store: Store) -> None:
    store.add([entry("3", "d"), entry("bad", outcome="corrupt")])
    store.begin_next(NEXT, NEXT_LAYERS)
    first, second = store.pending(2)
    assert first == Pending(first.number, file_named("1"), ("a", "b"))
    assert second.ids == ("c",)
    assert [file.ids for file in store.pending(2, after=second.number)] == [("d",)]
    store.put_next([remade("1", "a"), remade("2", "c")])
    assert [file.ids for file in store.pending(9)] == [("b",), ("d",)]


def test_images_that_come_meanwhile_are_pending_and_those_that_go_are_not(store: Store) -> None:
    remake(store)
    store.add([entry("2", "new"), entry("3", "d")])
    store.remove("id", ["a"], none)
    assert store.audit_next() == ["d", "new"]
    assert [file.ids for file in store.pending(9)] == [("new",), ("d",)]


def test_features_of_a_file_that_has_changed_or_lost_its_images_are_not_taken(store: Store) -> None:
    """It was read before an index run, and is written after."""
    store.begin_next(NEXT, NEXT_LAYERS)
    now = entry("1", "a")
    store.add([replace(now, file=now.file._replace(content="other"))])
    assert store.put_next([remade("1", "a", "b"), remade("2", "a"), remade("nobody's", "c")]) == []
    assert store.audit_next() == ["a", "c"]


def test_the_next_encoder_gives_features_of_every_layer(store: Store) -> None:
    store.begin_next(NEXT, NEXT_LAYERS)
    with pytest.raises(BadGallery, match="1 features of layer flat"):
        store.put_next([entry("1", "a")])


def test_a_swap_changes_features_opinions_classes_layers_and_card_in_one_step(store: Store) -> None:
    remake(store)
    numbers = store.encoder_number(), store.encoder_number("next")
    store.swap_next()
    assert (store.card(), store.card("previous"), store.card("next")) == (NEXT, CARD, None)
    assert (store.encoder_number("previous"), store.encoder_number()) == numbers
    assert (store.layers, store.layers_of("previous")) == (NEXT_LAYERS, LAYERS)
    assert store.rows("mean", ["a"]).features.tolist() == [[2, 2, 2, 2]]
    record = store.records(["a"])["a"]
    assert (record.predicted, record.probability, store.counts("class")) == ("lung", 0.75, {"knee": 1, "lung": 2})
    assert store.posterior("a").tolist() == [0.25, 0.25, 0.25]  # type: ignore[union-attr]
    assert ids_of(store) == ["c", "a", "b"]  # c is a knee by its label
    assert store.problems() == []


def test_one_goes_back_and_forth_without_a_loss(store: Store) -> None:
    remake(store)
    before = store.records(["a", "b", "c"])
    store.swap_next()
    after = store.records(["a", "b", "c"])
    store.swap_back()
    assert (store.card(), store.records(["a", "b", "c"])) == (CARD, before)
    assert store.posterior("a").tolist() == [0.5, 0.5]  # type: ignore[union-attr]
    assert store.rows("mean", ["a"]).features.tolist() == [[1, 1]]
    store.swap_back()
    assert (store.card(), store.records(["a", "b", "c"])) == (NEXT, after)
    assert store.problems() == []


def test_nothing_is_swapped_while_anything_lacks(store: Store) -> None:
    store.begin_next(NEXT, NEXT_LAYERS)
    store.put_next([remade("1", "a", "b")])
    with pytest.raises(BadGallery, match="1 images lack features"):
        store.swap_next()
    assert (store.card(), ids_of(store)) == (CARD, ["a", "b", "c"])


def test_going_back_wants_what_came_since_to_be_made_first(store: Store) -> None:
    remake(store)
    store.swap_next()
    one = remade("3", "d")
    store.add([one])
    assert store.audit_previous() == ["d"]
    with pytest.raises(BadGallery, match="1 images lack"):
        store.swap_back()
    store.stage_previous()
    assert [file.ids for file in store.pending(9)] == [("d",)]
    store.put_next([entry("3", "d")])
    store.swap_next()
    assert (store.card(), store.card("previous"), ids_of(store)) == (CARD, NEXT, ["a", "b", "c", "d"])
    assert store.problems() == []


def test_one_encoder_is_made_at_a_time_and_one_is_kept(store: Store) -> None:
    for call in (store.swap_back, store.stage_previous, store.swap_next, store.audit_next):
        with pytest.raises(BadGallery, match=r"no (next|previous) encoder"):
            call()
    remake(store)
    with pytest.raises(BadGallery, match="being made already"):
        store.begin_next({"name": "three"}, {"x": 1})
    store.swap_next()
    with pytest.raises(BadGallery, match="still kept: forget it first"):
        store.begin_next({"name": "three"}, {"x": 1})


def test_what_is_dropped_or_forgotten_leaves_nothing(store: Store) -> None:
    remake(store)
    store.drop_next()
    assert (store.card("next"), store.layers_of("next"), store.problems()) == (None, {}, [])
    remake(store)
    store.swap_next()
    store.forget_previous()
    assert store.card("previous") is None
    assert store._all("SELECT count(*) FROM feature") == [(3 * len(NEXT_LAYERS),)]
    assert store._all("SELECT count(*) FROM opinion") == [(0,)]
    assert store.encoder_number() == 3  # no number is given twice
    assert (ids_of(store), store.problems()) == (["c", "a", "b"], [])


def test_forgetting_that_was_cut_short_is_told_and_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    remake(store)
    with monkeypatch.context() as patch:
        patch.setattr("cbmir.store.staging._RECORDS_AT_ONCE", 0)
        with pytest.raises(ValueError, match="range"):
            store.drop_next()
    assert [problem.sentence for problem in store.problems()] == [
        "features of an encoder that was forgotten are still there"
    ]
    store.begin_next(NEXT, NEXT_LAYERS)
    assert (store.audit_next(), store.problems()) == (["a", "b", "c"], [])


def test_an_encoder_is_forgotten_in_many_transactions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.store.staging._RECORDS_AT_ONCE", 1)
    remake(store)
    store.drop_next()
    assert store._all("SELECT count(*) FROM feature") == [(3 * len(LAYERS),)]


def test_features_of_another_encoder_than_the_current_one_are_not_added(store: Store) -> None:
    """An index run that began before a swap would else mix them, where the layers have the same dims."""
    number = store.encoder_number()
    store.begin_next(NEXT, LAYERS)
    one, two = entry("1", "a", "b"), entry("2", "c")
    store.put_next([one, two])
    store.swap_next()
    with pytest.raises(BadGallery, match="has another encoder now; open it again"):
        store.add([entry("3", "d")], encoder=number)
    assert store.add([entry("3", "d")], encoder=store.encoder_number()).added == 1


def test_a_reader_sees_the_one_or_the_other(store: Store) -> None:
    remake(store)
    with Store.open(store.directory) as reader:
        with reader.snapshot():
            generation = reader.generation()
            store.swap_next()
            assert (reader.card(), reader.generation(), ids_of(reader)) == (CARD, generation, ["a", "b", "c"])
        assert (reader.card(), reader.layers, ids_of(reader)) == (NEXT, NEXT_LAYERS, ["c", "a", "b"])


def test_the_log_tells_what_came_went_or_was_changed(store: Store) -> None:
    start = store.generation()
    store.add([entry("1", "a")])  # again, without b
    store.add([entry("copy", "c")])  # a duplicate: nothing
    assert store.changes_since(start) == ["a", "b"]
    store.add([entry("3", "c")], gone=lambda file: file.name == "2")  # moves
    assert store.changes_since(start + 1) == ["c"]
    store.remove("id", ["a"], none)
    assert store.changes_since(start) == ["a", "b", "c"]
    assert store.changes_since(store.generation()) == []


def test_the_log_does_not_tell_of_what_it_has_forgotten_or_is_yet_to_come(store: Store) -> None:
    assert store.changes_since(-1) is None
    assert store.changes_since(store.generation() + 1) is None


@pytest.mark.parametrize("seed", range(10))
def test_a_reader_of_any_earlier_generation_misses_no_change(
    seed: int, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has read, without the ids the log names, and these as they are now, is all there is now."""
    monkeypatch.setattr(changes, "LOG_ROWS", 12)
    draw = random.Random(seed)

    def rows(ids: Sequence[str]) -> dict[str, tuple[str, float]]:
        block = store.rows(next(iter(store.layers)), ids)
        return {name: (group, row[0]) for name, group, row in zip(block.ids, block.groups, block.features, strict=True)}

    def add() -> None:
        ids = draw.sample("abcdefgh", draw.randint(0, 4))
        one = entry(f"{draw.randrange(5)}", *ids, label=draw.choice(["knee", "lung"]), pixels=draw.choice("wxyz"))
        one = replace(one, features={layer: values * draw.random() for layer, values in one.features.items()})
        store.add([one], gone=lambda file: draw.random() < 0.5, skip_same_pixels=draw.random() < 0.5)

    operations: list[Callable[[], object]] = [
        add, add, add, add,
        lambda: store.remove("id", draw.sample("abcdefgh", 2), none),
        lambda: store.scrub(draw.randint(0, store.generation())),
    ]  # fmt: skip
    read: dict[int, dict[str, tuple[str, float]]] = {}
    n_told = 0
    for _ in range(40):
        draw.choice(operations)()
        now = rows(store.ids())
        for generation, before in read.items():
            touched = store.changes_since(generation)
            if touched is not None:
                n_told += 1
                kept = {name: row for name, row in before.items() if name not in touched}
                assert kept | rows(touched) == now
        read[store.generation()] = now
    assert n_told > 40


def test_a_swap_touches_everything(store: Store) -> None:
    remake(store)
    before = store.generation()
    store.swap_next()
    assert (store.changes_since(before), store.changes_since(store.generation())) == (None, [])


def test_the_log_keeps_so_many_changes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "LOG_ROWS", 3)
    start = store.generation()
    for number in range(3, 9):
        store.add([entry(f"{number}", f"{number}")])
    last = store.generation()
    assert last == start + 6
    assert store.changes_since(last - 3) == ["6", "7", "8"]
    assert store.changes_since(last - 4) is None


def test_records_are_described_in_the_order_of_their_features(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.store.reading._RECORDS_AT_ONCE", 2)
    store.add([entry("3", "d", label="brain")])
    described = [[record.id for record in records] for records in store.describe()]
    assert described == [["d", "a"], ["b", "c"]]
    assert [name for names in described for name in names] == ids_of(store)
    assert [[record.id for record in records] for records in store.describe(["c", "x", "d"])] == [["d", "c"]]


def test_some_rows_come_as_the_blocks_do(store: Store) -> None:
    store.add([entry("3", "d", label="brain", value=3)])
    some = store.rows("corner", ["c", "x", "d", "c"])
    assert (some.ids, some.groups, some.features.tolist()) == (("d", "c"), ("brain", "knee"), [[3, 3, 3], [1, 1, 1]])
    assert some.owners["patient"] == ("patient of d", "patient of c")
    assert store.rows("mean", []).features.shape == (0, 2)
    with pytest.raises(BadGallery, match="no layer other"):
        store.rows("other", ["a"])
