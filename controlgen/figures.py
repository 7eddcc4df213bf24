"""Every plot: Matplotlib without pyplot, so nothing is global; each PNG says what it is."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from controlgen.images import grid
from controlgen.types import Pixels

INK, MUTED, PAPER = "#1f2933", "#7b8794", "#ffffff"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b8794")  # Okabe-Ito
CELL_INCHES = 0.55  # side of one image in a strip
DPI = 160
Provenance = Mapping[str, Any]


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


def loss_curves(path: Path, history: Sequence[Mapping[str, float]], provenance: Provenance) -> None:
    """Critic and generator loss, score gap and penalty over images seen, lightly smoothed.

    Rows hold images_seen, critic_loss, generator_loss, gap and penalty.
    """
    figure = _figure(8, 5)
    panels = figure.subplots(2, 2, sharex=True).ravel()
    names = ("critic_loss", "generator_loss", "gap", "penalty")
    seen = np.array([row["images_seen"] for row in history]) / 1000
    for axes, name, colour in zip(panels, names, COLOURS, strict=False):
        values = np.array([row[name] for row in history])
        axes.plot(seen, values, color=colour, alpha=0.25, linewidth=0.7)
        axes.plot(seen, _smooth(values), color=colour, linewidth=1.6)
        axes.set_title(name.replace("_", " "), loc="left", fontsize=10)
        _plain_axes(axes)
    for axes in panels[2:]:
        axes.set_xlabel("real images seen, thousands")
    _save(figure, path, provenance)


def sample_grid(
    path: Path, pixels: Pixels, provenance: Provenance, columns: int = 16, title: str = ""
) -> None:
    """Images (n c h w) row by row."""
    rows = -(-len(pixels) // columns)
    figure = _figure(columns * CELL_INCHES, rows * CELL_INCHES + (0.35 if title else 0.1))
    axes = figure.subplots()
    _show(axes, grid(pixels, columns, gap=1))
    axes.set_title(title, loc="left", fontsize=10)
    _save(figure, path, provenance)


def inversion_strips(
    path: Path, rows: Mapping[str, Pixels], provenance: Provenance, title: str = ""
) -> None:
    """One row of images a map, the asked images first; rows may differ in length."""
    longest = max(len(pixels) for pixels in rows.values())
    figure = _figure(longest * CELL_INCHES + 1.4, len(rows) * CELL_INCHES + 0.45)
    panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (name, pixels) in zip(panels, rows.items(), strict=True):
        _row(axes, pixels, longest, name)
    panels[0].set_title(title, loc="left", fontsize=10)
    _save(figure, path, provenance)


def edit_strip(
    path: Path, pixels: Pixels, labels: Sequence[str], provenance: Provenance, title: str = ""
) -> None:
    """One edit from left to right, each image (n c h w) under its own label."""
    figure = _figure(max(len(pixels) * 1.1, 2.5), 1.5 + (0.25 if title else 0))
    panels = figure.subplots(1, len(pixels), squeeze=False)[0]
    for axes, image, label in zip(panels, pixels, labels, strict=True):
        _show(axes, image[None])
        axes.set_title(label, fontsize=8, color=INK)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    _save(figure, path, provenance)


def figure3(
    path: Path, blocks: Sequence[Block], amounts: Sequence[float], provenance: Provenance
) -> None:
    """The paper's figure 3: for each edit one row a method, from the source along the amounts."""
    across = 2 if len(blocks) > 1 else 1
    down, methods, columns = -(-len(blocks) // across), len(blocks[0].rows), len(amounts) + 1
    width = across * (columns * CELL_INCHES + 1.5)
    figure = _figure(width, down * (methods * CELL_INCHES + 0.75))
    outer = figure.subfigures(down, across, squeeze=False).ravel()
    for place, block in zip(outer, blocks, strict=False):
        place.suptitle(block.title, fontsize=10, fontweight="bold", color=INK)
        panels = place.subplots(methods, 1, squeeze=False)[:, 0]
        for axes, (name, steps) in zip(panels, block.rows.items(), strict=True):
            _row(axes, np.concatenate([block.source, steps]), columns, name)
        _column_labels(panels[0], ["source", *(f"{amount:g}" for amount in amounts)])
    _save(figure, path, provenance)


def flip_curves(path: Path, curves: Mapping[str, Sequence[Point]], provenance: Provenance) -> None:
    """Share of edits that became the target class over the amount, with 95 % intervals."""
    figure = _figure(6.5, 4)
    axes = figure.subplots()
    for (name, points), colour in zip(curves.items(), COLOURS, strict=False):
        x, mean, low, high = np.array(points).T
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, mean, color=colour, linewidth=1.8, marker="o", markersize=3.5, label=name)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("amount, in differences of class means")
    axes.set_ylabel("judge sees the target class")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    _plain_axes(axes)
    _save(figure, path, provenance)


def flip_matrix(
    path: Path,
    shares: Sequence[Sequence[float | None]],
    names: Sequence[str],
    provenance: Provenance,
    title: str = "",
) -> None:
    """Flip rate of every ordered pair of classes: source class down, target class across."""
    table = np.array([[np.nan if v is None else v for v in row] for row in shares], float)
    figure = _figure(0.55 * len(names) + 1.4, 0.5 * len(names) + 1.3)
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
    _save(figure, path, provenance)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path, provenance: Provenance) -> None:
    # Replaced whole or not at all; the metadata become text chunks of the PNG.
    metadata = {"synthetic": "true"}
    for key, value in provenance.items():
        metadata[key] = value if isinstance(value, str) else json.dumps(value)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", metadata=metadata)
    partial.replace(path)


def _show(axes: Axes, sheet: Pixels) -> None:
    plane = sheet[0].transpose(1, 2, 0)
    grey = plane.shape[2] == 1
    axes.imshow(
        plane[..., 0] if grey else plane,
        cmap="gray" if grey else None,
        vmin=0,
        vmax=255,
        interpolation="nearest",
    )
    axes.set_axis_off()


def _row(axes: Axes, pixels: Pixels, columns: int, name: str) -> None:
    # A short row is filled up with paper, so that columns stay under each other.
    sheet = grid(pixels, columns, gap=1)
    _show(axes, sheet)
    axes.text(
        -0.01, 0.5, name, transform=axes.transAxes, ha="right", va="center", fontsize=8, color=INK
    )


def _column_labels(axes: Axes, labels: Sequence[str]) -> None:
    for index, label in enumerate(labels):
        axes.text(
            (index + 0.5) / len(labels),
            1.06,
            label,
            transform=axes.transAxes,
            ha="center",
            va="bottom",
            fontsize=7,
            color=MUTED,
        )


def _plain_axes(axes: Axes) -> None:
    axes.grid(color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # A centred moving mean over 2 % of the curve, shorter at its ends.
    half = max(len(values) // 100, 1)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return np.asarray((sums[high] - sums[low]) / (high - low))
