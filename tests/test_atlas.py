"""The map of a gallery: what is alike lies close, it stays as people know it, and what is removed leaves it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cbmir import atlas
from cbmir.atlas import layout
from cbmir.atlas.layout import Land, Projection
from cbmir.atlas.points import points_of
from cbmir.gallery import Gallery
from cbmir.gallery.upkeep import repair, verify
from cbmir.index.matrix import open_matrix
from cbmir.privacy import Pseudonyms
from cbmir.store import Entry, Store
from cbmir.types import Record
from cbmir.upkeep import remove
from stores import file_named
from wards import SketchEncoder, every_byte, index_ward, write_image, write_ward

PSEUDONYMS = Pseudonyms(bytes(range(32)))
N_GROUPS = 4


def clusters(first: int, count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Rows around four far points; row i belongs to the point i % 4. float32 (count, 16)."""
    centres = 20 * np.eye(N_GROUPS, 16, dtype=np.float32)
    noise = np.random.default_rng([seed, first]).standard_normal((count, 16), dtype=np.float32)
    return np.asarray(centres[np.arange(first, first + count) % N_GROUPS] + noise, np.float32)


def add(store: Store, first: int, count: int, seed: int = 0) -> None:
    records = tuple(
        Record(f"{number:032x}", patient=f"{number:032x}", labels={"class": f"class {number % N_GROUPS}"})
        for number in range(first, first + count)
    )
    store.add([Entry(file_named(f"{first}"), records, {"code": clusters(first, count, seed)}, None)])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "gallery", {"code": 16}, {"pseudonyms": PSEUDONYMS.fingerprint}, card={})
    add(store, 0, 120)
    return store


def places(store: Store) -> dict[str, tuple[float, float]]:
    found = atlas.read_atlas(store.directory)
    assert found is not None
    return {name.decode(): tuple(place) for name, place in zip(found.ids.tolist(), found.places.tolist(), strict=True)}


def test_what_is_alike_lies_close(store: Store) -> None:
    report = atlas.bring_up_to_date(store, "code")
    assert (report.state, report.points, report.note) == ("made", 120, None)
    assert report.same_class == {"map": 1.0, "features": 1.0}
    on_map = places(store)
    assert set(on_map) == set(store.ids())
    xy = np.array(list(on_map.values()))
    assert xy.min() >= 0
    assert xy.max() <= 1
    assert np.ptp(xy, axis=0).max() == pytest.approx(1)


def test_the_same_gallery_has_the_same_map(store: Store, tmp_path: Path) -> None:
    other = Store.create(tmp_path / "other", {"code": 16}, {}, card={})
    add(other, 0, 120)
    for one in (store, other):
        atlas.bring_up_to_date(one, "code")
    assert places(store) == places(other)


def test_an_unchanged_gallery_is_not_looked_at_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    atlas.bring_up_to_date(store, "code")
    before = (store.directory / atlas.FILE).stat()
    monkeypatch.setattr(atlas, "open_matrix", lambda *_: pytest.fail("the features were read"))
    assert atlas.bring_up_to_date(store, "code").state == "unchanged"
    assert (store.directory / atlas.FILE).stat().st_mtime_ns == before.st_mtime_ns


def test_what_comes_is_placed_among_its_like_and_nothing_else_moves(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas.bring_up_to_date(store, "code")
    before = places(store)
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)  # it is not needed for that
    add(store, 120, 8)
    report = atlas.bring_up_to_date(store, "code")
    after = places(store)
    assert (report.state, report.points) == ("brought up to date", 128)
    assert {name: after[name] for name in before} == before
    for number in range(120, 128):
        near = sorted(before, key=lambda name: np.hypot(*np.subtract(before[name], after[f"{number:032x}"])))
        assert int(near[0], 16) % N_GROUPS == number % N_GROUPS


def test_an_image_whose_features_change_moves(store: Store) -> None:
    atlas.bring_up_to_date(store, "code")
    before = places(store)
    add(store, 0, 120, seed=1)  # all of them: laid out anew
    assert atlas.bring_up_to_date(store, "code").state == "made"
    assert places(store) != before


def test_a_gallery_that_has_doubled_is_laid_out_anew(store: Store) -> None:
    atlas.bring_up_to_date(store, "code")
    add(store, 120, 130)
    assert atlas.bring_up_to_date(store, "code").state == "made"
    assert len(places(store)) == 250


