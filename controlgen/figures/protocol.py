"""Plots of training and of the evaluation protocol."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from controlgen.figures.style import (
    CELL_INCHES,
    COLOURS,
    INK,
    Provenance,
    column_labels,
    draw_heat_map,
    draw_image,
    draw_strip,
    new_figure,
    save_png,
    smooth,
    style_axes,
)
from controlgen.images import PngTarget, grid
from controlgen.types import Pixels


class Point(NamedTuple):
    """A mean at x with its interval."""

    x: float
    mean: float
    low: float
    high: float


class Block(NamedTuple):
    """One edit: its title, the source (1 c h w), and the images along the amounts by method."""

    title: str
    source: Pixels
    rows: Mapping[str, Pixels]


def loss_curves(
    path: Path,
    history: Sequence[Mapping[str, float]],
    provenance: Provenance,
    names: Sequence[str] = ("critic_loss", "generator_loss", "gap", "penalty"),
) -> None:
    """Draw four smoothed curves over images seen; rows hold images_seen and `names`."""
    figure = new_figure(8, 5)
    panels = figure.subplots(2, 2, sharex=True).ravel()
    thousands = np.array([row["images_seen"] for row in history]) / 1000
    for axes, name, colour in zip(panels, names, COLOURS, strict=False):
        values = np.array([row[name] for row in history])
        axes.plot(thousands, values, color=colour, alpha=0.25, linewidth=0.7)
        axes.plot(thousands, smooth(values), color=colour, linewidth=1.6)
        axes.set_title(name.replace("_", " "), loc="left", fontsize=10)
        style_axes(axes)
    for axes in panels[2:]:
        axes.set_xlabel("real images seen, thousands")
    save_png(figure, path, provenance)


def sample_grid(
    path: Path, pixels: Pixels, provenance: Provenance, columns: int = 16, title: str = ""
) -> None:
    """Draw images (n c h w) row by row."""
    rows = -(-len(pixels) // columns)
    figure = new_figure(columns * CELL_INCHES, rows * CELL_INCHES + (0.35 if title else 0.1))
    axes = figure.subplots()
    draw_image(axes, grid(pixels, columns, gap=1))
    axes.set_title(title, loc="left", fontsize=10)
    save_png(figure, path, provenance)


def inversion_strips(
    path: Path, rows: Mapping[str, Pixels], provenance: Provenance, title: str = ""
) -> None:
    """Draw one row of images per name, targets first; rows may differ in length."""
    longest = max(len(pixels) for pixels in rows.values())
    figure = new_figure(longest * CELL_INCHES + 1.4, len(rows) * CELL_INCHES + 0.45)
    panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (name, pixels) in zip(panels, rows.items(), strict=True):
        draw_strip(axes, pixels, longest, name)
    panels[0].set_title(title, loc="left", fontsize=10)
    save_png(figure, path, provenance)


def edit_strip(
    path: PngTarget, pixels: Pixels, labels: Sequence[str], provenance: Provenance, title: str = ""
) -> None:
    """Draw one edit from left to right: images (n c h w), each under its label."""
    figure = new_figure(max(len(pixels) * 1.1, 2.5), 1.5 + (0.25 if title else 0))
    panels = figure.subplots(1, len(pixels), squeeze=False)[0]
    for axes, image, label in zip(panels, pixels, labels, strict=True):
        draw_image(axes, image[None])
        axes.set_title(label, fontsize=8, color=INK)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    save_png(figure, path, provenance)


def class_edit_grid(
    path: Path, blocks: Sequence[Block], amounts: Sequence[float], provenance: Provenance
) -> None:
    """Draw one row per edit and method, from source to largest amount (the paper's figure 3)."""
    blocks_across = 2 if len(blocks) > 1 else 1
    blocks_down, columns = -(-len(blocks) // blocks_across), len(amounts) + 1
    methods = len(blocks[0].rows)
    width = blocks_across * (columns * CELL_INCHES + 1.5)
    figure = new_figure(width, blocks_down * (methods * CELL_INCHES + 0.75))
    subfigures = figure.subfigures(blocks_down, blocks_across, squeeze=False).ravel()
    for subfigure, block in zip(subfigures, blocks, strict=False):
        subfigure.suptitle(block.title, fontsize=10, fontweight="bold", color=INK)
        panels = subfigure.subplots(methods, 1, squeeze=False)[:, 0]
        for axes, (name, steps) in zip(panels, block.rows.items(), strict=True):
            draw_strip(axes, np.concatenate([block.source, steps]), columns, name)
        column_labels(panels[0], ["source", *(f"{amount:g}" for amount in amounts)])
    save_png(figure, path, provenance)


def flip_curves(path: Path, curves: Mapping[str, Sequence[Point]], provenance: Provenance) -> None:
    """Draw the flip rate, the share of edits judged as the target class, over the amount."""
    figure = new_figure(6.5, 4)
    axes = figure.subplots()
    for (name, points), colour in zip(curves.items(), COLOURS, strict=False):
        x, mean, low, high = np.array(points).T
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, mean, color=colour, linewidth=1.8, marker="o", markersize=3.5, label=name)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("amount, in differences of class means")
    axes.set_ylabel("flip rate, by the judge")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    style_axes(axes)
    save_png(figure, path, provenance)


def flip_matrix(
    path: Path,
    shares: Sequence[Sequence[float | None]],
    names: Sequence[str],
    provenance: Provenance,
    title: str = "",
) -> None:
    """Draw the flip rate of every ordered pair of classes: sources down, targets across."""
    figure = new_figure(0.55 * len(names) + 1.4, 0.5 * len(names) + 1.3)
    axes = figure.subplots()
    draw_heat_map(axes, shares, names, _percent, "Blues", vmin=0, dark=0.55)
    axes.set_xlabel("target")
    axes.set_ylabel("source")
    axes.set_title(title, loc="left", fontsize=10)
    save_png(figure, path, provenance)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if np.isfinite(share) else ""
