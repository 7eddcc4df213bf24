"""Plots of attribute sliders: images and curves along the amounts, and leakage matrices."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from controlgen.figures.protocol import Point
from controlgen.figures.style import (
    COLOURS,
    INK,
    MUTED,
    Provenance,
    column_labels,
    draw_heat_map,
    draw_strip,
    new_figure,
    save_png,
    style_axes,
)
from controlgen.types import Pixels

IMAGE_INCHES = 0.8  # side of one image
CURVE_INCHES = 2.6  # width of the curve panel

LeakageTable = Sequence[Sequence[float | None]]  # (a a), None where nothing was measured


class SliderImages(NamedTuple):
    """Images along the amounts (k c h w) and the measured value of each (k) as text."""

    pixels: Pixels
    measured: Sequence[str]


class SliderRow(NamedTuple):
    """One attribute: its title, and image strips and curves by slider mode."""

    title: str
    strips: Mapping[str, SliderImages]
    curves: Mapping[str, Sequence[Point]]


def slider_rows(
    path: Path, rows: Sequence[SliderRow], amounts: Sequence[float], provenance: Provenance
) -> None:
    """Draw one block per attribute: a row of images per mode with measured values, and the curves.

    Amounts and curves are in bank sigmas; the grey line of a curve panel is the requested change.
    """
    lines = [max(len(row.strips), 1) for row in rows]
    heights = [0.45 + 1.3 * IMAGE_INCHES * count for count in lines]
    width = len(amounts) * IMAGE_INCHES + CURVE_INCHES + 1.3
    figure = new_figure(width, sum(heights))
    subfigures = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    modes = dict.fromkeys(mode for row in rows for mode in row.curves)
    colours = dict(zip(modes, COLOURS, strict=False))
    for index, (subfigure, row) in enumerate(zip(subfigures, rows, strict=True)):
        curve_axes = _draw_slider(subfigure, row, amounts, colours)
        if index == 0:
            curve_axes.legend(frameon=False, fontsize=6)
    save_png(figure, path, provenance)


def leakage_maps(
    path: Path, tables: Mapping[str, LeakageTable], names: Sequence[str], provenance: Provenance
) -> None:
    """Draw leakage matrices (a a) side by side under their titles.

    Rows are the edited attribute, columns the measured one; colours end at -1 and 1.
    """
    side = 0.55 * len(names)
    figure = new_figure(len(tables) * (side + 0.5) + 1.3, side + 1.7)
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for index, (axes, (title, table)) in enumerate(zip(panels, tables.items(), strict=True)):
        draw_heat_map(axes, table, names, _two_digits, "RdBu_r", vmin=-1, dark=0.6)
        axes.tick_params(labelsize=8)
        axes.set_title(title, loc="left", fontsize=9)
        axes.set_yticks(range(len(names)), names if index == 0 else [""] * len(names))
    panels[0].set_ylabel("edited attribute, one sigma achieved")
    figure.supxlabel("change in bank sigmas", fontsize=9)
    save_png(figure, path, provenance)


def _draw_slider(
    subfigure: SubFigure, row: SliderRow, amounts: Sequence[float], colours: Mapping[str, str]
) -> Axes:
    # Images at the left; the curve at the right spans all their rows.
    subfigure.suptitle(row.title, x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK)
    ratios = (len(amounts) * IMAGE_INCHES, CURVE_INCHES)
    cells = subfigure.add_gridspec(max(len(row.strips), 1), 2, width_ratios=ratios)
    for index, (mode, images) in enumerate(row.strips.items()):
        axes = subfigure.add_subplot(cells[index, 0])
        draw_strip(axes, images.pixels, len(amounts), mode)
        column_labels(axes, images.measured, below=True)
        if index == 0:
            column_labels(axes, [f"{amount:+g}" if amount else "0" for amount in amounts])

    # The mean achieved change over the requested one.
    axes = subfigure.add_subplot(cells[:, 1])
    axes.plot(amounts, amounts, color=MUTED, linewidth=0.8, linestyle=":", label="requested")
    for mode, points in row.curves.items():
        x, mean, low, high = np.array(points).T
        axes.fill_between(x, low, high, color=colours[mode], alpha=0.15, linewidth=0)
        axes.plot(x, mean, color=colours[mode], linewidth=1.4, marker="o", markersize=2, label=mode)
    axes.set_xlabel("requested, sigmas", fontsize=7)
    axes.set_ylabel("achieved, sigmas", fontsize=7)
    axes.tick_params(labelsize=7)
    style_axes(axes)
    return axes


def _two_digits(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "-"
