"""What steps or pairs buy, and whether probabilities of reaching a target are right."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from controlgen.figures.protocol import Point
from controlgen.figures.style import COLOURS, Provenance, new_figure, plain_axes, save


def quality_curves(
    path: Path,
    panels: Mapping[str, Mapping[str, Sequence[Point]]],
    along: str,
    provenance: Provenance,
    ends: Mapping[str, Mapping[str, float]] | None = None,
    logarithmic: bool = False,
) -> None:
    """One panel a measure: named curves over what they lie `along`, with 95 % intervals.

    `ends` are, of the same panels and curves, what they should come to: dashed lines.
    """
    figure = new_figure(3.6 * len(panels), 3.4)
    for axes, (measure, curves) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for (name, points), colour in zip(curves.items(), COLOURS, strict=False):
            x, mean, low, high = zip(*points, strict=True)
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(x, mean, color=colour, linewidth=1.8, marker="o", markersize=3.5, label=name)
            if ends and name in ends.get(measure, {}):
                axes.axhline(ends[measure][name], color=colour, linewidth=1, linestyle="--")
        axes.set_title(measure, loc="left", fontsize=10)
        axes.set_xlabel(along)
        if logarithmic:
            axes.set_xscale("log")
        axes.legend(frameon=False, fontsize=8)
        plain_axes(axes)
    save(figure, path, provenance)


def reliability_plot(
    path: Path, bins: Sequence[Point], counts: Sequence[int], provenance: Provenance
) -> None:
    """Observed share over mean predicted probability of each bin, and how many fell into it."""
    figure = new_figure(4.2, 4.6)
    above, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    x, mean, low, high = (list(values) for values in zip(*bins, strict=True))
    above.plot([0, 1], [0, 1], color=COLOURS[-1], linewidth=1, linestyle="--")
    reach = [
        [m - one for m, one in zip(mean, low, strict=True)],
        [one - m for m, one in zip(mean, high, strict=True)],
    ]
    above.errorbar(x, mean, yerr=reach, fmt="o", color=COLOURS[0], capsize=2, markersize=4)
    above.set_ylabel("share that was near")
    above.set_ylim(-0.02, 1.02)
    below.bar(x, counts, width=0.05, color=COLOURS[0])
    below.set_ylabel("targets")
    below.set_xlabel("reachability")
    for axes in (above, below):
        plain_axes(axes)
    save(figure, path, provenance)
