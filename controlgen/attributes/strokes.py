"""Attributes of bright strokes on black, after Morpho-MNIST (Castro et al., 2019).

Closed forms of the first two moments of the ink, without thresholds or models.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from controlgen.base_config import BaseConfig
from controlgen.images import to_channels
from controlgen.types import Pixels, Shape

NAMES = ("ink", "thickness", "slant", "width", "height")


class StrokeAttributes(BaseConfig):
    """Ink, thickness, slant, width and height of bright strokes on black."""

    kind: Literal["strokes"] = "strokes"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of `measure`."""
        return NAMES

    def check(self, shape: Shape) -> None:
        """Any number of channels; they are averaged."""

    def measure(self, pixels: Pixels) -> NDArray[np.float64]:
        """`measure_strokes` of the pixels (n c h w): (n 5)."""
        return measure_strokes(pixels)


def measure_strokes(pixels: Pixels) -> NDArray[np.float64]:
    """One row of `NAMES` per image: (n 5). Lengths in pixels, ink in pixels of full white.

    thickness = 2 x ink / outline length, the width of a long stroke. slant = shear: pixels to the
    right per pixel upwards. width (after undoing the slant) and height are those of the upright bar
    with the same second moments. All values of an empty image are 0.
    """
    grey = to_channels(pixels, 1)[:, 0].astype(np.float64) / 255
    ink = grey.sum((1, 2))
    mass = np.maximum(ink, 1e-12)

    # Central second moments of the ink, in pixels squared; y counts downwards.
    y, x = np.mgrid[: grey.shape[1], : grey.shape[2]]
    dx = x - ((grey * x).sum((1, 2)) / mass)[:, None, None]
    dy = y - ((grey * y).sum((1, 2)) / mass)[:, None, None]
    xx, yy, xy = ((grey * m).sum((1, 2)) / mass for m in (dx * dx, dy * dy, dx * dy))

    # A bar of w whole pixels has variance (w^2 - 1) / 12 along its width.
    slant = -xy / np.maximum(yy, 1e-12)
    upright = np.maximum(xx - slant**2 * yy, 0)
    width, height = np.sqrt(12 * upright + 1), np.sqrt(12 * yy + 1)
    rows = np.stack([ink, _thickness(grey, ink), slant, width, height], axis=1)
    return np.where((ink > 0)[:, None], rows, 0.0)


def _thickness(grey: NDArray[np.float64], ink: NDArray[np.float64]) -> NDArray[np.float64]:
    # The outline's length is the total variation of the ink (coarea formula).
    framed = np.pad(grey, ((0, 0), (1, 1), (1, 1)))
    down = np.diff(framed, axis=1)[:, :, :-1]
    right = np.diff(framed, axis=2)[:, :-1, :]
    outline = np.hypot(down, right).sum((1, 2))
    return np.asarray(2 * ink / np.maximum(outline, 1e-12))
