"""Mean and deviation in l-alpha-beta (Reinhard et al., IEEE CG&A 21(5), 2001)."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from controlgen.base_config import BaseConfig
from controlgen.stains.base import (
    MIN_TISSUE,
    Colours,
    StainProfile,
    identity_with_digest,
    map_colours,
    optical_density,
    pixel_rows,
    reference_profile,
)
from controlgen.types import Pixels

# Equations 4, 6 and 8 of the paper; natural logarithms of 1..255 in place of decimal ones of
# 0..1 shift and scale every axis equally, which does not affect the transfer of mean and deviation.
TO_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
TO_LAB = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])

# H&E breast carcinoma, slide TCGA-A2-A3XS-DX1, tissue only (Amgad et al., Bioinformatics 2019).
REFERENCE = StainProfile(
    kind="reinhard",
    vectors=((8.74108109, -0.12440419, 0.0444982), (0.6135447, 0.10989545, 0.0286032)),
)
MIN_DEVIATION = 1e-3  # a smaller deviation is one flat colour: there is nothing to scale


class Reinhard(BaseConfig):
    """The tissue's mean and deviation in l-alpha-beta become the reference's.

    A profile holds the mean and the deviation. Only tissue is measured: pixels whose mean natural
    optical density is at least `least_density`. The profile is empty, and `apply` changes nothing,
    if tissue is less than 5 % of the pixels or a deviation is nil (one flat colour).

    From zero density to `least_density` the change fades in, so white stays white.
    """

    kind: Literal["reinhard"] = "reinhard"
    reference: Path | None = Field(None, description="image to look like; none: a breast H&E")
    least_density: float = Field(0.15, gt=0, description="natural optical density of tissue")

    def measure(self, pixels: Pixels) -> StainProfile:
        """The statistics of all Pixels (n 3 h w) together. Raises Incompatible unless RGB."""
        colours = pixel_rows(pixels).astype(np.float64)
        tissue = colours[optical_density(colours, 255).mean(1) >= self.least_density]
        if len(tissue) < max(2, MIN_TISSUE * len(colours)):
            return StainProfile(kind=self.kind)
        lab = to_lab(tissue)
        mean, deviation = lab.mean(0), lab.std(0)
        if (deviation < MIN_DEVIATION).any():
            return StainProfile(kind=self.kind)
        first, second = ((float(a), float(b), float(c)) for a, b, c in (mean, deviation))
        return StainProfile(kind=self.kind, vectors=(first, second))

    def apply(self, pixels: Pixels, profile: StainProfile) -> Pixels:
        """Pixels (n 3 h w) of a source with this profile, in the reference's colours.

        Raises Incompatible if the profile is of another kind or the pixels are not RGB, DataError
        if the reference image cannot be read or holds no tissue.
        """
        if not profile.usable:
            return map_colours(pixels, profile, self.kind, lambda colours: colours)
        target = REFERENCE
        if self.reference is not None:
            target = reference_profile(self.reference, self.measure)
        (mean, deviation), (new_mean, new_deviation) = (
            np.array(item.vectors) for item in (profile, target)
        )

        def repaint(colours: Colours) -> Colours:
            shifted = (to_lab(colours) - mean) * (new_deviation / deviation) + new_mean
            share = np.clip(
                optical_density(colours, 255).mean(1, keepdims=True) / self.least_density, 0, 1
            )
            return np.asarray(colours + share * (from_lab(shifted) - colours))

        return map_colours(pixels, profile, self.kind, repaint)

    def cache_identity(self) -> dict[str, Any]:
        """The settings that decide the result, the reference by its bytes. Raises DataError."""
        return identity_with_digest(self.identity(), self.reference)


def to_lab(colours: Colours) -> Colours:
    """Colours (m 3) in 0..255 (0 counts as 1) -> l, alpha, beta, natural logarithms."""
    return np.asarray(np.log(np.maximum(colours, 1) @ TO_LMS.T) @ TO_LAB.T)


def from_lab(lab: Colours) -> Colours:
    """l, alpha, beta (m 3) -> colours, not yet clipped to 0..255."""
    return np.asarray(np.exp(lab @ np.linalg.inv(TO_LAB).T) @ np.linalg.inv(TO_LMS).T)
