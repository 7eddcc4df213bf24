"""Kernel distance: unbiased MMD^2 with a cubic kernel, the KID of Binkowski et al. (2018)."""

import numpy as np
from numpy.typing import NDArray

from controlgen.metrics.bootstrap import LEVELS, Interval, resample_counts


def cubic_kernel(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """k(x, y) = (x.y / d + 1)^3 for all rows of a (n d) and b (m d): (n m)."""
    products = a.astype(np.float64) @ b.astype(np.float64).T
    return np.asarray((products / a.shape[1] + 1) ** 3)


def kernel_distance(
    a: NDArray[np.floating], b: NDArray[np.floating], seed: int, bootstraps: int = 1000
) -> Interval:
    """Unbiased MMD^2 between rows a (n d) and b (m d) with its bootstrap interval.

    It can be negative: its expectation is zero where both come from one distribution. `n` of the
    answer is the smaller set. Raises ValueError where a set has fewer than two rows.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"kernel_distance: needs two rows a side, got {len(a)} and {len(b)}")
    within_a, within_b, across = cubic_kernel(a, a), cubic_kernel(b, b), cubic_kernel(a, b)
    np.fill_diagonal(within_a, 0)
    np.fill_diagonal(within_b, 0)

    # The estimate itself is the case where every row is drawn exactly once.
    once = np.ones((1, len(a))), np.ones((1, len(b)))
    estimate = _weighted(within_a, within_b, across, *once)
    drawn_a = resample_counts(len(a), seed, bootstraps)
    drawn_b = resample_counts(len(b), seed + 1, bootstraps)
    low, high = np.percentile(_weighted(within_a, within_b, across, drawn_a, drawn_b), LEVELS)
    return Interval(float(estimate[0]), float(low), float(high), min(len(a), len(b)))


def _weighted(
    within_a: NDArray[np.float64],
    within_b: NDArray[np.float64],
    across: NDArray[np.float64],
    drawn_a: NDArray[np.float64],
    drawn_b: NDArray[np.float64],
) -> NDArray[np.float64]:
    # MMD^2 of each draw. A row never meets itself, nor its own copies, so no draw is biased.
    same = []
    for kernel, drawn in ((within_a, drawn_a), (within_b, drawn_b)):
        pairs = drawn.sum(1) ** 2 - np.square(drawn).sum(1)
        same.append(((drawn @ kernel) * drawn).sum(1) / pairs)
    crossed = ((drawn_a @ across) * drawn_b).sum(1) / (drawn_a.sum(1) * drawn_b.sum(1))
    return np.asarray(same[0] + same[1] - 2 * crossed)
