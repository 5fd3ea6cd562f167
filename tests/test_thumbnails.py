"""Small pictures: drawn as a file wants to be shown, kept sealed, gone with their images."""

from __future__ import annotations

import io
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cbmir.errors import BadGallery, CbmirError
from cbmir.gallery import Gallery
from cbmir.jobs.thumbnails import draw_thumbnail, draw_thumbnails, thumbnail
from cbmir.privacy import Pseudonyms
from cbmir.store import Store, thumbnails
from cbmir.store.thumbnails import FILE, Thumbnail, Thumbnails
from cbmir.types import DecodedImage, Provenance, Window
from cbmir.upkeep import remove
from stores import entry, new_store
from wards import SketchEncoder, every_byte, index_ward, write_ward

PSEUDONYMS = Pseudonyms(bytes(range(32)))


def image(pixels: Any, **more: Any) -> DecodedImage:
    return DecodedImage(
        id="0" * 32, pixels=np.asarray(pixels), value_range=(0, 1000), provenance=Provenance("DICOM"), **more
    )


def seen(picture: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(picture)) as shown:
        return np.asarray(shown.convert("RGB"))


def halves(rows: int = 64, columns: int = 64) -> np.ndarray[Any, Any]:
    """0 on the left, 1000 on the right."""
    pixels = np.zeros((rows, columns), np.float32)
    pixels[:, columns // 2 :] = 1000
    return pixels


def test_a_picture_is_windowed_as_the_file_wants() -> None:
    picture = seen(draw_thumbnail(image(halves(), windows=(Window(1000, 4000),)), 128))
    assert picture.shape == (128, 128, 3)
    assert picture[64, 10, 0] == pytest.approx(255 * 0.25, abs=8)  # 0 lies a quarter into -1000..3000
    assert picture[64, 118, 0] == pytest.approx(255 * 0.5, abs=8)


def test_low_values_are_white_in_monochrome1() -> None:
    picture = seen(draw_thumbnail(image(halves(), monochrome1=True, windows=(Window(500, 1000),)), 128))
    assert picture[64, 10, 0] > 240
    assert picture[64, 118, 0] < 15


@pytest.mark.parametrize(
    ("shape", "aspect", "expected"),
    [((64, 64), 1.0, (128, 128)), ((32, 64), 1.0, (64, 128)), ((64, 64), 2.0, (128, 64)), ((64, 64), 0.5, (64, 128))],
)
def test_pixels_are_square_whatever_the_scanner_made(
    shape: tuple[int, int], aspect: float, expected: tuple[int, int]
) -> None:
    """pixel_aspect: height of a pixel over its width."""
    assert seen(draw_thumbnail(image(halves(*shape), pixel_aspect=aspect), 128)).shape[:2] == expected


def test_what_a_gallery_masks_is_black() -> None:
    """Text of an ultrasound machine beside the scan is not in the picture."""
    bright = np.full((64, 64, 3), 200, np.uint8)
    scan = image(bright, regions=((16, 16, 48, 48),))
    shown, hidden = (seen(draw_thumbnail(scan, 128, mask_burned_in=masks)) for masks in (False, True))
    assert shown[5, 5].min() > 180
    assert hidden[5, 5].max() < 20
    assert hidden[64, 64].min() > 180


def here(work: Any, *arguments: Any) -> Any:
    """Instead of a worker."""
    return work(*arguments)


@pytest.fixture
def ward(tmp_path: Path) -> Gallery:
    folder = write_ward(tmp_path / "ward", patients=2)
    gallery = Gallery.create(tmp_path / "gallery", SketchEncoder(), PSEUDONYMS)
    index_ward(folder, gallery, PSEUDONYMS)
    return gallery


def test_a_file_is_read_once_for_all_its_frames(ward: Gallery) -> None:
    calls = []

    def draw(work: Any, *arguments: Any) -> Any:
        calls.append(arguments[1])
        return work(*arguments)

    cine = next(record for some in ward.store.describe() for record in some if record.frame_index == 2)
    together = ward.store.of_same_file(cine.id)
    assert [record.frame_index for record in together] == [0, 1, 2]
    kept = Thumbnails.open(ward.directory)
    pictures = [thumbnail(ward, kept, PSEUDONYMS, record.id, 128, draw) for record in together]
    assert calls == [[0, 1, 2]]
    assert len(set(pictures)) == 3
    assert pictures[0] == thumbnail(ward, kept, PSEUDONYMS, together[0].id, 128, draw)
    thumbnail(ward, kept, PSEUDONYMS, cine.id, 256, draw)
    assert len(calls) == 2


def test_pictures_on_the_disk_are_sealed(ward: Gallery) -> None:
    kept = Thumbnails.open(ward.directory)
    picture = thumbnail(ward, kept, PSEUDONYMS, ward.ids()[0], 128, here)
    assert picture[8:12] == b"WEBP"
    stored = b"".join(every_byte(ward.directory).values())
    assert b"WEBP" not in stored
    assert picture[20:40] not in stored
    with pytest.raises(CbmirError, match="CBMIR_KEY_FILE"):
        thumbnail(ward, kept, Pseudonyms(bytes(32)), ward.ids()[0], 128, here)


def test_a_sealed_picture_cannot_take_the_place_of_another(ward: Gallery) -> None:
    first, second = ward.records(ward.ids()[:2]).values()
    kept = Thumbnails.open(ward.directory)
    own = [thumbnail(ward, kept, PSEUDONYMS, record.id, 128, here) for record in (first, second)]
    assert own[0] != own[1]
    other = kept.get(second.id, 128, second.pixel_digest or "")
    assert other is not None
    kept.put([Thumbnail(first.id, 128, first.pixel_digest or "", other)], ward.store)
    assert thumbnail(ward, kept, PSEUDONYMS, first.id, 128, here) == own[0]


def test_a_file_that_has_changed_has_no_picture(ward: Gallery, tmp_path: Path) -> None:
    record_id = ward.ids()[0]
    ref = ward.image_ref(record_id, PSEUDONYMS)
    assert ref is not None
    other = next(path for path in (tmp_path / "ward").rglob("*.dcm") if path.read_bytes() != ref.path.read_bytes())
    ref.path.write_bytes(other.read_bytes())
    kept = Thumbnails.open(ward.directory)
    with pytest.raises(BadGallery, match="has changed since it was indexed"):
        thumbnail(ward, kept, PSEUDONYMS, record_id, 128, here)
    ref.path.unlink()
    with pytest.raises(BadGallery, match="no longer there"):
        thumbnail(ward, kept, PSEUDONYMS, record_id, 128, here)


def test_only_the_wanted_frames_are_drawn(ward: Gallery) -> None:
    cine = next(record for some in ward.store.describe() for record in some if record.frame_index == 2)
    ref = ward.image_ref(cine.id, PSEUDONYMS)
    assert ref is not None
    assert [one.id for one in draw_thumbnails(ref, [2], 128, False, PSEUDONYMS)] == [cine.id]


def sealed(name: str, size: int = 3000) -> Thumbnail:
    noise = np.random.default_rng(sum(name.encode())).integers(0, 256, size, np.uint8).tobytes()
    return Thumbnail(name, 128, f"pixels of {name}", noise)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = new_store(tmp_path / "gallery")
    store.add([entry("file", "a" * 32, "b" * 32)])
    return store


def test_a_picture_of_other_pixels_is_not_given(store: Store) -> None:
    kept = Thumbnails.open(store.directory)
    kept.put([sealed("a" * 32)], store)
    assert kept.get("a" * 32, 128, "pixels of " + "a" * 32) == sealed("a" * 32).sealed
    assert kept.get("a" * 32, 128, "others") is None
    assert kept.get("a" * 32, 256, "pixels of " + "a" * 32) is None
    kept.put([Thumbnail("a" * 32, 128, "others", b"new")], store)
    assert kept.get("a" * 32, 128, "others") == b"new"
    assert kept.get("a" * 32, 128, "pixels of " + "a" * 32) is None


def test_a_picture_drawn_while_its_image_was_removed_does_not_stay(store: Store) -> None:
    kept = Thumbnails.open(store.directory)
    store.remove("id", ["a" * 32], lambda record: ())
    kept.put([sealed("a" * 32), sealed("b" * 32)], store)
    assert kept.get("a" * 32, 128, "pixels of " + "a" * 32) is None
    assert kept.get("b" * 32, 128, "pixels of " + "b" * 32) is not None


def test_removed_images_leave_no_byte_of_their_pictures(ward: Gallery) -> None:
    """While a server has the file open."""
    kept = Thumbnails.open(ward.directory)
    records = {record_id: ward.record(record_id) for record_id in ward.ids()}
    for record_id in records:
        thumbnail(ward, kept, PSEUDONYMS, record_id, 128, here)
    goes = next(record for record in records.values() if record.patient)
    gone = [record for record in records.values() if record.patient == goes.patient]
    blobs = thumbnails.sealed_of(ward.directory, [record.id for record in gone])
    assert len(blobs) == len(gone)
    assert goes.patient is not None
    told = remove(ward, "patient", [goes.patient], PSEUDONYMS)
    assert told.proof.looked_for["thumbnails"] == len(gone)
    assert not told.proof.found
    left = b"".join(every_byte(ward.directory).values())
    assert not any(blob[:16] in left or blob[-16:] in left for blob in blobs)
    stays = next(record for record in records.values() if record.patient != goes.patient)
    assert kept.get(stays.id, 128, stays.pixel_digest or "") is not None


def test_a_removal_cut_short_before_the_file_was_rewritten_goes_on(ward: Gallery) -> None:
    kept = Thumbnails.open(ward.directory)
    for record_id in ward.ids():
        thumbnail(ward, kept, PSEUDONYMS, record_id, 128, here)
    gone = ward.ids()[0]
    with sqlite3.connect(ward.directory / FILE) as connection:  # which writes over nothing it deletes
        connection.execute("DELETE FROM thumbnail WHERE id = ?", (gone,))
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    assert gone.encode() in b"".join((ward.directory / name).read_bytes() for name in (FILE, f"{FILE}-wal"))
    assert not remove(ward, "id", [gone], PSEUDONYMS).proof.found


def test_verify_tells_of_pictures_without_an_image_and_repair_drops_them(store: Store) -> None:
    kept = Thumbnails.open(store.directory)
    kept.put([sealed("a" * 32), sealed("b" * 32)], store)
    assert thumbnails.problems(store) == []
    store.remove("id", ["a" * 32], lambda record: ())
    assert "1 images have thumbnails and are not in the gallery" in thumbnails.problems(store)[0]
    thumbnails.tidy(store)
    assert thumbnails.problems(store) == []
    assert kept.get("b" * 32, 128, "pixels of " + "b" * 32) is not None


def test_a_damaged_file_is_told_and_made_anew(store: Store) -> None:
    (store.directory / FILE).write_bytes(b"no database" * 1000)
    assert "is damaged" in thumbnails.problems(store)[0]
    thumbnails.tidy(store)
    assert not (store.directory / FILE).exists()
    (store.directory / FILE).write_bytes(b"no database" * 1000)
    kept = Thumbnails.open(store.directory)
    kept.put([sealed("a" * 32)], store)
    assert thumbnails.problems(store) == []


def test_many_threads_share_the_pictures(store: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    kept = Thumbnails.open(store.directory)

    def work(number: int) -> bool:
        with Store.open(store.directory) as own:
            kept.put([Thumbnail("a" * 32, 128, str(number), b"x" * 500)], own)
        return kept.get("b" * 32, 128, "none") is None

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(40)))
