"""A gallery goes over to another encoder: whole or not at all, and back while the old one is kept."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cbmir.errors import BadGallery
from cbmir.extract import extract
from cbmir.gallery import Gallery
from cbmir.privacy import Pseudonyms
from cbmir.sources import open_source
from cbmir.upkeep import reindexing, remove
from cbmir.upkeep.reindexing import Lacking, cancel, forget_old, go_back, reindex, status
from wards import SketchEncoder, index_ward, write_image

OLD, NEW = cast(Any, SketchEncoder()), cast(Any, SketchEncoder(turned=True))
N = 21


@pytest.fixture
def gallery(ward: Path, tmp_path: Path, pseudonyms: Pseudonyms) -> Iterable[Gallery]:
    with Gallery.create(tmp_path / "gallery", OLD, pseudonyms) as gallery:
        index_ward(ward, gallery, pseudonyms, OLD)
        yield gallery


def features(gallery: Gallery, layer: str = "sketch") -> dict[str, np.ndarray[Any, Any]]:
    with Gallery.open(gallery.directory) as now:
        return {
            record_id: row
            for block in now.store.blocks(layer)
            for record_id, row in zip(block.ids, block.features, strict=True)
        }


def lacking(gallery: Gallery, why: str, file: str, pseudonyms: Pseudonyms) -> list[Lacking]:
    report = reindex(gallery, NEW, pseudonyms)
    assert not report.swapped
    with Gallery.open(gallery.directory) as now:
        assert now.encoder_fingerprint == OLD.fingerprint
    assert {one.why for one in report.lacking} == {why}
    places = {place.handle: place.path for place in gallery.files(pseudonyms)}
    assert {Path(places[one.handle] or "").name for one in report.lacking} == {file}
    return list(report.lacking)


def test_every_image_is_encoded_again_and_the_gallery_changes_over(
    gallery: Gallery, ward: Path, tmp_path: Path, pseudonyms: Pseudonyms
) -> None:
    report = reindex(gallery, NEW, pseudonyms, encoder_path="somewhere")
    assert (report.swapped, report.records, report.encoded, report.lacking) == (True, N, N, ())
    with Gallery.create(tmp_path / "fresh", NEW, pseudonyms) as fresh:
        index_ward(ward, fresh, pseudonyms, NEW)
        for layer in NEW.layers:
            expected, found = features(fresh, layer), features(gallery, layer)
            assert expected.keys() == found.keys()
            assert all((expected[name] == found[name]).all() for name in expected)
        with Gallery.open(gallery.directory) as now:
            assert now.records(now.ids()) == fresh.records(fresh.ids())  # predicted classes are the new encoder's
            assert (now.encoder_fingerprint, now.encoder_path) == (NEW.fingerprint, "somewhere")
            assert [hit.id for hit in now.search_id(now.ids()[0])] == [hit.id for hit in fresh.search_id(now.ids()[0])]
            assert now.verify()["ok"]


def test_what_a_manifest_says_of_the_modality_is_not_forgotten(tmp_path: Path, pseudonyms: Pseudonyms) -> None:
    """A volume has no word for it, and CT is shown by other windows."""
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 12 12 6\nencoding: raw\nendian: little\n"
    place = "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n\n"
    values = np.random.default_rng(3).integers(-1000, 1500, (6, 12, 12)).astype("<i2")
    (tmp_path / "a.nrrd").write_bytes((header + place).encode() + values.tobytes())
    (tmp_path / "manifest.csv").write_text("path,modality\na.nrrd,CT\n")
    found = []
    for name, encoder in (("old", OLD), ("fresh", NEW)):
        with Gallery.create(tmp_path / name, encoder, pseudonyms) as gallery:
            assert index_ward(tmp_path / "manifest.csv", gallery, pseudonyms, encoder).added
            if encoder is OLD:
                assert reindex(gallery, NEW, pseudonyms).swapped
            found.append(features(gallery))
    assert found[0].keys() == found[1].keys()
    assert all((found[0][record_id] == row).all() for record_id, row in found[1].items())


def test_until_then_the_gallery_is_searched_under_the_old_one(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    asked = gallery.ids()[3]
    before = [hit.id for hit in gallery.search_id(asked, hide="none")]
    found = []

    class Watching(SketchEncoder):
        def encode(self, batch: Any) -> Any:
            with Gallery.open(gallery.directory) as other:
                found.append([hit.id for hit in other.search_id(asked, hide="none")])
            return super().encode(batch)

    assert reindex(gallery, cast(Any, Watching(turned=True)), pseudonyms, limits=reindexing.Limits(workers=0)).swapped
    assert found
    assert all(one == before for one in found)


def test_the_old_one_is_kept_until_it_is_forgotten(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    before, records = features(gallery), gallery.records(gallery.ids())
    reindex(gallery, NEW, pseudonyms)
    with Gallery.open(gallery.directory) as turned:
        told = status(turned)
        assert [told[state] and told[state]["name"] for state in ("current", "next", "previous")] == [
            "turned",
            None,
            "sketch",
        ]
        go_back(turned)
    with Gallery.open(gallery.directory) as back:
        assert back.encoder_fingerprint == OLD.fingerprint
        assert back.records(back.ids()) == records
        now = features(back)
        assert all((before[name] == now[name]).all() for name in before)
        go_back(back)
    with Gallery.open(gallery.directory) as turned:
        forget_old(turned)
        assert status(turned)["previous"] is None
        for step in (go_back, forget_old):
            with pytest.raises(BadGallery, match="keeps no encoder before"):
                step(turned)
        assert turned.verify()["ok"]


def test_an_image_whose_file_is_gone_is_named_and_nothing_changes(
    gallery: Gallery, ward: Path, pseudonyms: Pseudonyms
) -> None:
    (ward / "Miller^1" / "0-1.dcm").unlink()
    [one] = lacking(gallery, "gone", "0-1.dcm", pseudonyms)
    assert one.id == pseudonyms.image("1.2.2.1.2", 0)
    write_image(ward / "Miller^1" / "0-1.dcm", 1, 0, 1)
    index_ward(ward, gallery, pseudonyms)
    again = reindex(gallery, NEW, pseudonyms)
    assert (again.swapped, again.encoded) == (True, 1)  # the others had been done


def test_one_whose_file_has_changed_or_is_torn_is_named(gallery: Gallery, ward: Path, pseudonyms: Pseudonyms) -> None:
    changed = write_image(ward / "Miller^1" / "0-1.dcm", 1, 0, 1, seed=77)
    assert len(lacking(gallery, "changed", "0-1.dcm", pseudonyms)) == 1
    index_ward(ward, gallery, pseudonyms, OLD)  # the gallery gets to know it
    changed.write_bytes(changed.read_bytes()[:400])
    [one] = lacking(gallery, "unreadable", "0-1.dcm", pseudonyms)
    assert one.reason


def test_what_cannot_be_encoded_is_dropped_when_asked_for(gallery: Gallery, ward: Path, pseudonyms: Pseudonyms) -> None:
    (ward / "Miller^1" / "cine.dcm").unlink()
    report = reindex(gallery, NEW, pseudonyms, drop_missing=True)
    assert (report.swapped, report.dropped, report.encoded, report.lacking) == (True, 3, N - 3, ())
    with Gallery.open(gallery.directory) as now:
        assert now.count == N - 3
        assert now.verify()["ok"]
        write_image(ward / "Miller^1" / "cine.dcm", 1, 9, 0)
        assert index_ward(ward, now, pseudonyms, NEW).added == 1  # dropped is not erased


def test_images_that_come_meanwhile_are_encoded_too(gallery: Gallery, ward: Path, pseudonyms: Pseudonyms) -> None:
    """An index run in another process, between two commits."""
    done: list[int] = []

    class Meanwhile(SketchEncoder):
        def encode(self, batch: Any) -> Any:
            if not done:
                done.append(1)
                write_image(ward / "Miller^0" / "new.dcm", 0, 5, 0)
                write_image(ward / "Miller^0" / "0-0.dcm", 0, 0, 0, seed=5)  # other pixels under the same UID
                with Gallery.open(gallery.directory) as other:
                    assert index_ward(ward, other, pseudonyms, OLD).added == 2
            return super().encode(batch)

    report = reindex(gallery, cast(Any, Meanwhile(turned=True)), pseudonyms, limits=reindexing.Limits(workers=0))
    assert (report.swapped, report.records) == (True, N + 1)
    now = features(gallery)
    changed = now[pseudonyms.image("1.2.1.1.1", 0)]
    with Gallery.open(gallery.directory) as opened:
        stored = index_ward(ward, opened, pseudonyms, NEW)
        assert (stored.added, stored.unchanged) == (0, 16)
    [fresh] = extract([ref for ref in open_source(ward) if ref.shown == "Miller^0/0-0.dcm"], NEW, pseudonyms, workers=0)
    assert (fresh.features["sketch"][0] == changed).all()


def test_images_that_are_removed_meanwhile_stay_away(gallery: Gallery, ward: Path, pseudonyms: Pseudonyms) -> None:
    done = []

    class Meanwhile(SketchEncoder):
        def encode(self, batch: Any) -> Any:
            if not done:
                done.append(1)
                with Gallery.open(gallery.directory) as other:
                    remove(other, "patient", ["MRN-1"], pseudonyms)
            return super().encode(batch)

    report = reindex(gallery, cast(Any, Meanwhile(turned=True)), pseudonyms, limits=reindexing.Limits(workers=0))
    assert (report.swapped, report.records, report.lacking) == (True, 14, ())


def test_it_waits_while_another_process_writes(gallery: Gallery, pseudonyms: Pseudonyms, tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from cbmir.store import Store
with Store.open(Path({str(gallery.directory)!r})) as store, store.writing():
    print("held", flush=True)
    time.sleep(1)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert reindex(gallery, NEW, pseudonyms).swapped
    assert other.returncode == 0


def third_encoder() -> Any:
    third = SketchEncoder(turned=True)
    third.name, third.fingerprint = "third", "third-0001"
    return third


def test_only_one_change_at_a_time(gallery: Gallery, ward: Path, pseudonyms: Pseudonyms) -> None:
    with pytest.raises(BadGallery, match=r"is under encoder sketch \(sketch-0001, f32\) already"):
        reindex(gallery, OLD, pseudonyms)
    (ward / "Miller^1" / "0-1.dcm").unlink()
    assert not reindex(gallery, NEW, pseudonyms).swapped
    third = third_encoder()
    with pytest.raises(BadGallery, match=r"going over to encoder turned \(turned-0001, f32\), not third"):
        reindex(gallery, third, pseudonyms)
    assert status(gallery)["next"]["lacking"] == 1
    cancel(gallery)
    assert status(gallery)["next"] is None
    with pytest.raises(BadGallery, match="is not going over"):
        cancel(gallery)
    assert reindex(gallery, third, pseudonyms, drop_missing=True).swapped
    with Gallery.open(gallery.directory) as now, pytest.raises(BadGallery, match="still keeps encoder sketch"):
        reindex(now, NEW, pseudonyms)


def test_a_change_that_another_process_has_given_up_leaves_nothing_in_the_next_one(
    gallery: Gallery, pseudonyms: Pseudonyms
) -> None:
    """Its layers are called the same, so that its features would fit."""

    class Meanwhile(SketchEncoder):
        def encode(self, batch: Any) -> Any:
            with Gallery.open(gallery.directory) as other:
                cancel(other)
                other.store.begin_next({"name": "third"}, self.layers)
            return super().encode(batch)

    with pytest.raises(BadGallery, match="another process has ended"):
        reindex(gallery, cast(Any, Meanwhile(turned=True)), pseudonyms, limits=reindexing.Limits(workers=0))
    assert len(gallery.store.audit_next()) == N


def test_the_same_network_in_another_precision_is_another_encoder(
    gallery: Gallery, ward: Path, pseudonyms: Pseudonyms
) -> None:
    rounded: Any = SketchEncoder(turned=True)
    rounded.precision = "bf16"
    (ward / "Miller^1" / "0-1.dcm").unlink()
    assert not reindex(gallery, NEW, pseudonyms).swapped
    with pytest.raises(BadGallery, match=r"going over to encoder turned \(turned-0001, f32\), not .*bf16"):
        reindex(gallery, rounded, pseudonyms)
    assert reindex(gallery, NEW, pseudonyms, drop_missing=True).swapped
    old: Any = SketchEncoder()
    old.precision = "bf16"
    with Gallery.open(gallery.directory) as now:
        with pytest.raises(BadGallery, match=r"still keeps encoder sketch \(sketch-0001, f32\)"):
            reindex(now, old, pseudonyms)
        assert status(now)["previous"]["name"] == "sketch"


@pytest.mark.parametrize("moved", [False, True])
def test_an_image_that_failed_and_was_indexed_again_meanwhile_is_not_dropped(
    moved: bool, gallery: Gallery, ward: Path, pseudonyms: Pseudonyms
) -> None:
    """It has other pixels, or its file another place, and has failed before it had."""
    place = ward / "Miller^0" / "0-0.dcm"
    if moved:
        place.rename(ward / "elsewhere")
    else:
        write_image(place, 0, 0, 0, seed=5)
    done = []

    class Meanwhile(SketchEncoder):
        def encode(self, batch: Any) -> Any:
            done.append(1)
            if len(done) == 2:  # the first batch, with the first file, has been written
                if moved:
                    (ward / "elsewhere").rename(ward / "0-0.dcm")
                with Gallery.open(gallery.directory) as other:
                    index_ward(ward, other, pseudonyms, OLD)
            return super().encode(batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reindexing, "_COMMIT_IMAGES", 1)
        patch.setattr(reindexing, "_FILES_AT_ONCE", 1)
        report = reindex(
            gallery,
            cast(Any, Meanwhile(turned=True)),
            pseudonyms,
            limits=reindexing.Limits(workers=0),
            drop_missing=True,
        )
    assert (report.swapped, report.records, report.dropped) == (True, N, 0)
    with Gallery.open(gallery.directory) as now:
        assert now.verify()["ok"]


def test_an_image_of_no_file_is_told_and_not_tried_for_ever(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    """Only damage makes one."""
    with closing(sqlite3.connect(gallery.directory / "gallery.sqlite")) as connection, connection:
        connection.execute("UPDATE record SET file = 1000 WHERE number = 3")
    with pytest.raises(BadGallery, match=r"1 images belong to no file.*verify --repair"):
        reindex(gallery, NEW, pseudonyms)


def test_a_lock_that_cannot_be_had_at_all_is_not_waited_for(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    (gallery.directory / "writer.lock").write_bytes(b"no lock of SQLite's" * 100)
    with pytest.raises(BadGallery, match="damaged"):
        reindex(gallery, NEW, pseudonyms)


def test_the_one_before_is_completed_when_images_have_come_since(
    gallery: Gallery, ward: Path, pseudonyms: Pseudonyms
) -> None:
    reindex(gallery, NEW, pseudonyms)
    write_image(ward / "Miller^0" / "new.dcm", 0, 5, 0)
    with Gallery.open(gallery.directory) as now:
        index_ward(ward, now, pseudonyms, NEW)
        with pytest.raises(BadGallery, match="1 images have come since"):
            go_back(now)
        report = reindex(now, OLD, pseudonyms)
    assert (report.swapped, report.encoded) == (True, 1)
    with Gallery.open(gallery.directory) as back:
        assert back.encoder_fingerprint == OLD.fingerprint
        assert back.verify()["ok"]


def test_a_gallery_refuses_an_encoder_that_is_not_its_own_with_both_names(
    gallery: Gallery, ward: Path, pseudonyms: Pseudonyms
) -> None:
    with pytest.raises(BadGallery, match=r"encoder sketch \(sketch-0001, f32\), not turned \(turned-0001, f32\)"):
        index_ward(ward, gallery, pseudonyms, NEW)
    reindex(gallery, NEW, pseudonyms)
    with Gallery.open(gallery.directory) as now, pytest.raises(BadGallery, match=r"turned .* not sketch"):
        index_ward(ward, now, pseudonyms, OLD)


def test_whoever_opened_the_gallery_before_the_swap_mixes_nothing(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    asked = gallery.ids()[3]
    with Gallery.open(gallery.directory) as reader:
        assert len(reader.search_id(asked)) == 10
        reindex(gallery, NEW, pseudonyms)
        with pytest.raises(BadGallery, match="another encoder now; open it again"):
            reader.search_id(asked)


def test_nor_does_whoever_asks_for_a_layer_that_is_no_more(gallery: Gallery, pseudonyms: Pseudonyms) -> None:
    """Where there are no files of a matrix yet, and the new encoder has other layers."""
    other = SketchEncoder(turned=True)
    other.layers = {"small": 36}
    asked = gallery.ids()[3]
    with Gallery.open(gallery.directory) as reader:
        reindex(gallery, other, pseudonyms)
        for path in (gallery.directory / "matrix").glob("*"):
            path.unlink()
        with pytest.raises(BadGallery, match="another encoder now; open it again"):
            reader.search_id(asked)
        with pytest.raises(BadGallery, match="another encoder now; open it again"):
            reader.browse()
