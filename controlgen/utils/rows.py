"""Rows of arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

EPS = 1e-12  # the least length that a row is divided by


def normalize_rows(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Scale rows (... d) to unit length, float32; a row of zeros stays zero."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, EPS), np.float32)
