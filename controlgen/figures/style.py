"""What every plot is made with: Matplotlib without pyplot, so nothing is global."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from controlgen.images import Target, grid, atomic_target
from controlgen.types import Pixels

INK, MUTED, PAPER = "#1f2933", "#7b8794", "#ffffff"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b8794")  # Okabe-Ito
CELL_INCHES = 0.55  # side of one image in a strip
DPI = 160
Provenance = Mapping[str, Any]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, target: Target, provenance: Provenance) -> None:
    """Write a PNG that says what it is: `provenance` and `synthetic` become its text chunks."""
    metadata = {"synthetic": "true"}
    for key, value in provenance.items():
        metadata[key] = value if isinstance(value, str) else json.dumps(value)
    with atomic_target(target) as output:
        figure.savefig(output, format="png", metadata=metadata)


def show(axes: Axes, sheet: Pixels, **placed: Any) -> None:
    """Draw one image (1 c h w) pixel by pixel; `placed` is where, in imshow's own words."""
    plane = sheet[0].transpose(1, 2, 0)
    grey = plane.shape[2] == 1
    axes.imshow(
        plane[..., 0] if grey else plane,
        cmap="gray" if grey else None,
        vmin=0,
        vmax=255,
        interpolation="nearest",
        **placed,
    )
    axes.set_axis_off()


def strip(axes: Axes, pixels: Pixels, columns: int, name: str) -> None:
    """Draw images (n c h w) side by side, named at the left."""
    # A short row is filled up with paper, so that columns stay under each other.
    sheet = grid(pixels, columns, gap=1)
    show(axes, sheet)
    axes.text(
        -0.01, 0.5, name, transform=axes.transAxes, ha="right", va="center", fontsize=8, color=INK
    )


def column_labels(axes: Axes, labels: Sequence[str], below: bool = False) -> None:
    """Small labels over the columns of a strip, or values below them."""
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


def plain_axes(axes: Axes) -> None:
    """A light grid and no frame."""
    axes.grid(color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A centred moving mean over 2 % of the curve, shorter at its ends."""
    half = max(len(values) // 100, 1)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return np.asarray((sums[high] - sums[low]) / (high - low))
