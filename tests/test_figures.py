"""What a figure shows: labels, numbers, red frames; not how it looks (that is for the eye)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from cbmir import figures
from cbmir.errors import UsageError
from cbmir.figures import Curve, Row, Tile
from cbmir.recipes import PAPER_TRAINING_ERROR
from cbmir.types import Hit, Ranking, Record

GREY = np.full((6, 8), 128, np.uint8)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def frames(figure: Figure) -> list[str]:
    return [to_hex(patch.get_edgecolor()) for axes in figure.axes for patch in axes.patches]


def test_confusion_is_in_per_cent_of_each_label() -> None:
    figure = figures.confusion_figure([[3, 1], [0, 2]], ["brain", "liver"])
    assert texts(figure) == ["75.0", "25.0", "100"]
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["brain", "liver"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "label")


def test_a_label_without_images_leaves_an_empty_row() -> None:
    assert texts(figures.confusion_figure([[0, 0], [0, 2]], ["brain", "liver"])) == ["100"]


def test_many_classes_are_drawn_without_numbers() -> None:
    assert texts(figures.confusion_figure(np.eye(41).tolist(), [str(n) for n in range(41)])) == []


def test_pr_figure_has_one_named_curve_a_layer() -> None:
    curves = [Curve("fcl1 (mAP 0.50)", [0, 1], [1, 0]), Curve("fcl2 (mAP 0.25)", [0, 1], [0.5, 0])]
    axes = figures.pr_figure(curves, "gate off").axes[0]
    assert [line.get_label() for line in axes.lines] == ["fcl1 (mAP 0.50)", "fcl2 (mAP 0.25)"]
    assert axes.lines[0].get_ydata().tolist() == [1, 0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("recall", "precision", "gate off")


def test_hits_of_another_class_are_framed_in_red() -> None:
    with_gate = Row("with class prediction", (Tile(GREY, "1 chest"), Tile(GREY, "2 chest")))
    without = Row("without", (Tile(GREY, "1 chest"), Tile(GREY, "2 liver\nd = 3.0", wrong=True)))
    figure = figures.strip_figure(Tile(GREY, "chest"), [with_gate, without], "Chest")
    assert frames(figure).count(figures.RED.lower()) == 1
    assert {"query", "with class prediction", "without", "2 liver", "d = 3.0"} <= set(texts(figure))


def test_an_empty_ranking_says_so() -> None:
    assert "no hits" in texts(figures.strip_figure(Tile(GREY), [Row("gate hard", ())]))


def test_a_picture_keeps_its_aspect() -> None:
    image = figures.sample_sheet([Tile(GREY, "brain")], "one each").axes[0].images[0]
    left, right, bottom, top = image.get_extent()
    assert (right - left) / (bottom - top) == pytest.approx(8 / 6)


def test_a_sheet_breaks_into_rows() -> None:
    figure = figures.sample_sheet([Tile(GREY, str(n)) for n in range(5)], "sheet", columns=2)
    tops = sorted({round(image.get_extent()[3], 3) for image in figure.axes[0].images})
    assert len(tops) == 3


def test_a_tile_is_uint8_grey_or_rgb() -> None:
    with pytest.raises(ValueError, match="uint8"):
        Tile(np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match="uint8"):
        Tile(np.zeros((1, 2, 2), np.uint8))


def test_training_shows_each_epoch_beside_the_papers_error() -> None:
    log = [{"epoch": 1, "loss": 3.0, "error": 0.9}, {"epoch": 2, "loss": 1.0, "error": 0.5}]
    loss, error = figures.training_figure(log).axes
    assert loss.lines[0].get_ydata().tolist() == [3, 1]
    assert error.lines[0].get_ydata().tolist() == [0.9, 0.5]
    assert [line.get_label() for line in loss.lines] == [
        "training",
        f"the paper's training error, {PAPER_TRAINING_ERROR}",
    ]


def test_classes_are_ordered_worst_first_and_a_missing_value_is_not_drawn() -> None:
    values = {"gate off": {"brain": 0.9, "liver": 0.2, "eye": None}, "gate hard": {"brain": 1.0}}
    axes = figures.per_class_figure(values, "mAP").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "brain",
        "liver",
        "eye",
    ]  # bottom to top
    assert axes.lines[0].get_xdata().tolist() == [0.9, 0.2]
    assert axes.lines[1].get_xdata().tolist() == [1.0]


def test_saved_as_png_and_svg_always_with_the_same_bytes(tmp_path: Path) -> None:
    def draw(folder: str) -> tuple[bytes, bytes]:
        figure = figures.pr_figure([Curve("fcl1", [0, 1], [1, 0])], "gate off")
        png, svg = figures.save(figure, tmp_path / folder, "pr")
        assert png.read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in svg.read_bytes()
        return png.read_bytes(), svg.read_bytes()

    assert draw("one") == draw("two")


def test_a_picture_is_written_in_the_format_of_its_suffix(tmp_path: Path) -> None:
    figure = figures.sample_sheet([Tile(GREY, "brain")], "one")
    figures.save_as(figure, tmp_path / "new" / "strip.svg")
    assert b"<svg" in (tmp_path / "new" / "strip.svg").read_bytes()
    with pytest.raises(UsageError, match=r"\.png or \.svg, not as \.gif"):
        figures.save_as(figure, tmp_path / "strip.gif")


def test_a_ranking_becomes_a_row_of_rank_class_and_distance() -> None:
    hits = tuple(
        Hit(rank, name, distance, Record(id=name, labels={"class": label} if label else {}))
        for rank, name, distance, label in ((1, "a", 0.5, "chest"), (2, "b", 12.0, "liver"), (3, "c", 200.0, ""))
    )
    ranking = Ranking(hits, "fcl1", "hard", predicted=(("chest", 0.9),), n_candidates=7)
    row = figures.ranking_row(ranking, {"a": GREY}, "chest")
    assert row.title == "with class prediction (gate hard), predicted class chest: 7 records compared"
    assert [tile.caption for tile in row.tiles] == ["1 chest\nd = 0.5000", "2 liver\nd = 12.00", "3 \nd = 200.0"]
    assert [tile.wrong for tile in row.tiles] == [False, True, False]  # without a class nothing is judged
    assert not any(tile.wrong for tile in figures.ranking_row(ranking, {}, None).tiles)


@pytest.mark.parametrize("name", ["$x$", "a$b", r"\frac", "脳", "two\nlines", "<b>", "x" * 90])
def test_any_class_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    figures.save(figures.confusion_figure([[1]], [name]), tmp_path, "confusion")
    figures.save(figures.strip_figure(Tile(GREY, name), [Row(name, (Tile(GREY, name),))], name), tmp_path, "s")
