"""Quality curves, and the reliability of the confidence score."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from controlgen.figures.protocol import Point
from controlgen.figures.style import COLOURS, Provenance, new_figure, save_png, style_axes


def quality_curves(
    path: Path,
    panels: Mapping[str, Mapping[str, Sequence[Point]]],
    x_label: str,
    provenance: Provenance,
    references: Mapping[str, Mapping[str, float]] | None = None,
    logarithmic: bool = False,
) -> None:
    """Draw one panel per measure: named curves with 95 % intervals.

    `references` holds a level for a curve, by panel and curve name, drawn as a dashed line.
    """
    figure = new_figure(3.6 * len(panels), 3.4)
    for axes, (measure, curves) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for (name, points), colour in zip(curves.items(), COLOURS, strict=False):
            x, mean, low, high = zip(*points, strict=True)
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(x, mean, color=colour, linewidth=1.8, marker="o", markersize=3.5, label=name)
            if references and name in references.get(measure, {}):
                axes.axhline(references[measure][name], color=colour, linewidth=1, linestyle="--")
        axes.set_title(measure, loc="left", fontsize=10)
        axes.set_xlabel(x_label)
        if logarithmic:
            axes.set_xscale("log")
        axes.legend(frameon=False, fontsize=8)
        style_axes(axes)
    save_png(figure, path, provenance)


def reliability_plot(
    path: Path, bins: Sequence[Point], counts: Sequence[int], provenance: Provenance
) -> None:
    """Draw observed share over mean predicted probability per bin, and the counts of the bins."""
    figure = new_figure(4.2, 4.6)
    above, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    x, mean, low, high = (list(values) for values in zip(*bins, strict=True))
    above.plot([0, 1], [0, 1], color=COLOURS[-1], linewidth=1, linestyle="--")
    errors = [np.subtract(mean, low), np.subtract(high, mean)]
    above.errorbar(x, mean, yerr=errors, fmt="o", color=COLOURS[0], capsize=2, markersize=4)
    above.set_ylabel("observed share near")
    above.set_ylim(-0.02, 1.02)
    below.bar(x, counts, width=0.05, color=COLOURS[0])
    below.set_ylabel("targets")
    below.set_xlabel("reachability")
    for axes in (above, below):
        style_axes(axes)
    save_png(figure, path, provenance)
