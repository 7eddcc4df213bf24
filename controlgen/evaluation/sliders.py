"""Attribute sliders: does more of an attribute change that attribute and nothing else?

Every attribute is edited in steps on the same held-out generated sources: with nothing held, with
the other attributes held, with the stains held, and along a random direction as the control.
Attributes are measured on the images by formula, in sigmas of the bank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import Edit, Samples
from controlgen.errors import ConfigError
from controlgen.evaluation.axes import AttributeScale
from controlgen.evaluation.context import EvaluationContext
from controlgen.evaluation.slider_results import (
    CORRECTED,
    HELD,
    PLAIN,
    PLAIN_CORRECTED,
    RANDOM,
    STAINS_HELD,
    Leakage,
    SliderResult,
    SliderResults,
    SliderStrip,
)
from controlgen.metrics import leakage
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.inversion import paired_cosine
from controlgen.rng import stream
from controlgen.types import Direction, Pixels

Floats = NDArray[np.float64]

AMOUNTS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)  # in sigmas of the bank
IDENTITY_AMOUNT = 1.0  # identity averages the edits by this much to either side
STAINS = ("haematoxylin", "eosin")
CORRECTIONS = 8  # attribute-feedback iterations of the corrected modes


class AttributesLike(AttributeScale, Protocol):
    """Measured attributes with their scale in the bank and their directions."""

    def standardize(self, pixels: Pixels) -> Floats: ...

    def direction(self, name: str, hold: str | Sequence[str] = ()) -> Direction: ...


class AttributeEditor(Protocol):
    """An editor that can hold attributes."""

    @property
    def attributes(self) -> AttributesLike | None: ...

    def edit(
        self,
        source: Samples,
        direction: Direction,
        amount: float = 1.0,
        residual: bool = False,
        hold: str | Sequence[str] = (),
        corrections: int | None = None,
    ) -> Edit: ...


@dataclass(frozen=True)
class SliderMode:
    """How a slider moves: attributes held by each edit, feedback iterations, or at random."""

    name: str
    hold: Mapping[str, tuple[str, ...]]
    corrections: int = 0
    random: bool = False


def evaluate_sliders(context: EvaluationContext) -> SliderResults | None:
    """Edit every attribute of the editor's model in every mode; None without a model."""
    editor: AttributeEditor = context.editor  # type: ignore[assignment]
    model: AttributesLike | None = getattr(editor, "attributes", None)
    if model is None:
        return None
    run = SliderRun(context, editor, model)

    # An attribute without a direction keeps slopes of zero.
    rows: list[SliderResult] = []
    strips: list[SliderStrip] = []
    refused: list[str] = []
    leakages: list[Leakage] = []
    for mode in slider_modes(model.names):
        slopes = np.zeros((len(run.source.pixels), len(model.names), len(model.names)))
        for index, name in enumerate(model.names):
            try:
                direction = run.direction(name, mode)
            except ConfigError as error:
                refused.append(f"{name}, {mode.name}: {error}")
                continue
            row, strip, slopes[:, index] = run.move(name, mode, direction)
            rows.append(row)
            strips.append(strip)
        leakages.append(run.measure_leakage(mode.name, slopes))
    return SliderResults(
        names=list(model.names),
        amounts=list(AMOUNTS),
        sources=len(run.source.pixels),
        corrections=CORRECTIONS,
        rows=rows,
        leakage=leakages,
        refused=refused,
        strips=strips,
    )


def slider_modes(names: Sequence[str]) -> list[SliderMode]:
    """All modes for these attributes; stains are held only if both are measured."""
    others = {name: tuple(other for other in names if other != name) for name in names}
    stains = {name: tuple(stain for stain in STAINS if stain != name) for name in names}
    nothing: dict[str, tuple[str, ...]] = dict.fromkeys(names, ())
    modes = [
        SliderMode(PLAIN, nothing),
        SliderMode(PLAIN_CORRECTED, nothing, CORRECTIONS),
        SliderMode(HELD, others),
        SliderMode(CORRECTED, others, CORRECTIONS),
    ]
    if set(STAINS) <= set(names):
        modes.append(SliderMode(STAINS_HELD, stains, CORRECTIONS))
    return [*modes, SliderMode(RANDOM, nothing, random=True)]


