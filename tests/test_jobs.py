"""What a verb does where it takes more than one call: `info` on a file, the strip of a search."""

from __future__ import annotations

import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from cbmir import figures, jobs
from cbmir.cli import cli
from cbmir.errors import BadEncoder, BadGallery, BadImage, CbmirError, UsageError
from cbmir.figures import Row, Tile
from cbmir.gallery import Gallery, Query
from cbmir.jobs.frames import chosen_frame
from cbmir.privacy import Pseudonyms
from cbmir.sources import classes
from cbmir.types import ImageRef
from make_dicom import make_dicom, save_dicom, sequence_item
from pictures import draw_folder
from toys import ToyEncoder

HERE = jobs.IndexSettings(workers=0)


def write_floats(path: Path, *values: float) -> Path:
    tifffile.imwrite(path, np.array([values], np.float32))
    return path


def test_info_tells_the_values_of_the_pixels_that_mean_something(tmp_path: Path) -> None:
    told = jobs.describe(write_floats(tmp_path / "a.tif", -0.5, 2, np.nan))
    assert (told["values"], told["unit"]) == ([-0.5, 2], None)


def test_info_tells_no_values_where_no_pixel_means_anything(tmp_path: Path) -> None:
    assert jobs.describe(write_floats(tmp_path / "a.tif", np.nan, np.nan))["values"] is None


def test_a_strip_is_checked_by_the_rule_it_is_written_by(tmp_path: Path) -> None:
    jobs.check_strip(tmp_path / "a.SVG")
    with pytest.raises(UsageError, match=r"\.png or \.svg, not as \.jpg"):
        jobs.check_strip(tmp_path / "a.jpg")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tile, Row]]:
    """The query and row of every strip drawn."""
    strips: list[tuple[Tile, Row]] = []
    draw = figures.strip_figure

    def keep(query: Tile, rows: list[Row]) -> object:
        strips.append((query, rows[0]))
        return draw(query, rows)

    monkeypatch.setattr(figures, "strip_figure", keep)
    return strips


def test_a_query_file_of_the_gallery_is_judged_by_its_label_there(
    tmp_path: Path, drawn: list[tuple[Tile, Row]]
) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=2)
    jobs.index_refs(tmp_path / "gallery", classes(pictures), encoder_name="pixels", settings=HERE)
    query = pictures / "disc" / "00.png"
    with Gallery.open(tmp_path / "gallery") as gallery:
        by_file, _ = jobs.search_images(gallery, jobs.Asked([query]))
        assert by_file.query_id is not None
        jobs.draw_strip(gallery, by_file, query, 1, tmp_path / "file.png")
        jobs.draw_strip(gallery, gallery.search_id(by_file.query_id), None, 1, tmp_path / "id.png")
        expected = [hit.record.label != "disc" for hit in by_file]
    assert sorted(expected) == [False, True, True]
    for tile, row in drawn:
        assert tile.caption == "disc"
        assert [hit.wrong for hit in row.tiles] == expected
        assert all(hit.pixels.std() > 0 for hit in (tile, *row.tiles))  # none is blank


def test_of_several_query_images_the_first_is_drawn_and_judged_by(
    tmp_path: Path, drawn: list[tuple[Tile, Row]]
) -> None:
    """Images of the gallery come before files."""
    pictures = draw_folder(tmp_path / "pictures", per_class=2)
    jobs.index_refs(tmp_path / "gallery", classes(pictures), encoder_name="pixels", settings=HERE)
    with Gallery.open(tmp_path / "gallery") as gallery:
        disc = next(name for name in gallery.ids() if gallery.record(name).label == "disc")
    asked = ["search", "--id", disc, "--gallery", str(tmp_path / "gallery"), "--strip", str(tmp_path / "a.png")]
    for others in (
        [],
        [str(pictures / "stripes" / "00.png")],
        [str(pictures / "stripes" / "00.png"), "--roi", "0,0,9,9"],
    ):
        cli.main([*asked, *others], standalone_mode=False)
    alone, *more = [tile for tile, _ in drawn]
    for tile in more:
        assert (tile.caption, tile.pixels.tolist()) == ("disc", alone.pixels.tolist())


