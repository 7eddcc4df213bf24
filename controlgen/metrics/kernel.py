"""Kernel distance: unbiased MMD^2 with a cubic kernel, the KID of Binkowski et al. (2018).

Lower is better; 0 is expected for equal distributions, and slightly negative values occur. It is
unbounded. The name KID belongs to Inception's features (`metrics.naming`).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.metrics.bootstrap import LEVELS, Interval, resample_counts

Rows = NDArray[np.floating]
Floats = NDArray[np.float64]
Kernel = Callable[[Rows, Rows], Floats]  # rows (n d) and (m d) -> a table (n m) of its own
BLOCK = 512  # rows on either side of one table, which so stays in the cache


def cubic_kernel(a: Rows, b: Rows) -> Floats:
    """k(x, y) = (x.y / d + 1)^3 for all rows of a (n d) and b (m d): (n m)."""
    left = np.asarray(a, np.float64)
    right = left if a is b else np.asarray(b, np.float64)
    table: Floats = left @ right.T  # half the work if both are the same
    table /= a.shape[1]
    table += 1
    cube = table * table
    cube *= table
    return cube


def kernel_distance(a: Rows, b: Rows, seed: int, bootstraps: int = 1000) -> Interval:
    """Unbiased MMD^2 between rows a (n d) and b (m d) with its bootstrap interval.

    It can be negative: its expectation is zero where both come from one distribution. `n` of the
    answer is the smaller set. Memory holds one table of BLOCK x BLOCK pairs and the counts of the
    draws, 8 bootstraps (n + m) bytes. Raises ValueError where a set has fewer than two rows.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"kernel_distance: needs two rows a side, got {len(a)} and {len(b)}")
    counts = (
        bootstrap_counts(len(a), seed, bootstraps),
        bootstrap_counts(len(b), seed + 1, bootstraps),
    )
    means = pair_means(cubic_kernel, a, b, *counts)
    values = means.within_a + means.within_b - 2 * means.across
    return bootstrap_interval(values, min(len(a), len(b)))


def bootstrap_interval(values: Floats, n: int) -> Interval:
    """The first of the values (1 + B) with the 95 % that the others, its draws, enclose.

    A draw that holds one row alone has no pair and no value (NaN): it is left out, and can happen
    among a handful of rows only. Raises ValueError where that leaves no draw.
    """
    draws = values[1:][np.isfinite(values[1:])]
    if not len(draws):
        raise ValueError(f"estimate_of: no draw of {n} rows holds a pair; give more rows or draws")
    low, high = np.percentile(draws, LEVELS)
    return Interval(float(values[0]), float(low), float(high), n)


def bootstrap_counts(n: int, seed: int, bootstraps: int) -> Floats:
    """Bootstrap counts (1 + bootstraps, n) whose first row draws every row exactly once.

    That row makes the estimate itself, in the same pass as its draws.
    """
    return np.concatenate([np.ones((1, n)), resample_counts(n, seed, bootstraps)])


class PairMeans(NamedTuple):
    """Mean kernel of each draw (B): between rows of a, between rows of b, across the two."""

    within_a: Floats
    within_b: Floats
    across: Floats


def pair_means(kernel: Kernel, a: Rows, b: Rows, drawn_a: Floats, drawn_b: Floats) -> PairMeans:
    """Mean kernel over pairs of rows a (n d) and b (m d), each drawn so many times: (B n), (B m).

    Within a set a row never meets itself, nor its own copies, so no draw is biased. Kernels are
    evaluated once, block by block, and the symmetric half is not evaluated at all. NaN stands where
    a draw holds one row alone, and so no pair.
    """
    same = []
    for rows, counts in ((a, drawn_a), (b, drawn_b)):
        pairs = counts.sum(1) ** 2 - np.square(counts).sum(1)
        same.append(_within(kernel, rows, counts) / np.where(pairs > 0, pairs, np.nan))
    crossed = np.zeros(len(drawn_a))
    for i in _blocks(len(a)):
        for j in _blocks(len(b)):
            crossed += _weighted(kernel(a[i], b[j]), drawn_a[:, i], drawn_b[:, j])
    return PairMeans(same[0], same[1], crossed / (drawn_a.sum(1) * drawn_b.sum(1)))


def _within(kernel: Kernel, rows: Rows, counts: Floats) -> Floats:
    # Sum over ordered pairs of different rows, from the tables on and above the diagonal.
    total = np.zeros(len(counts))
    for i in _blocks(len(rows)):
        own = rows[i]
        for j in _blocks(len(rows)):
            if j.start < i.start:
                continue
            table = kernel(own, own if i == j else rows[j])
            if i == j:
                np.fill_diagonal(table, 0)
            share = _weighted(table, counts[:, i], counts[:, j])
            total += share if i == j else 2 * share
    return total


def _weighted(table: Floats, drawn_rows: Floats, drawn_columns: Floats) -> Floats:
    return np.asarray(((drawn_rows @ table) * drawn_columns).sum(1))


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
