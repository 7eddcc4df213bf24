"""What an editor hands out: samples, and edits that say what was asked and what came out."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import feature_math
from controlgen.editing.attribute_model import AttributeModel
from controlgen.editing.confidence.score import Reachability
from controlgen.types import Features, Latents, Pixels


class Samples(NamedTuple):
    """Latents (n z) and the Pixels (n c h w) they generate."""

    latents: Latents
    pixels: Pixels


class Measured(NamedTuple):
    """Attributes (n a) of the sources and of what came out, each in its own unit."""

    names: tuple[str, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64]


@dataclass(frozen=True)
class Edit:
    """An answer: what came out, what was asked, and where it started. n rows throughout.

    `asked` is all that was asked in the end, with what the corrections of held attributes added.
    `unrefined` are the features that the map's own answers had, where they were refined and it is
    known how far to believe.
    """

    pixels: Pixels
    latents: Latents
    asked: Features
    obtained: Features
    source_pixels: Pixels
    source_latents: Latents
    source_features: Features
    model: AttributeModel | None = field(default=None, repr=False)
    believing: Reachability | None = field(default=None, repr=False)
    unrefined: Features | None = field(default=None, repr=False)

    @cached_property
    def attributes(self) -> Measured | None:
        """Measured on the source's and the answer's pixels; None for a map without attributes."""
        if self.model is None:
            return None
        before, after = map(self.model.measure, (self.source_pixels, self.pixels))
        return Measured(self.model.names, before, after)

    @property
    def agreement(self) -> NDArray[np.float32]:
        """Cosine of the features asked for and obtained (n), -1..1."""
        return feature_math.cosine(self.asked, self.obtained)

    @property
    def progress(self) -> NDArray[np.float32]:
        """Cosine of the change asked for and the change obtained (n), -1..1; 0 where none was."""
        wanted, got = self.asked - self.source_features, self.obtained - self.source_features
        return feature_math.cosine(wanted, got)

    @cached_property
    def reachability(self) -> NDArray[np.float32] | None:
        """How far each answer can be believed: a calibrated probability (n), 0..1.

        That it is as near to what was asked, in an audit space, as 90 % of the answers to features
        of held-out samples are. A refined answer is believed as far as the map's own: refinement
        descends on the very cosine that would tell. None for a map fitted without, and where
        nothing was asked for.
        """
        if self.believing is None:
            return None
        return self.believing.score(self.asked, self._own)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with each of n answers, in words; empty where nothing is known to be."""
        if self.believing is None:
            return ("",) * len(self.asked)
        return self.believing.warnings(self.asked, self._own)

    @property
    def _own(self) -> Features:
        return self.obtained if self.unrefined is None else self.unrefined
