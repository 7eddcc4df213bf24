"""Bar plots that compare feature spaces."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from controlgen.figures.style import (
    COLOURS,
    INK,
    MUTED,
    PAPER,
    Provenance,
    new_figure,
    save_png,
    style_axes,
)

MIN_INSIDE = 0.3  # share of the panel from which a bar holds its number


class Bar(NamedTuple):
    """A value 0..1 with its interval; below 0 only the number is visible."""

    mean: float
    low: float
    high: float


def space_bars(
    path: Path,
    names: Sequence[str],
    panels: Mapping[str, Mapping[str, Bar]],
    controls: Collection[str],
    provenance: Provenance,
) -> None:
    """Draw one panel per measure and one bar per measured name; controls are grey."""
    columns = min(3, len(panels)) or 1
    rows = -(-len(panels) // columns) or 1
    figure = new_figure(1.6 + 3.2 * columns, rows * (0.6 + 0.26 * len(names)))
    all_axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    positions = {name: -index for index, name in enumerate(names)}
    for axes, (title, bars) in zip(all_axes, panels.items(), strict=False):
        for name, bar in bars.items():
            colour = MUTED if name in controls else COLOURS[0]
            axes.barh(positions[name], bar.mean, color=colour, height=0.7)
            axes.plot([bar.low, bar.high], [positions[name]] * 2, color=INK, linewidth=1.4)
            inside = bar.low > MIN_INSIDE
            x = 0.02 if inside else max(bar.high, 0) + 0.02
            text_colour = PAPER if inside else INK
            label = f"{bar.mean:.3f}"
            axes.text(x, positions[name], label, va="center", fontsize=7, color=text_colour)
        axes.set_title(title, loc="left", fontsize=9)
        axes.set_xlim(0, 1)
        style_axes(axes)
    for axes in all_axes:
        axes.set_yticks(list(positions.values()), list(positions), fontsize=8)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    save_png(figure, path, provenance)
