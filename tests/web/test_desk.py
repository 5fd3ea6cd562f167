"""One gallery for many threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cbmir.errors import BadGallery
from cbmir.gallery import Gallery
from cbmir.privacy import Pseudonyms
from cbmir.upkeep.reindexing import Limits, reindex
from cbmir.web.desk import Desk
from cbmir.web.problems import Problem
from wards import SketchEncoder, index_ward, write_image


@pytest.fixture
def directory(ward: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> Path:
    with Gallery.create(tmp_path / "gallery", SketchEncoder(), pseudonyms) as gallery:
        index_ward(ward, gallery, pseudonyms)
    return tmp_path / "gallery"


@pytest.fixture
def desk(directory: Path) -> Iterator[Desk]:
    with Desk(directory, n_galleries=3) as desk:
        yield desk


def test_many_threads_get_what_one_gets(desk: Desk) -> None:
    with desk.gallery() as gallery:
        ids = gallery.ids()
        expected = {name: [hit.id for hit in gallery.search_id(name, k=5)] for name in ids}

    def search(name: str) -> list[str]:
        with desk.gallery() as gallery:
            return [hit.id for hit in gallery.search_id(name, k=5)]

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(search, ids * 20))
    assert found == [expected[name] for name in ids * 20]


def test_matrices_are_in_memory_once(desk: Desk) -> None:
    with desk.gallery() as first, desk.gallery() as second:
        assert first is not second
        first.search_id(first.ids()[0])
        assert first._matrix("sketch") is second._matrix("sketch")


def test_whoever_waits_too_long_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cbmir.web.desk.PATIENCE_S", 0.05)
    with desk.gallery(), desk.gallery(), desk.gallery(), pytest.raises(Problem) as caught, desk.gallery():
        pass
    assert caught.value.status_code == 503


def change_encoder(directory: Path, pseudonyms: Pseudonyms) -> None:
    with Gallery.open(directory) as gallery:
        reindex(gallery, SketchEncoder(turned=True), pseudonyms, limits=Limits(workers=0))


def test_after_a_change_of_encoder_the_next_request_has_the_new_one(
    desk: Desk, directory: Path, pseudonyms: Pseudonyms
) -> None:
    with desk.gallery() as gallery:
        name = gallery.ids()[0]
        assert (gallery.encoder.name, len(gallery.search_id(name))) == ("sketch", 10)
    change_encoder(directory, pseudonyms)
    with desk.gallery() as gallery:
        assert (gallery.encoder.name, len(gallery.search_id(name))) == ("turned", 10)


def test_a_change_of_encoder_meanwhile_is_told_without_the_place_of_the_gallery(
    desk: Desk, directory: Path, pseudonyms: Pseudonyms
) -> None:
    def ask_too_late() -> None:
        with desk.gallery() as gallery:
            change_encoder(directory, pseudonyms)
            gallery.search_id(gallery.ids()[0])

    with pytest.raises(BadGallery, match=r"the gallery has another encoder now"):
        ask_too_late()


def test_what_is_added_is_found_by_the_next_request(
    desk: Desk, ward: Path, directory: Path, pseudonyms: Pseudonyms
) -> None:
    with desk.gallery() as gallery:
        name, before = gallery.ids()[0], gallery.search_id(gallery.ids()[0], k=99, hide="none").n_candidates
    write_image(ward / "Miller^0" / "new.dcm", 0, 7, 7)
    with Gallery.open(directory) as gallery:
        index_ward(ward, gallery, pseudonyms)
    with desk.gallery() as gallery:
        assert gallery.search_id(name, k=99, hide="none").n_candidates == before + 1
