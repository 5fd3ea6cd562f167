"""The gallery without a query: pages of records, counts of values, and the map."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cbmir import atlas
from cbmir.gallery import Gallery
from cbmir.jobs import IndexSettings, index_into
from cbmir.jobs.upkeep import remove_images
from serving import running


@pytest.fixture
def client(served: Path) -> Iterator[httpx.Client]:
    with running(served) as server, server.client() as client:
        yield client


def test_pages_of_records_are_all_of_them_once(client: httpx.Client, served: Path) -> None:
    pages = [client.get("/api/v1/records", params={"offset": offset, "limit": 8}).json() for offset in (0, 8, 16, 24)]
    ids = [record["id"] for page in pages for record in page["records"]]
    with Gallery.open(served) as gallery:
        assert sorted(ids) == gallery.ids()
    assert {page["total"] for page in pages} == {len(ids)} == {21}
    assert [len(page["records"]) for page in pages] == [8, 8, 5, 0]


def test_a_page_of_a_filter_holds_what_passes(client: httpx.Client) -> None:
    told = client.get("/api/v1/records", params={"where": 'modality="" or modality!=""'}).json()
    assert told["total"] == len(told["records"]) == 21
    first = told["records"][0]
    assert first == client.get(f"/api/v1/records/{first['id']}").json()
    none = client.get("/api/v1/records", params={"where": "modality=MR and modality=CT"}).json()
    assert none == {"total": 0, "records": []}


def test_facets_count_what_passes(client: httpx.Client, served: Path) -> None:
    told = client.get("/api/v1/facets").json()
    with Gallery.open(served) as gallery:
        assert told["facets"] == gallery.facets()
    assert told["n"] == 21
    assert told["more"] == {}
    assert all(sum(counts.values()) == 21 for counts in told["facets"].values())
    predicted, n = next(iter(told["facets"]["class"].items()))
    told = client.get("/api/v1/facets", params={"where": f'class="{predicted}"'}).json()
    assert told["n"] == n
    assert told["facets"]["class"] == {predicted: n}


def test_rare_values_are_left_out_and_counted(client: httpx.Client) -> None:
    whole = client.get("/api/v1/facets").json()["facets"]
    told = client.get("/api/v1/facets", params={"limit": 1}).json()
    assert all(len(counts) <= 1 for counts in told["facets"].values())
    assert told["more"] == {name: len(counts) - 1 for name, counts in whole.items() if len(counts) > 1}


@pytest.mark.parametrize("path", ["records", "facets"])
def test_what_is_no_filter_is_a_problem_with_a_sentence(client: httpx.Client, path: str) -> None:
    for bad in ("modality", "colour_of_eyes=blue", "(", "x" * 5000):
        answer = client.get(f"/api/v1/{path}", params={"where": bad})
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"


def test_the_map_has_every_image_once(client: httpx.Client, served: Path) -> None:
    told = client.get("/api/v1/atlas").json()
    with Gallery.open(served) as gallery:
        assert sorted(told["points"]["id"]) == gallery.ids()
        groups = {record.id: record.group for record in gallery.records(gallery.ids()).values()}
    assert told["n"] == told["shown"] == 21
    points = told["points"]
    classes = [told["classes"][number] for number in points["class"]]
    assert dict(zip(points["id"], classes, strict=True)) == groups
    assert set(told["classes"]) == set(groups.values())
    x0, y0, x1, y1 = told["bounds"]
    assert (min(points["x"]), max(points["x"])) == pytest.approx((x0, x1), abs=1e-5)
    assert (min(points["y"]), max(points["y"])) == pytest.approx((y0, y1), abs=1e-5)


def test_a_part_of_the_map_is_thinned_and_always_the_same(client: httpx.Client) -> None:
    whole = client.get("/api/v1/atlas").json()["points"]
    middle = sorted(whole["x"])[10]
    box = {"x0": -1, "y0": -1, "x1": middle + 1e-5, "y1": 2}
    told = client.get("/api/v1/atlas", params={**box, "limit": 4}).json()
    assert (told["n"], told["shown"]) == (11, 4)
    assert all(x <= middle + 1e-5 for x in told["points"]["x"])
    assert told == client.get("/api/v1/atlas", params={**box, "limit": 4}).json()
    inside = [name for name, x in zip(whole["id"], whole["x"], strict=True) if x <= middle + 1e-5]
    assert told["points"]["id"] == inside[:4]  # what is seen from afar is there from near


@pytest.mark.parametrize(
    "box", [{"x0": 0}, {"x0": "nan", "y0": 0, "x1": 1, "y1": 1}, {"x0": 1e30, "y0": 0, "x1": 1, "y1": 1}]
)
def test_half_a_box_is_a_problem(client: httpx.Client, box: dict[str, object]) -> None:
    assert client.get("/api/v1/atlas", params=box).status_code == 422


def test_a_gallery_without_a_map_says_what_makes_one(
    client: httpx.Client, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (served / atlas.FILE).unlink()
    answer = client.get("/api/v1/atlas")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "There is no map of the gallery yet: the next index run makes it."
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setattr("cbmir.web.routes.atlas.find_spec", lambda name: None)
    assert "pip install 'cbmir[web]'" in client.get("/api/v1/atlas").json()["detail"]


def test_the_map_follows_the_gallery(client: httpx.Client, served: Path, ward: Path) -> None:
    before = client.get("/api/v1/atlas").json()["points"]
    stacks = {name: client.get(f"/api/v1/records/{name}/series").json()["slices"] for name in before["id"]}
    gone = next(name for name, slices in stacks.items() if len(slices) == 2)  # alone in its file, which is read again
    remove_images(served, "id", [gone])
    after = client.get("/api/v1/atlas").json()["points"]
    assert after["id"] == [name for name in before["id"] if name != gone]
    index_into(served, [ward], settings=IndexSettings(workers=0, readmit=True))
    again = client.get("/api/v1/atlas").json()["points"]
    assert gone in again["id"]
    stays = dict(zip(before["id"], before["x"], strict=True))
    moved = dict(zip(again["id"], again["x"], strict=True))
    assert all(moved[name] == stays[name] for name in stays if name != gone)
