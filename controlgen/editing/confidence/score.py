"""Reachability: the calibrated probability that an answer is near to what was asked.

Near means as near, by cosine in an audit feature space that took no part in the answer, as 90 % of
the answers to held-out features of the bank are to their own images. Six numbers that are known for
any answer tell of it: how far out the feature asked for lies among the bank's (Mahalanobis distance
along the principal components, energy outside them, distance to the k-th nearest of some stored
bank features), how far the feature obtained is from it, and how far out that one lies. A logistic
regression on them, their squares and products, fitted on targets whose image is known
(controlgen.editing.confidence.fit), makes one probability. It never rises as what was asked for moves
out, nor as the round trip gets worse, all else equal. Of the feature obtained it may: an answer
nearer to the bank's mean than its target has fallen short, and one that lies too near says little,
as a blurred tile does. How far the critic's output shifts was tried and left out: it added 0.002 to
the AUROC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from controlgen.editing import feature_math
from controlgen.editing.feature_pca import Statistics
from controlgen.errors import ArtifactCorrupt
from controlgen.types import Features

Values = NDArray[np.float64]
DISTANCES = ("mahalanobis", "outside", "neighbours")  # of the feature asked for, to the bank
FALLING = (*DISTANCES, "round trip")  # the score never rises with one of these
INPUTS = (*FALLING, "obtained mahalanobis", "obtained neighbours")
ARRAYS = ("stored", "distances", "agreements")  # of a yardstick, what is saved
REGRESSION = ("low", "high", "mean", "spread", "weights")  # of a regression, beside its intercept
FAR = 99.0  # percentile of a distance from which a warning names it
USUAL = 0.05  # share of held-out bank answers that are warned of, and of agreements called low
TAIL = 0.9  # of held-out distances; what lies beyond the largest goes on as this tail falls
CLOSEST = 1e-6  # 1 - cosine below which a round trip is perfect; rounding is of that size
TINY = 1e-12  # a distance of zero
PENALTY = 10.0  # of squared weights, beside the sum of log losses over the items
STEADY = 1e-9  # standard deviation below which a number is the same for every item
STEPS = 500  # of fitting, at most; some forty are enough


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
        agreements = np.sort(feature_math.cosine(asked, obtained))
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
        """What the regression sees (n 6), in the order of INPUTS.

        A distance asked for enters as log(1 + s), where s = -log(1 - percentile / 100); beyond the
        largest held-out distance s goes on growing as it does for an exponential tail with the mean
        excess over the 90th percentile. The round trip enters as log(1 - cosine), and the distances
        obtained as their logarithms.
        """
        measured = self.measure(asked)
        surprise = -np.log1p(-self._shares(measured))
        tables = self.distances.astype(np.float64)
        start = np.quantile(tables, TAIL, axis=0)
        excess = np.maximum(tables - start, 0).sum(0) / np.maximum((tables > start).sum(0), 1)
        excess = np.maximum(excess, 1e-9 * np.maximum(tables[-1], 1e-9))
        surprise += np.maximum(measured - tables[-1], 0) / excess
        missing = 1 - feature_math.cosine(asked, obtained).astype(np.float64)
        trip = np.log(np.maximum(missing, CLOSEST))
        found = np.log(np.maximum(self.measure(obtained)[:, [0, 2]], TINY))
        return np.column_stack([np.log1p(surprise), trip, found])


@dataclass(frozen=True)
class Regression:
    """Log odds of an event by k inputs, their squares and products; every array (k) or (terms).

    Inputs are held to what was seen in fitting, `low` to `high`, so nothing is extrapolated, then
    centred and scaled. `weights` are of the terms of `expanded`, in its order.
    """

    low: Values
    high: Values
    mean: Values
    spread: Values
    weights: Values
    intercept: float

    def log_odds(self, inputs: Values) -> Values:
        """Of inputs (n k): (n)."""
        held = (np.clip(inputs, self.low, self.high) - self.mean) / self.spread
        return np.asarray(expanded(held) @ self.weights + self.intercept)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays, for saving."""
        named = {f"regression {name}": getattr(self, name) for name in REGRESSION}
        return named | {"regression intercept": np.array([self.intercept])}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """From `arrays()`. Raises ArtifactCorrupt on a misfit."""
        k = len(INPUTS)
        sizes = dict.fromkeys(REGRESSION, k) | {"weights": k + k * (k + 1) // 2, "intercept": 1}
        parts = {}
        for name, size in sizes.items():
            found = arrays.get(f"regression {name}")
            if found is None or found.shape != (size,) or not np.isfinite(found).all():
                raise ArtifactCorrupt(f"the reachability's regression {name} is missing or wrong")
            parts[name] = found.astype(np.float64)
        return cls(**{name: parts[name] for name in REGRESSION}, intercept=parts["intercept"][0])


@dataclass(frozen=True)
class Reachability:
    """A yardstick and a regression on what it measures.

    `warn_below` is a score that 5 % of held-out bank answers fall below.
    """

    yardstick: Yardstick
    regression: Regression
    warn_below: float

    def score(self, asked: Features, obtained: Features) -> NDArray[np.float32]:
        """Probability (n), 0..1, that answers are near to what was asked; features (n d) each.

        It is calibrated for the map's own answers, on targets of the kinds it was fitted on. Give
        the map's own too where an answer was refined: descent on this very cosine raises it without
        the answer being any nearer.
        """
        inputs = self.yardstick.inputs(asked, obtained)
        return np.asarray(expit(self.regression.log_odds(inputs)), np.float32)

    def percentiles(self, asked: Features) -> Values:
        """Where features (n d) lie among the bank's: (n 3), 0..100, in the order of DISTANCES."""
        return self.yardstick.percentiles(asked)

    def warnings(self, asked: Features, obtained: Features) -> tuple[str, ...]:
        """What is wrong in words, for each of n answers; empty where the score is not below
        `warn_below`."""
        scores, found = self.score(asked, obtained), [""] * len(asked)
        agreement, out = feature_math.cosine(asked, obtained), self.percentiles(asked).max(1)
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
        """Named arrays, for saving; the statistics are saved by themselves."""
        named = {name: getattr(self.yardstick, name) for name in ARRAYS}
        return named | self.regression.arrays()

    @classmethod
    def restore(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        statistics: Statistics,
        neighbours: int,
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
        yardstick = Yardstick(statistics, neighbours=neighbours, **{k: arrays[k] for k in wanted})
        return cls(yardstick, Regression.restore(arrays), warn_below)


def expanded(inputs: Values) -> Values:
    """Inputs (n k), then their squares and products of two: (n, k + k (k + 1) / 2)."""
    pairs = combinations_with_replacement(range(inputs.shape[1]), 2)
    return np.column_stack([inputs, *(inputs[:, i] * inputs[:, j] for i, j in pairs)])


def fitted(
    inputs: Values, events: NDArray[np.bool_], falling: NDArray[np.bool_] | None = None
) -> Regression:
    """The regression of P(event | inputs (n k)) that never rises with a `falling` input (k).

    Logistic, with a ridge penalty on the weights of terms of unit spread. The slope along one input
    is linear in all of them, so it is nowhere above 0 among the inputs seen if it is not at the
    corners of their box: linear constraints on a convex loss (SLSQP, Kraft 1988). Where all
    outcomes are the same nothing can be learned, and the answer is their smoothed share.
    """
    low, high, mean, spread = inputs.min(0), inputs.max(0), inputs.mean(0), inputs.std(0)
    spread = np.where(spread > STEADY, spread, 1)
    terms = expanded((inputs - mean) / spread)
    centre, width = terms.mean(0), terms.std(0)
    width = np.where(width > STEADY, width, 1)
    share = (events.sum() + 1) / (len(events) + 2)
    start = np.zeros(1 + len(width))
    start[0] = np.log(share / (1 - share))
    parts = low, high, mean, spread
    if not 0 < events.sum() < len(events):
        return Regression(*parts, start[1:], float(start[0]))

    design = np.column_stack([np.ones(len(terms)), (terms - centre) / width])
    signs, ridge = np.where(events, 1.0, -1.0), np.r_[0, np.full(len(width), PENALTY)]

    def loss(weights: Values) -> tuple[float, Values]:
        margin = signs * (design @ weights)
        total = np.logaddexp(0, -margin).sum() + (ridge * weights**2).sum() / 2
        slope = -(signs * expit(-margin)) @ design + ridge * weights
        return float(total / len(terms)), slope / len(terms)

    # The start keeps the constraints, and as they are linear so does every step from it: wherever
    # the descent ends, the promise holds.
    kept: list[dict[str, Any]] = []
    if falling is not None and falling.any():
        box = (np.stack([low, high]) - mean) / spread
        corners = np.array(list(product(*box.T)))
        slopes = (
            np.concatenate([_slopes(corners, at) for at in np.flatnonzero(falling).tolist()])
            / width
        )
        slopes = np.column_stack([np.zeros(len(slopes)), -slopes])
        kept = [{"type": "ineq", "fun": lambda w: slopes @ w, "jac": lambda w: slopes}]
    found = minimize(
        loss,
        start,
        jac=True,
        method="SLSQP",
        constraints=kept,
        options={"maxiter": STEPS, "ftol": 1e-10},
    ).x
    weights = found[1:] / width
    return Regression(*parts, weights, float(found[0] - centre @ weights))


def _slopes(points: Values, at: int) -> Values:
    # What each term of `expanded` changes by with one of the inputs, at points (m k): (m terms).
    k = points.shape[1]
    own = np.zeros((len(points), k))
    own[:, at] = 1
    pairs = combinations_with_replacement(range(k), 2)
    both = [points[:, j] * (i == at) + points[:, i] * (j == at) for i, j in pairs]
    return np.column_stack([own, *both])


def _empty() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.empty((0, len(DISTANCES)), np.float32), np.empty(0, np.float32)
