"""Means with 95 % percentile bootstrap intervals (Efron, 1979) over independent sources."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.rng import stream

LEVELS = (2.5, 97.5)  # percentiles that enclose 95 %


class Interval(NamedTuple):
    """A mean, its 95 % bootstrap interval, and the number of independent sources behind it."""

    mean: float
    low: float
    high: float
    n: int


def interval(
    values: NDArray[np.generic],
    seed: int,
    bootstraps: int = 1000,
    sources: NDArray[np.int64] | None = None,
) -> Interval:
    """Mean of `values` (m) with its interval; the same seed gives the same interval.

    `sources` (m) says which source each value came from: values of one source are drawn together,
    because they are not independent. Left out, every value is a source of its own.
    Raises ValueError where there is nothing to average.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError("interval: needs a non-empty vector of values")

    # Values of one source are summed first, so that a draw takes a source whole.
    owners = np.arange(len(numbers)) if sources is None else sources
    _, positions = np.unique(owners, return_inverse=True)
    sums, counts = np.bincount(positions, numbers), np.bincount(positions)

    # How often each source is drawn is all that a resampled mean needs.
    drawn = resample_counts(len(sums), seed, bootstraps)
    means = (drawn @ sums) / (drawn @ counts)
    low, high = np.percentile(means, LEVELS)
    return Interval(float(numbers.mean()), float(low), float(high), len(sums))


def resampled(
    measure: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    sources: NDArray[np.int64],
    seed: int,
    bootstraps: int = 1000,
) -> Interval:
    """A measure that is no mean, with its interval: items (m) of one source are drawn together.

    `measure` takes weights (draws m), how often each item counts, and answers one number a draw.
    Raises ValueError where there is no item.
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

    Read-only, and kept for the next measure of the same n: drawing costs more than averaging.
    """
    draws = stream(seed, "bootstrap", n)
    counts = draws.multinomial(n, np.full(n, 1 / n), size=bootstraps).astype(np.float64)
    counts.setflags(write=False)
    return counts
