"""Arithmetic on rows of features and latents."""

import numpy as np
from numpy.typing import NDArray

from controlgen.utils.rows import EPS, normalize_rows

Rows = NDArray[np.float32]
MAX_MAGNITUDE = 1e6  # of an amount, weight or entry of a row; float32 holds squares of products


def add_direction(features: Rows, direction: Rows, amount: float = 1.0) -> Rows:
    """features + amount * direction, normalised: the target of an edit."""
    return normalize_rows(features + np.float32(amount) * direction)


def mean(features: Rows) -> Rows:
    """The normalised mean of rows (n d): (d)."""
    return normalize_rows(features.mean(axis=0))


def lerp(start: Rows, end: Rows, position: float) -> Rows:
    """Linear interpolation at 0..1, not normalised."""
    return np.asarray((1 - position) * start + position * end, np.float32)


def slerp(start: Rows, end: Rows, position: float) -> Rows:
    """Spherical interpolation (Shoemake 1985) row by row; the norm is interpolated linearly.

    For latents (norm about sqrt(z)) and features (norm 1). Equal and opposite rows have no unique
    great circle and are interpolated linearly.
    """
    norms = [np.linalg.norm(rows, axis=-1, keepdims=True) for rows in (start, end)]
    a, b = start / np.maximum(norms[0], EPS), end / np.maximum(norms[1], EPS)
    angle = np.arccos(np.clip((a * b).sum(-1, keepdims=True), -1, 1))
    sine = np.sin(angle)
    safe = np.where(sine < 1e-6, 1, sine)
    curved = (np.sin((1 - position) * angle) * a + np.sin(position * angle) * b) / safe
    unit = np.where(sine < 1e-6, lerp(a, b, position), curved)
    return np.asarray(unit * lerp(norms[0], norms[1], position), np.float32)


def paired_cosine(a: Rows, b: Rows) -> Rows:
    """Cosine of paired rows (n); 0 where a row is zero."""
    return np.asarray((normalize_rows(a) * normalize_rows(b)).sum(-1), np.float32)
