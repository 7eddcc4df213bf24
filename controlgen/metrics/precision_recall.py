"""Precision, recall, density and coverage by nearest neighbours.

Improved precision and recall (Kynkaanniemi et al. 2019, equations 1 and 2) and density and coverage
(Naeem et al. 2020, section 3). Higher is better for all four. Precision, recall and coverage lie in
0..1; density is expected to be 1 for equal distributions and can be larger. All depend on n and on
the number of neighbours: compare equal ones only.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.metrics.bootstrap import Interval, mean_interval

Rows = NDArray[np.floating]
Floats = NDArray[np.float64]
TABLE = 2**23  # distances in memory at once (64 MB)
ROUNDING = 1e-12  # relative to the largest squared length: closer squared distances count as equal


class PrecisionRecall(NamedTuple):
    """Share of samples near real images (precision), share of real images near samples (recall)."""

    precision: Interval
    recall: Interval


class DensityCoverage(NamedTuple):
    """Mean number of real balls per sample and neighbour; share of real balls that contain a
    sample.
    """

    density: Interval
    coverage: Interval


def precision_recall(
    real: Rows, generated: Rows, seed: int, neighbours: int = 3, bootstraps: int = 1000
) -> PrecisionRecall:
    """Share of generated rows (m d) in a ball of a real row (n d), and vice versa.

    A ball reaches to its centre's k-th nearest other row of the same set. Each interval resamples
    the tested rows with fixed balls. Raises ValueError if the sizes differ or a set has no more
    rows than neighbours.
    """
    real, generated = _centred(real, generated, neighbours)
    limit = _tolerance(real, generated)
    balls = [_radii(rows, neighbours) + limit for rows in (real, generated)]
    inside, covered = np.zeros(len(generated), np.bool_), np.zeros(len(real), np.bool_)
    for part, table in _tables(real, generated):
        inside |= (table <= balls[0][part, None]).any(0)
        covered[part] = (table <= balls[1]).any(1)
    return PrecisionRecall(
        mean_interval(inside, seed, bootstraps), mean_interval(covered, seed + 1, bootstraps)
    )


def density_coverage(
    real: Rows, generated: Rows, seed: int, neighbours: int = 5, bootstraps: int = 1000
) -> DensityCoverage:
    """Mean number of real balls per generated row (m d) over k, and share of balls (n) that are
    hit.

    Only real rows have balls, so an outlier among the samples adds nothing. Intervals and errors as
    in `precision_recall`.
    """
    real, generated = _centred(real, generated, neighbours)
    radii = _radii(real, neighbours) + _tolerance(real, generated)
    counts, hit = np.zeros(len(generated), np.int64), np.zeros(len(real), np.bool_)
    for part, table in _tables(real, generated):
        within = table <= radii[part, None]
        counts += within.sum(0)
        hit[part] = within.any(1)
    return DensityCoverage(
        mean_interval(counts / neighbours, seed, bootstraps),
        mean_interval(hit, seed + 1, bootstraps),
    )


def _radii(rows: Floats, neighbours: int) -> Floats:
    # Squared radii of the balls around rows (n d). The nearest row of the same set is the row
    # itself, so its k-th neighbour has index k.
    tables = (table for _, table in _tables(rows, rows))
    return np.concatenate(
        [np.partition(table, neighbours, axis=1)[:, neighbours] for table in tables]
    )


def _tables(a: Floats, b: Floats) -> Iterator[tuple[slice, Floats]]:
    # Squared distances of some rows of a at a time to all rows of b: |x|^2 + |y|^2 - 2 x.y. For a
    # product of a set with itself, half of it is computed.
    lengths = np.square(a).sum(1), np.square(b).sum(1)
    height = max(TABLE // len(b), 1)
    for start in range(0, len(a), height):
        part = slice(start, min(start + height, len(a)))
        table = a[part] @ b.T
        table *= -2
        table += lengths[0][part, None]
        table += lengths[1]
        yield part, table


def _centred(real: Rows, generated: Rows, neighbours: int) -> tuple[Floats, Floats]:
    # Distances are translation invariant, and small numbers keep their digits.
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise ValueError(
            f"precision_recall: needs rows of equal size, got {real.shape}, {generated.shape}"
        )
    if not 1 <= neighbours < min(len(real), len(generated)):
        raise ValueError(
            f"precision_recall: {neighbours} neighbours need more rows than that on both sides, "
            f"got {len(real)} and {len(generated)}"
        )
    mean = real.mean(0, dtype=np.float64)
    return real.astype(np.float64) - mean, generated.astype(np.float64) - mean


def _tolerance(a: Floats, b: Floats) -> float:
    return float(ROUNDING * max(np.square(a).sum(1).max(), np.square(b).sum(1).max()))
