"""Searches that start from files: several of them, frames, regions, feedback, a whole folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from cbmir import jobs
from cbmir.errors import BadGallery, BadImage, CbmirError, UsageError
from cbmir.gallery import Gallery, Query
from cbmir.preprocess import Preprocessing, part_of, preprocess
from cbmir.privacy import load_pseudonyms
from cbmir.types import DecodedImage, Feedback, Provenance
from cbmir.where import parse
from scans import body, save, write_scans


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = write_scans(tmp_path)
    jobs.index_into(
        folder / "gallery", [folder / "archive"], encoder_name="pixels", settings=jobs.IndexSettings(workers=0)
    )
    return folder


@pytest.fixture
def gallery(scans: Path) -> Iterator[Gallery]:
    with Gallery.open(scans / "gallery") as gallery:
        yield gallery


def id_of(gallery: Gallery, file: Path) -> str:
    """Of the first image of a file that is indexed, found as the only one at distance 0."""
    ranking, _ = jobs.search_images(gallery, jobs.Asked([file], frame_number=1), Query(k=1, hide="none"))
    assert ranking.hits[0].distance == 0
    return ranking.hits[0].id


def test_several_files_are_one_query_with_images_of_the_gallery(scans: Path, gallery: Gallery) -> None:
    first, second = scans / "archive" / "a-1.dcm", scans / "archive" / "c-1.dcm"
    by_files, frame = jobs.search_images(gallery, jobs.Asked([first, second]))
    by_both, _ = jobs.search_images(gallery, jobs.Asked([first], ids=[id_of(gallery, second)]))
    by_ids, _ = jobs.search_images(gallery, jobs.Asked(ids=[id_of(gallery, first), id_of(gallery, second)]))
    assert [hit.id for hit in by_files] == [hit.id for hit in by_both] == [hit.id for hit in by_ids]
    assert {hit.record.attributes.get("age_band") for hit in by_files} == {"60-69", "40-49", None}
    assert frame is None


def test_all_frames_of_a_file_are_the_slices_of_a_series(scans: Path, gallery: Gallery) -> None:
    cine = jobs.Asked([scans / "today" / "cine.dcm"], every_frame=True)
    ranking, frame = jobs.search_images(gallery, cine, Query(rank_series="mean", where=parse("modality=MR")))
    assert [(hit.n_images, hit.record.attributes["age_band"]) for hit in ranking] == [(2, "30-39"), (3, "40-49")]
    assert (len(ranking.query_ids), frame) == (2, None)


def test_a_region_is_looked_at_as_if_it_were_the_picture(scans: Path, gallery: Gallery) -> None:
    """A scan pasted into the corner of another is found by the region that shows it."""
    pixels = np.zeros((100, 120), np.uint8)
    pixels[30:94, 50:114] = body(0.8, 0.6, 0.3)
    save(scans / "today", "pasted", pixels, "9.1", 9, Modality="CT")
    region = jobs.Asked([scans / "today" / "pasted.dcm"], region=(50, 30, 114, 94))
    ranking, _ = jobs.search_images(gallery, region)
    assert (ranking.hits[0].id, ranking.hits[0].distance) == (id_of(gallery, scans / "archive" / "a-1.dcm"), 0)
    outside = jobs.Asked([scans / "today" / "pasted.dcm"], region=(50, 30, 121, 94))
    with pytest.raises(CbmirError, match="not a part of the picture, which is 120 wide and 100 high"):
        jobs.search_images(gallery, outside)


def test_a_region_of_an_image_of_the_gallery_is_read_from_its_file(scans: Path, gallery: Gallery) -> None:
    name = id_of(gallery, scans / "archive" / "a-1.dcm")
    asked = jobs.Asked(ids=[name], region=(0, 0, 64, 64))
    whole, _ = jobs.search_images(gallery, asked)
    assert [hit.id for hit in whole] == [hit.id for hit in gallery.search_id(name)]
    (scans / "archive" / "a-1.dcm").unlink()
    with pytest.raises(BadGallery, match=f"the file of image {name} is no longer there"):
        jobs.search_images(gallery, asked)


def test_a_region_of_a_frame_of_the_gallery_is_of_that_frame(scans: Path, gallery: Gallery) -> None:
    first = id_of(gallery, scans / "archive" / "d.dcm")
    second = gallery.search_id(first, k=1, hide="none").hits[0]
    assert second.record.frame_index == 1
    ranking, frame = jobs.search_images(gallery, jobs.Asked(ids=[second.id], region=(0, 0, 64, 64)), Query(k=3))
    assert (frame, ranking.query_id) == (2, second.id)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"files": [Path("a")], "frame_number": 1, "every_frame": True}, "Either one frame"),
        ({"files": [Path("a")], "every_frame": True, "region": (0, 0, 1, 1)}, "A region is of one picture"),
        ({"series": "s", "region": (0, 0, 1, 1)}, "A region is of one picture"),
        ({"ids": ["a"], "frame_number": 1}, "Frames are those of a FILE"),
        ({"series": "s", "every_frame": True}, "Frames are those of a FILE"),
    ],
)
def test_what_does_not_go_together_is_told(asked: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        jobs.Asked(**asked)  # type: ignore[arg-type]


def test_a_part_of_an_image_keeps_what_belongs_to_it() -> None:
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    padding = pixels > 9
    image = DecodedImage(
        pixels, (0, 255), "a", Provenance("PNG"), padding=padding, regions=((0, 0, 1, 3), (1, 1, 4, 3))
    )
    part = part_of(image, (2, 1, 4, 3))
    assert part.pixels.tolist() == [[6, 7], [10, 11]]
    assert part.padding is not None
    assert part.padding.tolist() == [[False, False], [True, True]]
    assert part.regions == ((-2, -1, -1, 2), (-1, 0, 2, 2))
    for region in ((0, 0, 0, 1), (-1, 0, 1, 1), (0, 0, 5, 1), (0, 2, 1, 2), (2, 0, 1, 1)):
        with pytest.raises(BadImage, match="4 wide and 3 high"):
            part_of(image, region)


def test_a_region_beside_the_scan_shows_nothing_to_who_sees_only_scans() -> None:
    """Of an ultrasound picture whose left half is the scan, and whose right half holds text."""
    pixels = np.arange(64, dtype=np.float32).reshape(8, 8)
    image = DecodedImage(pixels, (0, 255), "a", Provenance("PNG"), regions=((0, 0, 4, 8),))
    recipe = Preprocessing(size=4, crop=4, channels="grey", regions_only=True)
    across = preprocess(part_of(image, (2, 0, 6, 4)), recipe).pixels[0]
    assert across[:, :2].any()
    assert not across[:, 2:].any()
    with pytest.raises(BadImage, match="constant"):
        preprocess(part_of(image, (4, 0, 8, 8)), recipe)


def test_judgements_are_read_from_the_json_of_a_search_or_from_that_part_of_it(tmp_path: Path) -> None:
    told = {"like": ["a"], "unlike": ["b", "c"]}
    for number, document in enumerate([told, {"query": {}, "feedback": told, "hits": []}]):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(document))
        assert jobs.read_feedback(path) == Feedback(("a",), ("b", "c"))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"feedback": 3}', '{"like": 3}', '{"like": "ab"}', '{"like": [1]}', "[" * 100_000,
     '{"like": ["a"], "unlike": ["a"]}', "\xff"],
)  # fmt: skip
def test_other_files_are_no_judgements(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match="no JSON of an earlier search"):
        jobs.read_feedback(path)
    with pytest.raises(UsageError, match="No such file"):
        jobs.read_feedback(tmp_path / "nowhere.json")


def test_a_folder_is_searched_by_into_one_table(scans: Path, gallery: Gallery) -> None:
    (scans / "today" / "broken.dcm").write_bytes(b"no picture")
    (scans / "today" / "deep").mkdir()
    Image.fromarray(body(0.3, 0.3, 0)).save(scans / "today" / "deep" / "x.png")
    out = scans / "hits.csv"
    report = jobs.search_folder(
        gallery, [scans / "today"], out, Query(k=2, where=parse("modality=CT")), with_paths=True
    )
    assert (report["queries"], report["hits"], report["out"]) == (3, 6, str(out))
    [bad] = report["failed"]
    assert (bad["outcome"], bad["path"]) == (
        "not_an_image", load_pseudonyms().handle(str(scans / "today"), "broken.dcm"),
    )  # fmt: skip
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert [(row["path"], row["rank"]) for row in rows] == [
        (path, rank) for path in ("cine.dcm", "deep/x.png", "new.dcm") for rank in "12"
    ]
    single, _ = jobs.search_images(
        gallery, jobs.Asked([scans / "today" / "new.dcm"]), Query(k=2, where=parse("modality=CT"))
    )
    assert [(row["id"], float(row["distance"])) for row in rows[4:]] == [(hit.id, hit.distance) for hit in single]


def test_a_table_without_paths_names_files_by_their_handles(scans: Path, gallery: Gallery) -> None:
    out = scans / "hits.parquet"
    jobs.search_folder(gallery, [scans / "today"], out, Query(group_by="patient"))
    rows = pyarrow.parquet.read_table(out).to_pylist()
    assert {row["query"] for row in rows} == {
        load_pseudonyms().handle(str(scans / "today"), name) for name in ("new.dcm", "cine.dcm")
    }
    assert "path" not in rows[0]
    assert pyarrow.parquet.ParquetFile(out).num_row_groups == 1  # not one a file
    assert {row["images"] for row in rows if row["modality"] == "CR"} == {1}
    assert [type(rows[0][name]) for name in ("rank", "distance", "id", "votes")] == [int, float, str, type(None)]


def test_a_wrong_query_ends_a_batch_and_leaves_no_table(scans: Path, gallery: Gallery) -> None:
    out = scans / "hits.csv"
    with pytest.raises(UsageError, match="did you mean modality"):
        jobs.search_folder(gallery, [scans / "today"], out, Query(where=parse("modalty=CT")))
    (scans / "none").mkdir()
    with pytest.raises(UsageError, match="There are no files"):
        jobs.search_folder(gallery, [scans / "none"], out)
    assert not list(scans.glob("hits*"))
