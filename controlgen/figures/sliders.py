"""Plots of sliders: a picture's way along the amounts, and where the movement leaks to."""

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
    PAPER,
    Provenance,
    column_labels,
    new_figure,
    plain_axes,
    save,
    strip,
)
from controlgen.types import Pixels

IMAGE_INCHES = 0.8  # side of one image along a slider
CURVE_INCHES = 2.6  # width of the curve beside the images

Table = Sequence[Sequence[float | None]]  # a x a; None where nothing was measured


class Steps(NamedTuple):
    """Images along the amounts (k c h w) and what was measured on each (k), as text."""

    pixels: Pixels
    measured: Sequence[str]


class SliderRow(NamedTuple):
    """One attribute: its title, the ways shown as images, and every way's curve."""

    title: str
    steps: Mapping[str, Steps]
    curves: Mapping[str, Sequence[Point]]


def slider_rows(
    path: Path, rows: Sequence[SliderRow], amounts: Sequence[float], provenance: Provenance
) -> None:
    """One block an attribute: one row of images a way, measured values below, the curve beside.

    Amounts and curves are in bank sigmas; a grey line in each curve says what was asked.
    """
    lines = [max(len(row.steps), 1) for row in rows]
    heights = [0.45 + 1.3 * IMAGE_INCHES * count for count in lines]
    width = len(amounts) * IMAGE_INCHES + CURVE_INCHES + 1.3
    figure = new_figure(width, sum(heights))
    places = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    ways = dict.fromkeys(way for row in rows for way in row.curves)
    colours = dict(zip(ways, COLOURS, strict=False))
    for index, (place, row) in enumerate(zip(places, rows, strict=True)):
        curve = _slider(place, row, amounts, colours)
        if index == 0:
            curve.legend(frameon=False, fontsize=6)
    save(figure, path, provenance)


def leakage_maps(
    path: Path, tables: Mapping[str, Table], names: Sequence[str], provenance: Provenance
) -> None:
    """Leakage matrices (a a) side by side under their titles.

    The moved attribute goes down, the measured one across; colours end at -1 and 1.
    """
    side = 0.55 * len(names)
    figure = new_figure(len(tables) * (side + 0.5) + 1.3, side + 1.7)
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for index, (axes, (title, table)) in enumerate(zip(panels, tables.items(), strict=True)):
        _heat_map(axes, table, names)
        axes.set_title(title, loc="left", fontsize=9)
        axes.set_yticks(range(len(names)), names if index == 0 else [""] * len(names))
    panels[0].set_ylabel("moved by one sigma obtained")
    figure.supxlabel("change in bank sigmas", fontsize=9)
    save(figure, path, provenance)


def _slider(
    place: SubFigure, row: SliderRow, amounts: Sequence[float], colours: Mapping[str, str]
) -> Axes:
    # Images at the left; the curve at the right is as high as all rows of images.
    place.suptitle(row.title, x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK)
    ratios = (len(amounts) * IMAGE_INCHES, CURVE_INCHES)
    cells = place.add_gridspec(max(len(row.steps), 1), 2, width_ratios=ratios)
    for index, (way, steps) in enumerate(row.steps.items()):
        axes = place.add_subplot(cells[index, 0])
        strip(axes, steps.pixels, len(amounts), way)
        column_labels(axes, steps.measured, below=True)
        if index == 0:
            column_labels(axes, [f"{amount:+g}" if amount else "0" for amount in amounts])

    # The mean obtained against what was asked.
    axes = place.add_subplot(cells[:, 1])
    axes.plot(amounts, amounts, color=MUTED, linewidth=0.8, linestyle=":", label="asked")
    for way, points in row.curves.items():
        x, mean, low, high = np.array(points).T
        axes.fill_between(x, low, high, color=colours[way], alpha=0.15, linewidth=0)
        axes.plot(x, mean, color=colours[way], linewidth=1.4, marker="o", markersize=2, label=way)
    axes.set_xlabel("asked, sigmas", fontsize=7)
    axes.set_ylabel("obtained, sigmas", fontsize=7)
    axes.tick_params(labelsize=7)
    plain_axes(axes)
    return axes


def _heat_map(axes: Axes, table: Table, names: Sequence[str]) -> None:
    values = np.array([[np.nan if v is None else v for v in row] for row in table], float)
    axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
    for (row, column), value in np.ndenumerate(values):
        shown = f"{value:.2f}" if np.isfinite(value) else "-"
        colour = PAPER if abs(value) > 0.6 else INK
        axes.text(column, row, shown, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.tick_params(length=0, labelsize=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
