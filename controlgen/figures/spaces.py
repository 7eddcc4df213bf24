"""Plots that set feature spaces side by side."""

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
    plain_axes,
    save,
)

WIDE_ENOUGH = 0.3  # of a panel: a bar that holds its number


class Bar(NamedTuple):
    """A value 0..1 with the ends of its interval; below 0 its number alone is seen."""

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
    """One panel a measure, one bar for each name that was measured; controls are grey."""
    columns = min(3, len(panels)) or 1
    rows = -(-len(panels) // columns) or 1
    figure = new_figure(1.6 + 3.2 * columns, rows * (0.6 + 0.26 * len(names)))
    axes_of = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    places = {name: -at for at, name in enumerate(names)}
    for axes, (title, bars) in zip(axes_of, panels.items(), strict=False):
        for name, bar in bars.items():
            hue = MUTED if name in controls else COLOURS[0]
            axes.barh(places[name], bar.mean, color=hue, height=0.7)
            axes.plot([bar.low, bar.high], [places[name]] * 2, color=INK, linewidth=1.4)
            inside = bar.low > WIDE_ENOUGH
            at = 0.02 if inside else max(bar.high, 0) + 0.02
            ink = PAPER if inside else INK
            axes.text(at, places[name], f"{bar.mean:.3f}", va="center", fontsize=7, color=ink)
        axes.set_title(title, loc="left", fontsize=9)
        axes.set_xlim(0, 1)
        plain_axes(axes)
    for axes in axes_of:
        axes.set_yticks(list(places.values()), list(places), fontsize=8)
    for axes in axes_of[len(panels) :]:
        axes.set_visible(False)
    save(figure, path, provenance)
