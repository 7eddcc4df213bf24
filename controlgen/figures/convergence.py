"""Training diagnostics side by side, and clouds of points."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen.figures.style import COLOURS, MUTED, Provenance, new_figure, save_png, style_axes

ObservationRows = Sequence[Mapping[str, Any]]  # observations of one run, in order
STYLES = ("-", "--", ":")  # for more members than colours
PANELS = (
    ("distance", "Frechet distance, averaged generator", True),
    ("distance_now", "Frechet distance, plain generator", True),
    ("spread", "distance of two samples / of two reals", False),
    ("precision", "precision", False),
    ("coverage", "coverage", False),
    ("critic_real", "critic: output at reals (its drift)", False),
    ("gap", "critic: output at reals - at samples", False),
    ("slope_real", "critic: slope at reals", True),
    ("slope_fake", "critic: slope at samples", True),
)
COLUMNS = 3
FLOORS = {
    "distance": "floor",
    "distance_now": "floor",
    "precision": "precision_floor",
    "coverage": "coverage_floor",
}


def training_diagnostics(
    path: Path, members: Mapping[str, Sequence[ObservationRows]], provenance: Provenance
) -> None:
    """Draw one line per run and one colour per member; grey lines are the floors of real images.

    Rows hold the fields of `controlgen.evaluation.convergence.Observation`.
    """
    figure = new_figure(9, 7.4)
    panels = figure.subplots(len(PANELS) // COLUMNS, COLUMNS, sharex=True).ravel()
    for axes, (field, title, logarithmic) in zip(panels, PANELS, strict=True):
        for index, (member, runs) in enumerate(members.items()):
            colour = COLOURS[index % len(COLOURS)]
            style = STYLES[index // len(COLOURS) % len(STYLES)]
            for number, run in enumerate(runs):
                axes.plot(
                    [row["images_seen"] / 1000 for row in run],
                    [_value(row, field) for row in run],
                    color=colour,
                    linestyle=style,
                    linewidth=1.3,
                    label=member if number == 0 else None,
                )
        floors = {
            row[FLOORS[field]]
            for runs in members.values()
            for run in runs
            for row in run
            if field in FLOORS
        }
        for floor in floors:
            axes.axhline(floor, color=MUTED, linewidth=0.8, linestyle=":")
        if logarithmic:
            axes.set_yscale("log")
        axes.set_title(title, loc="left", fontsize=8)
        axes.tick_params(which="both", labelsize=7)
        style_axes(axes)
    for axes in panels[-COLUMNS:]:
        axes.set_xlabel("real images seen, thousands", fontsize=8)
    if len(members) > 1:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=6, fontsize=8, frameon=False
        )
    save_png(figure, path, provenance)


def point_clouds(
    path: Path, rows: Mapping[str, Mapping[str, NDArray[np.float64]]], provenance: Provenance
) -> None:
    """Draw points (n 2) in -1..1: one row of panels per name, one titled panel per cloud."""
    columns = max(len(clouds) for clouds in rows.values())
    figure = new_figure(1.75 * columns, 2.0 * len(rows))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for panels, clouds in zip(grid, rows.values(), strict=True):
        for axes in panels[len(clouds) :]:
            axes.set_visible(False)
        for axes, (title, points) in zip(panels, clouds.items(), strict=False):
            axes.scatter(points[:, 0], points[:, 1], s=1.5, color=COLOURS[0], linewidths=0)
            axes.set_xlim(-1.1, 1.1)
            axes.set_ylim(-1.1, 1.1)
            axes.set_aspect("equal")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(title.replace(": ", "\n"), fontsize=7)
    save_png(figure, path, provenance)


def _value(row: Mapping[str, Any], field: str) -> float:
    if field == "gap":
        return float(row["critic_real"] - row["critic_fake"])
    value = float(row[field])
    return value if np.isfinite(value) else np.nan
