"""The protocol of measured attributes."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from controlgen.types import Pixels, Shape


class Attributes(Protocol):
    """Measures images by closed formulas: no model, no label."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of `measure`."""

    def check(self, shape: Shape) -> None:
        """Raise Incompatible if images of this shape (c h w) cannot be measured."""

    def measure(self, pixels: Pixels) -> NDArray[np.float64]:
        """Pixels (n c h w) -> one row of `names` per image (n a). Raises Incompatible."""
