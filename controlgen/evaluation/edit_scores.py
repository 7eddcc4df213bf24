"""Scores of class edits: did the class change, and is the image otherwise the same?"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from controlgen.attributes import strokes
from controlgen.editing import feature_math
from controlgen.evaluation.context import EvaluationContext
from controlgen.evaluation.edit_pairs import ClassDirections, EditPairs
from controlgen.evaluation.inversion import optimise_latents
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.inversion import (
    orthogonal_cosine,
    paired_cosine,
    pixel_error,
    weighted_correlation,
)
from controlgen.types import Features, Indices, Latents, Pixels


@dataclass(frozen=True)
class MethodScore:
    """One method at the smallest amount of its best flip rate; n counts edits, intervals sources.

    Identity is the audit cosine of source and result, centred on the mean source so that unrelated
    images score about 0, in the subspace orthogonal to the class direction. `identity_of_flipped`
    covers only the edits that flipped, because an edit that changes nothing has full identity.
    """

    method: str
    amount: float
    n: int
    flip: Interval
    identity: Interval
    identity_of_flipped: Interval | None
    cosine_f2: Interval
    pixel_error: Interval
    slant_kept: Interval | None
    thickness_kept: Interval | None


class EditScorer:
    """Flip rate and identity of results against their sources."""

    def __init__(
        self, context: EvaluationContext, edits: EditPairs, directions: ClassDirections
    ) -> None:
        self.context, self.edits, self.directions = context, edits, directions
        self._all = np.arange(len(edits))
        unique, first = np.unique(edits.source, return_index=True)
        audit = context.audit.embed(edits.pixels[first])
        self.audit = audit[np.searchsorted(unique, edits.source)]
        self.centre = audit.mean(0)

    def score_no_edit(self) -> MethodScore:
        """The control without an edit: the source itself."""
        return self._score("no edit", 0.0, self.edits.pixels, self.audit, self._all)

    def score_round_trip(self) -> MethodScore:
        """The control without a direction: the source's features through the map."""
        latents = self.context.predict(self.context.map_name, self.edits.features)
        return self.score("round trip", 0.0, latents)

    def score(self, method: str, amount: float, latents: Latents) -> MethodScore:
        """The score of a method from its latents for all edits."""
        pixels = self.context.editor.generate(latents)
        return self._score(method, amount, pixels, self.context.audit.embed(pixels), self._all)

    def score_optimisation(self, amount: float) -> MethodScore:
        """A few edits by optimisation, from their source towards feature arithmetic's target."""
        n = min(self.context.config.optimisation_targets, len(self.edits))
        few = np.linspace(0, len(self.edits) - 1, n).astype(np.int64)
        features, directions = self.edits.features[few], self.directions.features[few]
        targets = feature_math.add_direction(features, directions, amount)
        start, steps = self.edits.latents[few], self.context.config.optimisation_steps
        latents = optimise_latents(self.context.editor, targets, start, steps)
        pixels = self.context.editor.generate(latents)
        return self._score("optimisation", amount, pixels, self.context.audit.embed(pixels), few)

    def identity(self, audit: Features, selection: Indices | None = None) -> NDArray[np.float64]:
        """Identity of results, by their audit features, with the selected edits' sources: (n)."""
        selection = self._all if selection is None else selection
        before, axes = self.audit[selection], self.directions.audit[selection]
        return orthogonal_cosine(before - self.centre, audit - self.centre, axes)

    def _score(
        self, method: str, amount: float, pixels: Pixels, audit: Features, selection: Indices
    ) -> MethodScore:
        mean, sources = self.context.mean_interval, self.edits.source[selection]
        flips = self.context.judge_probabilities(pixels).argmax(1) == self.edits.after[selection]
        before, identity = self.audit[selection], self.identity(audit, selection)
        source_pixels = self.edits.pixels[selection]
        slant, thickness = _stroke_correlations(self.context, source_pixels, pixels, sources)
        return MethodScore(
            method=method,
            amount=amount,
            n=len(selection),
            flip=mean(flips, sources),
            identity=mean(identity, sources),
            identity_of_flipped=mean(identity[flips], sources[flips]) if flips.any() else None,
            cosine_f2=mean(paired_cosine(before, audit), sources),
            pixel_error=mean(pixel_error(source_pixels, pixels), sources),
            slant_kept=slant,
            thickness_kept=thickness,
        )


def _stroke_correlations(
    context: EvaluationContext, before: Pixels, after: Pixels, sources: Indices
) -> tuple[Interval | None, Interval | None]:
    # Correlation of source and result in slant and in thickness; for grey images only.
    if before.shape[1] != 1 or len(before) < 3:
        return None, None
    measured = strokes.measure_strokes(before), strokes.measure_strokes(after)
    intervals: list[Interval | None] = []
    for name in ("slant", "thickness"):
        x, y = (table[:, strokes.NAMES.index(name)] for table in measured)
        constant = np.ptp(x) == 0 or np.ptp(y) == 0
        correlation = partial(weighted_correlation, x, y)
        intervals.append(None if constant else context.statistic_interval(correlation, sources))
    return intervals[0], intervals[1]