class SliderRun:
    """The sources with their measurements, edited along one attribute at a time."""

    def __init__(
        self, context: EvaluationContext, editor: AttributeEditor, model: AttributesLike
    ) -> None:
        self.context, self.editor, self.model = context, editor, model
        latents, pixels, _ = context.held_out_items(context.config.slider_sources)
        self.source = Samples(latents, pixels)
        self.before = model.measure(pixels)
        self.audit = context.audit.embed(pixels)
        # The figure uses the source nearest the bank's mean: it has room to either side.
        self.strip_index = int(np.square(model.standardize(pixels)).sum(1).argmin())

    def direction(self, name: str, mode: SliderMode) -> Direction:
        """Return the direction (d) of an attribute; raises ConfigError if the model has none."""
        direction = self.model.direction(name, mode.hold[name])
        if not mode.random:
            return direction
        # The control: a random direction of the same length.
        draws = stream(self.context.config.seed, "slider direction", self.model.names.index(name))
        random = draws.standard_normal(direction.shape)
        random *= np.linalg.norm(direction) / np.linalg.norm(random)
        return np.asarray(random, np.float32)

    def move(
        self, name: str, mode: SliderMode, direction: Direction
    ) -> tuple[SliderResult, SliderStrip, Floats]:
        """Edit one attribute along its direction (d); also return all attributes' slopes (s a)."""
        hold = mode.hold[name]
        steps: list[Floats] = []
        strips: list[Pixels] = []
        cosines: list[Floats] = []
        for amount in AMOUNTS:
            # A residual edit of amount 0 is the source, bit for bit.
            pixels = self.source.pixels
            if amount:
                pixels = self._edit(direction, amount, hold, mode.corrections)
            if abs(amount) == IDENTITY_AMOUNT:
                cosines.append(paired_cosine(self.audit, self.context.audit.embed(pixels)))
            steps.append(self.model.measure(pixels) if amount else self.before)
            strips.append(pixels[self.strip_index])

        # Changes against the source, in sigmas of the bank: (s k a).
        measured = np.stack(steps, axis=1)
        changes = self.model.to_sigmas(measured - self.before[:, None])
        slopes = leakage.least_squares_slopes(np.array(AMOUNTS), changes)
        own = self.model.names.index(name)
        slider = SliderResult(
            attribute=name,
            mode=mode.name,
            held=hold,
            spearman=self._mean(leakage.rank_correlation(np.array(AMOUNTS), changes[:, :, own])),
            slope=self._mean(slopes[:, own]),
            usable=leakage.usable_range(np.array(AMOUNTS), changes[:, :, own].mean(0)),
            identity=self._mean(np.mean(cosines, axis=0)),
            curve=[self._mean(column) for column in changes[:, :, own].T],
        )
        strip = SliderStrip(name, mode.name, np.stack(strips), measured[self.strip_index, :, own])
        return slider, strip, slopes

    def measure_leakage(self, mode: str, slopes: Floats) -> Leakage:
        """Compute the leakage of all attributes from their slopes (s a a)."""
        names = self.model.names
        matrix = leakage.leakage_matrix(slopes.mean(0))
        into_stains: Interval | None = None
        steered = [i for i, name in enumerate(names) if name not in STAINS and slopes[:, i].any()]
        if set(STAINS) <= set(names) and steered:
            tissue = np.array(steered)
            stains = np.array([names.index(stain) for stain in STAINS])
            into_stains = self._pooled(lambda s: leakage.share_towards(s, tissue, stains), slopes)
        return Leakage(
            mode=mode,
            matrix=[[float(v) if np.isfinite(v) else None for v in row] for row in matrix],
            share=self._pooled(leakage.diagonal_share, slopes),
            share_per_image=self._mean(leakage.diagonal_share(slopes)),
            into_stains=into_stains,
        )

    def _edit(
        self, direction: Direction, amount: float, hold: tuple[str, ...], corrections: int
    ) -> Pixels:
        edit = self.editor.edit(
            self.source,
            direction,
            amount,
            residual=True,
            hold=hold,
            corrections=corrections,
        )
        return edit.pixels

    def _mean(self, values: Floats) -> Interval:
        return self.context.mean_interval(values)

    def _pooled(self, share: leakage.Share, slopes: Floats) -> Interval:
        config = self.context.config
        return leakage.share_interval(share, slopes, config.seed, config.bootstraps)
