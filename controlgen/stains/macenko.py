"""Two stain vectors from the optical densities (Macenko et al., ISBI 2009, p. 1107)."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
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

LEVEL_PERCENTILE = 99  # percentile used as the strongest concentration, section 2.3
MIN_ANGLE = 5.0  # degrees; closer vectors are one stain and its noise

# The usual reference values: unit vectors of haematoxylin and eosin (R G B) and
# their strongest concentrations, natural logarithm, white at 240.
REFERENCE = StainProfile(
    kind="macenko",
    vectors=((0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581)),
    levels=(1.9705, 1.0308),
)


class Macenko(BaseConfig):
    """Concentrations of two stains stay; their colours and strengths become the reference's.

    A profile holds two unit vectors of optical density, first that of the stain that absorbs more
    red (haematoxylin), and the 99th percentile of each stain's concentration. Only tissue is
    measured: pixels whose density, averaged over the channels, is at least `least_density`. The
    profile is empty, and `apply` changes nothing, if tissue is less than 5 % of the pixels, the two
    vectors are less than 5 degrees apart (one stain), or the percentile of a concentration lies
    below `least_density` (almost no stain).

    Pixels brighter than `white` hold no stain and stay unchanged, so white stays white.
    """

    kind: Literal["macenko"] = "macenko"
    reference: Path | None = Field(None, description="image to look like; none: the usual values")
    white: float = Field(240, gt=16, le=255, description="light where there is no tissue, 0..255")
    percent: float = Field(1, gt=0, lt=50, description="alpha: angles outside are outliers")
    least_density: float = Field(0.15, gt=0, description="beta: natural optical density of tissue")

    def measure(self, pixels: Pixels) -> StainProfile:
        """The two stains of all Pixels (n 3 h w) together. Raises Incompatible unless RGB."""
        absorbed = optical_density(pixel_rows(pixels).astype(np.float64), self.white)
        tissue = absorbed[absorbed.mean(1) >= self.least_density]
        if len(tissue) < max(2, MIN_TISSUE * len(absorbed)):
            return StainProfile(kind=self.kind)
        vectors = self._vectors(tissue)
        cosine = float(np.clip(vectors[0] @ vectors[1], -1, 1))
        if np.degrees(np.arccos(cosine)) < MIN_ANGLE:
            return StainProfile(kind=self.kind)
        levels = np.percentile(tissue @ np.linalg.pinv(vectors), LEVEL_PERCENTILE, axis=0)
        if (levels < self.least_density).any():
            return StainProfile(kind=self.kind)
        first, second = ((float(r), float(g), float(b)) for r, g, b in vectors)
        return StainProfile(kind=self.kind, vectors=(first, second), levels=tuple(levels.tolist()))

    def apply(self, pixels: Pixels, profile: StainProfile) -> Pixels:
        """Pixels (n 3 h w) of a source with this profile, in the reference's stain.

        Raises Incompatible if the profile is of another kind or the pixels are not RGB, DataError
        if the reference image cannot be read or holds no tissue.
        """
        if not profile.usable:
            return map_colours(pixels, profile, self.kind, lambda colours: colours)
        target = REFERENCE
        if self.reference is not None:
            target = reference_profile(self.reference, self.measure)
        # Densities -> concentrations by least squares, scaled, -> densities in the new colours.
        scale = np.array(target.levels) / np.array(profile.levels)
        change = np.linalg.pinv(np.array(profile.vectors)) @ (
            scale[:, None] * np.array(target.vectors)
        )

        def repaint(colours: Colours) -> Colours:
            above = np.maximum(colours / self.white, 1)
            return np.asarray(
                self.white * above * np.exp(-optical_density(colours, self.white) @ change)
            )

        return map_colours(pixels, profile, self.kind, repaint)

    def cache_identity(self) -> dict[str, Any]:
        """The settings that decide the result, the reference by its bytes. Raises DataError."""
        return identity_with_digest(self.identity(), self.reference)

    def _vectors(self, tissue: Colours) -> NDArray[np.float64]:
        """Rows haematoxylin, eosin (2 3): the robust extreme angles in the plane of the SVD."""
        # The plane through the origin that holds most of the densities; its first axis points
        # into the positive octant, since every density is positive.
        _, axes = np.linalg.eigh(tissue.T @ tissue)
        plane = axes[:, [2, 1]]
        plane = plane * np.where(plane.sum(0) < 0, -1, 1)
        flat = tissue @ plane
        angles = np.arctan2(flat[:, 1], flat[:, 0])
        extremes = np.percentile(angles, [self.percent, 100 - self.percent])
        vectors = np.stack([np.cos(extremes), np.sin(extremes)], 1) @ plane.T
        return np.asarray(vectors[np.argsort(-vectors[:, 0])])
