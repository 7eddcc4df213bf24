"""Part three: sliders of measured attributes. Does asking for more of one give more of it, and of
nothing else?

Every attribute is asked for in steps on the same held-out generated sources, in ways that hold
nothing, hold the other attributes, or hold the stains; beside them a random direction shows what
chance gives. Attributes are measured on the pictures by formula, in sigmas of the bank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import Edit, Samples
from controlgen.errors import ConfigError
from controlgen.evaluation.context import Subject
from controlgen.evaluation.slider_results import (
    CORRECTED,
    HELD,
    PLAIN,
    PLAIN_CORRECTED,
    RANDOM,
    STAINS_HELD,
    Leakage,
    Slider,
    Sliders,
    Walk,
)
from controlgen.metrics import leakage
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.inversion import paired_cosine
from controlgen.rng import stream
from controlgen.types import Direction, Pixels

Floats = NDArray[np.float64]

AMOUNTS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)  # sigmas of the bank that are asked for
IDENTITY_AT = 1.0  # identity is the mean of the edits by this much to either side
STAINS = ("haematoxylin", "eosin")
CORRECTIONS = 8  # rounds of the closed loop where there is one


class AttributesLike(Protocol):
    """Measured attributes, their scale in the bank, and a direction for each."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def measure(self, pixels: Pixels) -> Floats: ...

    def standard(self, pixels: Pixels) -> Floats: ...

    def in_sigmas(self, change: Floats) -> Floats: ...

    def direction(self, name: str, hold: str | Sequence[str] = ()) -> Direction: ...


class Steering(Protocol):
    """An editor that holds attributes."""

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
class Way:
    """How a slider is moved: what each attribute's edit holds, rounds of correction, or chance."""

    name: str
    hold: Mapping[str, tuple[str, ...]]
    corrections: int = 0
    random: bool = False


def sliders(subject: Subject) -> Sliders | None:
    """Move every attribute of the editor's model in every way; None where it has no model."""
    editor: Steering = subject.editor  # type: ignore[assignment]
    model: AttributesLike | None = getattr(editor, "attributes", None)
    if model is None:
        return None
    trial = Trial(subject, editor, model)

    # Every way is tried on every attribute; an edit without a direction leaves zeros behind.
    rows: list[Slider] = []
    walks: list[Walk] = []
    refused: list[str] = []
    leaks: list[Leakage] = []
    for way in ways_of(model.names):
        slopes = np.zeros((len(trial.start.pixels), len(model.names), len(model.names)))
        for index, name in enumerate(model.names):
            try:
                direction = trial.direction(name, way)
            except ConfigError as error:
                refused.append(f"{name}, {way.name}: {error}")
                continue
            row, walk, slopes[:, index] = trial.move(name, way, direction)
            rows.append(row)
            walks.append(walk)
        leaks.append(trial.leak(way.name, slopes))
    return Sliders(
        names=list(model.names),
        amounts=list(AMOUNTS),
        sources=len(trial.start.pixels),
        corrections=CORRECTIONS,
        rows=rows,
        leakage=leaks,
        refused=refused,
        walks=walks,
    )


def ways_of(names: Sequence[str]) -> list[Way]:
    """Every way to move these attributes; holding the stains only where both are measured."""
    others = {name: tuple(other for other in names if other != name) for name in names}
    stains = {name: tuple(stain for stain in STAINS if stain != name) for name in names}
    nothing: dict[str, tuple[str, ...]] = dict.fromkeys(names, ())
    ways = [
        Way(PLAIN, nothing),
        Way(PLAIN_CORRECTED, nothing, CORRECTIONS),
        Way(HELD, others),
        Way(CORRECTED, others, CORRECTIONS),
    ]
    if set(STAINS) <= set(names):
        ways.append(Way(STAINS_HELD, stains, CORRECTIONS))
    return [*ways, Way(RANDOM, nothing, random=True)]


