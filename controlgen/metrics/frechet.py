"""Frechet distance between two feature sets as Gaussians (Dowson and Landau, 1982).

Lower is better, 0 at best, unbounded. With Inception's 2048 features this is FID (Heusel et al.,
2017, equation 6); with another extractor it is named after it (`metrics.naming`). It is biased
upwards at small n: compare only values at equal n.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.jackknife import half_width

Rows = NDArray[np.floating]
Floats = NDArray[np.float64]
BLOCK = 4096  # rows brought to float64 at once


def frechet_distance(a: Rows, b: Rows) -> float:
    """|mean_a - mean_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) of rows a (n d) and b (m d).

    S is the unbiased covariance. Exact at n < d too, where a matrix square root is ill-conditioned.
    Raises ValueError where a set has fewer than two rows or the sizes differ.
    """
    _check(a, b)
    return _between(_mean(a) - _mean(b), _root(a), _root(b))


def frechet_interval(a: Rows, b: Rows) -> Interval:
    """The Frechet distance of rows a (n d) and b (m d), with its 95 % interval; n is the
    smaller.

    The interval is of the distance *at this n*: the spread of other samples of the same size,
    without removing the bias. By the infinitesimal jackknife (Jaeckel 1972): the derivative of the
    distance by each row's weight is known in closed form. Its coverage in simulations is 0.93 to
    0.98, at n < d too; 0.99 between sets of one distribution, where the interval is 1.4 times too
    wide, and 0.9 with heavy tails. Its lower end stops at 0. Raises ValueError as
    `frechet_distance` does.
    """
    _check(a, b)
    shift, root_a, root_b = _mean(a) - _mean(b), _root(a), _root(b)
    u, shared, vt = np.linalg.svd(root_b @ root_a.T, full_matrices=False)
    distance = _combined(shift, root_a, root_b, shared)

    # The best transport takes a centred row x of a to x W W', W = R_b' U shared^(-1/2), and b back
    # with V in place of U. Directions without variance on either side carry nothing.
    significant = shared > shared[0] * len(shared) * np.finfo(np.float64).eps
    scale = np.sqrt(shared[significant])
    variance = _variance(a, shift, root_b.T @ (u[:, significant] / scale))
    variance += _variance(b, -shift, root_a.T @ (vt[significant].T / scale))

    n = min(len(a), len(b))
    reach = half_width(float(np.sqrt(variance)), n)
    return Interval(distance, max(distance - reach, 0.0), distance + reach, n)


@dataclass(frozen=True)
class Moments:
    """The sufficient statistics of n rows: mean (d) and sum of centred products (d d)."""

    n: int
    mean: Floats
    scatter: Floats

    @property
    def covariance(self) -> Floats:
        """The unbiased covariance (d d). Raises ValueError below two rows."""
        if self.n < 2:
            raise ValueError(f"Moments: a covariance needs two rows, got {self.n}")
        return np.asarray(self.scatter / (self.n - 1))


def merged(a: Moments, b: Moments) -> Moments:
    """The moments of both sets of rows together.

    The pairwise update of Chan, Golub and LeVeque 1979, which subtracts no large numbers. Raises
    ValueError if the feature sizes differ.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"merged: feature sizes {len(a.mean)} and {len(b.mean)} differ")
    n, shift = a.n + b.n, b.mean - a.mean
    scatter = a.scatter + b.scatter + np.outer(shift, shift) * (a.n * b.n / n)
    return Moments(n, a.mean + shift * (b.n / n), scatter)


def moments(blocks: Iterable[Rows]) -> Moments:
    """The moments of an iterable of blocks of rows (n d), in float64.

    Memory holds one block and d x d numbers, whatever n is. Blocks may have any length. Raises
    ValueError if there are no rows.
    """
    total: Moments | None = None
    for block in blocks:
        for start in range(0, len(block), BLOCK):
            rows = block[start : start + BLOCK].astype(np.float64)
            mean = rows.mean(0)
            rows -= mean
            part = Moments(len(rows), mean, rows.T @ rows)
            total = part if total is None else merged(total, part)
    if total is None:
        raise ValueError("moments: there is no row at all")
    return total


def frechet_of_moments(a: Moments, b: Moments) -> float:
    """`frechet_distance` of the rows behind two sets of moments.

    The same number to about 1e-7 of the covariances' traces: squaring the rows costs half the
    digits of what spreads least. Raises ValueError where a set has fewer than two rows or the
    sizes differ.
    """
    if min(a.n, b.n) < 2 or a.mean.shape != b.mean.shape:
        raise ValueError(
            f"frechet_of_moments: needs two rows of equal size a side, got {a.n} x {len(a.mean)} "
            f"and {b.n} x {len(b.mean)}"
        )
    return _between(a.mean - b.mean, _root_of(a.covariance), _root_of(b.covariance))


def _check(a: Rows, b: Rows) -> None:
    if min(len(a), len(b)) < 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"frechet_distance: needs two sets of rows, got {a.shape} and {b.shape}")


def _mean(rows: Rows) -> Floats:
    return np.asarray(rows.mean(0, dtype=np.float64))


def _between(shift: Floats, root_a: Floats, root_b: Floats) -> float:
    shared = np.linalg.svd(root_b @ root_a.T, compute_uv=False)
    return _combined(shift, root_a, root_b, np.asarray(shared, np.float64))


def _combined(shift: Floats, root_a: Floats, root_b: Floats, shared: Floats) -> float:
    # With S = R'R, the eigenvalues of S_a S_b are the squared singular values of R_b R_a'.
    spread = np.square(root_a).sum() + np.square(root_b).sum()
    return float(max(shift @ shift + spread - 2 * shared.sum(), 0.0))


def _variance(rows: Rows, shift: Floats, transport: Floats) -> float:
    # Of the distance, as far as it comes from these rows x (n d): the spread of its derivatives by
    # the rows' weights, 2 shift.x + (|x|^2 - |x W|^2) n / (n - 1) for centred x.
    n = len(rows)
    centred = rows - rows.mean(0, dtype=np.float64)
    influence = np.square(centred).sum(1) - np.square(centred @ transport).sum(1)
    influence *= n / (n - 1)
    influence += 2 * centred @ shift
    return float(influence.var(ddof=1) / n)


def _root(rows: Rows) -> Floats:
    # R with R'R = covariance: the centred rows, reduced to a triangle where there are many. LAPACK
    # works in place on columns that lie together; numpy's own call takes twice as long.
    n, d = rows.shape
    centred = np.array(rows, np.float64, order="F")
    centred -= rows.mean(0, dtype=np.float64)
    centred /= np.sqrt(n - 1)
    if n <= d:
        return centred
    space = int(lapack.dgeqrf_lwork(n, d)[0])
    triangle = lapack.dgeqrf(centred, lwork=space, overwrite_a=True)[0][:d]
    return np.asarray(np.triu(triangle))


def _root_of(covariance: Floats) -> Floats:
    # R with R'R = covariance, from its eigenvectors. Eigenvalues that are rounding are left out:
    # their square roots would be a thousand times larger than what they add to the trace.
    values, vectors = np.linalg.eigh(covariance)
    significant = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return np.asarray(np.sqrt(values[significant])[:, None] * vectors[:, significant].T)
