"""The paper's figures, and a few it lacks, from plain arrays; the only place that draws with matplotlib.

Every function returns a matplotlib Figure (object API, no global state); `save` writes it as PNG and SVG.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .errors import UsageError
from .recipes import PAPER_TRAINING_ERROR
from .types import Ranking, UInt8

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
WIDTHS = (5.0, 3.0, 1.2)  # curves that coincide, as under a hard gate, stay visible one inside the other
RED, INK, FAINT = "#C00000", "#222222", "#999999"
TILE_IN = 1.12  # side of a tile, inches
LINE_IN = 0.15  # a line of caption under it
MAX_LABEL = 24  # characters


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet or strip. wrong: frame it in red (a hit of another class)."""

    pixels: UInt8  # (rows, columns) grey or (rows, columns, 3) RGB
    caption: str = ""
    wrong: bool = False

    def __post_init__(self) -> None:
        grey_or_rgb = self.pixels.ndim == 2 or (self.pixels.ndim == 3 and self.pixels.shape[2] == 3)
        if self.pixels.dtype != np.uint8 or not grey_or_rgb:
            raise ValueError(f"a tile is uint8 (rows, columns[, 3]), not {self.pixels.dtype} {self.pixels.shape}")


@dataclass(frozen=True)
class Row:
    """A titled row of tiles."""

    title: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Curve:
    """Precision at recall levels of one layer, and what the legend says of it."""

    name: str
    recall: Sequence[float]
    precision: Sequence[float]


def save(figure: Figure, folder: Path, stem: str) -> tuple[Path, Path]:
    """Write folder/stem.png (150 dpi) and folder/stem.svg; the same figure gives the same bytes."""
    png, svg = folder / f"{stem}.png", folder / f"{stem}.svg"
    save_as(figure, png)
    save_as(figure, svg)
    return png, svg


