"""Standard errors by the jackknife, for metrics whose bootstrap draws would be biased.

A bootstrap draw holds about two rows in three, so a metric that is biased at small n is more biased
in every draw, and its percentiles miss the estimate. Leaving out one part at a time changes n
equally in all parts, and the bias cancels in their spread (Efron and Stein 1981).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from controlgen.metrics.bootstrap import LEVELS


def jackknife_error(left_out: NDArray[np.floating]) -> float:
    """Standard error of a measure from its values with each of g parts left out: (g) -> >= 0.

    sqrt((g - 1) / g * sum (v_i - mean)^2); exact for a mean. Raises ValueError below two parts.
    """
    parts = len(left_out)
    if parts < 2:
        raise ValueError(f"jackknife_error: needs two parts to leave out, got {parts}")
    deviations = np.asarray(left_out, np.float64) - np.mean(left_out, dtype=np.float64)
    return float(np.sqrt((parts - 1) / parts * np.square(deviations).sum()))


def half_width(error: float, parts: int) -> float:
    """How far a 95 % interval reaches to each side: Student's t with parts - 1 degrees."""
    return float(t.ppf(LEVELS[1] / 100, parts - 1) * error)
