"""Reachability: the calibrated probability that an answer is near to what was asked.

Near means as near, by cosine in an audit feature space that took no part in the answer, as 90 % of
the answers to held-out features of the bank are to their own images. Four numbers that are known
for any answer tell of it: how far out the feature asked for lies among the bank's (Mahalanobis
distance along the principal components, energy outside them, distance to the k-th nearest of some
stored bank features), and how far the feature obtained is from it. A logistic regression, fitted
on targets whose image is known (controlgen.control.calibration), makes one probability of them.
How far the critic's output shifts was tried as a fifth and left out: it added 0.002 to the AUROC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from controlgen.control import algebra
from controlgen.control.statistics import Statistics
from controlgen.errors import ArtifactCorrupt
from controlgen.types import Features

Values = NDArray[np.float64]
DISTANCES = ("mahalanobis", "outside", "neighbours")  # of the feature asked for, to the bank
INPUTS = (*DISTANCES, "round trip")
ARRAYS = ("stored", "distances", "agreements")  # of a yardstick, what is saved
FAR = 99.0  # percentile of a distance from which a warning names it
USUAL = 0.05  # share of held-out bank answers that are warned of, and of agreements called low
TAIL = 0.9  # of held-out distances; what lies beyond the largest goes on as this tail falls
CLOSEST = 1e-6  # 1 - cosine below which a round trip is perfect; rounding is of that size


@dataclass(frozen=True)
class Yardstick:
    """What held-out bank features have: distances (r 3) and agreements (r), each sorted.

    `stored` (m k) are training features of the bank as coordinates along the components, float16.
    """

    statistics: Statistics
    stored: NDArray[np.float16]
    neighbours: int
    distances: NDArray[np.float32]
    agreements: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        statistics: Statistics,
        training: Features,
        neighbours: int,
        asked: Features,
        obtained: Features,
    ) -> Self:
        """From training features (m d), and held-out ones (r d) with those of their answers."""
        stored = (training - statistics.mean) @ statistics.components.T
        bare = cls(statistics, stored.astype(np.float16), neighbours, *_empty())
        distances = np.sort(bare.measure(asked), axis=0).astype(np.float32)
        agreements = np.sort(algebra.cosine(asked, obtained))
        return cls(statistics, bare.stored, neighbours, distances, agreements)

    def measure(self, asked: Features) -> Values:
        """Distances (n 3) of features (n d) from the bank, >= 0, in the order of DISTANCES.

        Squared Mahalanobis distance along the components, squared length outside of them, and the
        Euclidean distance along them to the k-th nearest stored feature.
        """
        parts = self.statistics
        change = np.asarray(asked, np.float64) - parts.mean
        components = parts.components.astype(np.float64)
        inside = change @ components.T
        # A component without variance holds nothing to compare with; it must not divide by zero.
        variances = np.maximum(parts.variances.astype(np.float64), 1e-12)
        outside = ((change - inside @ components) ** 2).sum(1)
        return np.stack([(inside**2 / variances).sum(1), outside, self._nearest(inside)], axis=1)

    def _nearest(self, inside: Values) -> Values:
        stored = self.stored.astype(np.float64)
        place = min(self.neighbours, len(stored)) - 1
        found = np.empty(len(inside))
        for first in range(0, len(inside), 512):
            rows = inside[first : first + 512]
            squares = (rows**2).sum(1)[:, None] - 2 * rows @ stored.T + (stored**2).sum(1)
            found[first : first + 512] = np.partition(squares, place, axis=1)[:, place]
        return np.sqrt(np.maximum(found, 0))

    def percentiles(self, asked: Features) -> Values:
        """Where the distances lie among those of held-out bank features: (n 3), 0..100."""
        return 100 * self._shares(self.measure(asked))

    def _shares(self, measured: Values) -> Values:
        r = len(self.distances)
        levels = (np.arange(r) + 0.5) / r
        columns = zip(measured.T, self.distances.T.astype(np.float64), strict=True)
        return np.stack([np.interp(one, table, levels) for one, table in columns], axis=1)

    def inputs(self, asked: Features, obtained: Features) -> Values:
        """What the regression sees (n 4), each higher where things are worse.

        A distance enters as log(1 + s), where s = -log(1 - percentile / 100); beyond the largest
        held-out distance s goes on growing as it does for an exponential tail with the mean excess
        over the 90th percentile. The round trip enters as log(1 - cosine).
        """
        measured = self.measure(asked)
        surprise = -np.log1p(-self._shares(measured))
        tables = self.distances.astype(np.float64)
        start = np.quantile(tables, TAIL, axis=0)
        excess = np.maximum(tables - start, 0).sum(0) / np.maximum((tables > start).sum(0), 1)
        excess = np.maximum(excess, 1e-9 * np.maximum(tables[-1], 1e-9))
        surprise += np.maximum(measured - tables[-1], 0) / excess
        missing = 1 - algebra.cosine(asked, obtained).astype(np.float64)
        return np.column_stack([np.log1p(surprise), np.log(np.maximum(missing, CLOSEST))])


@dataclass(frozen=True)
class Reachability:
    """A yardstick and a logistic regression on it: weights (4) as in INPUTS, none above 0.

    `warn_below` is a score that 5 % of held-out bank answers fall below.
    """

    yardstick: Yardstick
    weights: Values
    intercept: float
    warn_below: float

    def score(self, asked: Features, obtained: Features) -> NDArray[np.float32]:
        """Probability (n), 0..1, that answers are near to what was asked; features (n d) each.

        It is calibrated for the map's own answers, on targets of the kinds it was fitted on. Give
        the map's own too where an answer was refined: descent on this very cosine raises it without
        the answer being any nearer.
        """
        linear = self.yardstick.inputs(asked, obtained) @ self.weights + self.intercept
        return np.asarray(expit(linear), np.float32)

    def percentiles(self, asked: Features) -> Values:
        """Where features (n d) lie among the bank's: (n 3), 0..100, in the order of DISTANCES."""
        return self.yardstick.percentiles(asked)

    def warnings(self, asked: Features, obtained: Features) -> tuple[str, ...]:
        """What is wrong in words, for each of n answers; empty where the score is not below
        `warn_below`."""
        scores, found = self.score(asked, obtained), [""] * len(asked)
        agreement, out = algebra.cosine(asked, obtained), self.percentiles(asked).max(1)
        held_out = len(self.yardstick.distances)
        low = np.quantile(self.yardstick.agreements, USUAL)
        for row in np.flatnonzero(scores < self.warn_below):
            reasons = []
            if out[row] >= 100 * (1 - 0.5 / held_out):
                reasons.append(
                    "the target lies outside what the bank holds (further out than all "
                    f"{held_out} held-out samples)"
                )
            elif out[row] >= FAR:
                reasons.append(
                    f"the target lies outside what the bank holds ({out[row]:.1f}th percentile)"
                )
            if agreement[row] < low:
                reasons.append(
                    f"asked and obtained agree to {agreement[row]:.3f} only, where "
                    f"{1 - USUAL:.0%} of the bank's own answers reach {low:.3f}"
                )
            found[row] = "; ".join(reasons) or "the answer is less near than those of the bank are"
        return tuple(found)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays of the yardstick, for saving; the statistics are saved by themselves."""
        return {name: getattr(self.yardstick, name) for name in ARRAYS}

    @classmethod
    def restore(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        statistics: Statistics,
        neighbours: int,
        weights: Mapping[str, float],
        intercept: float,
        warn_below: float,
    ) -> Self:
        """From `arrays()` and what is saved as text. Raises ArtifactCorrupt on a misfit."""
        wanted = {
            "stored": (len(statistics.components),),
            "distances": (len(DISTANCES),),
            "agreements": (),
        }
        for name, shape in wanted.items():
            if name not in arrays or not len(arrays[name]) or arrays[name].shape[1:] != shape:
                raise ArtifactCorrupt(f"the reachability's {name} is missing or of a wrong shape")
        if set(weights) != set(INPUTS):
            raise ArtifactCorrupt(f"the reachability's weights are not of {', '.join(INPUTS)}")
        yardstick = Yardstick(statistics, neighbours=neighbours, **{k: arrays[k] for k in wanted})
        return cls(yardstick, np.array([weights[k] for k in INPUTS]), intercept, warn_below)


def regression(inputs: Values, events: NDArray[np.bool_]) -> tuple[Values, float]:
    """Weights (k) and intercept of P(event | inputs (n k)), no weight above 0.

    Logistic regression on inputs of unit spread, with a ridge penalty of one item's weight. Each
    input is higher where things are worse; one that the others make count the other way round is
    left out (weight 0), the wrongest first. Where all outcomes are the same nothing can be learned,
    and the answer is their smoothed share.
    """
    n, k = inputs.shape
    weights, share = np.zeros(k), (events.sum() + 1) / (n + 2)
    intercept = float(np.log(share / (1 - share)))
    kept = np.flatnonzero(inputs.std(0) > 1e-9)
    while len(kept) and 0 < events.sum() < n:
        mean, spread = inputs[:, kept].mean(0), inputs[:, kept].std(0)
        fitted = LogisticRegression(max_iter=1000).fit((inputs[:, kept] - mean) / spread, events)
        found = fitted.coef_[0]
        if found.max() <= 0:
            weights[kept] = found / spread
            return weights, float(fitted.intercept_[0] - (weights[kept] * mean).sum())
        kept = np.delete(kept, found.argmax())
    return weights, intercept


def _empty() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.empty((0, len(DISTANCES)), np.float32), np.empty(0, np.float32)
