"""Effects of unsupervised axes: images along each axis, and attribute changes in sigmas.

All axes are applied to the same seeded samples; a random direction of the same length is the
control of each family.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from controlgen import rng
from controlgen.attributes import Attributes, StrokeAttributes
from controlgen.editing import Editor, Samples
from controlgen.editing.attribute_model import to_sigmas
from controlgen.editing.directions.axes import Axes
from controlgen.editing.directions.axis_effects import mean_and_consistency
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.evaluation.markdown import format_interval, markdown_table
from controlgen.figures import AxisRow
from controlgen.metrics.bootstrap import Interval, mean_interval
from controlgen.types import Pixels

Floats = NDArray[np.float64]
AMOUNTS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # sigmas of the columns in the figure
MEASURED_STEP = 1.0  # sigmas to either side between which changes are measured
RANDOM = "random"
MIN_VISIBLE_CHANGE = 0.005  # sigmas; smaller changes would be printed as 0.00
SCALE_SAMPLES = 512  # samples that estimate one sigma if the map has no attributes


class AttributeScale(Protocol):
    """Measures attributes (n a) of pixels, and converts changes to sigmas."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def measure(self, pixels: Pixels) -> Floats: ...

    def to_sigmas(self, change: Floats) -> Floats: ...


@dataclass(frozen=True)
class SampleAttributeScale:
    """Attributes whose sigma is their spread (a) over samples of the generator."""

    settings: Attributes
    spread: Floats

    @classmethod
    def from_pixels(cls, settings: Attributes, pixels: Pixels) -> "SampleAttributeScale":
        """Estimate the spread from sample Pixels (n c h w)."""
        return cls(settings, settings.measure(pixels).std(0))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the attributes."""
        return self.settings.names

    def measure(self, pixels: Pixels) -> Floats:
        """Pixels (n c h w) -> attributes (n a), each in its unit."""
        return self.settings.measure(pixels)

    def to_sigmas(self, change: Floats) -> Floats:
        """Convert a change (n a) to sigmas; 0 for attributes that do not vary."""
        return to_sigmas(change, self.spread)


@dataclass(frozen=True)
class AxisProtocol:
    """Numbers of axes, of image strips per axis and of measured samples, and their seed."""

    axes: int = 10
    strips: int = 3
    sources: int = 128
    seed: int = 0
    bootstraps: int = 1_000


@dataclass(frozen=True)
class AxisEffect:
    """Effect of one axis: half the difference of one sigma to either side, over the sources.

    `share` of the family's variance is None for the random axis. `feature_change` is the mean
    length of the change in features, `consistency` that of editing/directions/axis_effects.py.
    `changes`: attribute -> mean change in sigmas per sigma of the axis.
    """

    name: str
    share: float | None
    feature_change: Interval
    consistency: float
    changes: dict[str, Interval]


@dataclass(frozen=True)
class FamilyReport:
    """The first axes of one family, and a random one last.

    `strips[i][j]` (k c h w) are images of source j along axis i.
    """

    family: str
    latent: bool
    available: int
    protocol: AxisProtocol
    scale_text: str
    effects: list[AxisEffect]
    strips: list[list[Pixels]] = field(repr=False)

    def rows(self) -> list[AxisRow]:
        """Rows of the figure: the axis at the left, its effects at the right."""
        return [
            AxisRow(effect.name, _effect_summary(effect), strips)
            for effect, strips in zip(self.effects, self.strips, strict=True)
        ]

    def markdown(self) -> str:
        """Return a heading, an explanation and a table with one row per axis."""
        sources = self.protocol.sources
        method = "shifted latents" if self.latent else "residual edits through the map"
        names = list(self.effects[0].changes)
        text = (
            f"{method}; n {sources} samples, seed {self.protocol.seed}; half the difference of one "
            f"sigma to either side. Measured: {self.scale_text}; 95 % bootstrap intervals over the "
            "samples, each by itself: one in twenty excludes 0 by chance. Share: of the family's "
            "variance. Moved: mean |change| of features; consistency: |mean change| over it, about "
            f"{sources**-0.5:.2f} for unrelated changes."
        )
        rows = [
            [
                effect.name,
                *map(format_interval, (effect.share, effect.feature_change, effect.consistency)),
                *(format_interval(effect.changes[name], 2) for name in names),
            ]
            for effect in self.effects
        ]
        head = ["axis", "share", "moved", "consistency", *(n.replace("_", " ") for n in names)]
        title = f"### {self.family}: {len(self.effects) - 1} of {self.available} axes"
        return "\n\n".join([title, text, markdown_table(head, rows)])


def attribute_scale(editor: Editor, seed: int = 0) -> tuple[AttributeScale | None, str]:
    """Return the scale of the editor's attributes, and a text that explains it.

    If the map has no attributes, grey images are measured by strokes in sigmas of 512 seeded
    samples; colour images are not measured (None).
    """
    if editor.attributes is not None:
        return editor.attributes, "sigmas of the map's bank"
    if editor.image_shape[0] != 1:
        return None, "nothing: the map has no attributes"
    latents = rng.normals(seed, "axis ruler", 0, SCALE_SAMPLES, editor.latent_size)
    scale = SampleAttributeScale.from_pixels(StrokeAttributes(), editor.generate(latents))
    return scale, f"strokes, in sigmas of {SCALE_SAMPLES} samples (the map has no attributes)"


def evaluate_axis_family(
    editor: Editor,
    family: str,
    protocol: AxisProtocol,
    scale: AttributeScale | None = None,
    scale_text: str = "",
    report: Callable[[int], None] = lambda done: None,
) -> FamilyReport:
    """Evaluate the first axes of a family and a random one; `report` gets the number completed.

    Raises ConfigError for an unknown family.
    """
    axes = editor.axes.family(family)
    vectors = axes.vectors[: protocol.axes]
    random = random_axis(axes, editor.statistics, protocol.seed)
    source = editor.sample(max(protocol.sources, protocol.strips), protocol.seed)
    measured = Samples(source.latents[: protocol.sources], source.pixels[: protocol.sources])
    depicted = Samples(source.latents[: protocol.strips], source.pixels[: protocol.strips])
    names = [*(str(index + 1) for index in range(len(vectors))), RANDOM]
    effects: list[AxisEffect] = []
    strips: list[list[Pixels]] = []
    for index, (name, axis) in enumerate(zip(names, [*vectors, random], strict=True)):
        share = None if name == RANDOM else float(axes.shares[index])
        effect = _measure_effect(editor, axes.latent, axis, measured, scale, protocol)
        effects.append(AxisEffect(name, share, *effect))
        steps = [move_along_axis(editor, axes.latent, axis, depicted, amount) for amount in AMOUNTS]
        strips.append([np.stack(images) for images in zip(*steps, strict=True)])
        report(index + 1)
    return FamilyReport(
        family, axes.latent, len(axes.vectors), protocol, scale_text, effects, strips
    )


def move_along_axis(
    editor: Editor, latent: bool, axis: NDArray[np.float32], source: Samples, amount: float
) -> Pixels:
    """Move the source along an axis of latents, or of features by the map: Pixels (n c h w).

    Amount 0 returns the source itself.
    """
    if amount == 0:
        return source.pixels
    if latent:
        return editor.generate(source.latents + np.float32(amount) * axis)
    return editor.edit(source, axis, amount, residual=True).pixels


def random_axis(axes: Axes, statistics: FeaturePCA, seed: int) -> NDArray[np.float32]:
    """Draw a random direction with the length of an axis.

    For latents a unit vector (z); for features (d) a vector of Mahalanobis length 1 under the
    bank's covariance, like every principal axis.
    """
    size = axes.vectors.shape[1] if axes.latent else len(statistics.variances)
    direction = rng.stream(seed, "random axis").standard_normal(size)
    direction /= np.linalg.norm(direction)
    if not axes.latent:
        direction = direction * np.sqrt(statistics.variances) @ statistics.components
    return np.asarray(direction, np.float32)


def _measure_effect(
    editor: Editor,
    latent: bool,
    axis: NDArray[np.float32],
    source: Samples,
    scale: AttributeScale | None,
    protocol: AxisProtocol,
) -> tuple[Interval, float, dict[str, Interval]]:
    # The fields of AxisEffect after name and share.
    resampling = protocol.seed, protocol.bootstraps
    ends = [move_along_axis(editor, latent, axis, source, sign * MEASURED_STEP) for sign in (1, -1)]
    above, below = map(editor.embed, ends)
    feature_changes = (above - below) / np.float32(2 * MEASURED_STEP)
    length = mean_interval(np.linalg.norm(feature_changes, axis=1), *resampling)
    changes: dict[str, Interval] = {}
    if scale is not None:
        differences = scale.to_sigmas(scale.measure(ends[0]) - scale.measure(ends[1]))
        changes = {
            name: mean_interval(column, *resampling)
            for name, column in zip(scale.names, (differences / (2 * MEASURED_STEP)).T, strict=True)
        }
    return length, mean_and_consistency(feature_changes).consistency, changes


def _effect_summary(effect: AxisEffect) -> str:
    # The two largest visible changes whose interval excludes 0.
    share = "" if effect.share is None else f"share {effect.share:.2f}, "
    clear = [
        (name, change)
        for name, change in effect.changes.items()
        if (change.low > 0 or change.high < 0) and abs(change.mean) >= MIN_VISIBLE_CHANGE
    ]
    clear.sort(key=lambda pair: -abs(pair[1].mean))
    changes = ", ".join(f"{name} {change.mean:+.2f}" for name, change in clear[:2])
    return f"{share}consistent {effect.consistency:.2f}\n{changes.replace('_', ' ')}"