def save_as(figure: Figure, path: Path) -> None:
    """Write one file; its suffix chooses the format. Raises UsageError unless it is .png or .svg."""
    check_picture(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"dpi": 150} if path.suffix.lower() == ".png" else {"metadata": {"Date": None}}
    with rc_context({"svg.hashsalt": "cbmir"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a class named in another script
        figure.savefig(path, **settings)


def check_picture(path: Path) -> None:
    """Raises UsageError unless path ends in .png or .svg."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"a picture is written as .png or .svg, not as {path.suffix or path.name}")


def plain(text: str, limit: int = MAX_LABEL) -> str:
    """Text as it stands: one line, no mathematics for matplotlib to find, cut to `limit` characters."""
    line = " ".join(text.split())
    line = line if len(line) <= limit else line[: limit - 1] + "…"
    return line.replace("$", r"\$")


# --- classification ---


def confusion_figure(confusion: Sequence[Sequence[float]], classes: Sequence[str]) -> Figure:
    """Table 1: each row (label) in per cent over the predicted classes.

    confusion: counts (K, K), labels in rows. A row without images stays empty. Up to 40 classes have numbers.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    per_cent = 100 * np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    n_classes = len(classes)
    side = 0.40 * min(n_classes, 40) + 2.6
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(np.sqrt(per_cent), cmap="Blues", vmin=0, vmax=11)  # square root: small errors stay visible
    if n_classes <= 40:
        _write_numbers(axes, per_cent)
    names = [plain(name, 16) for name in classes]
    axes.set_xticks(range(n_classes), names, rotation=90)
    axes.set_yticks(range(n_classes), names)
    axes.tick_params(length=0, labelsize=9 if n_classes <= 40 else 4)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("label")
    axes.set_title("Confusion, per cent of each label")
    return figure


def _write_numbers(axes: Axes, per_cent: npt.NDArray[np.float64]) -> None:
    for row, column in zip(*np.nonzero(per_cent), strict=True):
        value = per_cent[row, column]
        number = f"{value:.0f}" if value in (0, 100) else f"{value:.1f}"
        colour = "white" if value > 50 else INK
        axes.text(column, row, number, ha="center", va="center", fontsize=6.5, color=colour)


def training_figure(log: Sequence[Mapping[str, float]]) -> Figure:
    """Loss and error of each epoch beside the paper's training error after 30 epochs.

    log: one mapping an epoch: `epoch`, and of loss, error, validation_loss, validation_error what there is.
    """
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    names = (("loss", "negative log likelihood"), ("error", "share of images misclassified"))
    for axes, (key, title) in zip(panels, names, strict=True):
        for column, label in ((key, "training"), (f"validation_{key}", "validation")):
            points = [(line["epoch"], line[column]) for line in log if column in line]
            if points:
                colour = COLOURS[label == "validation"]
                axes.plot(*zip(*points, strict=True), color=colour, label=label, marker=".", markersize=4)
        paper = f"the paper's training error, {PAPER_TRAINING_ERROR}"
        axes.axhline(PAPER_TRAINING_ERROR, color=INK, linewidth=1, linestyle=":", label=paper)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


# --- retrieval ---


def pr_figure(curves: Sequence[Curve], title: str) -> Figure:
    """Precision over recall, one curve a layer (Fig. 7 with the gate, Fig. 8 without)."""
    figure = Figure(figsize=(6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for place, curve in enumerate(curves):
        axes.plot(
            curve.recall,
            curve.precision,
            color=COLOURS[place % len(COLOURS)],
            linewidth=WIDTHS[min(place, len(WIDTHS) - 1)] if len(curves) > 1 else 2.2,
            label=plain(curve.name, 60),
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title(plain(title, 80), fontsize=11)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(loc="best", fontsize=9)
    return figure


def per_class_figure(values: Mapping[str, Mapping[str, float | None]], metric: str) -> Figure:
    """One line a class, one dot a gate, worst class on top. values: gate -> class -> value."""
    first = next(iter(values.values()), {})
    order = sorted(first, key=lambda name: (-1 if first[name] is None else first[name], name), reverse=True)
    figure = Figure(figsize=(7, 1.2 + 0.24 * max(len(order), 3)), layout="constrained")
    axes = figure.add_subplot()
    for place, (gate, of_class) in enumerate(values.items()):
        places = enumerate(order)
        known = [(of_class[name], row) for row, name in places if of_class.get(name) is not None]
        if known:
            axes.plot(
                *zip(*known, strict=True),
                "oD^s"[place % 4],
                color=COLOURS[place % len(COLOURS)],
                markersize=6,
                fillstyle="none" if place else "full",
                label=plain(gate, 40),
                clip_on=False,
            )
    axes.set_yticks(range(len(order)), [plain(name) for name in order])
    axes.set(xlim=(0, 1), xlabel=metric)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06 - 1.0 / (len(order) + 3)), ncols=4, fontsize=9)
    return figure


# --- calibration ---


def reliability_figure(curves: Mapping[str, Sequence[Mapping[str, float]]], title: str) -> Figure:
    """How many came true over the probability that was told, one line a kind; on the diagonal it can be believed.

    curves: name -> bins as metrics.reliability makes them, as dicts; the area of a dot is the share of its bin.
    """
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot((0, 1), (0, 1), color=FAINT, linewidth=1, linestyle=":")
    for place, (name, bins) in enumerate(curves.items()):
        told, true = ([one[key] for one in bins] for key in ("told", "true"))
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(told, true, color=colour, linewidth=1.2, label=plain(name, 60))
        axes.scatter(told, true, s=[300 * one["share"] for one in bins], color=colour, alpha=0.6, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="probability told", ylabel="share that came true")
    axes.set_title(plain(title, 80), fontsize=11)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(loc="upper left", fontsize=9)
    return figure


# --- pictures ---


def sample_sheet(tiles: Sequence[Tile], title: str, columns: int = 8) -> Figure:
    """A grid of captioned pictures (Fig. 5: one of each class)."""
    rows = [Row("", tuple(tiles[start : start + columns])) for start in range(0, len(tiles), columns)]
    return tile_rows(rows, title)


def strip_figure(query: Tile, rows: Sequence[Row], title: str = "") -> Figure:
    """The query at the left, ranked hits in titled rows, wrong-class hits framed in red (Fig. 9, 10)."""
    return tile_rows(rows, title, query=query)


def tile_rows(rows: Sequence[Row], title: str = "", query: Tile | None = None) -> Figure:
    """Titled rows of tiles under each other (Fig. 6: some of one class a row); a query stands at the left."""
    left = 1.25 if query is not None else 0.0
    columns = max((len(row.tiles) for row in rows), default=1) or 1
    headroom = 0.30 if title else 0.05
    width = (columns + left) * (TILE_IN + 0.06) + 0.12
    heights = [TILE_IN + _caption_in(row.tiles) + (0.24 if row.title else 0.06) for row in rows]
    query_height = 0.24 + TILE_IN + _caption_in([query]) if query is not None else 0.0
    height = max(sum(heights), query_height) + headroom + 0.05
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    if title:
        axes.text(0.08, 0.07, plain(title, int(width * 13)), va="top", fontsize=10, color=INK)
    if query is not None:
        axes.text(0.08, headroom + 0.06, "query", va="top", fontsize=8.5, color=INK)
        _draw_tile(axes, query, 0.08, headroom + 0.24)
    _draw_rows(axes, rows, heights, left=0.08 + left * (TILE_IN + 0.06), top=headroom)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    return figure


@dataclass(frozen=True)
class Explained:
    """A picture and its map: float64 (rows, columns) of the picture, its mean the similarity, NaN where the encoder did
    not look. pixel_aspect: height of a pixel over its width.
    """

    pixels: UInt8
    over: npt.NDArray[np.float64]
    pixel_aspect: float
    caption: str


def explanation_figure(pair: Sequence[Explained], title: str) -> Figure:
    """Pictures side by side, below each the same in faint grey with its map, all on one scale: what speaks for the
    similarity in the colours of `viridis` (read alike by the colour-blind), the more of it the less transparent.
    """
    figure = Figure(figsize=(7.4, 7.0), layout="constrained")
    panels = figure.subplots(2, len(pair))
    largest = max(float(np.nanmax(one.over)) for one in pair)
    scale = Normalize(0, max(largest, 0.01))  # of two images that nothing speaks for all is transparent
    for one, (above, below) in zip(pair, panels.T, strict=True):
        grey = one.pixels if one.pixels.ndim == 2 else one.pixels.mean(axis=2)
        for axes, pixels, white in ((above, one.pixels, 255), (below, grey, 255 / 0.7)):
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=white, aspect=one.pixel_aspect)
            axes.axis("off")
        above.set_title(plain(one.caption, 40), fontsize=10, color=INK)
        strength = np.nan_to_num(scale(one.over).clip(0, 1))
        below.imshow(one.over, cmap="viridis", norm=scale, alpha=0.8 * strength, aspect=one.pixel_aspect)
    bar = figure.colorbar(ScalarMappable(scale, "viridis"), ax=panels, shrink=0.5, anchor=(0, 0.1), pad=0.02)
    bar.set_label("contribution to the similarity (its mean over the map)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    figure.suptitle(plain(title, 80), fontsize=11)
    return figure


def _draw_rows(axes: Axes, rows: Sequence[Row], heights: Sequence[float], left: float, top: float) -> None:
    for row, height in zip(rows, heights, strict=True):
        if row.title:
            axes.text(left, top + 0.06, plain(row.title, 110), va="top", fontsize=8.5, color=INK)
        if not row.tiles:
            axes.text(left, top + TILE_IN / 2, "no hits", va="center", fontsize=8.5, color=FAINT)
        for place, tile in enumerate(row.tiles):
            _draw_tile(axes, tile, left + place * (TILE_IN + 0.06), top + (0.24 if row.title else 0.03))
        top += height


def _draw_tile(axes: Axes, tile: Tile, left: float, top: float) -> None:
    """One picture, its aspect kept, with its caption (at most two lines) below; inches from the top left."""
    rows, columns = tile.pixels.shape[:2]
    scale = TILE_IN / max(rows, columns)
    margin_x, margin_y = (TILE_IN - columns * scale) / 2, (TILE_IN - rows * scale) / 2
    extent = (left + margin_x, left + TILE_IN - margin_x, top + TILE_IN - margin_y, top + margin_y)
    axes.imshow(tile.pixels, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="antialiased")
    edge, line = (RED, 3.0) if tile.wrong else (FAINT, 0.5)
    axes.add_patch(Rectangle((left, top), TILE_IN, TILE_IN, fill=False, edgecolor=edge, linewidth=line, zorder=3))
    for number, text in enumerate(tile.caption.split("\n")[:2]):
        axes.text(
            left + TILE_IN / 2,
            top + TILE_IN + 0.05 + LINE_IN * number,
            plain(text, 23),
            ha="center",
            va="top",
            fontsize=7,
            color=RED if tile.wrong else INK,
        )


def _caption_in(tiles: Sequence[Tile]) -> float:
    """Room the captions of a row need, inches."""
    lines = max((len(tile.caption.split("\n")[:2]) for tile in tiles if tile.caption), default=0)
    return LINE_IN * lines + 0.08


def ranking_row(ranking: Ranking, pictures: Mapping[str, UInt8], expected: str | None) -> Row:
    """A ranking as a row: rank, class and distance under each hit, hits of another class than `expected` in red.

    pictures: uint8 by record id; a missing one is drawn blank. expected: None judges nothing.
    """
    title = gate_title(ranking.gate)
    if ranking.gate == "hard" and ranking.predicted:
        title += f", predicted class {ranking.predicted[0][0]}"
    tiles = tuple(
        Tile(
            pictures.get(hit.id, _BLANK),
            f"{hit.rank} {hit.record.group or hit.record.modality or ''}\nd = {hit.distance:#.4g}",
            wrong=expected is not None and hit.record.group not in ("", expected),
        )
        for hit in ranking
    )
    return Row(f"{title}: {ranking.n_candidates} records compared", tiles)


_BLANK: UInt8 = np.full((8, 8), 235, np.uint8)
_GATE_TITLES = {"hard": "with class prediction (gate hard)", "off": "without class prediction (gate off)"}


def gate_title(gate: str) -> str:
    """In the paper's words where it has some."""
    return _GATE_TITLES.get(gate, f"gate {gate}")