class Trial:
    """The sources, what is measured on them, and how one attribute is moved."""

    def __init__(self, subject: Subject, editor: Steering, model: AttributesLike) -> None:
        self.subject, self.editor, self.model = subject, editor, model
        latents, pixels, _ = subject.held_out(subject.config.slider_sources)
        self.start = Samples(latents, pixels)
        self.before = model.measure(pixels)
        self.audit = subject.audit.embed(pixels)
        # The source nearest the bank's mean is pictured: it has room to either side.
        self.pictured = int(np.square(model.standard(pixels)).sum(1).argmin())

    def direction(self, name: str, way: Way) -> Direction:
        """The direction (d) of an attribute. Raises ConfigError where the model has none."""
        direction = self.model.direction(name, way.hold[name])
        if not way.random:
            return direction
        # Chance: a direction of the same length that knows nothing of the attribute.
        draws = stream(self.subject.config.seed, "slider direction", self.model.names.index(name))
        random = draws.standard_normal(direction.shape)
        random *= np.linalg.norm(direction) / np.linalg.norm(random)
        return np.asarray(random, np.float32)

    def move(self, name: str, way: Way, direction: Direction) -> tuple[Slider, Walk, Floats]:
        """One attribute along its direction (d), with the slopes (s a) of all attributes."""
        hold = way.hold[name]
        steps: list[Floats] = []
        shown: list[Pixels] = []
        cosines: list[Floats] = []
        for amount in AMOUNTS:
            # A residual edit of amount 0 is the source itself, to the bit.
            pixels = self.start.pixels
            if amount:
                pixels = self._edited(direction, amount, hold, way.corrections)
            if abs(amount) == IDENTITY_AT:
                cosines.append(paired_cosine(self.audit, self.subject.audit.embed(pixels)))
            steps.append(self.model.measure(pixels) if amount else self.before)
            shown.append(pixels[self.pictured])

        # Changes against the source, in sigmas of the bank: (s k a).
        measured = np.stack(steps, axis=1)
        changes = self.model.in_sigmas(measured - self.before[:, None])
        slopes = leakage.slopes_over(np.array(AMOUNTS), changes)
        own = self.model.names.index(name)
        slider = Slider(
            attribute=name,
            way=way.name,
            held=hold,
            spearman=self._mean(leakage.rank_correlation(np.array(AMOUNTS), changes[:, :, own])),
            slope=self._mean(slopes[:, own]),
            usable=leakage.usable_range(np.array(AMOUNTS), changes[:, :, own].mean(0)),
            identity=self._mean(np.mean(cosines, axis=0)),
            curve=[self._mean(column) for column in changes[:, :, own].T],
        )
        walk = Walk(name, way.name, np.stack(shown), measured[self.pictured, :, own])
        return slider, walk, slopes

    def leak(self, way: str, slopes: Floats) -> Leakage:
        """The leakage of all attributes from their slopes (s a a)."""
        names = self.model.names
        matrix = leakage.leakage_matrix(slopes.mean(0))
        into_stains: Interval | None = None
        moved = [i for i, name in enumerate(names) if name not in STAINS and slopes[:, i].any()]
        if set(STAINS) <= set(names) and moved:
            tissue = np.array(moved)
            stains = np.array([names.index(stain) for stain in STAINS])
            into_stains = self._pooled(lambda s: leakage.share_into(s, tissue, stains), slopes)
        return Leakage(
            way=way,
            matrix=[[float(v) if np.isfinite(v) else None for v in row] for row in matrix],
            share=self._pooled(leakage.diagonal_share, slopes),
            share_per_image=self._mean(leakage.diagonal_share(slopes)),
            into_stains=into_stains,
        )

    def _edited(
        self, direction: Direction, amount: float, hold: tuple[str, ...], corrections: int
    ) -> Pixels:
        edit = self.editor.edit(
            self.start,
            direction,
            amount,
            residual=True,
            hold=hold,
            corrections=corrections,
        )
        return edit.pixels

    def _mean(self, values: Floats) -> Interval:
        return self.subject.mean(values)

    def _pooled(self, share: leakage.Share, slopes: Floats) -> Interval:
        config = self.subject.config
        return leakage.share_interval(share, slopes, config.seed, config.bootstraps)
