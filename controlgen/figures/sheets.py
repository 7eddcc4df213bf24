"""Sheets of many small images with words under each: edits of several sources, closest pairs."""

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
    new_figure,
    plain_axes,
    save,
    show,
)
from controlgen.images import Target
from controlgen.types import Pixels

TILE_INCHES = 0.92  # side of one image
PITCH = 1.08  # distance of two images' left edges, in sides
LINE = 0.15  # height of a line of small print, in sides
ACROSS = 4  # pairs side by side


class Column(NamedTuple):
    """Images (n c h w) under one heading, and at most a few short words under each (n, or none)."""

    heading: str
    pixels: Pixels
    captions: Sequence[str] = ()


class Pairing(NamedTuple):
    """Two images (1 c h w) shown side by side, and the words under them."""

    left: Pixels
    right: Pixels
    caption: str


def contact_sheet(
    path: Target,
    columns: Sequence[Column],
    provenance: Provenance,
    title: str = "",
    footer: str = "",
    apart: int = 0,
) -> None:
    """One row a source, one column a step; the last `apart` columns stand off to the right.

    Captions may have several lines; every row leaves room for the longest.
    """
    lines = max((caption.count("\n") + 1 for one in columns for caption in one.captions), default=0)
    rows, row_height = len(columns[0].pixels), PITCH + lines * LINE
    lefts = [at * PITCH + (0.3 if at >= len(columns) - apart else 0) for at in range(len(columns))]
    width = lefts[-1] + 1

    # Words that run over the sheet's edge are broken into lines, and the sheet leaves room.
    wrapped = {
        "title": textwrap.wrap(title, max(int(width * 15), 24)),
        "footer": textwrap.wrap(footer, max(int(width * 20), 28)),
    }
    head = 0.2 + LINE * (1 + max(one.heading.count("\n") for one in columns))
    top = head + 0.21 * len(wrapped["title"])
    height = rows * row_height + 0.19 * len(wrapped["footer"]) + 0.08
    figure, axes = _canvas(width, -top, height)
    heading, foot = ("\n".join(wrapped[part]) for part in ("title", "footer"))
    axes.text(0, -head - 0.02, heading, fontsize=8, color=INK, va="bottom", parse_math=False)
    for left, column in zip(lefts, columns, strict=True):
        axes.text(left + 0.5, -0.06, column.heading, fontsize=7, color=INK, ha="center")
        for row, image in enumerate(column.pixels):
            _place(axes, image, left, row * row_height)
            if column.captions:
                below = row * row_height + 1.03
                _small(axes, left + 0.5, below, column.captions[row])
    below = rows * row_height + 0.02
    axes.text(0, below, foot, fontsize=6.5, color=MUTED, va="top", parse_math=False)
    save(figure, path, provenance)


def closest_pairs(
    path: Path, blocks: Mapping[str, Sequence[Pairing]], provenance: Provenance
) -> None:
    """Blocks side by side, each of pairs in rows of four, with the words of each pair under it."""
    pair_width, pair_height = 2.28, 1.28
    block_width = ACROSS * pair_width + 0.4
    most = max(len(pairs) for pairs in blocks.values())
    height = -(-most // ACROSS) * pair_height
    figure, axes = _canvas(len(blocks) * block_width - 0.4, -0.35, height)
    for at, (title, pairs) in enumerate(blocks.items()):
        left = at * block_width
        axes.text(left, -0.1, title, fontsize=9, color=INK, fontweight="bold")
        for index, pair in enumerate(pairs):
            x = left + index % ACROSS * pair_width
            y = index // ACROSS * pair_height
            _place(axes, pair.left[0], x, y)
            _place(axes, pair.right[0], x + 1.02, y)
            _small(axes, x + 1.01, y + 1.03, pair.caption)
    save(figure, path, provenance)


def nearest_distances(
    path: Path,
    distances: Mapping[str, NDArray[np.float64]],
    threshold: float,
    provenance: Provenance,
) -> None:
    """Distances to the nearest training image: histograms, and the shares nearer than a distance.

    Shares are on a logarithmic scale: what matters is the thin lower end.
    """
    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    everything = np.concatenate(list(distances.values()))
    edges = np.histogram_bin_edges(everything, bins=40)
    for (name, values), colour in zip(distances.items(), COLOURS, strict=False):
        shares = np.full(len(values), 1 / len(values))
        left.hist(values, edges, weights=shares, color=colour, alpha=0.45, label=name)
        ranked = np.sort(values)
        reached = np.arange(1, len(ranked) + 1) / len(ranked)
        right.step(ranked, reached, where="post", color=colour, linewidth=1.6, label=name)
    for axes in (left, right):
        axes.axvline(threshold, color=INK, linewidth=1, linestyle="--")
        axes.set_xlabel("cosine distance to the nearest training image")
        plain_axes(axes)
    left.set_ylabel("share of images")
    left.legend(frameon=False, fontsize=8)
    right.axhline(0.01, color=MUTED, linewidth=0.8, linestyle=":")
    right.set_yscale("log")
    right.set_ylabel("share nearer than that")
    right.set_title("dashed: 1st percentile of held-out images", fontsize=8, color=MUTED)
    save(figure, path, provenance)


def _canvas(width: float, top: float, bottom: float) -> tuple[Figure, Axes]:
    # One unit of these axes is the side of an image; y counts downwards.
    margin = 0.08
    span = width + 2 * margin, bottom - top + 2 * margin
    figure = new_figure(span[0] * TILE_INCHES, span[1] * TILE_INCHES)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-margin, width + margin)
    axes.set_ylim(bottom + margin, top - margin)
    axes.set_axis_off()
    return figure, axes


def _place(axes: Axes, image: NDArray[np.uint8], left: float, top: float) -> None:
    # An image (c h w) on the unit square whose upper left corner is given.
    show(axes, image[None], extent=(left, left + 1, top + 1, top), aspect="auto")


def _small(axes: Axes, centre: float, top: float, words: str) -> None:
    axes.text(
        centre,
        top,
        words,
        fontsize=5.6,
        color=INK,
        ha="center",
        va="top",
        linespacing=1.05,
        parse_math=False,
    )
