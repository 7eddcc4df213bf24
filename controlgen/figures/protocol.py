"""Plots of training and of the protocol."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from controlgen.figures.style import (
    CELL_INCHES,
    COLOURS,
    INK,
    PAPER,
    Provenance,
    column_labels,
    new_figure,
    plain_axes,
    save,
    show,
    smooth,
    strip,
)
from controlgen.images import Target, grid
from controlgen.types import Pixels


class Point(NamedTuple):
    """A value at x with the ends of its interval."""

    x: float
    mean: float
    low: float
    high: float


class Block(NamedTuple):
    """One edit: its title, the source (1 c h w), and per method the images along the columns."""

    title: str
    source: Pixels
    rows: Mapping[str, Pixels]


def loss_curves(
    path: Path,
    history: Sequence[Mapping[str, float]],
    provenance: Provenance,
    names: Sequence[str] = ("critic_loss", "generator_loss", "gap", "penalty"),
) -> None:
    """Four curves over images seen, lightly smoothed; rows hold images_seen and `names`."""
    figure = new_figure(8, 5)
    panels = figure.subplots(2, 2, sharex=True).ravel()
    seen = np.array([row["images_seen"] for row in history]) / 1000
    for axes, name, colour in zip(panels, names, COLOURS, strict=False):
        values = np.array([row[name] for row in history])
        axes.plot(seen, values, color=colour, alpha=0.25, linewidth=0.7)
        axes.plot(seen, smooth(values), color=colour, linewidth=1.6)
        axes.set_title(name.replace("_", " "), loc="left", fontsize=10)
        plain_axes(axes)
    for axes in panels[2:]:
        axes.set_xlabel("real images seen, thousands")
    save(figure, path, provenance)


def sample_grid(
    path: Path, pixels: Pixels, provenance: Provenance, columns: int = 16, title: str = ""
) -> None:
    """Images (n c h w) row by row."""
    rows = -(-len(pixels) // columns)
    figure = new_figure(columns * CELL_INCHES, rows * CELL_INCHES + (0.35 if title else 0.1))
    axes = figure.subplots()
    show(axes, grid(pixels, columns, gap=1))
    axes.set_title(title, loc="left", fontsize=10)
    save(figure, path, provenance)


def inversion_strips(
    path: Path, rows: Mapping[str, Pixels], provenance: Provenance, title: str = ""
) -> None:
    """One row of images a map, the asked images first; rows may differ in length."""
    longest = max(len(pixels) for pixels in rows.values())
    figure = new_figure(longest * CELL_INCHES + 1.4, len(rows) * CELL_INCHES + 0.45)
    panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (name, pixels) in zip(panels, rows.items(), strict=True):
        strip(axes, pixels, longest, name)
    panels[0].set_title(title, loc="left", fontsize=10)
    save(figure, path, provenance)


def edit_strip(
    path: Target, pixels: Pixels, labels: Sequence[str], provenance: Provenance, title: str = ""
) -> None:
    """One edit from left to right, each image (n c h w) under its own label."""
    figure = new_figure(max(len(pixels) * 1.1, 2.5), 1.5 + (0.25 if title else 0))
    panels = figure.subplots(1, len(pixels), squeeze=False)[0]
    for axes, image, label in zip(panels, pixels, labels, strict=True):
        show(axes, image[None])
        axes.set_title(label, fontsize=8, color=INK)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    save(figure, path, provenance)


def figure3(
    path: Path, blocks: Sequence[Block], amounts: Sequence[float], provenance: Provenance
) -> None:
    """The paper's figure 3: for each edit one row a method, from the source along the amounts."""
    across = 2 if len(blocks) > 1 else 1
    down, methods, columns = -(-len(blocks) // across), len(blocks[0].rows), len(amounts) + 1
    width = across * (columns * CELL_INCHES + 1.5)
    figure = new_figure(width, down * (methods * CELL_INCHES + 0.75))
    outer = figure.subfigures(down, across, squeeze=False).ravel()
    for place, block in zip(outer, blocks, strict=False):
        place.suptitle(block.title, fontsize=10, fontweight="bold", color=INK)
        panels = place.subplots(methods, 1, squeeze=False)[:, 0]
        for axes, (name, steps) in zip(panels, block.rows.items(), strict=True):
            strip(axes, np.concatenate([block.source, steps]), columns, name)
        column_labels(panels[0], ["source", *(f"{amount:g}" for amount in amounts)])
    save(figure, path, provenance)


def flip_curves(path: Path, curves: Mapping[str, Sequence[Point]], provenance: Provenance) -> None:
    """Share of edits that became the target class over the amount, with 95 % intervals."""
    figure = new_figure(6.5, 4)
    axes = figure.subplots()
    for (name, points), colour in zip(curves.items(), COLOURS, strict=False):
        x, mean, low, high = np.array(points).T
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, mean, color=colour, linewidth=1.8, marker="o", markersize=3.5, label=name)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("amount, in differences of class means")
    axes.set_ylabel("judge sees the target class")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    plain_axes(axes)
    save(figure, path, provenance)


def flip_matrix(
    path: Path,
    shares: Sequence[Sequence[float | None]],
    names: Sequence[str],
    provenance: Provenance,
    title: str = "",
) -> None:
    """Flip rate of every ordered pair of classes: source class down, target class across."""
    table = np.array([[np.nan if v is None else v for v in row] for row in shares], float)
    figure = new_figure(0.55 * len(names) + 1.4, 0.5 * len(names) + 1.3)
    axes = figure.subplots()
    axes.imshow(table, cmap="Blues", vmin=0, vmax=1)
    for (b, a), share in np.ndenumerate(table):
        if np.isfinite(share):
            colour = PAPER if share > 0.55 else INK
            axes.text(a, b, f"{share:.0%}"[:-1], ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("asked")
    axes.set_ylabel("source")
    axes.set_title(title, loc="left", fontsize=10)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    save(figure, path, provenance)
