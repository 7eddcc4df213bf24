"""What became of an edit: did the class change, and is it still the same image otherwise?"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from controlgen.attributes import strokes
from controlgen.editing import feature_math
from controlgen.evaluation.context import Subject
from controlgen.evaluation.edit_pairs import Directions, Edits
from controlgen.evaluation.inversion import optimise
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.inversion import (
    orthogonal_cosine,
    paired_cosine,
    pixel_error,
    weighted_correlation,
)
from controlgen.types import Features, Indices, Latents, Pixels


@dataclass(frozen=True)
class Best:
    """One method at the smallest amount of its best flip rate; n counts edits, intervals sources.

    Identity is the audit cosine of source and result, centred on the mean source so that unrelated
    images score about 0, in the subspace orthogonal to the class direction. `identity_of_flipped`
    takes only the edits that flipped: an edit that changes nothing keeps everything.
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


class Scorer:
    """Flip rate and identity of results against their sources."""

    def __init__(self, subject: Subject, edits: Edits, directions: Directions) -> None:
        self.subject, self.edits, self.directions = subject, edits, directions
        unique, back = np.unique(edits.source, return_index=True)
        audit = subject.audit.embed(edits.pixels[back])
        self.audit = audit[np.searchsorted(unique, edits.source)]
        self.centre = audit.mean(0)

    def unedited(self) -> Best:
        """The control: the source itself."""
        everything = np.arange(len(self.edits))
        return self._row("no edit", 0.0, self.edits.pixels, self.audit, everything)

    def round_trip(self) -> Best:
        """The control: the source's own feature through the map shows what the map loses."""
        latents = self.subject.predict(self.subject.map_name, self.edits.features)
        return self.score("round trip", 0.0, latents)

    def score(self, method: str, amount: float, latents: Latents) -> Best:
        """A method that answered every edit."""
        everything = np.arange(len(self.edits))
        pixels = self.subject.editor.generate(latents)
        return self._row(method, amount, pixels, self.subject.audit.embed(pixels), everything)

    def optimised(self, amount: float) -> Best:
        """A few edits optimised from their source towards feature arithmetic's target."""
        n = min(self.subject.config.optimisation_targets, len(self.edits))
        few = np.linspace(0, len(self.edits) - 1, n).astype(np.int64)
        asked = feature_math.add(self.edits.features[few], self.directions.features[few], amount)
        start, steps = self.edits.latents[few], self.subject.config.optimisation_steps
        latents = optimise(self.subject.editor, asked, start, steps)
        pixels = self.subject.editor.generate(latents)
        return self._row("optimisation", amount, pixels, self.subject.audit.embed(pixels), few)

    def identity(self, audit: Features, which: Indices | None = None) -> NDArray[np.float64]:
        """Identity of results, by their audit features, with the sources of these edits: (n)."""
        which = np.arange(len(self.edits)) if which is None else which
        before, axes = self.audit[which], self.directions.audit[which]
        return orthogonal_cosine(before - self.centre, audit - self.centre, axes)

    def _row(
        self, method: str, amount: float, pixels: Pixels, audit: Features, which: Indices
    ) -> Best:
        subject, sources = self.subject, self.edits.source[which]
        flips = subject.probabilities(pixels).argmax(1) == self.edits.after[which]
        before, identity = self.audit[which], self.identity(audit, which)
        some = flips.any()
        slant, thickness = _kept(subject, self.edits.pixels[which], pixels, sources)
        return Best(
            method=method,
            amount=amount,
            n=len(which),
            flip=subject.mean(flips, sources),
            identity=subject.mean(identity, sources),
            identity_of_flipped=subject.mean(identity[flips], sources[flips]) if some else None,
            cosine_f2=subject.mean(paired_cosine(before, audit), sources),
            pixel_error=subject.mean(pixel_error(self.edits.pixels[which], pixels), sources),
            slant_kept=slant,
            thickness_kept=thickness,
        )


def _kept(
    subject: Subject, before: Pixels, after: Pixels, sources: Indices
) -> tuple[Interval | None, Interval | None]:
    # Correlation over the edits of an attribute of source and result; strokes on black only.
    if before.shape[1] != 1 or len(before) < 3:
        return None, None
    tables = strokes.attributes(before), strokes.attributes(after)
    answers: list[Interval | None] = []
    for name in ("slant", "thickness"):
        x, y = (table[:, strokes.NAMES.index(name)] for table in tables)
        constant = np.ptp(x) == 0 or np.ptp(y) == 0
        correlation = partial(weighted_correlation, x, y)
        answers.append(None if constant else subject.resampled(correlation, sources))
    return answers[0], answers[1]
