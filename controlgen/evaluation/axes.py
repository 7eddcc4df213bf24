"""What axes that need no label do: pictures along each, and what moves, in sigmas of the bank.

Every axis is walked on the same seeded samples; beside the axes of a family stands a random one of
the same length, which shows what any direction does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from controlgen import rng
from controlgen.attributes import Attributes, Strokes
from controlgen.editing import Editor, Samples
from controlgen.editing.attribute_model import in_sigmas
from controlgen.editing.directions.axes import Axes
from controlgen.editing.directions.axis_effects import mean_change
from controlgen.editing.feature_pca import Statistics
from controlgen.evaluation.markdown import shown, table
from controlgen.figures import AxisRow
from controlgen.metrics.bootstrap import Interval, interval
from controlgen.types import Pixels

Floats = NDArray[np.float64]
AMOUNTS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # sigmas that are pictured
STEP = 1.0  # sigmas to either side between which a change is measured
RANDOM = "random"
SEEN = 0.005  # sigmas; a smaller change would be written as 0.00
RULED_BY = 512  # samples whose spread is a sigma where the map has none


class Ruler(Protocol):
    """Attributes (n a) of pixels, and what one sigma of each is."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def measure(self, pixels: Pixels) -> Floats: ...

    def in_sigmas(self, change: Floats) -> Floats: ...


