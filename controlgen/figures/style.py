"""Shared parts of all plots: Matplotlib without pyplot, so that nothing is global."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from controlgen.images import PngTarget, atomic_target, grid
from controlgen.types import Pixels

INK, MUTED, PAPER = "#1f2933", "#7b8794", "#ffffff"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b8794")  # Okabe-Ito
CELL_INCHES = 0.55  # side of one image in a strip
DPI = 160
Provenance = Mapping[str, Any]


def new_figure(width: float, height: float) -> Figure:
    """Create an empty figure of `width` x `height` inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, target: PngTarget, provenance: Provenance) -> None:
    """Write a PNG whose text chunks hold `synthetic` and `provenance`."""
    metadata = {"synthetic": "true"}
    for key, value in provenance.items():
        metadata[key] = value if isinstance(value, str) else json.dumps(value)
    with atomic_target(target) as output:
        figure.savefig(output, format="png", metadata=metadata)


def draw_image(axes: Axes, image: Pixels, **placement: Any) -> None:
    """Draw one image (1 c h w) pixel by pixel; `placement` goes to `imshow`."""
    plane = image[0].transpose(1, 2, 0)
    grey = plane.shape[2] == 1
    axes.imshow(
        plane[..., 0] if grey else plane,
        cmap="gray" if grey else None,
        vmin=0,
        vmax=255,
        interpolation="nearest",
        **placement,
    )
    axes.set_axis_off()


def draw_strip(axes: Axes, pixels: Pixels, columns: int, name: str) -> None:
    """Draw images (n c h w) side by side with `name` at the left."""
    # `grid` pads a short row with blank cells, so that columns stay aligned.
    draw_image(axes, grid(pixels, columns, gap=1))
    axes.text(
        -0.01, 0.5, name, transform=axes.transAxes, ha="right", va="center", fontsize=8, color=INK
    )


def draw_heat_map(
    axes: Axes,
    table: Sequence[Sequence[float | None]],
    names: Sequence[str],
    text: Callable[[float], str],
    cmap: str,
    vmin: float,
    dark: float,
) -> None:
    """Draw a table (a a) up to 1 with `text` in each cell, light above `dark`; None becomes NaN."""
    values = np.array([[np.nan if v is None else v for v in row] for row in table], float)
    axes.imshow(values, cmap=cmap, vmin=vmin, vmax=1)
    for (row, column), value in np.ndenumerate(values):
        colour = PAPER if abs(value) > dark else INK
        axes.text(column, row, text(value), ha="center", va="center", fontsize=7.5, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def column_labels(axes: Axes, labels: Sequence[str], below: bool = False) -> None:
    """Write small labels above the columns of a strip, or values below them."""
    for index, label in enumerate(labels):
        axes.text(
            (index + 0.5) / len(labels),
            -0.03 if below else 1.06,
            label,
            transform=axes.transAxes,
            ha="center",
            va="top" if below else "bottom",
            fontsize=7,
            color=INK if below else MUTED,
        )


def style_axes(axes: Axes) -> None:
    """Add a light grid; remove the top and right spines."""
    axes.grid(color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a centred moving mean over 2 % of the curve, with shorter windows at its ends."""
    half = max(len(values) // 100, 1)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return np.asarray((sums[high] - sums[low]) / (high - low))
