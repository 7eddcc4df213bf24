"""Pen points drawn as grey images, and attributes measured on them. All lengths in pixels."""

import numpy as np
from numpy.typing import NDArray

from controlgen.types import Pixels

Floats = NDArray[np.float32]
SIDE = 28
ATTRIBUTES = ("ink", "stroke", "slant", "width", "height")
_GRID = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2  # pixel centres about the middle


def draw_strokes(points: Floats, lengths: Floats, radius: Floats, softness: Floats) -> Floats:
    """Ink 0..1 (n 28 28) of strokes of half-width `radius` (n) with edges `softness` (n) wide.

    `points` (n p 2) are x, y about the image's middle and `lengths` (n p) the piece of stroke that
    each point represents, times its pressure. The ink is a level set of the line integral of a
    Gaussian along the stroke, which for a straight line is sqrt(2 pi) s exp(-d^2 / 2 s^2) at
    distance d, so that the half-way level lies at d = radius; where strokes meet the integrals add,
    as ink does. s stays below the radius, so that neighbouring strokes do not merge, and above the
    points' spacing.
    """
    spread = np.maximum(0.55 * radius, 0.62)[:, None, None]
    along_x = np.exp(-((points[:, :, :1] - _GRID) ** 2) / (2 * spread**2))
    along_y = np.exp(-((points[:, :, 1:] - _GRID) ** 2) / (2 * spread**2))
    integral = np.matmul((along_y * lengths[:, :, None]).transpose(0, 2, 1), along_x)
    level = np.log(integral / (np.sqrt(2 * np.pi) * spread) + 1e-12)
    edge = radius[:, None, None]
    inward = (edge**2 + 2 * level * spread**2) / (2 * edge)
    ink = np.clip(0.5 + inward / softness[:, None, None], 0, 1)
    return np.asarray(ink, np.float32)


def fit_to_box(points: Floats, margin: Floats, height: Floats) -> tuple[Floats, Floats]:
    """Scale (n), then shift (n 2), that centre the points' box with `margin` (n) on every side
    and make its longer side `height` (n) pixels.
    """
    low, high = points.min(1), points.max(1)
    extent = np.maximum((high - low).max(1), 1e-3)
    scale = np.maximum(height - 2 * margin, 1) / extent
    return scale, -(low + high) / 2 * scale[:, None]


def measure_digits(pixels: Pixels) -> Floats:
    """ATTRIBUTES of each image (n 1 h w): float32 (n 5).

    ink: area in pixels, weighted by grey. stroke: mean width in pixels, twice the area over
    the perimeter (the sum of gradient lengths). slant: horizontal drift per pixel of height, from
    second moments, positive where the top leans right. width, height: of the box around pixels
    that are at least half inked. All are 0 for an empty image.
    """
    ink = pixels[:, 0].astype(np.float32) / 255
    area = ink.sum((1, 2))
    safe = np.maximum(area, 1e-6)
    across, down = np.gradient(ink, axis=2), np.gradient(ink, axis=1)
    perimeter = np.maximum(np.hypot(across, down).sum((1, 2)), 1e-6)

    # Second moments about the centre of mass.
    rows, columns = ink.sum(2), ink.sum(1)
    y = np.arange(ink.shape[1], dtype=np.float32)
    x = np.arange(ink.shape[2], dtype=np.float32)
    dy = y - ((rows * y).sum(1) / safe)[:, None]
    dx = x - ((columns * x).sum(1) / safe)[:, None]
    covariance = np.einsum("nyx,ny,nx->n", ink, dy, dx) / safe
    variance = np.maximum(np.einsum("ny,ny->n", rows, dy**2) / safe, 1e-6)

    solid = ink > 0.5
    height, width = _extent(np.asarray(solid.any(2))), _extent(np.asarray(solid.any(1)))
    slant = np.where(area > 0, -covariance / variance, 0)
    attributes = (area, 2 * area / perimeter, slant, width, height)
    return np.stack(attributes, 1).astype(np.float32)


def _extent(occupied: NDArray[np.bool_]) -> NDArray[np.float32]:
    last = occupied.shape[1] - np.argmax(occupied[:, ::-1], 1)
    length = last - np.argmax(occupied, 1)
    return np.where(occupied.any(1), length, 0).astype(np.float32)
