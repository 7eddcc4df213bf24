"""Metrics of a slider for one attribute: rank correlation, slopes, leakage, usable range.

s sources, k amounts, a attributes. Slopes (... a a) hold, at [i, j], the change of attribute j in
sigmas per requested sigma of attribute i; leading axes are batched.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from controlgen.metrics.bootstrap import Interval, resample_counts

Floats = NDArray[np.float64]
Share = Callable[[Floats], Floats]  # slopes (... a a) -> a share, 0..1, of each matrix (...)


def rank_correlation(amounts: Floats, values: Floats) -> Floats:
    """Spearman's correlation (s), -1..1, of the amounts (k) and each source's values (s k).

    Pearson's correlation of mid-ranks, which handles ties (Kendall 1948). A source whose values are
    all equal scores 0.
    """
    ranks = rankdata(np.vstack([amounts, values]), axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    lengths = np.linalg.norm(ranks, axis=1)
    products = ranks[1:] @ ranks[0]
    return np.asarray(products / np.where(lengths[1:] > 0, lengths[1:] * lengths[0], 1.0))


def least_squares_slopes(amounts: Floats, values: Floats) -> Floats:
    """Least-squares slope (s a) of each source's attributes (s k a) over the amounts (k)."""
    centred = amounts - amounts.mean()
    return np.asarray(np.einsum("k,ska->sa", centred, values) / (centred @ centred))


def leakage_matrix(slopes: Floats) -> Floats:
    """M (... a a): change of attribute j in sigmas per obtained sigma of attribute i.

    M[i, j] = slope[i, j] / slope[i, i], both over the requested amounts: the amount is an
    instrument, so that noise in the measured attribute i does not shrink the ratio, as it would in
    a regression of j on i. The diagonal is 1; a row whose own attribute did not change at all is
    NaN.
    """
    own = np.diagonal(slopes, axis1=-2, axis2=-1)[..., None]
    return np.asarray(np.divide(slopes, own, out=np.full_like(slopes, np.nan), where=own != 0))


def row_shares(slopes: Floats) -> Floats:
    """|slope[i, j]| over its row's sum (... a a), 0..1: the share of the change in each
    attribute.

    The same for slopes and for the leakage matrix, because a row's scale cancels. A row without any
    change stays zero.
    """
    sizes = np.abs(slopes)
    totals = sizes.sum(-1, keepdims=True)
    return np.asarray(sizes / np.where(totals > 0, totals, 1.0))


def diagonal_share(slopes: Floats) -> Floats:
    """Mean of the diagonal of `row_shares` (...), 0..1: 1 if each slider changes its attribute
    alone.

    A slider that changes all a attributes equally scores 1/a, one that changes nothing 0.
    """
    return np.asarray(np.diagonal(row_shares(slopes), axis1=-2, axis2=-1).mean(-1))


def share_towards(slopes: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Floats:
    """Mean share (...), 0..1, of the change requested by `rows` that went into `columns`."""
    shares = row_shares(slopes)[..., rows, :][..., columns]
    return np.asarray(shares.sum(-1).mean(-1))


def share_interval(share: Share, slopes: Floats, seed: int, bootstraps: int = 1000) -> Interval:
    """A share of the mean of the sources' slopes (s a a), with its 95 % bootstrap interval.

    Sources are resampled as a whole, their slopes averaged in every draw, then the share is taken.
    The interval is the share plus and minus 1.96 standard deviations of the draws, within 0..1 (the
    normal interval of Efron & Tibshirani 1993, section 12.6). Percentiles fail here: noise in a
    mean only increases its absolute value, so all draws of a high diagonal share can lie below it.
    For the same reason the share itself is biased low with few noisy sources, and its interval
    covers a true share of 1 in about three of four cases only.
    """
    sources = len(slopes)
    counts = resample_counts(sources, seed, bootstraps)
    draws = share(np.tensordot(counts, slopes, axes=1) / sources)
    estimate, half = float(share(slopes.mean(0))), 1.96 * float(draws.std())
    return Interval(estimate, max(estimate - half, 0.0), min(estimate + half, 1.0), sources)


def usable_range(amounts: Floats, means: Floats) -> tuple[float, float]:
    """The widest range of amounts (k) around 0 in which the mean attribute (k) increases
    strictly.

    Both ends are 0 if the attribute does not increase on either side. Raises ValueError if 0 is not
    one of the amounts.
    """
    zeros = np.flatnonzero(amounts == 0)
    if not len(zeros):
        raise ValueError("usable_range: 0 must be one of the amounts")
    low = high = int(zeros[0])
    while high + 1 < len(means) and means[high + 1] > means[high]:
        high += 1
    while low > 0 and means[low - 1] < means[low]:
        low -= 1
    return float(amounts[low]), float(amounts[high])
