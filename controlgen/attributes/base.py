"""What every set of measured attributes offers: numbers of an image that no model has seen."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from controlgen.types import Pixels, Shape


class Attributes(Protocol):
    """Measures images by closed formulas: no model, no label. Spec and behaviour in one."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns of `measure`."""

    def check(self, shape: Shape) -> None:
        """Raise Incompatible where images of this shape (c h w) cannot be measured."""

    def measure(self, pixels: Pixels) -> NDArray[np.float64]:
        """Pixels (n c h w) -> one row of `names` an image (n a). Raises Incompatible."""
