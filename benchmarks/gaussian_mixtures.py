"""Points of the plane from known Gaussians: a data set with a known truth for training runs.

The ring of eight and the grid of twenty-five Gaussians of the literature (Metz et al. 2017,
Unrolled GAN, section 3.1: radius 2, deviation 0.02; Dumoulin et al. 2017, ALI, appendix: centres at
-4, -2, 0, 2, 4, deviation 0.05), scaled to fit -1..1. A point is an image of one pixel with two
channels, x and y, so the image training loop applies. Pixels are bytes: coordinates lie on a
lattice of 1 / 127.5, finer than the Gaussians are wide.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from controlgen.images import to_signed_float
from controlgen.rng import stream
from controlgen.types import Indices, Pixels, Shape

Layout = Literal["ring", "grid"]
Points = NDArray[np.float64]
RING_MODES, RING_RADIUS, RING_DEVIATION = 8, 2.0, 0.02
GRID_SIDE, GRID_STEP, GRID_DEVIATION = 5, 2.0, 0.05
FREQUENCIES, KERNEL_WIDTH = 128, 0.3  # of the random Fourier features
EXTENT = 0.8  # largest coordinate of a centre


class GaussianMixtureDataset:
    """`n` points of a layout: image_shape (2, 1, 1). `centres` (k 2) and `spread` are the truth."""

    def __init__(self, layout: Layout, n: int = 20_000, seed: int = 0) -> None:
        self.centres, self.spread = _mixture(layout)
        draws = stream(seed, f"toy {layout}", n)
        modes = draws.integers(0, len(self.centres), n)
        points = self.centres[modes] + self.spread * draws.standard_normal((n, 2))
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


def to_points(pixels: Pixels) -> Points:
    """Pixels (n 2 1 1) -> coordinates (n 2) in -1..1."""
    return to_signed_float(pixels).flatten(1).double().numpy()


def fourier_features(pixels: Pixels) -> NDArray[np.float64]:
    """Pixels (n 2 1 1) -> features (n 256) whose moments distinguish the modes.

    Mean and covariance of the points themselves do not. These are random Fourier features (Rahimi
    and Recht 2007) of a Gaussian kernel about as wide as the distance between modes: inner products
    are about exp(-|x - y|^2 / (2 KERNEL_WIDTH^2)).
    """
    frequencies = stream(0, "toy features").standard_normal((2, FREQUENCIES)) / KERNEL_WIDTH
    phases = to_points(pixels) @ frequencies
    return np.concatenate([np.cos(phases), np.sin(phases)], 1) / math.sqrt(FREQUENCIES)


def _mixture(layout: Layout) -> tuple[Points, float]:
    # Centres (k 2) and deviation, scaled together.
    if layout == "ring":
        angles = 2 * math.pi * np.arange(RING_MODES) / RING_MODES
        centres = RING_RADIUS * np.stack([np.cos(angles), np.sin(angles)], 1)
        deviation = RING_DEVIATION
    else:
        steps = GRID_STEP * (np.arange(GRID_SIDE) - GRID_SIDE // 2)
        centres = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
        deviation = GRID_DEVIATION
    scale = EXTENT / np.abs(centres).max()
    return scale * centres, scale * deviation
