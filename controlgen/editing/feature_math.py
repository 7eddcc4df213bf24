"""Arithmetic on features and latents: rows in, rows out, lengths kept where they mean something."""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
TINY = 1e-12
LARGEST = 1e6  # amount, weight or entry of a row that is taken; float32 holds squares of products


def unit(rows: Rows) -> Rows:
    """Rows scaled to length 1 (a zero row stays zero): onto the sphere that features live on."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, TINY), np.float32)


def add(features: Rows, direction: Rows, amount: float = 1.0) -> Rows:
    """features + amount * direction, back on the unit sphere: what an edit asks for."""
    return unit(features + np.float32(amount) * direction)


def subtract(features: Rows, direction: Rows, amount: float = 1.0) -> Rows:
    """features - amount * direction, back on the unit sphere."""
    return add(features, direction, -amount)


def mean(features: Rows) -> Rows:
    """The mean direction of a group: rows (n d) -> one unit row (d)."""
    return unit(features.mean(axis=0))


def between(start: Rows, end: Rows, position: float) -> Rows:
    """Straight interpolation at 0..1, not renormalised."""
    return np.asarray((1 - position) * start + position * end, np.float32)


def slerp(start: Rows, end: Rows, position: float) -> Rows:
    """Spherical interpolation (Shoemake 1985) row by row; the norm moves linearly between the ends.

    Right for latents (their norm is about sqrt(z)) and for features (norm 1). Opposite rows have no
    shortest way between them: there, and for equal rows, the straight way is taken.
    """
    norms = [np.linalg.norm(rows, axis=-1, keepdims=True) for rows in (start, end)]
    a, b = start / np.maximum(norms[0], TINY), end / np.maximum(norms[1], TINY)
    angle = np.arccos(np.clip((a * b).sum(-1, keepdims=True), -1, 1))
    sine = np.sin(angle)
    safe = np.where(sine < 1e-6, 1, sine)
    curved = (np.sin((1 - position) * angle) * a + np.sin(position * angle) * b) / safe
    turned = np.where(sine < 1e-6, between(a, b, position), curved)
    return np.asarray(turned * between(norms[0], norms[1], position), np.float32)


def cosine(a: Rows, b: Rows) -> Rows:
    """Cosine of paired rows (n); 0 where a row is zero."""
    return np.asarray((unit(a) * unit(b)).sum(-1), np.float32)
