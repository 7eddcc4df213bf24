"""What sliders of measured attributes did: the numbers, the goals, the tables and the pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen import figures
from controlgen.evaluation.goals import Target
from controlgen.evaluation.markdown import shown, table
from controlgen.metrics.bootstrap import Interval
from controlgen.types import Pixels

Floats = NDArray[np.float64]

# Ways to move a slider.
PLAIN, HELD, CORRECTED = "nothing held", "others held", "others held, corrected"
PLAIN_CORRECTED = "nothing held, corrected"
STAINS_HELD, RANDOM = "stains held, corrected", "random direction"

# Spearman's correlation that a slider shall reach with nothing held, and the diagonal share with
# the others held.
SPEARMAN_GOALS = {"haematoxylin": 0.9, "nuclear_area": 0.9, "thickness": 0.95}
SHARE_GOAL = 0.6


@dataclass(frozen=True)
class Slider:
    """One attribute moved in one way; every interval is over the sources.

    `spearman` of amount and measured attribute per source, -1..1. `slope` in sigmas obtained per
    sigma asked. `usable`: the widest range of amounts round 0 in which the mean attribute rises.
    `curve`: the mean change in sigmas at each amount. `identity`: audit cosine of source and
    result at one asked sigma to either side; compare it only where the slopes are alike.
    """

    attribute: str
    way: str
    held: tuple[str, ...]
    spearman: Interval
    slope: Interval
    usable: tuple[float, float]
    identity: Interval
    curve: list[Interval]


@dataclass(frozen=True)
class Leakage:
    """Where the movement went, of all attributes moved in one way.

    `matrix[i][j]`: change of attribute j in sigmas of the bank per sigma of attribute i obtained.
    It is the ratio of two least-squares slopes over the asked amounts, each the mean over sources;
    the diagonal is 1, and a row is None where the attribute could not be moved.
    `share`: rows divided by the sum of their absolute values, mean of the diagonal; a row that
    could not be moved counts as 0. In the mean over sources, leaks of opposite sign cancel:
    `share_per_image` is the same share of each source's own slopes, averaged over sources after.
    `into_stains`: mean share of the movement asked of other attributes that went into the stains.
    """

    way: str
    matrix: list[list[float | None]]
    share: Interval
    share_per_image: Interval
    into_stains: Interval | None


@dataclass(frozen=True)
class Walk:
    """One source along the amounts in one way: pixels (k c h w), and the moved attribute (k)."""

    attribute: str
    way: str
    pixels: Pixels
    measured: Floats


@dataclass(frozen=True)
class Sliders:
    """Everything found. `refused` says which edits had no direction, in the model's own words."""

    names: list[str]
    amounts: list[float]
    sources: int
    corrections: int
    rows: list[Slider]
    leakage: list[Leakage]
    refused: list[str]
    walks: list[Walk] = field(repr=False)

    def row(self, attribute: str, way: str) -> Slider | None:
        """The slider of an attribute in a way; None where it was refused."""
        found = (row for row in self.rows if (row.attribute, row.way) == (attribute, way))
        return next(found, None)

    def leak(self, way: str) -> Leakage:
        """The leakage of a way."""
        return next(row for row in self.leakage if row.way == way)

    @property
    def best_held(self) -> Leakage:
        """Of the two ways that hold every other attribute, the one with the higher share."""
        return max(self.leak(HELD), self.leak(CORRECTED), key=lambda row: row.share.mean)

    def targets(self) -> list[Target]:
        """The goals: sliders in order with nothing held, and a diagonal share with the others held.

        Corrections are an argument of `edit`, so with and without them the better way counts.
        """
        goals = []
        for name, bound in SPEARMAN_GOALS.items():
            if name in self.names:
                way, found = self._best_plain(name)
                called = f"slider of {name}: Spearman, {way}"
                goals.append(Target(called, "at least", bound, found))
        best = self.best_held
        share = f"leakage: diagonal share, {best.way}"
        return [*goals, Target(share, "at least", SHARE_GOAL, best.share.mean)]

    def markdown(self) -> list[str]:
        """Paragraphs and tables of the report, pictures last."""
        return _markdown(self)

    def draw(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write sliders.png and leakage.png into an existing folder."""
        _draw(self, folder, provenance)

    def _best_plain(self, attribute: str) -> tuple[str, float | None]:
        rows = [self.row(attribute, way) for way in (PLAIN, PLAIN_CORRECTED)]
        found = [(row.spearman.mean, row.way) for row in rows if row]
        if not found:
            return PLAIN, None
        value, way = max(found, key=lambda one: one[0])
        return way, value


def _markdown(found: Sliders) -> list[str]:
    parts = [
        "## Sliders: does asking for more of an attribute give more of it, and of nothing else?",
        f"{found.sources} held-out generated images, residual edits by {found.amounts[0]:g} to "
        f"{found.amounts[-1]:g} sigmas of the bank in {len(found.amounts)} steps, measured by "
        f"formula on the pictures. Corrected: {found.corrections} rounds that measure the pictures "
        "made, and ask for what is missing of the moved attribute and for the held ones back, "
        "these counted twice. Slope: sigmas obtained per sigma asked. Usable: the range "
        "of amounts in which the mean attribute always rises. Cosine f2: audit cosine of source "
        "and result at one asked sigma to either side; compare it where slopes are alike.",
        table(
            ["attribute", "way", "n", "Spearman", "slope", "usable, sigmas", "cosine f2"],
            [_slider_cells(row) for name in found.names for row in _of(found, name)],
        ),
        "### Leakage",
        "Change of each attribute per sigma obtained of the moved one: the ratio of two slopes "
        "over the amounts, each averaged over the sources. Diagonal share: rows divided by the sum "
        "of their absolute values, mean of the diagonal; 1 is perfect, equal movement of all "
        f"{len(found.names)} gives {1 / len(found.names):.2f}. In the mean, leaks of opposite sign "
        "cancel, so the share of single images is given too. A share can be high where little "
        "moves: read it beside the slopes above. Into stains: share of what was asked of other "
        "attributes that moved haematoxylin or eosin.",
        table(
            ["way", "n", "diagonal share", "diagonal share of single images", "into stains"],
            [
                [row.way, str(row.share.n)]
                + [shown(value) for value in (row.share, row.share_per_image, row.into_stains)]
                for row in found.leakage
            ],
        ),
    ]
    for way in (PLAIN, found.best_held.way):
        head = [f"moved, {way}", *found.names]
        rows = zip(found.names, found.leak(way).matrix, strict=True)
        parts.append(table(head, [[name, *(_number(v) for v in row)] for name, row in rows]))
    if found.refused:
        parts.append("Without a direction, and counted as 0: " + "; ".join(found.refused) + ".")
    return [
        *parts,
        "![One source along every slider; dotted: what was asked](sliders.png)",
        "![Leakage matrices, before and with attributes held](leakage.png)",
    ]


def _of(found: Sliders, attribute: str) -> list[Slider]:
    return [row for row in found.rows if row.attribute == attribute]


def _slider_cells(row: Slider) -> list[str]:
    low, high = row.usable
    measures = [shown(row.spearman), shown(row.slope, 2), f"{low:g} to {high:g}"]
    return [row.attribute, row.way, str(row.spearman.n), *measures, shown(row.identity)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _draw(found: Sliders, folder: Path, provenance: Mapping[str, Any]) -> None:
    # Images of two ways an attribute are enough to see; the curves show all but chance.
    blocks: list[figures.SliderRow] = []
    for name in found.names:
        steps = {
            walk.way: figures.Steps(walk.pixels, [f"{value:.3g}" for value in walk.measured])
            for walk in found.walks
            if walk.attribute == name and walk.way in (PLAIN, CORRECTED)
        }
        curves = {
            row.way: [
                figures.Point(a, *m[:3]) for a, m in zip(found.amounts, row.curve, strict=True)
            ]
            for row in _of(found, name)
            if row.way != RANDOM
        }
        if steps:
            blocks.append(figures.SliderRow(name.replace("_", " "), steps, curves))
    figures.slider_rows(folder / "sliders.png", blocks, found.amounts, provenance)
    tables = {
        f"{row.way}\ndiagonal share {row.share.mean:.2f}": row.matrix
        for row in found.leakage
        if row.way != RANDOM
    }
    names = [name.replace("_", " ") for name in found.names]
    figures.leakage_maps(folder / "leakage.png", tables, names, provenance)
