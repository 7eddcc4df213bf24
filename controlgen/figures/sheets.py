"""Sheets of small captioned images: edits of several sources, closest pairs."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from controlgen.figures.style import (
    COLOURS,
    INK,
    MUTED,
    Provenance,
    draw_image,
    new_figure,
    save_png,
    style_axes,
)
from controlgen.images import PngTarget
from controlgen.types import Pixels

TILE_INCHES = 0.92  # side of one image
PITCH = 1.08  # distance of two images' left edges, in sides
LINE_HEIGHT = 0.15  # of a caption, in sides
PAIRS_PER_ROW = 4


class Column(NamedTuple):
    """Images (n c h w) under one heading, with a short caption under each (n, or none)."""

    heading: str
    pixels: Pixels
    captions: Sequence[str] = ()


class Pairing(NamedTuple):
    """Two images (1 c h w) side by side over one caption."""

    left: Pixels
    right: Pixels
    caption: str


def contact_sheet(
    path: PngTarget,
    columns: Sequence[Column],
    provenance: Provenance,
    title: str = "",
    footer: str = "",
    detached: int = 0,
) -> None:
    """Draw one row per source and one column per step; a gap sets the last `detached` columns off.

    Captions may have several lines.
    """
    captions = [caption for column in columns for caption in column.captions]
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    rows, row_height = len(columns[0].pixels), PITCH + lines * LINE_HEIGHT
    gaps = [0.3 if k >= len(columns) - detached else 0 for k in range(len(columns))]
    lefts = [k * PITCH + gap for k, gap in enumerate(gaps)]
    width = lefts[-1] + 1

    # Wrap the title and the footer to the width of the sheet.
    wrapped = {
        "title": textwrap.wrap(title, max(int(width * 15), 24)),
        "footer": textwrap.wrap(footer, max(int(width * 20), 28)),
    }
    head = 0.2 + LINE_HEIGHT * (1 + max(column.heading.count("\n") for column in columns))
    top = head + 0.21 * len(wrapped["title"])
    height = rows * row_height + 0.19 * len(wrapped["footer"]) + 0.08
    figure, axes = _canvas(width, -top, height)
    heading, footer = ("\n".join(wrapped[part]) for part in ("title", "footer"))
    axes.text(0, -head - 0.02, heading, fontsize=8, color=INK, va="bottom", parse_math=False)
    for left, column in zip(lefts, columns, strict=True):
        axes.text(left + 0.5, -0.06, column.heading, fontsize=7, color=INK, ha="center")
        for row, image in enumerate(column.pixels):
            _draw_tile(axes, image, left, row * row_height)
            if column.captions:
                below = row * row_height + 1.03
                _draw_caption(axes, left + 0.5, below, column.captions[row])
    below = rows * row_height + 0.02
    axes.text(0, below, footer, fontsize=6.5, color=MUTED, va="top", parse_math=False)
    save_png(figure, path, provenance)


def closest_pairs(
    path: Path, blocks: Mapping[str, Sequence[Pairing]], provenance: Provenance
) -> None:
    """Draw blocks of captioned pairs side by side, four pairs to a row."""
    pair_width, pair_height = 2.28, 1.28
    block_width = PAIRS_PER_ROW * pair_width + 0.4
    longest = max(len(pairs) for pairs in blocks.values())
    height = -(-longest // PAIRS_PER_ROW) * pair_height
    figure, axes = _canvas(len(blocks) * block_width - 0.4, -0.35, height)
    for number, (title, pairs) in enumerate(blocks.items()):
        left = number * block_width
        axes.text(left, -0.1, title, fontsize=9, color=INK, fontweight="bold")
        for index, pair in enumerate(pairs):
            x = left + index % PAIRS_PER_ROW * pair_width
            y = index // PAIRS_PER_ROW * pair_height
            _draw_tile(axes, pair.left[0], x, y)
            _draw_tile(axes, pair.right[0], x + 1.02, y)
            _draw_caption(axes, x + 1.01, y + 1.03, pair.caption)
    save_png(figure, path, provenance)


def nearest_distances(
    path: Path,
    distances: Mapping[str, NDArray[np.float64]],
    threshold: float,
    provenance: Provenance,
) -> None:
    """Draw histograms and cumulative shares of distances to the nearest training image.

    Shares are on a logarithmic scale because the thin lower end matters.
    """
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    edges = np.histogram_bin_edges(np.concatenate(list(distances.values())), bins=40)
    for (name, values), colour in zip(distances.items(), COLOURS, strict=False):
        shares = np.full(len(values), 1 / len(values))
        left.hist(values, edges, weights=shares, color=colour, alpha=0.45, label=name)
        ranked = np.sort(values)
        cumulative = np.arange(1, len(ranked) + 1) / len(ranked)
        right.step(ranked, cumulative, where="post", color=colour, linewidth=1.6, label=name)
    for axes in (left, right):
        axes.axvline(threshold, color=INK, linewidth=1, linestyle="--")
        axes.set_xlabel("cosine distance to the nearest training image")
        style_axes(axes)
    left.set_ylabel("share of images")
    left.legend(frameon=False, fontsize=8)
    right.axhline(0.01, color=MUTED, linewidth=0.8, linestyle=":")
    right.set_yscale("log")
    right.set_ylabel("share at or below the distance")
    right.set_title("dashed: 1st percentile of held-out images", fontsize=8, color=MUTED)
    save_png(figure, path, provenance)


def _canvas(width: float, top: float, bottom: float) -> tuple[Figure, Axes]:
    # One unit of the axes is the side of an image; y points down.
    margin = 0.08
    span = width + 2 * margin, bottom - top + 2 * margin
    figure = new_figure(span[0] * TILE_INCHES, span[1] * TILE_INCHES)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-margin, width + margin)
    axes.set_ylim(bottom + margin, top - margin)
    axes.set_axis_off()
    return figure, axes


def _draw_tile(axes: Axes, image: NDArray[np.uint8], left: float, top: float) -> None:
    # Draw an image (c h w) on the unit square with this upper left corner.
    draw_image(axes, image[None], extent=(left, left + 1, top + 1, top), aspect="auto")


def _draw_caption(axes: Axes, centre: float, top: float, caption: str) -> None:
    axes.text(
        centre,
        top,
        caption,
        fontsize=5.6,
        color=INK,
        ha="center",
        va="top",
        linespacing=1.05,
        parse_math=False,
    )
