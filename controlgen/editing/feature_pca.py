"""What a bank's features span: their principal components, and what of a direction lies inside."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from controlgen.types import Direction, Features

SHARE = 0.999  # of the variance that the kept components explain


@dataclass(frozen=True)
class Statistics:
    """Mean (d), principal components (k d) as orthonormal rows, and their variances (k)."""

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    variances: NDArray[np.float32]

    @classmethod
    def of(cls, features: Features) -> Self:
        """From bank features (n d): the fewest components that explain 99.9 % of the variance."""
        table = np.asarray(features, np.float64)
        mean = table.mean(0)
        variances, columns = np.linalg.eigh(np.cov(table - mean, rowvar=False))
        order = np.argsort(variances)[::-1]
        variances, components = np.maximum(variances[order], 0), columns.T[order]
        explained = np.cumsum(variances) / max(variances.sum(), 1e-30)
        kept = int(np.searchsorted(explained, SHARE)) + 1
        kinds = (mean, components[:kept], variances[:kept])
        return cls(*(np.ascontiguousarray(kind, np.float32) for kind in kinds))

    def project(self, direction: Direction) -> Direction:
        """The part (d) of a direction that the bank's images span; the rest no image can follow."""
        return np.asarray((direction @ self.components.T) @ self.components, np.float32)

    def share_inside(self, direction: Direction) -> float:
        """Squared length inside the span over the whole, 0..1; 0 for a zero direction.

        Whatever the length: a row of float32 near 1e19 has a square that float32 does not hold.
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
