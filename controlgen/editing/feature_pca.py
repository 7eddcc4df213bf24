"""Principal components of a bank's features, and the part of a direction within their span."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from controlgen.types import Direction, Features

EXPLAINED_VARIANCE = 0.999  # share of the variance that the components explain


@dataclass(frozen=True)
class FeaturePCA:
    """Mean (d), principal components (k d) as orthonormal rows, and their variances (k)."""

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    variances: NDArray[np.float32]

    @classmethod
    def fit(cls, features: Features) -> Self:
        """From bank features (n d): the fewest components that explain 99.9 % of the variance."""
        table = np.asarray(features, np.float64)
        mean = table.mean(0)
        variances, columns = np.linalg.eigh(np.cov(table - mean, rowvar=False))
        order = np.argsort(variances)[::-1]
        variances, components = np.maximum(variances[order], 0), columns.T[order]
        explained = np.cumsum(variances) / max(variances.sum(), 1e-30)
        k = int(np.searchsorted(explained, EXPLAINED_VARIANCE)) + 1
        arrays = (mean, components[:k], variances[:k])
        return cls(*(np.ascontiguousarray(array, np.float32) for array in arrays))

    def project(self, direction: Direction) -> Direction:
        """The part (d) of a direction within the span of the bank; no image follows the rest."""
        return np.asarray((direction @ self.components.T) @ self.components, np.float32)

    def explained_share(self, direction: Direction) -> float:
        """Share of the squared length within the span, 0..1; 0 for a zero direction.

        Rows near 1e19, whose square exceeds float32, are scaled first.
        """
        largest = float(np.abs(direction).max(initial=0))
        if largest == 0:
            return 0.0
        row = np.asarray(direction, np.float64) / largest
        inside = self.project(row)
        # Rounding may leave a share just above 1.
        return min(float(inside @ inside) / float(row @ row), 1.0)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays, for saving."""
        return {"mean": self.mean, "components": self.components, "variances": self.variances}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """From `arrays()`."""
        return cls(arrays["mean"], arrays["components"], arrays["variances"])