@dataclass(frozen=True)
class SampleRuler:
    """Attributes whose sigma is their spread (a) over the generator's own samples."""

    settings: Attributes
    spread: Floats

    @classmethod
    def of(cls, settings: Attributes, pixels: Pixels) -> "SampleRuler":
        """From sample Pixels (n c h w)."""
        return cls(settings, settings.measure(pixels).std(0))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the attributes."""
        return self.settings.names

    def measure(self, pixels: Pixels) -> Floats:
        """Pixels (n c h w) -> attributes (n a), each in its own unit."""
        return self.settings.measure(pixels)

    def in_sigmas(self, change: Floats) -> Floats:
        """A change (n a) in sigmas; 0 where an attribute never varied."""
        return in_sigmas(change, self.spread)


@dataclass(frozen=True)
class Trial:
    """How many axes are tried, pictures an axis, samples measured on, and the seed of all."""

    axes: int = 10
    pictured: int = 3
    sources: int = 128
    seed: int = 0
    bootstraps: int = 1_000


@dataclass(frozen=True)
class Effect:
    """What one axis does, of one sigma to either side, halved.

    `share` of its family's variance is None for the random one. `moved` is the mean length of the
    features' change over the sources (0 where the axis does nothing, unit features are at most 2
    apart), `consistency` that of control/axis_finder.py. `changes`: attribute -> mean change in
    sigmas per sigma of the axis, over the sources.
    """

    name: str
    share: float | None
    moved: Interval
    consistency: float
    changes: dict[str, Interval]


@dataclass(frozen=True)
class FamilyReport:
    """The first axes of one family, and a random one last.

    `walks[i][j]` (k c h w) are axis i's pictures of source j along the amounts.
    """

    family: str
    latent: bool
    known: int
    trial: Trial
    ruled_by: str
    effects: list[Effect]
    walks: list[list[Pixels]] = field(repr=False)

    def rows(self) -> list[AxisRow]:
        """For the sheet: the axis at the left, what it does at the right."""
        return [
            AxisRow(effect.name, _words(effect), walks)
            for effect, walks in zip(self.effects, self.walks, strict=True)
        ]

    def markdown(self) -> str:
        """One row an axis, with what the numbers are."""
        return _markdown(self)


def ruler_of(editor: Editor, seed: int = 0) -> tuple[Ruler | None, str]:
    """The attributes that the editor measures, and in words what their sigma is.

    A map without attributes has its images measured all the same where they have one channel:
    strokes, in sigmas of 512 seeded samples. Of colour nothing is known then: None.
    """
    if editor.attributes is not None:
        return editor.attributes, "sigmas of the map's bank"
    if editor.image_shape[0] != 1:
        return None, "nothing is measured: the map has no attributes"
    latents = rng.normals(seed, "axis ruler", 0, RULED_BY, editor.latent_size)
    ruler = SampleRuler.of(Strokes(), editor.generate(latents))
    return ruler, f"strokes, in sigmas of {RULED_BY} samples (the map has no attributes)"


def try_family(
    editor: Editor,
    family: str,
    trial: Trial,
    ruler: Ruler | None = None,
    ruled_by: str = "",
    report: Callable[[int], None] = lambda done: None,
) -> FamilyReport:
    """Walk the first axes of a family and a random one; `report` hears how many are done.

    Raises ConfigError for an unknown family.
    """
    axes = editor.axes.family(family)
    rows = axes.rows[: trial.axes]
    random = random_axis(axes, editor.statistics, trial.seed)
    source = editor.sample(max(trial.sources, trial.pictured), trial.seed)
    measured = Samples(source.latents[: trial.sources], source.pixels[: trial.sources])
    few = Samples(source.latents[: trial.pictured], source.pixels[: trial.pictured])
    names = [*(str(place + 1) for place in range(len(rows))), RANDOM]
    effects: list[Effect] = []
    walks: list[list[Pixels]] = []
    for done, (name, row) in enumerate(zip(names, [*rows, random], strict=True)):
        share = None if name == RANDOM else float(axes.shares[done])
        effects.append(_effect(editor, axes.latent, row, measured, ruler, trial, name, share))
        steps = [moved(editor, axes.latent, row, few, amount) for amount in AMOUNTS]
        walks.append([np.stack(images) for images in zip(*steps, strict=True)])
        report(done + 1)
    return FamilyReport(family, axes.latent, len(axes.rows), trial, ruled_by, effects, walks)


def moved(
    editor: Editor, latent: bool, row: NDArray[np.float32], source: Samples, amount: float
) -> Pixels:
    """Pixels (n c h w) of the source moved along an axis: its latent, or by the map its features.

    Amount 0 is the source itself either way.
    """
    if amount == 0:
        return source.pixels
    if latent:
        return editor.generate(source.latents + np.float32(amount) * row)
    return editor.edit(source, row, amount, residual=True).pixels


def random_axis(axes: Axes, statistics: Statistics, seed: int) -> NDArray[np.float32]:
    """A direction that knows nothing, as long as an axis.

    Of latents a unit vector (z); of features (d) one of Mahalanobis length 1 under the bank's
    covariance, as every principal axis is.
    """
    size = axes.rows.shape[1] if axes.latent else len(statistics.variances)
    drawn = rng.stream(seed, "random axis").standard_normal(size)
    drawn /= np.linalg.norm(drawn)
    if not axes.latent:
        drawn = drawn * np.sqrt(statistics.variances) @ statistics.components
    return np.asarray(drawn, np.float32)


def _effect(
    editor: Editor,
    latent: bool,
    row: NDArray[np.float32],
    source: Samples,
    ruler: Ruler | None,
    trial: Trial,
    name: str,
    share: float | None,
) -> Effect:
    ends = [moved(editor, latent, row, source, sign * STEP) for sign in (1, -1)]
    more, less = map(editor.embed, ends)
    turned = (more - less) / np.float32(2 * STEP)
    lengths = interval(np.linalg.norm(turned, axis=1), trial.seed, trial.bootstraps)
    changes: dict[str, Interval] = {}
    if ruler is not None:
        change = ruler.in_sigmas(ruler.measure(ends[0]) - ruler.measure(ends[1])) / (2 * STEP)
        changes = {
            attribute: interval(column, trial.seed, trial.bootstraps)
            for attribute, column in zip(ruler.names, change.T, strict=True)
        }
    return Effect(name, share, lengths, mean_change(turned).consistency, changes)


def _words(effect: Effect) -> str:
    # The two largest changes that can be seen and whose interval leaves 0 out.
    share = "" if effect.share is None else f"share {effect.share:.2f}, "
    clear = [
        (name, change)
        for name, change in effect.changes.items()
        if (change.low > 0 or change.high < 0) and abs(change.mean) >= SEEN
    ]
    clear.sort(key=lambda pair: -abs(pair[1].mean))
    said = ", ".join(f"{name} {change.mean:+.2f}" for name, change in clear[:2])
    return f"{share}consistent {effect.consistency:.2f}\n{said.replace('_', ' ')}"


def _markdown(report: FamilyReport) -> str:
    trial = report.trial
    how = "latents moved" if report.latent else "residual edits through the map"
    names = list(report.effects[0].changes)
    lines = [
        f"### {report.family}: {len(report.effects) - 1} of {report.known} axes",
        f"{how}; n {trial.sources} samples, seed {trial.seed}; one sigma to either side, halved. "
        f"Measured: {report.ruled_by}; 95 % bootstrap intervals over the samples, each for itself: "
        "of many, one in twenty leaves 0 out by chance. Share: of the family's variance. Moved: "
        "mean |change| of features, consistency: |mean change| over it; without a common part "
        f"about {trial.sources**-0.5:.2f}.",
        table(
            ["axis", "share", "moved", "consistency", *(name.replace("_", " ") for name in names)],
            [
                [effect.name, shown(effect.share), shown(effect.moved), shown(effect.consistency)]
                + [shown(effect.changes[name], 2) for name in names]
                for effect in report.effects
            ],
        ),
    ]
    return "\n\n".join(lines)