@pytest.mark.parametrize("wanted", [{"precision": "f32"}, {"runtime": "torch"}])
def test_a_gallery_of_another_arithmetic_is_refused(
    wanted: dict[str, str], tmp_path: Path, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyEncoder, "precision", "openvino-bf16")
    Gallery.create(tmp_path / "gallery", ToyEncoder(), pseudonyms).close()
    with pytest.raises(BadGallery, match="was made in openvino-bf16, not"):
        jobs.index_refs(tmp_path / "gallery", [], settings=jobs.IndexSettings(**wanted))
    same = jobs.IndexSettings(runtime="openvino", precision="bf16")
    with pytest.raises(BadEncoder, match="no longer at toy"):  # the arithmetic is its own, only the encoder is missing
        jobs.index_refs(tmp_path / "gallery", [], settings=same)


def ultrasound(path: Path, text: int) -> Path:
    """A picture whose left half is a scan and whose right half is text; where the text is white, a stripe of it."""
    pixels = np.tile(np.arange(64, dtype=np.uint8), (48, 2))
    pixels[text : text + 6, 64:] = 255
    region = sequence_item(
        RegionLocationMinX0=0, RegionLocationMinY0=0, RegionLocationMaxX1=63, RegionLocationMaxY1=47, RegionDataType=1
    )
    elements = {"Modality": "US", "SequenceOfUltrasoundRegions": [region]}
    return save_dicom(path, make_dicom(pixels, **elements, SOPClassUID="1.2.840.10008.5.1.4.1.1.6.1"))


def test_a_masked_gallery_sees_only_the_regions_of_ultrasound_and_masks_queries_alike(
    tmp_path: Path, drawn: list[tuple[Tile, Row]]
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    first, _ = ultrasound(scans / "1.dcm", text=4), ultrasound(scans / "2.dcm", text=30)
    distances = {}
    for masked in (False, True):
        gallery_dir = tmp_path / f"gallery-{masked}"
        jobs.index_into(
            gallery_dir, [scans], encoder_name="pixels", settings=jobs.IndexSettings(workers=0, mask_burned_in=masked)
        )
        with Gallery.open(gallery_dir) as gallery:
            ranking, _ = jobs.search_images(gallery, jobs.Asked([first]), Query(hide="none"))
            distances[masked] = max(hit.distance for hit in ranking)
            jobs.draw_strip(gallery, ranking, first, 1, tmp_path / "strip.png")
    assert distances[True] == 0  # the scans are the same, only their texts are not
    assert distances[False] > 0.5
    plain, masked = (max(shown.pixels.max() for shown in (tile, *row.tiles)) for tile, row in drawn)
    assert (plain, masked) == (255, pytest.approx(63, abs=1))  # no text is drawn


def test_an_encoder_that_does_not_mask_is_not_that_of_a_masked_gallery(tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=1)
    jobs.index_into(tmp_path / "plain", [pictures], encoder_name="pixels", settings=HERE)
    masked = jobs.IndexSettings(workers=0, mask_burned_in=True)
    with pytest.raises(BadGallery, match="was made without --mask-burned-in"):
        jobs.index_into(tmp_path / "plain", [pictures], encoder_name="pixels", settings=masked)
    jobs.index_into(tmp_path / "masked", [pictures], encoder_name="pixels", settings=masked)
    with Gallery.open(tmp_path / "plain") as plain, Gallery.open(tmp_path / "masked") as gallery:
        assert plain.encoder_fingerprint != gallery.encoder_fingerprint
        assert jobs.encoder_of(gallery).fingerprint == gallery.encoder_fingerprint


def test_a_run_report_has_a_page_beside_it(tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=1)
    (pictures / "disc" / "notes.txt").write_text("no picture")
    report = jobs.index_into(tmp_path / "gallery", [pictures], encoder_name="pixels", settings=HERE)
    assert report.html == report.report.with_suffix(".html")
    assert report.failed[0]["path"] in report.html.read_text(encoding="utf-8")


def test_places_of_members_of_an_archive_name_the_archive(tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=1)
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for picture in sorted(pictures.rglob("*.png")):
            file.write(picture, picture.relative_to(pictures))
    jobs.index_into(tmp_path / "gallery", [archive], encoder_name="pixels", settings=HERE)
    found = jobs.places(tmp_path / "gallery", [])
    assert [file["path"] for file in found] == [f"{archive}/{kind}/00.png" for kind in ("disc", "stripes")]


def test_the_strip_of_members_of_an_archive_has_their_pictures(tmp_path: Path, drawn: list[tuple[Tile, Row]]) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=2)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        for picture in sorted(pictures.rglob("*.png")):
            file.write(picture, picture.relative_to(pictures))
    jobs.index_into(tmp_path / "gallery", [tmp_path / "all.zip"], encoder_name="pixels", settings=HERE)
    with Gallery.open(tmp_path / "gallery") as gallery:
        jobs.draw_strip(gallery, gallery.search_id(gallery.ids()[0]), None, 1, tmp_path / "strip.png")
    [(tile, row)] = drawn
    assert len(row.tiles) == 3
    assert all(shown.pixels.std() > 0 for shown in (tile, *row.tiles))


