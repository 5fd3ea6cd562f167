"""What a verb does where it takes more than one call: `info` on a file, the strip of a search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cbmir import figures, jobs
from cbmir.errors import BadEncoder, BadGallery, UsageError
from cbmir.figures import Row, Tile
from cbmir.gallery import Gallery
from cbmir.privacy import Pseudonyms
from cbmir.sources import classes
from pictures import draw_folder
from toys import ToyEncoder


def write_floats(path: Path, *values: float) -> Path:
    tifffile.imwrite(path, np.array([values], np.float32))
    return path


def test_info_tells_the_values_of_the_pixels_that_mean_something(tmp_path: Path) -> None:
    assert jobs.describe(write_floats(tmp_path / "a.tif", -0.5, 2, np.nan))["values"] == [-0.5, 2]


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
    jobs.index_refs(tmp_path / "gallery", classes(pictures), workers=0)
    query = pictures / "disc" / "00.png"
    with Gallery.open(tmp_path / "gallery") as gallery:
        by_file = jobs.search_file(gallery, query)
        assert by_file.query_id is not None
        jobs.draw_strip(gallery, by_file, query, 1, tmp_path / "file.png")
        jobs.draw_strip(gallery, gallery.search_id(by_file.query_id), None, 1, tmp_path / "id.png")
        expected = [hit.record.label != "disc" for hit in by_file]
    assert sorted(expected) == [False, True, True]
    for tile, row in drawn:
        assert tile.caption == "disc"
        assert [hit.wrong for hit in row.tiles] == expected
        assert all(hit.pixels.std() > 0 for hit in (tile, *row.tiles))  # none is blank


@pytest.mark.parametrize("wanted", [{"precision": "f32"}, {"runtime": "torch"}])
def test_a_gallery_of_another_arithmetic_is_refused(
    wanted: dict[str, str], tmp_path: Path, pseudonyms: Pseudonyms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyEncoder, "precision", "openvino-bf16")
    Gallery.create(tmp_path / "gallery", ToyEncoder(), pseudonyms).close()
    with pytest.raises(BadGallery, match="was made in openvino-bf16, not"):
        jobs.index_refs(tmp_path / "gallery", [], **wanted)
    with pytest.raises(BadEncoder, match="no longer at toy"):  # the arithmetic is its own, only the encoder is missing
        jobs.index_refs(tmp_path / "gallery", [], runtime="openvino", precision="bf16")
