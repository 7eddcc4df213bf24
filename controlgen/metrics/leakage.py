"""What a slider of one attribute does to all attributes: order kept, slopes, leakage, usable range.

s sources, k amounts, a attributes. Slopes (... a a) hold, at [i, j], the change of attribute j in
sigmas per sigma asked of attribute i; any leading axes are worked through at once.
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

    Pearson's correlation of mid-ranks, so that ties are counted right (Kendall 1948). A source
    whose values are all equal follows no order: 0.
    """
    ranks = rankdata(np.vstack([amounts, values]), axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    lengths = np.linalg.norm(ranks, axis=1)
    products = ranks[1:] @ ranks[0]
    return np.asarray(products / np.where(lengths[1:] > 0, lengths[1:] * lengths[0], 1.0))


def slopes_over(amounts: Floats, values: Floats) -> Floats:
    """Least-squares slope (s a) of each source's attributes (s k a) over the amounts (k)."""
    centred = amounts - amounts.mean()
    return np.asarray(np.einsum("k,ska->sa", centred, values) / (centred @ centred))


def leakage_matrix(slopes: Floats) -> Floats:
    """M (... a a): change of attribute j in sigmas per sigma of attribute i that was obtained.

    M[i, j] = slope[i, j] / slope[i, i], both over the asked amounts: the amount is an instrument,
    so that noise in the measured attribute i does not shrink the ratio, as it would in a regression
    of j on i. The diagonal is 1; a row whose own attribute was not moved at all is NaN.
    """
    own = np.diagonal(slopes, axis1=-2, axis2=-1)[..., None]
    return np.asarray(np.divide(slopes, own, out=np.full_like(slopes, np.nan), where=own != 0))


def row_shares(slopes: Floats) -> Floats:
    """|slope[i, j]| over its row's sum (... a a), 0..1: where the movement asked of i went.

    The same for slopes and for the leakage matrix, because a row's scale cancels. A row in which
    nothing moved stays zero.
    """
    sizes = np.abs(slopes)
    totals = sizes.sum(-1, keepdims=True)
    return np.asarray(sizes / np.where(totals > 0, totals, 1.0))


def diagonal_share(slopes: Floats) -> Floats:
    """Mean of the diagonal of `row_shares` (...), 0..1: 1 where each slider moves its own alone.

    A slider that moves all a attributes equally scores 1/a, one that moves nothing 0.
    """
    return np.asarray(np.diagonal(row_shares(slopes), axis1=-2, axis2=-1).mean(-1))


def share_into(slopes: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Floats:
    """Mean share (...), 0..1, of the movement asked of `rows` that went into `columns`."""
    shares = row_shares(slopes)[..., rows, :][..., columns]
    return np.asarray(shares.sum(-1).mean(-1))


def share_interval(share: Share, slopes: Floats, seed: int, bootstraps: int = 1000) -> Interval:
    """A share of the mean of the sources' slopes (s a a), with its 95 % bootstrap interval.

    Sources are drawn whole and averaged anew in every draw, then the share is taken. The interval
    is the share plus and minus 1.96 standard deviations of the draws, within 0..1 (the normal
    interval of Efron & Tibshirani 1993, section 12.6). Percentiles would not do: noise in a mean
    only adds to its absolute value, so all draws of a high diagonal share can lie below it. For the
    same reason the share itself is rather too low than too high where few sources are noisy, and
    its interval reaches a true share of 1 in about three of four cases only.
    """
    sources = len(slopes)
    counts = resample_counts(sources, seed, bootstraps)
    draws = share(np.tensordot(counts, slopes, axes=1) / sources)
    found, half = float(share(slopes.mean(0))), 1.96 * float(draws.std())
    return Interval(found, max(found - half, 0.0), min(found + half, 1.0), sources)


def usable_range(amounts: Floats, means: Floats) -> tuple[float, float]:
    """The widest run of rising amounts (k) round 0 in which the mean attribute (k) always rises.

    Both ends are 0 where the attribute falls or stays on both sides. Raises ValueError where 0 is
    not one of the amounts.
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
