"""What an editor returns: samples, and edits with their target and their result."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.editing.attribute_model import AttributeModel
from controlgen.editing.confidence.score import ConfidenceModel
from controlgen.editing.feature_math import paired_cosine
from controlgen.types import Features, Latents, Pixels


class Samples(NamedTuple):
    """Generated samples.

    Attributes:
        latents: Latents (n z), float32.
        pixels: The Pixels (n c h w), uint8, that they generate.
    """

    latents: Latents
    pixels: Pixels


class AttributeChange(NamedTuple):
    """Attributes (n a) of the sources and of the results, each in its own unit."""

    names: tuple[str, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64]


@dataclass(frozen=True)
class Edit:
    """The result of an edit of n sources, with its target and its start.

    Attributes:
        pixels: The edited images (n c h w), uint8.
        latents: The Latents (n z) that generate them.
        target_features: The target (n d), unit rows, with what feedback added to it.
        features: Features (n d) of `pixels`, embedded again.
        source_pixels: The images (n c h w) the edit starts from.
        source_latents: Their Latents (n z); of real images, their inversion.
        source_features: Their features (n d).
        model: Measures attributes; None for a map without attributes.
        confidence_model: Scores the edit; None for a map without it.
        map_features: Features (n d) of the map's own result before refinement. None without
            refinement or without a confidence model.
    """

    pixels: Pixels
    latents: Latents
    target_features: Features
    features: Features
    source_pixels: Pixels
    source_latents: Latents
    source_features: Features
    model: AttributeModel | None = field(default=None, repr=False)
    confidence_model: ConfidenceModel | None = field(default=None, repr=False)
    map_features: Features | None = field(default=None, repr=False)

    @cached_property
    def attributes(self) -> AttributeChange | None:
        """Attributes measured on source and result pixels; None for a map without attributes."""
        if self.model is None:
            return None
        before, after = map(self.model.measure, (self.source_pixels, self.pixels))
        return AttributeChange(self.model.names, before, after)

    @property
    def target_similarity(self) -> NDArray[np.float32]:
        """Cosine (n) of target and resulting features, -1..1."""
        return paired_cosine(self.target_features, self.features)

    @property
    def direction_similarity(self) -> NDArray[np.float32]:
        """Cosine (n) of target and resulting change of features, -1..1; 0 for a zero change."""
        return paired_cosine(
            self.target_features - self.source_features, self.features - self.source_features
        )

    @cached_property
    def reachability(self) -> NDArray[np.float32] | None:
        """Calibrated confidence (n), 0..1, that the model can reach the target; None without it.

        The probability that the result is as near to the target, in an audit space, as 90 % of the
        results for held-out samples are. A refined edit has the score of the unrefined one:
        refinement ascends the very cosine that the score is computed from.
        """
        if self.confidence_model is None:
            return None
        return self.confidence_model.score(self.target_features, self._scored_features)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Why the confidence in each of n results is low, in words; empty where it is not."""
        if self.confidence_model is None:
            return ("",) * len(self.target_features)
        return self.confidence_model.warnings(self.target_features, self._scored_features)

    @property
    def asked(self) -> Features:
        """The same as `target_features`."""
        return self.target_features

    @property
    def obtained(self) -> Features:
        """The same as `features`."""
        return self.features

    @property
    def agreement(self) -> NDArray[np.float32]:
        """The same as `target_similarity`."""
        return self.target_similarity

    @property
    def progress(self) -> NDArray[np.float32]:
        """The same as `direction_similarity`."""
        return self.direction_similarity

    @property
    def believing(self) -> ConfidenceModel | None:
        """The same as `confidence_model`."""
        return self.confidence_model

    @property
    def unrefined(self) -> Features | None:
        """The same as `map_features`."""
        return self.map_features

    @property
    def _scored_features(self) -> Features:
        return self.features if self.map_features is None else self.map_features
