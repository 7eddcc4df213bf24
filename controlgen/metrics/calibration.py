"""Calibration of probabilities of binary events: ranking, squared error, reliability."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.metrics.bootstrap import LEVELS, Interval, mean_interval, resample_counts
from controlgen.types import Indices

BINS = 10  # of equal width, in which predicted and observed shares are compared
Values = NDArray[np.floating]
Events = NDArray[np.bool_]


class Bin(NamedTuple):
    """Scores in low..high: their number, their mean, and the share of events with its interval."""

    low: float
    high: float
    n: int
    predicted: float
    observed: Interval


def auroc(scores: Values, events: Events, weights: Values | None = None) -> Values:
    """Area under the ROC curve per row of weights (b): P(event scores above non-event), ties
    half.

    The Mann-Whitney statistic (Bamber 1975, "The area above the ordinal dominance graph and the
    area below the receiver operating characteristic graph"). `weights` (b n) count items; by
    default one row of ones. NaN if a row has no event or no non-event.
    """
    counts = np.ones((1, len(scores))) if weights is None else np.asarray(weights, np.float64)
    order = np.argsort(scores, kind="stable")
    ordered, happened = np.asarray(scores)[order], np.asarray(events, bool)[order]
    # Items of equal score are one step of the curve.
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    yes = np.add.reduceat(counts[:, order] * happened, starts, axis=1)
    no = np.add.reduceat(counts[:, order] * ~happened, starts, axis=1)
    pairs = yes.sum(1) * no.sum(1)
    won = (yes * (no.cumsum(1) - no / 2)).sum(1)
    return np.where(pairs > 0, won / np.where(pairs > 0, pairs, 1), np.nan)


def auroc_interval(
    scores: Values, events: Events, sources: Indices, seed: int, bootstraps: int = 1000
) -> Interval | None:
    """AUROC with its 95 % bootstrap interval over sources; None if one outcome is missing.

    Draws with one outcome only are ignored.
    """
    value = float(auroc(scores, events)[0]) if len(scores) else float("nan")
    if not np.isfinite(value):
        return None
    _, owners = np.unique(sources, return_inverse=True)
    n = int(owners.max()) + 1
    resampled = auroc(scores, events, resample_counts(n, seed, bootstraps)[:, owners])
    resampled = resampled[np.isfinite(resampled)]
    low, high = np.percentile(resampled, LEVELS) if len(resampled) else (value, value)
    return Interval(value, float(low), float(high), n)


def brier(scores: Values, events: Events) -> float:
    """Mean squared difference of probability and outcome, 0..1 (Brier 1950)."""
    return float(np.square(np.asarray(scores, np.float64) - events).mean())


def reliability(
    scores: Values, events: Events, sources: Indices, seed: int, bootstraps: int = 1000
) -> list[Bin]:
    """Mean score and observed share in ten bins of equal width; empty bins are omitted."""
    places = _places(scores)
    rows = []
    for place in np.unique(places):
        some = places == place
        observed = mean_interval(events[some], seed, bootstraps, sources[some])
        mean = float(np.mean(scores[some], dtype=np.float64))
        rows.append(Bin(place / BINS, (place + 1) / BINS, int(some.sum()), mean, observed))
    return rows


def expected_calibration_error(scores: Values, events: Events) -> float:
    """Mean gap between predicted and observed share over the bins, weighted by their items,
    0..1.

    Naeini, Cooper and Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian
    binning", equation 2 with ten bins of equal width.
    """
    gaps = np.bincount(_places(scores), np.asarray(scores, np.float64) - events, BINS)
    return float(np.abs(gaps).sum() / len(scores))


def _places(scores: Values) -> Indices:
    return np.clip((np.asarray(scores, np.float64) * BINS).astype(np.int64), 0, BINS - 1)