def test_places_are_found_by_handle_by_its_digits_and_by_the_id_of_an_image(tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=1)
    (pictures / "disc" / "broken").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    jobs.index_into(tmp_path / "gallery", [pictures], encoder_name="pixels", settings=HERE)
    every = jobs.places(tmp_path / "gallery", [])
    assert len(every) == 3
    for file in every:
        assert jobs.places(tmp_path / "gallery", [file["handle"]]) == [file]
        assert jobs.places(tmp_path / "gallery", [file["handle"][:12]]) == [file]
    with Gallery.open(tmp_path / "gallery") as gallery:
        ids = gallery.ids()
    assert jobs.places(tmp_path / "gallery", ids) == [file for file in every if file["outcome"] == "decoded"]
    for unknown in ("0" * 12, "0" * 32, "0" * 12 + ".png"):
        with pytest.raises(UsageError, match=f"knows no file {unknown}"):
            jobs.places(tmp_path / "gallery", [every[0]["handle"], unknown])


def test_where_there_is_a_gallery_no_key_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=1)
    jobs.index_into(tmp_path / "gallery", [pictures], encoder_name="pixels", settings=HERE)
    lost = tmp_path / "mistyped.key"
    monkeypatch.setenv("CBMIR_KEY_FILE", str(lost))
    with pytest.raises(CbmirError, match="no pseudonym key"):
        jobs.index_into(tmp_path / "gallery", [pictures], encoder_name="pixels", settings=HERE)
    with pytest.raises(CbmirError, match="no pseudonym key"):
        jobs.places(tmp_path / "gallery", [])
    with Gallery.open(tmp_path / "gallery") as gallery, pytest.raises(CbmirError, match="no pseudonym key"):
        jobs.search_images(gallery, jobs.Asked([pictures / "disc" / "00.png"]))
    assert not lost.exists()
    jobs.index_into(tmp_path / "another", [pictures], encoder_name="pixels", settings=HERE)
    assert lost.exists()


def test_a_split_that_is_not_there_is_said_without_the_words_of_the_manifest(tmp_path: Path) -> None:
    refs = [ImageRef(tmp_path / "1", "1", split=split) for split in ("train", "Ann Canary", None)]
    with pytest.raises(UsageError, match=r"in split 'zz'; there are 2 splits, train among them\.$"):
        jobs.of_split(refs, "zz")
    with pytest.raises(UsageError, match="no image is in any split"):
        jobs.of_split(refs[2:], "zz")


