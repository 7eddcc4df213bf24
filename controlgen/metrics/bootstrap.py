"""Means with 95 % percentile bootstrap intervals (Efron, 1979) over independent sources."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.rng import stream

LEVELS = (2.5, 97.5)  # percentiles that enclose 95 %


class Interval(NamedTuple):
    """A mean, its 95 % bootstrap interval, and its number of independent sources."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(
    values: NDArray[np.generic],
    seed: int,
    bootstraps: int = 1000,
    sources: NDArray[np.int64] | None = None,
) -> Interval:
    """Mean of `values` (m) with its 95 % bootstrap interval; reproducible for a seed.

    `sources` (m) numbers the source of each value: values of one source are resampled together,
    because they are not independent. By default every value is its own source. Raises ValueError if
    there are no values.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError("interval: needs a non-empty vector of values")

    # Values of one source are summed first, so that a source is resampled as a whole.
    owners = np.arange(len(numbers)) if sources is None else sources
    _, positions = np.unique(owners, return_inverse=True)
    sums, counts = np.bincount(positions, numbers), np.bincount(positions)

    # A resampled mean needs only the number of times that each source is drawn.
    resamples = resample_counts(len(sums), seed, bootstraps)
    means = (resamples @ sums) / (resamples @ counts)
    low, high = np.percentile(means, LEVELS)
    return Interval(float(numbers.mean()), float(low), float(high), len(sums))


def statistic_interval(
    measure: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    sources: NDArray[np.int64],
    seed: int,
    bootstraps: int = 1000,
) -> Interval:
    """A statistic other than a mean, with its interval: items (m) of one source are resampled
    together.

    `measure` takes weights (draws m), the multiplicity of each item, and returns a number per draw.
    Raises ValueError if there are no items.
    """
    if not len(sources):
        raise ValueError("resampled: needs at least one item")
    _, positions = np.unique(sources, return_inverse=True)
    n = int(positions.max()) + 1
    low, high = np.percentile(measure(resample_counts(n, seed, bootstraps)[:, positions]), LEVELS)
    return Interval(float(measure(np.ones((1, len(sources))))[0]), float(low), float(high), n)


@lru_cache(maxsize=4)
def resample_counts(n: int, seed: int, bootstraps: int) -> NDArray[np.float64]:
    """How often each of n sources appears in each bootstrap draw: (bootstraps n), rows sum to n.

    Read-only and cached: drawing costs more than averaging.
    """
    draws = stream(seed, "bootstrap", n)
    counts = draws.multinomial(n, np.full(n, 1 / n), size=bootstraps).astype(np.float64)
    counts.setflags(write=False)
    return counts
