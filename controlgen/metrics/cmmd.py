"""CMMD: squared maximum mean discrepancy of unit features under a Gaussian kernel.

Jayasumana et al. 2024, "Rethinking FID: Towards a Better Evaluation Metric for Image Generation":
k(x, y) = exp(-|x - y|^2 / (2 sigma^2)) with sigma 10, the biased estimate (V-statistic), times
1000. Lower is better; from 0 to 1000 (2 - 2 exp(-2 / sigma^2)), about 39.6. It assumes no normal
distribution; its bias falls as 1 / n and is small, so it is usable at small n where FID is not. The
floor of real against real images at the same n should still be reported. The name CMMD belongs to
CLIP ViT-L/14 (`metrics.naming`).
"""

import numpy as np
from numpy.typing import NDArray

from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.kernel import bootstrap_counts, bootstrap_interval, pair_means

SIGMA = 10.0
SCALE = 1000.0
Rows = NDArray[np.floating]


def gaussian_kernel_minus_one(a: Rows, b: Rows) -> NDArray[np.float64]:
    """exp(-|x - y|^2 / (2 sigma^2)) - 1 of all rows of a (n d) and b (m d), scaled to unit
    length.

    For unit rows |x - y|^2 = 2 - 2 x.y. Subtracting one preserves the digits: all kernels lie
    within 0.04 of one, and one cancels in any MMD. Raises ValueError for a row of zeros.
    """
    left = _unit(a)
    right = left if a is b else _unit(b)
    table: NDArray[np.float64] = left @ right.T  # half the work if both are the same
    table -= 1
    table /= SIGMA**2
    return np.expm1(table, out=table)


def cmmd(a: Rows, b: Rows, seed: int, bootstraps: int = 200) -> Interval:
    """1000 MMD^2 (V-statistic) between rows a (n d) and b (m d), with its 95 % interval.

    Rows are scaled to unit length first. `n` of the result is the size of the smaller set. In the
    draws of the interval no row meets its own copies (the V-statistic's bias, equal for every draw,
    is added afterwards), and its ends stop at 0. Memory: a table of 512 x 512 pairs and the counts
    of the draws, at most 16 bootstraps (n + m) bytes. Raises ValueError if a set has fewer than two
    rows, the sizes differ, or a row is zero.
    """
    if min(len(a), len(b)) < 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"cmmd: needs two sets of rows, got {a.shape} and {b.shape}")
    counts = (
        bootstrap_counts(len(a), seed, bootstraps),
        bootstrap_counts(len(b), seed + 1, bootstraps),
    )
    means = pair_means(gaussian_kernel_minus_one, a, b, *counts)

    # A row with itself adds k - 1 = 0: the V-statistic is the mean over n (n - 1) pairs shrunk.
    within = means.within_a * (1 - 1 / len(a)) + means.within_b * (1 - 1 / len(b))
    values = np.maximum(SCALE * (within - 2 * means.across), 0)
    return bootstrap_interval(values, min(len(a), len(b)))


def _unit(rows: Rows) -> NDArray[np.float64]:
    numbers = rows.astype(np.float64)
    lengths = np.linalg.norm(numbers, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise ValueError("cmmd: a row of zeros (or of what is no number) has no direction")
    numbers /= lengths
    return numbers
