"""Points of the plane from known blobs: data whose truth is known, to try a training on.

The ring of eight and the grid of twenty-five Gaussians of the literature (Metz et al. 2017,
Unrolled GAN, section 3.1: radius 2, deviation 0.02; Dumoulin et al. 2017, ALI, appendix: centres at
-4, -2, 0, 2, 4, deviation 0.05), scaled to fit -1..1. A point is an image of one pixel with two
channels, x and y, so the same loop trains on it. Pixels are bytes: coordinates are on a lattice of
1 / 127.5, finer than the blobs are wide.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from controlgen.images import to_unit
from controlgen.rng import stream
from controlgen.types import Indices, Pixels, Shape

Layout = Literal["ring", "grid"]
Points = NDArray[np.float64]
RING, RING_RADIUS, RING_SPREAD = 8, 2.0, 0.02
GRID, GRID_STEP, GRID_SPREAD = 5, 2.0, 0.05
WAVES, WIDTH = 128, 0.3  # of the features
REACH = 0.8  # of the outermost centres, on each axis


class Toy:
    """`n` points of a layout: image_shape (2, 1, 1). `centres` (k 2) and `spread` are the truth."""

    def __init__(self, layout: Layout, n: int = 20_000, seed: int = 0) -> None:
        self.centres, self.spread = _truth(layout)
        draws = stream(seed, f"toy {layout}", n)
        which = draws.integers(0, len(self.centres), n)
        points = self.centres[which] + self.spread * draws.standard_normal((n, 2))
        self.layout = layout
        self._pixels = np.rint((points + 1) * 127.5).clip(0, 255).astype(np.uint8)[..., None, None]

    @property
    def image_shape(self) -> Shape:
        """Two channels of one pixel."""
        return (2, 1, 1)

    def __len__(self) -> int:
        return len(self._pixels)

    def pixels(self, indices: Indices) -> Pixels:
        """Pixels (n 2 1 1), a copy. Raises IndexError beyond the last point."""
        return self._pixels[indices].copy()


def points_of(pixels: Pixels) -> Points:
    """Pixels (n 2 1 1) -> coordinates (n 2) in -1..1."""
    return to_unit(pixels).flatten(1).double().numpy()


def toy_features(pixels: Pixels) -> NDArray[np.float64]:
    """Pixels (n 2 1 1) -> features (n 256) in which moments tell blobs apart.

    Of points themselves, mean and covariance say nothing about blobs. These are random Fourier
    features (Rahimi and Recht 2007) of a Gaussian kernel about as wide as blobs lie apart: inner
    products are about exp(-|x - y|^2 / (2 WIDTH^2)).
    """
    turns = stream(0, "toy features").standard_normal((2, WAVES)) / WIDTH
    phases = points_of(pixels) @ turns
    return np.concatenate([np.cos(phases), np.sin(phases)], 1) / math.sqrt(WAVES)


def _truth(layout: Layout) -> tuple[Points, float]:
    # Centres (k 2) and deviation, scaled together.
    if layout == "ring":
        angles = 2 * math.pi * np.arange(RING) / RING
        centres, spread = RING_RADIUS * np.stack([np.cos(angles), np.sin(angles)], 1), RING_SPREAD
    else:
        steps = GRID_STEP * (np.arange(GRID) - GRID // 2)
        centres, spread = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2), GRID_SPREAD
    scale = REACH / np.abs(centres).max()
    return scale * centres, scale * spread
