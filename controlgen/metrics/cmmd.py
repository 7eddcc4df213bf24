"""CMMD: squared maximum mean discrepancy of unit features under a Gaussian kernel.

Jayasumana et al. 2024, "Rethinking FID: Towards a Better Evaluation Metric for Image Generation":
k(x, y) = exp(-|x - y|^2 / (2 sigma^2)) with sigma 10, the biased estimate (V-statistic), times
1000. Lower is better; from 0 to 1000 (2 - 2 exp(-2 / sigma^2)), about 39.6. It assumes no normal
distribution, and its bias falls as 1 / n and is small, so it can be read at small n where FID
cannot; the floor of real against real images at the same n belongs beside it all the same. The name
CMMD is CLIP ViT-L/14's (`metrics.names`).
"""

import numpy as np
from numpy.typing import NDArray

from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.kernel import estimate_of, pair_means, with_estimate

SIGMA = 10.0
SCALE = 1000.0
Rows = NDArray[np.floating]


def gaussian_kernel_minus_one(a: Rows, b: Rows) -> NDArray[np.float64]:
    """exp(-|x - y|^2 / (2 sigma^2)) - 1 of all rows of a (n d) and b (m d), scaled to length one.

    For unit rows |x - y|^2 = 2 - 2 x.y. Subtracting one keeps the digits: all kernels lie within
    0.04 of one, and one cancels in any MMD. Raises ValueError on a row without direction.
    """
    left = _unit(a)
    right = left if a is b else _unit(b)
    table: NDArray[np.float64] = left @ right.T  # half as much work where both are one
    table -= 1
    table /= SIGMA**2
    return np.expm1(table, out=table)


def cmmd(a: Rows, b: Rows, seed: int, bootstraps: int = 200) -> Interval:
    """1000 MMD^2 (V-statistic) between rows a (n d) and b (m d), with its 95 % interval.

    Rows are scaled to length one first. `n` of the answer is the smaller set. In the draws of the
    interval no row meets its own copies (the V-statistic's bias, the same for every draw, is put
    back), and its ends stop at 0. Memory holds one table of 512 x 512 pairs, and the counts of
    the draws: 16 bootstraps (n + m) bytes at most.
    Raises ValueError where a set has fewer than two rows, the sizes differ, or a row is zero.
    """
    if min(len(a), len(b)) < 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"cmmd: needs two sets of rows, got {a.shape} and {b.shape}")
    drawn = with_estimate(len(a), seed, bootstraps), with_estimate(len(b), seed + 1, bootstraps)
    means = pair_means(gaussian_kernel_minus_one, a, b, *drawn)

    # A row with itself adds k - 1 = 0: the V-statistic is the mean over n (n - 1) pairs shrunk.
    within = means.within_a * (1 - 1 / len(a)) + means.within_b * (1 - 1 / len(b))
    values = np.maximum(SCALE * (within - 2 * means.across), 0)
    return estimate_of(values, min(len(a), len(b)))


def _unit(rows: Rows) -> NDArray[np.float64]:
    numbers = rows.astype(np.float64)
    lengths = np.linalg.norm(numbers, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise ValueError("cmmd: a row of zeros (or of what is no number) has no direction")
    numbers /= lengths
    return numbers