def test_without_the_library_the_report_says_what_to_install(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    report = atlas.bring_up_to_date(store, "code")
    assert report.state == "missing"
    assert report.note is not None
    assert "pip install 'cbmir[web]'" in report.note
    assert not (store.directory / atlas.FILE).exists()


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_gallery_of_few_images_has_a_map_without_the_library(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    store = Store.create(tmp_path / "gallery", {"code": 16}, {}, card={})
    if count:
        add(store, 0, count)
    assert atlas.bring_up_to_date(store, "code").points == count
    assert len(set(places(store).values())) == count


def test_images_that_are_all_the_same_have_a_map(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "gallery", {"code": 3}, {}, card={})
    records = tuple(Record(f"{number:032x}") for number in range(40))
    store.add([Entry(file_named("one"), records, {"code": np.ones((40, 3), np.float32)}, None)])
    assert atlas.bring_up_to_date(store, "code").points == 40


def test_removed_images_leave_the_map_and_no_byte_of_it(tmp_path: Path) -> None:
    write_ward(tmp_path / "ward")
    gallery = Gallery.create(tmp_path / "gallery", SketchEncoder(), PSEUDONYMS)
    index_ward(tmp_path / "ward", gallery, PSEUDONYMS)
    gallery.draw_atlas()
    assert len(places(gallery.store)) == gallery.count == 21
    gone = gallery.ids()[3]
    proof = remove(gallery, "id", [gone], PSEUDONYMS).proof
    assert not proof.found
    assert set(places(gallery.store)) == set(gallery.ids())
    assert not any(gone.encode() in content for content in every_byte(gallery.directory).values())
    assert gallery.verify()["ok"]
    assert gallery.draw_atlas().state == "unchanged"


def test_a_map_that_a_killed_process_left_is_swept_up(store: Store) -> None:
    atlas.bring_up_to_date(store, "code")
    new = store.directory / f"{atlas.FILE}.new"
    new.write_bytes((b"%032x" % 3) * 2)
    atlas.prune(store)
    assert not new.exists()


def test_another_encoder_has_another_map(store: Store) -> None:
    atlas.bring_up_to_date(store, "code")
    before = places(store)
    store.begin_next({"name": "next"}, {"code": 16})
    entries = [
        Entry(pending.file, _records(store, pending.ids), {"code": clusters(7, 120, 5)}, None)
        for pending in store.pending(10)
    ]
    store.put_next(entries)
    store.swap_next()
    assert points_of(store.directory, open_matrix(store, "code")) is None  # that of the encoder before is not shown
    assert atlas.bring_up_to_date(store, "code").state == "made"
    assert places(store) != before


def _records(store: Store, ids: Any) -> tuple[Record, ...]:
    return tuple(store.records(ids).values())


@pytest.mark.parametrize("harm", ["cut", "changed", "stray"])
def test_verify_tells_what_is_wrong_and_repair_deletes_it(store: Store, harm: str) -> None:
    atlas.bring_up_to_date(store, "code")
    assert atlas.problems(store) == []
    path = store.directory / atlas.FILE
    content = path.read_bytes()
    if harm == "cut":
        path.write_bytes(content[:-20])
    elif harm == "changed":
        path.write_bytes(content[:100] + b"!" + content[101:])
    else:
        store.remove("id", [f"{7:032x}"], lambda record: ())
        found = atlas.read_atlas(store.directory)
        assert found is not None
        atlas._write(store, layout_moved(found, store.generation()))
    told = verify(store)
    assert not told["ok"]
    assert "atlas.arrays" in told["problems"][0]
    assert repair(store)["ok"]
    assert not path.exists()


def layout_moved(found: atlas.Atlas, generation: int) -> atlas.Atlas:
    return atlas.Atlas(**{**found.__dict__, "generation": generation})


def test_points_are_those_of_the_gallery_as_it_is_now(store: Store) -> None:
    atlas.bring_up_to_date(store, "code")
    matrix = open_matrix(store, "code")
    points = points_of(store.directory, matrix)
    assert points is not None
    assert sorted(points.ids(np.arange(len(points.places)))) == store.ids()
    for row in range(0, 120, 7):
        name = points.ids(np.array([row]))[0]
        assert points.classes[points.groups[row]] == f"class {int(name, 16) % N_GROUPS}"
    assert points_of(store.directory, matrix, points) is points
    store.remove("id", [f"{5:032x}"], lambda record: ())
    later = points_of(store.directory, open_matrix(store, "code"), points)
    assert later is not None
    assert f"{5:032x}" not in later.ids(np.arange(len(later.places)))


def test_any_beginning_covers_the_map_evenly() -> None:
    """Of 10,000 points, nearly all in one corner, the first 64 are not."""
    draw = np.random.default_rng(0)
    crowd, rest = draw.random((9900, 2)) / 10, draw.random((100, 2))
    xy = np.concatenate([crowd, rest]).astype(np.float32)
    order = layout.spread_first(xy, layout.by_chance(map(str, range(len(xy)))))
    assert sorted(order.tolist()) == list(range(len(xy)))
    assert (xy[order[:64]] < 0.1).all(axis=1).mean() < 0.2


def test_a_box_gives_the_same_points_however_often_it_is_asked(store: Store) -> None:
    atlas.bring_up_to_date(store, "code")
    points = points_of(store.directory, open_matrix(store, "code"))
    assert points is not None
    box = (0.0, 0.0, 0.5, 1.0)
    n, rows = points.within(box, 10)
    expected = np.flatnonzero(points.places[:, 0] <= 0.5)
    assert n == len(expected)
    assert rows.tolist() == expected[:10].tolist()
    assert points.within(None, 1000)[0] == 120
    assert points.within((2.0, 2.0, 3.0, 3.0), 10)[0] == 0


def test_every_class_has_landmarks() -> None:
    """Of 20,000 images three are of a rare class."""
    groups = np.zeros(20_000, np.int64)
    groups[[5, 600, 7000]] = 1
    chosen = layout.landmarks(layout.by_chance(map(str, range(20_000))), groups)
    assert len(chosen) == layout.N_LANDMARKS
    assert {5, 600, 7000} <= set(chosen.tolist())
    assert (np.diff(chosen) > 0).all()


def test_few_landmarks_change_when_images_come() -> None:
    ids = list(map(str, range(20_000)))
    groups = np.zeros(20_000, np.int64)
    before = set(layout.landmarks(layout.by_chance(ids), groups).tolist())
    after = set(layout.landmarks(layout.by_chance([*ids, "one more"]), np.zeros(20_001, np.int64)).tolist())
    assert len(before & after) >= layout.N_LANDMARKS - 1


@pytest.mark.parametrize("shape", [(300, 40), (40, 300)])
def test_principal_components_keep_distances(shape: tuple[int, int]) -> None:
    """All of them are kept here, so that all distances are."""
    rows = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    projection = Projection.of(rows)
    projected = projection(rows)
    assert projected.shape[1] <= min(layout.N_COMPONENTS, *shape)
    expected, found = (np.linalg.norm(some[:, None] - some[None], axis=2) for some in (rows, projected))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_the_first_components_are_those_of_a_whole_decomposition() -> None:
    draw = np.random.default_rng(0)
    rows = (draw.standard_normal((500, 400)) * np.linspace(3, 0.1, 400)).astype(np.float32)
    centred = rows - rows.mean(axis=0)
    exact = np.linalg.svd(centred, compute_uv=False)[: layout.N_COMPONENTS]
    found = np.sort(np.linalg.norm(Projection.of(rows)(rows), axis=0))[::-1]
    assert found == pytest.approx(exact, rel=0.03)


def test_an_image_between_two_islands_is_placed_on_the_nearer_one() -> None:
    """The mean of both would lie in the sea."""
    rows = np.float32([[0, 0], [0, 1], [1, 0], [10, 0], [10, 1]])
    on_map = np.float32([[0, 0], [0, 1], [1, 0], [50, 0], [50, 1]])
    projection = Projection(np.zeros(2, np.float32), np.eye(2, dtype=np.float32))
    land = Land(projection, rows, on_map)
    [place] = land.place(np.array([0]), lambda _: np.float32([[4, 0]]))
    assert np.hypot(*place) < 5


def test_agreement_is_that_of_a_plain_count() -> None:
    draw = np.random.default_rng(3)
    rows, groups = draw.standard_normal((90, 2)).astype(np.float32), draw.integers(0, 3, 90)
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    shares = [(groups[np.argsort(line)[:10]] == group).mean() for line, group in zip(distances, groups, strict=True)]
    found = layout.agreement(rows, lambda some: rows[some], groups, layout.by_chance(map(str, range(90))))
    assert found == pytest.approx((np.mean(shares), np.mean(shares)))


def test_an_index_run_makes_the_map_and_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cbmir.files import read_json
    from cbmir.jobs import index_into

    monkeypatch.setenv("CBMIR_KEY_FILE", str(tmp_path / "key"))
    folder = write_ward(tmp_path / "ward")
    report = index_into(tmp_path / "gallery", [folder], encoder_name="pixels")
    assert report.atlas is not None
    assert (report.atlas["state"], report.atlas["points"]) == ("made", 21)
    assert read_json(report.report)["atlas"] == report.atlas
    assert "21 images, made in" in report.html.read_text()
    write_image(folder / "Miller^0" / "new.dcm", 0, 3, 3)
    report = index_into(tmp_path / "gallery", [folder])
    assert report.atlas is not None
    assert (report.atlas["state"], report.atlas["points"]) == ("brought up to date", 22)
    report = index_into(tmp_path / "gallery", [folder])
    assert report.atlas is not None
    assert report.atlas["state"] == "unchanged"
