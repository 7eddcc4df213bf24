"""Reachability: a calibrated confidence, the probability that an edit's result is near its target.

Near means: at least as similar to the target, by cosine in an independent audit feature space, as
90 % of the results for held-out bank images are to their images. Six inputs are known for every
edit: how far the target lies from the bank's features (Mahalanobis distance along the principal
components, energy outside them, distance to the k-th nearest of a stored sample), the round-trip
error between target and result, and how far the result lies from the bank. A logistic regression on
them, their squares and products gives the probability; `controlgen.editing.confidence.fit` fits it
on targets with a known image. The score never increases with the target's distances or the
round-trip error, all else equal. It may increase with the result's distances: a result closer to
the bank's mean than its target falls short, and one that is too close, like a blurred tile, says
little. The shift of the critic's output as a seventh input added only 0.002 to the AUROC.
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
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.errors import ArtifactCorrupt
from controlgen.types import Features

Values = NDArray[np.float64]
DISTANCES = ("mahalanobis", "outside", "neighbours")  # from the target to the bank
MONOTONE_INPUTS = (*DISTANCES, "round trip")  # the score never increases with these
INPUTS = (*MONOTONE_INPUTS, "obtained mahalanobis", "obtained neighbours")
REGRESSION = ("low", "high", "mean", "spread", "weights")  # stored arrays of a MonotoneLogistic
FAR_PERCENTILE = 99.0  # from which a warning mentions the target's distance
LOW_SHARE = 0.05  # of held-out bank images get a warning; also the quantile of a low similarity
TAIL_QUANTILE = 0.9  # start of the exponential tail that extrapolates held-out distances
MIN_COSINE_DISTANCE = 1e-6  # rounding error of 1 - cosine
MIN_DISTANCE = 1e-12  # before a logarithm
RIDGE_PENALTY = 10.0  # on squared weights, relative to the sum of log losses
MIN_STD = 1e-9  # below it an input is constant
MAX_ITERATIONS = 500  # about forty are enough
BATCH_SIZE = 512  # rows compared with all stored features at once


@dataclass(frozen=True)
class BankDistances:
    """Distances of features from the bank, and their distribution on r held-out bank features.

    `stored` (m k): a sample of the bank's training features in principal coordinates, float16.
    `held_out_distances` (r 3) and `held_out_similarities` (r) to the results, each sorted.
    """

    statistics: FeaturePCA
    stored: NDArray[np.float16]
    neighbours: int
    held_out_distances: NDArray[np.float32]
    held_out_similarities: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        statistics: FeaturePCA,
        training: Features,
        neighbours: int,
        targets: Features,
        results: Features,
    ) -> Self:
        """From training features (m d), and held-out targets (r d) with their results (r d)."""
        stored = ((training - statistics.mean) @ statistics.components.T).astype(np.float16)
        empty = np.empty((0, len(DISTANCES)), np.float32), np.empty(0, np.float32)
        distances = cls(statistics, stored, neighbours, *empty).distances(targets)
        return cls(
            statistics,
            stored,
            neighbours,
            np.sort(distances, axis=0).astype(np.float32),
            np.sort(feature_math.paired_cosine(targets, results)),
        )

    def distances(self, features: Features) -> Values:
        """Distances (n 3) of features (n d) from the bank, >= 0, in the order of DISTANCES.

        The squared Mahalanobis distance along the components, the squared length outside of them,
        and the Euclidean distance along them to the k-th nearest stored feature.
        """
        pca = self.statistics
        centred = np.asarray(features, np.float64) - pca.mean
        components = pca.components.astype(np.float64)
        inside = centred @ components.T
        # A component without variance must not divide by zero.
        variances = np.maximum(pca.variances.astype(np.float64), 1e-12)
        outside = ((centred - inside @ components) ** 2).sum(1)
        mahalanobis = (inside**2 / variances).sum(1)
        return np.stack([mahalanobis, outside, self._neighbour_distance(inside)], axis=1)

    def _neighbour_distance(self, inside: Values) -> Values:
        stored = self.stored.astype(np.float64)
        k = min(self.neighbours, len(stored)) - 1
        squares = np.empty(len(inside))
        for first in range(0, len(inside), BATCH_SIZE):
            rows = inside[first : first + BATCH_SIZE]
            pairs = (rows**2).sum(1)[:, None] - 2 * rows @ stored.T + (stored**2).sum(1)
            squares[first : first + BATCH_SIZE] = np.partition(pairs, k, axis=1)[:, k]
        return np.sqrt(np.maximum(squares, 0))

    def percentiles(self, features: Features) -> Values:
        """Percentiles (n 3), 0..100, of the distances among those of held-out bank features."""
        return 100 * self._ranks(self.distances(features))

    def _ranks(self, distances: Values) -> Values:
        r = len(self.held_out_distances)
        levels = (np.arange(r) + 0.5) / r
        columns = zip(distances.T, self.held_out_distances.T.astype(np.float64), strict=True)
        return np.stack([np.interp(values, table, levels) for values, table in columns], axis=1)

    def regression_inputs(self, targets: Features, results: Features) -> Values:
        """Inputs (n 6) of the regression, in the order of INPUTS.

        A target's distance enters as log(1 + s), where s = -log(1 - percentile / 100); beyond the
        largest held-out distance s grows as for an exponential tail with the mean excess over the
        90th percentile. The round-trip error enters as log(1 - cosine), a result's distance as its
        logarithm.
        """
        distances = self.distances(targets)
        surprise = -np.log1p(-self._ranks(distances))
        tables = self.held_out_distances.astype(np.float64)
        start = np.quantile(tables, TAIL_QUANTILE, axis=0)
        excess = np.maximum(tables - start, 0).sum(0) / np.maximum((tables > start).sum(0), 1)
        excess = np.maximum(excess, 1e-9 * np.maximum(tables[-1], 1e-9))
        surprise += np.maximum(distances - tables[-1], 0) / excess
        error = 1 - feature_math.paired_cosine(targets, results).astype(np.float64)
        round_trip = np.log(np.maximum(error, MIN_COSINE_DISTANCE))
        result_distances = np.log(np.maximum(self.distances(results)[:, [0, 2]], MIN_DISTANCE))
        return np.column_stack([np.log1p(surprise), round_trip, result_distances])


@dataclass(frozen=True)
class MonotoneLogistic:
    """Log odds of an event from k inputs, their squares and products; arrays (k), weights (terms).

    Inputs are clipped to the range `low` to `high` of the fit, so that nothing is extrapolated,
    then centred and scaled. `weights` are in the order of `quadratic_terms`.
    """

    low: Values
    high: Values
    mean: Values
    spread: Values
    weights: Values
    intercept: float

    def log_odds(self, inputs: Values) -> Values:
        """Log odds (n) for inputs (n k)."""
        scaled = (np.clip(inputs, self.low, self.high) - self.mean) / self.spread
        return np.asarray(quadratic_terms(scaled) @ self.weights + self.intercept)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays for storage."""
        arrays = {f"regression {name}": getattr(self, name) for name in REGRESSION}
        return arrays | {"regression intercept": np.array([self.intercept])}

    @classmethod
    def restore(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """From `arrays()`. Raises ArtifactCorrupt where one is missing or invalid."""
        k = len(INPUTS)
        sizes = dict.fromkeys(REGRESSION, k) | {"weights": k + k * (k + 1) // 2, "intercept": 1}
        parts = {}
        for name, size in sizes.items():
            stored = arrays.get(f"regression {name}")
            if stored is None or stored.shape != (size,) or not np.isfinite(stored).all():
                raise ArtifactCorrupt(f"reachability: regression {name} is missing or invalid")
            parts[name] = stored.astype(np.float64)
        return cls(**{name: parts[name] for name in REGRESSION}, intercept=parts["intercept"][0])


@dataclass(frozen=True)
class ConfidenceModel:
    """Bank distances and a regression on them.

    5 % of the results for held-out bank images score less than `warn_below`.
    """

    bank_distances: BankDistances
    regression: MonotoneLogistic
    warn_below: float

    def score(self, targets: Features, results: Features) -> NDArray[np.float32]:
        """The probability (n), 0..1, that results (n d) are near their targets (n d).

        It is calibrated for the map's own results on the kinds of targets of the fit. For a refined
        edit, pass the features of the map's unrefined result: refinement raises this very cosine
        without bringing the image nearer.
        """
        inputs = self.bank_distances.regression_inputs(targets, results)
        return np.asarray(expit(self.regression.log_odds(inputs)), np.float32)

    def percentiles(self, targets: Features) -> Values:
        """Percentiles (n 3), 0..100, of targets (n d) among the bank, in the order of DISTANCES."""
        return self.bank_distances.percentiles(targets)

    def warnings(self, targets: Features, results: Features) -> tuple[str, ...]:
        """A warning for each of n results; empty unless the score is below `warn_below`."""
        scores, messages = self.score(targets, results), [""] * len(targets)
        similarity = feature_math.paired_cosine(targets, results)
        percentile = self.percentiles(targets).max(1)
        held_out = len(self.bank_distances.held_out_distances)
        low = np.quantile(self.bank_distances.held_out_similarities, LOW_SHARE)
        for row in np.flatnonzero(scores < self.warn_below):
            reasons = []
            if percentile[row] >= 100 * (1 - 0.5 / held_out):
                reasons.append(
                    "the target lies outside the bank (further out than all "
                    f"{held_out} held-out samples)"
                )
            elif percentile[row] >= FAR_PERCENTILE:
                reasons.append(
                    f"the target lies outside the bank ({percentile[row]:.1f}th percentile)"
                )
            if similarity[row] < low:
                reasons.append(
                    f"the agreement is only {similarity[row]:.3f}, while "
                    f"{1 - LOW_SHARE:.0%} of bank images reach {low:.3f}"
                )
            messages[row] = (
                "; ".join(reasons) or "the result is less certain than those of bank images"
            )
        return tuple(messages)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays for storage; the statistics are stored separately."""
        bank = self.bank_distances
        return {
            "stored": bank.stored,
            "distances": bank.held_out_distances,
            "agreements": bank.held_out_similarities,
            **self.regression.arrays(),
        }

    @classmethod
    def restore(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        statistics: FeaturePCA,
        neighbours: int,
        warn_below: float,
    ) -> Self:
        """From `arrays()` and stored metadata. Raises ArtifactCorrupt on a mismatch."""
        shapes = {
            "stored": (len(statistics.components),),
            "distances": (len(DISTANCES),),
            "agreements": (),
        }
        for name, shape in shapes.items():
            if name not in arrays or not len(arrays[name]) or arrays[name].shape[1:] != shape:
                raise ArtifactCorrupt(f"reachability: {name} is missing or of a wrong shape")
        bank = BankDistances(
            statistics, arrays["stored"], neighbours, arrays["distances"], arrays["agreements"]
        )
        return cls(bank, MonotoneLogistic.restore(arrays), warn_below)


def quadratic_terms(inputs: Values) -> Values:
    """Inputs (n k), then their squares and pairwise products: (n, k + k (k + 1) / 2)."""
    pairs = combinations_with_replacement(range(inputs.shape[1]), 2)
    return np.column_stack([inputs, *(inputs[:, i] * inputs[:, j] for i, j in pairs)])


def fit_monotone_logistic(
    inputs: Values, events: NDArray[np.bool_], monotone: NDArray[np.bool_] | None = None
) -> MonotoneLogistic:
    """Fit P(event | inputs (n k)) so that it never increases with a `monotone` input (k).

    Logistic regression with a ridge penalty on the weights of terms of unit variance. The slope
    along an input is linear in the inputs, so it is <= 0 within their box if it is <= 0 at the
    corners: linear constraints on a convex loss (SLSQP, Kraft 1988). Where all events are equal the
    result is their smoothed share.
    """
    low, high, mean, spread = inputs.min(0), inputs.max(0), inputs.mean(0), inputs.std(0)
    spread = np.where(spread > MIN_STD, spread, 1)
    terms = quadratic_terms((inputs - mean) / spread)
    centre, width = terms.mean(0), terms.std(0)
    width = np.where(width > MIN_STD, width, 1)
    share = (events.sum() + 1) / (len(events) + 2)
    start = np.zeros(1 + len(width))
    start[0] = np.log(share / (1 - share))
    scaling = low, high, mean, spread
    if not 0 < events.sum() < len(events):
        return MonotoneLogistic(*scaling, start[1:], float(start[0]))

    design = np.column_stack([np.ones(len(terms)), (terms - centre) / width])
    signs, ridge = np.where(events, 1.0, -1.0), np.r_[0, np.full(len(width), RIDGE_PENALTY)]

    def loss(weights: Values) -> tuple[float, Values]:
        margin = signs * (design @ weights)
        total = np.logaddexp(0, -margin).sum() + (ridge * weights**2).sum() / 2
        gradient = -(signs * expit(-margin)) @ design + ridge * weights
        return float(total / len(terms)), gradient / len(terms)

    # The start satisfies the constraints, and as they are linear so does every later iterate:
    # monotonicity holds wherever the optimiser stops.
    constraints: list[dict[str, Any]] = []
    if monotone is not None and monotone.any():
        box = (np.stack([low, high]) - mean) / spread
        corners = np.array(list(product(*box.T)))
        slopes = [_term_slopes(corners, at) for at in np.flatnonzero(monotone).tolist()]
        rows = np.concatenate(slopes) / width
        matrix = np.column_stack([np.zeros(len(rows)), -rows])
        constraints = [{"type": "ineq", "fun": lambda w: matrix @ w, "jac": lambda w: matrix}]
    solution = minimize(
        loss,
        start,
        jac=True,
        method="SLSQP",
        constraints=constraints,
        options={"maxiter": MAX_ITERATIONS, "ftol": 1e-10},
    ).x
    weights = solution[1:] / width
    return MonotoneLogistic(*scaling, weights, float(solution[0] - centre @ weights))


def _term_slopes(points: Values, at: int) -> Values:
    # Derivative of each term of `quadratic_terms` by input `at`, at points (m k): (m terms).
    k = points.shape[1]
    linear = np.zeros((len(points), k))
    linear[:, at] = 1
    pairs = combinations_with_replacement(range(k), 2)
    quadratic = [points[:, j] * (i == at) + points[:, i] * (j == at) for i, j in pairs]
    return np.column_stack([linear, *quadratic])
