"""No stain normalisation."""

from typing import Any, Literal

import numpy as np

from controlgen.base_config import BaseConfig
from controlgen.stains.base import StainProfile
from controlgen.types import Pixels


class NoStain(BaseConfig):
    """Nothing is measured and nothing is changed; grey pixels are accepted too."""

    kind: Literal["none"] = "none"

    def measure(self, pixels: Pixels) -> StainProfile:
        """An empty profile."""
        return StainProfile(kind=self.kind)

    def apply(self, pixels: Pixels, profile: StainProfile) -> Pixels:
        """A copy of the pixels."""
        return np.array(pixels, np.uint8)

    def cache_identity(self) -> dict[str, Any]:
        """The settings that decide the result, for caches."""
        return self.identity()