def test_a_source_given_twice_is_indexed_once(tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "pictures", per_class=2)
    report = jobs.index_into(
        tmp_path / "gallery", [pictures, pictures / "disc", pictures], encoder_name="pixels", settings=HERE
    )
    assert (report.added, report.duplicates, sum(report.outcomes.values())) == (4, 0, 4)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 48 slices a plane, the outer ones blank; the axial ones lie anywhere among the three planes."""
    path = tmp_path_factory.mktemp("volume") / "head.nii"
    voxels = np.zeros((48, 40, 32), np.int16)
    voxels[8:40, 8:32, 8:24] = np.random.default_rng(24).integers(1, 1000, (32, 24, 16))
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
    return path


def test_a_volume_is_searched_by_the_middle_of_its_readable_axial_slices(tmp_path: Path, volume: Path) -> None:
    jobs.index_into(tmp_path / "gallery", [volume], encoder_name="pixels", settings=HERE)
    with Gallery.open(tmp_path / "gallery") as gallery:
        ranking, frame_number = jobs.search_images(gallery, jobs.Asked([volume]), Query(hide="none"))
        axial = [
            record.frame_index + 1
            for record in gallery.records(gallery.ids()).values()
            if record.attributes["plane"] == "axial"
        ]
        assert frame_number == sorted(axial)[8]  # of 16
        assert ranking.query_id is not None
        assert gallery.record(ranking.query_id).frame_index == frame_number - 1
        with pytest.raises(UsageError, match=r"no readable frame 1; readable are frames \d+ to \d+, 72 of them"):
            jobs.search_images(gallery, jobs.Asked([volume], frame_number=1))
    assert jobs.render_file(volume, tmp_path / "middle.png")["frame"] == frame_number
    with pytest.raises(UsageError, match="no readable frame 1; readable are"):
        jobs.render_file(volume, tmp_path / "first.png", frame_number=1)


@pytest.mark.parametrize(
    ("readable", "format_", "wanted", "index"),
    [
        ([(0, None), (1, None)], "DICOM", None, 0),
        ([(1, None), (2, None)], "DICOM", None, 1),  # the first is damaged
        ([(1, None), (2, None)], "DICOM", 3, 2),
        ([(4, "sagittal"), (9, "axial"), (10, "axial"), (12, "axial")], "NIfTI", None, 10),
        ([(4, "oblique"), (9, "oblique"), (10, "coronal")], "NRRD", None, 9),
        ([(4, "axial"), (9, "axial")], "DICOM", None, 4),
    ],
)
def test_the_frame_that_is_meant(
    readable: list[tuple[int, str | None]], format_: str, wanted: int | None, index: int
) -> None:
    assert chosen_frame(readable, format_, wanted) == index


def test_info_and_render_decode_in_a_worker_under_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = save_dicom(tmp_path / "large.dcm", make_dicom(np.zeros((9000, 9000), np.uint16)))
    monkeypatch.setattr("cbmir.images.apart.MEMORY_BYTES", 2**28)
    for look in (jobs.describe, lambda path: jobs.render_file(path, tmp_path / "x.png")):
        with pytest.raises(BadImage) as caught:
            look(large)
        assert caught.value.outcome in ("refused", "crashed")


def test_info_of_a_long_cine_holds_one_frame_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.zeros((120, 1000, 1000), np.uint8)  # 114 MiB, and four times as much as floats
    cine = save_dicom(tmp_path / "cine.dcm", make_dicom(frames, frames=True))
    monkeypatch.setattr("cbmir.images.apart.MEMORY_BYTES", 2**29)
    assert jobs.describe(cine)["images"] == 120


def test_one_frame_of_a_file_is_rendered(tmp_path: Path) -> None:
    frames = np.stack([np.full((2, 3), value, np.uint8) for value in (0, 7, 255)])
    cine = save_dicom(tmp_path / "cine.dcm", make_dicom(frames, frames=True))
    told = jobs.render_file(cine, tmp_path / "second.png", frame_number=2)
    assert (told["frame"], told["rows"], told["columns"], told["window"]) == (2, 2, 3, "value range")
    assert np.asarray(Image.open(tmp_path / "second.png")).tolist() == [[7] * 3] * 2
    with pytest.raises(UsageError, match="no readable frame 4; readable are frames 1 to 3"):
        jobs.render_file(cine, tmp_path / "fourth.png", frame_number=4)
