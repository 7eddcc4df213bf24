"""Results of the attribute sliders: numbers, goals, tables and figures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen import figures
from controlgen.evaluation.goals import Goal
from controlgen.evaluation.markdown import format_interval, markdown_table
from controlgen.metrics.bootstrap import Interval
from controlgen.types import Pixels

Floats = NDArray[np.float64]

# Slider modes; the names are values in report.json.
PLAIN, HELD, CORRECTED = "nothing held", "others held", "others held, corrected"
PLAIN_CORRECTED = "nothing held, corrected"
STAINS_HELD, RANDOM = "stains held, corrected", "random direction"

# Goals: Spearman correlation with nothing held, diagonal share with the others held.
SPEARMAN_GOALS = {"haematoxylin": 0.9, "nuclear_area": 0.9, "thickness": 0.95}
SHARE_GOAL = 0.6


@dataclass(frozen=True)
class SliderResult:
    """One attribute in one mode; every interval is over the sources.

    `spearman`: correlation of amount and measured attribute per source, -1..1. `slope`: achieved
    sigmas per requested sigma. `usable`: the widest range of amounts around 0 in which the mean
    attribute rises. `curve`: mean change in sigmas at each amount. `identity`: audit cosine of
    source and result at one requested sigma to either side; compare it only at similar slopes.
    """

    attribute: str
    mode: str = field(metadata={"json": "way"})
    held: tuple[str, ...]
    spearman: Interval
    slope: Interval
    usable: tuple[float, float]
    identity: Interval
    curve: list[Interval]


@dataclass(frozen=True)
class Leakage:
    """How edits of each attribute change the others, in one mode.

    `matrix[i][j]`: change of attribute j in sigmas of the bank per achieved sigma of attribute i,
    the ratio of two least-squares slopes over the amounts, each the mean over sources; the
    diagonal is 1, and a row is None where the attribute could not be edited.
    `share`: rows divided by the sum of their absolute values, mean of the diagonal; a row of None
    counts as 0. Leaks of opposite sign cancel in the mean over sources: `share_per_image` is the
    share of each source's slopes, averaged afterwards.
    `into_stains`: mean share of the change of other attributes that went into the stains.
    """

    mode: str = field(metadata={"json": "way"})
    matrix: list[list[float | None]]
    share: Interval
    share_per_image: Interval
    into_stains: Interval | None


@dataclass(frozen=True)
class SliderStrip:
    """One source along the amounts: pixels (k c h w) and the edited attribute (k)."""

    attribute: str
    mode: str
    pixels: Pixels
    measured: Floats


@dataclass(frozen=True)
class SliderResults:
    """All results; `refused` lists the edits without a direction, with the model's messages."""

    names: list[str]
    amounts: list[float]
    sources: int
    corrections: int
    rows: list[SliderResult]
    leakage: list[Leakage]
    refused: list[str]
    strips: list[SliderStrip] = field(repr=False)

    def row(self, attribute: str, mode: str) -> SliderResult | None:
        """Return the result of an attribute in a mode; None if it was refused."""
        matches = (row for row in self.rows if (row.attribute, row.mode) == (attribute, mode))
        return next(matches, None)

    def leakage_of(self, mode: str) -> Leakage:
        """Return the leakage of a mode."""
        return next(row for row in self.leakage if row.mode == mode)

    @property
    def best_held(self) -> Leakage:
        """The mode with the higher share of the two that hold every other attribute."""
        return max(
            self.leakage_of(HELD), self.leakage_of(CORRECTED), key=lambda row: row.share.mean
        )

    def goals(self) -> list[Goal]:
        """Spearman correlation with nothing held, and diagonal share with the others held.

        Corrections are an argument of `edit`, so the better mode counts.
        """
        goals = []
        for name, bound in SPEARMAN_GOALS.items():
            if name in self.names:
                mode, spearman = self._best_plain(name)
                goals.append(
                    Goal(f"slider of {name}: Spearman, {mode}", "at least", bound, spearman)
                )
        best = self.best_held
        name = f"leakage: diagonal share, {best.mode}"
        return [*goals, Goal(name, "at least", SHARE_GOAL, best.share.mean)]

    def markdown(self) -> list[str]:
        """Return paragraphs and tables of the report, figures last."""
        return _markdown(self)

    def draw(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write sliders.png and leakage.png into an existing folder."""
        _draw(self, folder, provenance)

    def _best_plain(self, attribute: str) -> tuple[str, float | None]:
        rows = [self.row(attribute, mode) for mode in (PLAIN, PLAIN_CORRECTED)]
        best = max((row for row in rows if row), key=lambda row: row.spearman.mean, default=None)
        return (best.mode, best.spearman.mean) if best else (PLAIN, None)


def _markdown(results: SliderResults) -> list[str]:
    amounts = results.amounts
    parts = [
        "## Sliders: does more of an attribute change that attribute and nothing else?",
        f"{results.sources} held-out generated images, residual edits by {amounts[0]:g} to "
        f"{amounts[-1]:g} sigmas of the bank in {len(amounts)} steps; attributes are measured by "
        f"formula on the images. Corrected: {results.corrections} feedback iterations measure the "
        "generated images and correct the edited attribute and the held ones, which count twice. "
        "Slope: achieved sigmas per requested sigma. Usable: the range of amounts in which the "
        "mean attribute always rises. Cosine f2: audit cosine of source and result at one "
        "requested sigma to either side; compare it only at similar slopes.",
        markdown_table(
            ["attribute", "mode", "n", "Spearman", "slope", "usable, sigmas", "cosine f2"],
            [_slider_cells(row) for name in results.names for row in _of(results, name)],
        ),
        "### Leakage",
        "Change of each attribute per achieved sigma of the edited one: the ratio of two slopes "
        "over the amounts, each averaged over the sources. Diagonal share: rows divided by the sum "
        "of their absolute values, mean of the diagonal; 1 is perfect, equal change of all "
        f"{len(results.names)} attributes gives {1 / len(results.names):.2f}. Leaks of opposite "
        "sign cancel in the mean, so the share of single images is given too. A share can be high "
        "where the slope is small. Into stains: share of the requested change of other attributes "
        "that went into haematoxylin or eosin.",
        markdown_table(
            ["mode", "n", "diagonal share", "diagonal share of single images", "into stains"],
            [
                [row.mode, str(row.share.n)]
                + [format_interval(v) for v in (row.share, row.share_per_image, row.into_stains)]
                for row in results.leakage
            ],
        ),
    ]
    for mode in (PLAIN, results.best_held.mode):
        head = [f"edited, {mode}", *results.names]
        rows = zip(results.names, results.leakage_of(mode).matrix, strict=True)
        cells = [[name, *("-" if v is None else f"{v:.2f}" for v in row)] for name, row in rows]
        parts.append(markdown_table(head, cells))
    if results.refused:
        parts.append("Without a direction, and counted as 0: " + "; ".join(results.refused) + ".")
    return [
        *parts,
        "![One source along every slider; dotted: the requested change](sliders.png)",
        "![Leakage matrices, before and with attributes held](leakage.png)",
    ]


def _of(results: SliderResults, attribute: str) -> list[SliderResult]:
    return [row for row in results.rows if row.attribute == attribute]


def _slider_cells(row: SliderResult) -> list[str]:
    low, high = row.usable
    measures = [
        format_interval(row.spearman),
        format_interval(row.slope, 2),
        f"{low:g} to {high:g}",
    ]
    return [row.attribute, row.mode, str(row.spearman.n), *measures, format_interval(row.identity)]


def _draw(results: SliderResults, folder: Path, provenance: Mapping[str, Any]) -> None:
    # Strips of two modes per attribute; the curves of all modes but the control.
    blocks: list[figures.SliderRow] = []
    for name in results.names:
        strips = {
            strip.mode: figures.SliderImages(strip.pixels, [f"{v:.3g}" for v in strip.measured])
            for strip in results.strips
            if strip.attribute == name and strip.mode in (PLAIN, CORRECTED)
        }
        curves = {
            row.mode: [
                figures.Point(a, *m[:3]) for a, m in zip(results.amounts, row.curve, strict=True)
            ]
            for row in _of(results, name)
            if row.mode != RANDOM
        }
        if strips:
            blocks.append(figures.SliderRow(name.replace("_", " "), strips, curves))
    figures.slider_rows(folder / "sliders.png", blocks, results.amounts, provenance)
    tables = {
        f"{row.mode}\ndiagonal share {row.share.mean:.2f}": row.matrix
        for row in results.leakage
        if row.mode != RANDOM
    }
    names = [name.replace("_", " ") for name in results.names]
    figures.leakage_maps(folder / "leakage.png", tables, names, provenance)
