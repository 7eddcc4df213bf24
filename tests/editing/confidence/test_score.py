"""Confidence in a linear toy model, in which the reachable features are a subspace."""

from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit
from scipy.stats import chi2, ks_2samp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from controlgen.config import ReachabilityConfig
from controlgen.editing import feature_math
from controlgen.editing.confidence.fit import RoundTripResult, fit_confidence, split_sources
from controlgen.editing.confidence.probe_targets import ProbeTargets
from controlgen.editing.confidence.score import (
    DISTANCES,
    INPUTS,
    RIDGE_PENALTY,
    BankDistances,
    ConfidenceModel,
    fit_monotone_logistic,
)
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.errors import ArtifactCorrupt, ConfigError
from controlgen.evaluation.confidence import ConfidenceSection

D, K = 24, 5  # features, of which the generator moves five
Rows = NDArray[np.float32]


class World(NamedTuple):
    """Features near a pole along K directions, and the fitted confidence model."""

    pole: Any
    axes: Any  # K D
    outward: Any  # D, orthogonal to pole and axes
    model: ConfidenceModel
    judged: Any
    probes: ProbeTargets
    results: RoundTripResult
    outside: Any  # n, distance of each target from the subspace


def inside(world: Any, n: int, seed: int) -> Rows:
    """Bank features: within the subspace, with little noise outside."""
    pole, axes = world
    rng = np.random.default_rng(seed)
    moves = rng.standard_normal((n, K)) * [0.3, 0.2, 0.2, 0.1, 0.1]
    trace = 0.002 * rng.standard_normal((n, D))
    return feature_math.normalize_rows((pole + moves @ axes + trace).astype(np.float32))


def answered(world: Any, asked: Rows, seed: int, noise: float = 0.02) -> RoundTripResult:
    """Round results: the nearest reachable features with noise; the audit space is rescaled."""
    pole, axes = world
    rng = np.random.default_rng(seed)
    basis = np.vstack([pole, axes])
    reached = asked @ basis.T @ basis + noise * rng.standard_normal((len(asked), K)) @ axes
    obtained = feature_math.normalize_rows(reached.astype(np.float32))
    scales = np.random.default_rng(99).uniform(0.7, 1.3, D)
    audit = feature_math.paired_cosine((asked * scales).astype(np.float32), (obtained * scales))
    return RoundTripResult(asked, obtained, audit)


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((D, D)))[0].T
    space = turn[0], turn[1 : 1 + K]
    training = inside(space, 3000, 1)
    held_out = answered(space, inside(space, 1000, 2), 3)
    n = 1200
    outside = np.where(rng.random(n) < 0.4, 0, rng.uniform(0.1, 1.0, n))
    asked = feature_math.normalize_rows(
        (inside(space, n, 4) + outside[:, None] * turn[-1]).astype(np.float32)
    )
    attempts = answered(space, asked, 5)
    kinds = np.where(outside == 0, "bank", "foreign")
    probes = ProbeTargets(np.zeros((n, 1, 1, 1), np.uint8), kinds, np.arange(n) // 2)
    config = ReachabilityConfig(stored=800)
    statistics = FeaturePCA.fit(training)
    actual, judged = fit_confidence(config, statistics, training, held_out, probes, attempts)
    return World(space[0], space[1], turn[-1], actual, judged, probes, attempts, outside)


def test_score_separates_reachable_from_unreachable_targets(world: World) -> None:
    judging = ~split_sources(world.probes.sources, 0)
    scores = world.model.score(world.results.target_features, world.results.features)
    assert roc_auc_score(world.outside[judging] == 0, scores[judging]) > 0.999
    # Events are noisy: by definition a tenth of the bank's results are not near.
    events = world.results.audit_cosine >= world.judged.near_means
    assert world.judged.share == pytest.approx(events[judging].mean())
    assert 0.8 < events[world.outside == 0].mean() < 0.97
    assert world.judged.auroc.mean == pytest.approx(roc_auc_score(events[judging], scores[judging]))
    assert world.judged.auroc.low > 0.9
    assert world.judged.brier < 0.5 * world.judged.brier_constant
    assert world.judged.calibration_error < 0.05
    kinds = {row.kind: row for row in world.judged.kinds}
    assert kinds["bank"].n + kinds["foreign"].n == world.judged.judged == judging.sum()
    assert kinds["bank"].near > 0.8 and kinds["foreign"].near == 0
    assert kinds["bank"].warned < 0.1 and kinds["foreign"].warned > 0.99


def test_split_keeps_sources_together(world: World) -> None:
    half = split_sources(world.probes.sources, 0)
    assert not set(world.probes.sources[half]) & set(world.probes.sources[~half])
    assert half.sum() == world.judged.fitted == 600
    assert not np.array_equal(half, split_sources(world.probes.sources, 1))


def test_score_decreases_with_distance_of_target(world: World) -> None:
    starts = inside((world.pole, world.axes), 20, 7)
    for start in starts:
        steps = np.linspace(0, 3, 40)[:, None]
        asked = feature_math.normalize_rows((start + steps * world.outward).astype(np.float32))
        trip = answered((world.pole, world.axes), asked, 8, noise=0)
        scores = world.model.score(trip.target_features, trip.features)
        assert (np.diff(scores) <= 1e-6).all()
        assert scores[0] > 0.8 and scores[-1] < 0.01
        distances = world.model.bank_distances.regression_inputs(
            trip.target_features, trip.features
        )
        assert (np.diff(distances[:, DISTANCES.index("outside")]) > 0).all()


def test_score_decreases_with_round_trip_error(world: World) -> None:
    asked = np.repeat(inside((world.pole, world.axes), 1, 9), 50, 0)
    off = np.linspace(0, np.pi, 50)[:, None]
    obtained = (np.cos(off) * asked + np.sin(off) * world.outward).astype(np.float32)
    scores = world.model.score(asked, obtained)
    assert (np.diff(scores) <= 0).all() and scores[0] - scores[-1] > 0.5


def test_percentiles_of_held_out_features_are_uniform(world: World) -> None:
    fresh = inside((world.pole, world.axes), 1000, 11)
    percentiles = world.model.percentiles(fresh)
    yardstick = world.model.bank_distances
    for column, name in enumerate(DISTANCES):
        uniform = (np.arange(1000) + 0.5) / 10
        # The Kolmogorov-Smirnov bound for p = 0.001.
        assert ks_2samp(percentiles[:, column], uniform).statistic < 0.0872, name
        own = np.sort(yardstick.distances(fresh)[:, column])
        shifted = ks_2samp(own, yardstick.held_out_distances[:, column]).statistic
        assert ks_2samp(percentiles[:, column], uniform).statistic == pytest.approx(
            shifted, abs=2e-3
        )
    assert (percentiles >= 0).all() and (percentiles <= 100).all()


def test_distances_agree_with_other_libraries(world: World) -> None:
    yardstick = world.model.bank_distances
    asked = feature_math.normalize_rows(
        np.random.default_rng(1).standard_normal((30, D)).astype(np.float32)
    )
    actual = yardstick.distances(asked)
    parts = yardstick.statistics
    covariance = (parts.components.T * parts.variances) @ parts.components
    change = (asked - parts.mean).astype(np.float64)
    inverse = np.linalg.pinv(covariance.astype(np.float64), rcond=1e-6, hermitian=True)
    expected = np.einsum("nd,de,ne->n", change, inverse, change)
    np.testing.assert_allclose(actual[:, 0], expected, rtol=1e-3)
    residual = change - change @ parts.components.T @ parts.components
    np.testing.assert_allclose(actual[:, 1], (residual**2).sum(1), rtol=1e-4)
    search = NearestNeighbors(n_neighbors=5).fit(yardstick.stored.astype(np.float64))
    nearest = search.kneighbors(change @ parts.components.T)[0][:, -1]
    np.testing.assert_allclose(actual[:, 2], nearest, rtol=1e-4)
    # Gaussian features: the squared Mahalanobis distance is chi-squared.
    rows = np.random.default_rng(2).standard_normal((4000, K)).astype(np.float32)
    statistics = FeaturePCA.fit(rows)
    plain = BankDistances(statistics, np.zeros((1, K), np.float16), 1, *[np.empty(0)] * 2)
    measured = plain.distances(
        np.random.default_rng(3).standard_normal((4000, K)).astype(np.float32)
    )
    assert ks_2samp(measured[:, 0], chi2(K).rvs(4000, random_state=4)).statistic < 0.044


def test_score_is_logistic_in_quadratic_terms(world: World) -> None:
    asked, obtained = world.results.target_features[:50], world.results.features[:50]
    inputs = world.model.bank_distances.regression_inputs(asked, obtained)
    message = world.model.regression
    x = (np.clip(inputs, message.low, message.high) - message.mean) / message.spread
    pairs = combinations_with_replacement(range(len(INPUTS)), 2)
    terms = np.column_stack([x, *(x[:, i] * x[:, j] for i, j in pairs)])
    expected = 1 / (1 + np.exp(-(terms @ message.weights + message.intercept)))
    np.testing.assert_allclose(world.model.score(asked, obtained), expected, atol=1e-6)
    assert inputs.shape == (50, len(INPUTS))
    far = world.model.bank_distances.distances(obtained)[:, [0, 2]]
    np.testing.assert_allclose(inputs[:, -2:], np.log(far))


def test_inputs_are_clipped_to_the_fitted_range() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((400, 2))
    actual = fit_monotone_logistic(
        inputs, rng.random(400) < expit(2 * inputs[:, 0] ** 2 - inputs[:, 1])
    )
    edge, beyond = np.array([[9.0, -9.0], [-9.0, 9.0]]), np.array([[1e6, -1e6], [-1e6, 1e6]])
    np.testing.assert_array_equal(actual.log_odds(edge), actual.log_odds(beyond))


@settings(max_examples=60)
@given(
    asked=arrays(np.float32, (3, D), elements=st.floats(-1, 1, width=32)),
    obtained=arrays(np.float32, (3, D), elements=st.floats(-1, 1, width=32)),
)
def test_finite_features_have_a_finite_score(world: World, asked: Any, obtained: Any) -> None:
    asked, obtained = feature_math.normalize_rows(asked), feature_math.normalize_rows(obtained)
    scores = world.model.score(asked, obtained)
    assert scores.shape == (3,) and np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    percentiles = world.model.percentiles(asked)
    assert np.isfinite(percentiles).all() and percentiles.min() >= 0 and percentiles.max() <= 100
    warned = [bool(text) for text in world.model.warnings(asked, obtained)]
    assert warned == (scores < world.model.warn_below).tolist()


def test_constant_bank_gives_finite_scores() -> None:
    same = np.repeat(feature_math.normalize_rows(np.ones((1, D), np.float32)), 30, 0)
    yardstick = BankDistances.fit(FeaturePCA.fit(same), same, 5, same, same)
    other = feature_math.normalize_rows(
        np.random.default_rng(0).standard_normal((10, D)).astype(np.float32)
    )
    assert np.isfinite(yardstick.regression_inputs(other, same[:10])).all()
    assert np.isfinite(yardstick.regression_inputs(same, same)).all()


def test_warnings_appear_below_the_threshold_with_reasons(world: World) -> None:
    asked, obtained = world.results.target_features, world.results.features
    scores = world.model.score(asked, obtained)
    for threshold in (0.0, float(scores[7]), 0.5, world.model.warn_below, 1.1):
        actual = replace(world.model, warn_below=threshold)
        warned = np.array([bool(text) for text in actual.warnings(asked, obtained)])
        np.testing.assert_array_equal(warned, scores < threshold)
    far = world.outside > 0.5
    texts = np.array(world.model.warnings(asked, obtained))
    agreement = feature_math.paired_cosine(asked, obtained)
    usual = np.quantile(world.model.bank_distances.held_out_similarities, 0.05)
    for text, cosine in zip(texts[far], agreement[far], strict=True):
        assert "further out than all 1000 held-out samples" in text
        assert f"the agreement is only {cosine:.3f}" in text
        assert f"95% of bank images reach {usual:.3f}" in text
    # From the 99th percentile on, the warning states the percentile.
    everything = replace(world.model, warn_below=2.0)
    inner = inside((world.pole, world.axes), 2000, 13)
    highest = world.model.percentiles(inner).max(1)
    rare = inner[(highest >= 99) & (highest < 99.9)]
    assert len(rare)
    for row, percentile in zip(rare, highest[(highest >= 99) & (highest < 99.9)], strict=True):
        (text,) = everything.warnings(row[None], row[None])
        assert text == (f"the target lies outside the bank ({percentile:.1f}th percentile)")
    usual = inner[highest < 50][:1]
    assert everything.warnings(usual, usual) == (
        "the result is less certain than those of bank images",
    )


def test_five_percent_of_bank_results_have_warnings(world: World) -> None:
    fresh = answered((world.pole, world.axes), inside((world.pole, world.axes), 2000, 15), 16)
    warned = np.mean(
        [bool(text) for text in world.model.warnings(fresh.target_features, fresh.features)]
    )
    assert 0.02 < warned < 0.09


def test_restored_model_gives_the_same_scores(world: World) -> None:
    actual = world.model
    parts = (actual.bank_distances.statistics, 5, actual.warn_below)
    again = ConfidenceModel.restore(actual.arrays(), *parts)
    asked, obtained = world.results.target_features, world.results.features
    np.testing.assert_array_equal(again.score(asked, obtained), actual.score(asked, obtained))
    assert again.warnings(asked, obtained) == actual.warnings(asked, obtained)
    for name in actual.arrays():
        for broken in (
            {k: v for k, v in actual.arrays().items() if k != name},
            actual.arrays() | {name: actual.arrays()[name][:0]},
            actual.arrays() | {name: actual.arrays()[name][..., None]},
        ):
            with pytest.raises(ArtifactCorrupt, match=f"reachability: {name} is missing or"):
                ConfidenceModel.restore(broken, *parts)
    empty = actual.arrays() | {"regression weights": np.full(27, np.nan)}
    with pytest.raises(ArtifactCorrupt, match="regression weights is missing or invalid"):
        ConfidenceModel.restore(empty, *parts)


def test_regression_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((4000, 3)) * [1, 5, 0.1] + [3, 0, -2]
    odds = 2 - inputs[:, 0] + 0.1 * inputs[:, 0] * inputs[:, 1]
    events = rng.random(4000) < expit(odds)
    actual = fit_monotone_logistic(inputs, events)
    theirs = make_pipeline(
        StandardScaler(),
        PolynomialFeatures(2, include_bias=False),
        StandardScaler(),
        LogisticRegression(C=1 / RIDGE_PENALTY, max_iter=1000),
    ).fit(inputs, events)
    own = theirs.decision_function(inputs)
    np.testing.assert_allclose(expit(actual.log_odds(inputs)), expit(own), atol=1e-3)
    fresh = rng.standard_normal((500, 3)) * [1, 5, 0.1] + [3, 0, -2]
    truth = 2 - fresh[:, 0] + 0.1 * fresh[:, 0] * fresh[:, 1]
    assert np.abs(expit(actual.log_odds(fresh)) - expit(truth)).mean() < 0.03
    # A constant input has no effect.
    still = fit_monotone_logistic(np.column_stack([inputs, np.full(4000, 7.0)]), events)
    more = np.column_stack([fresh, np.linspace(0, 9, 500)])
    np.testing.assert_allclose(still.log_odds(more), actual.log_odds(fresh), atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), rises=st.floats(-3, 3))
def test_regression_is_monotone_in_constrained_inputs(seed: int, rises: float) -> None:
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((200, 3)) @ rng.standard_normal((3, 3)) + rng.standard_normal(3)
    odds = rises * inputs[:, 0] + inputs[:, 1] ** 2 - inputs[:, 2] * inputs[:, 0]
    falling = np.array([True, False, True])
    actual = fit_monotone_logistic(inputs, rng.random(200) < expit(odds), falling)
    start = 3 * rng.standard_normal((50, 3))
    for at in np.flatnonzero(falling):
        shifted = start.copy()
        shifted[:, at] += rng.exponential(1, 50)
        assert (actual.log_odds(shifted) <= actual.log_odds(start) + 1e-5).all()


@pytest.mark.parametrize("outcome", [True, False])
def test_single_outcome_gives_its_smoothed_share(outcome: bool) -> None:
    inputs = np.random.default_rng(0).standard_normal((8, 2))
    actual = fit_monotone_logistic(inputs, np.full(8, outcome))
    assert not actual.weights.any()
    assert expit(actual.log_odds(inputs)) == pytest.approx(0.9 if outcome else 0.1)


def test_too_few_items_are_rejected(world: World) -> None:
    few = RoundTripResult(*(part[:10] for part in world.results))
    statistics = world.model.bank_distances.statistics
    with pytest.raises(ConfigError, match=r"10 held-out bank images .*raise fit\.held_out"):
        fit_confidence(
            ReachabilityConfig(), statistics, few.target_features, few, world.probes, world.results
        )


def test_report_section_of_the_confidence_model(world: World, tmp_path: Path) -> None:
    believed = ConfidenceSection(world.judged)
    (target,) = believed.goals()
    assert target.met and target.measured == world.judged.auroc.mean
    text = "\n".join(believed.markdown())
    for value in (world.judged.auroc, world.judged.auroc_near):
        assert f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})" in text
    for row in world.judged.kinds:
        assert f"| {row.kind} | {row.n} | {row.near:.2f} |" in text
    believed.draw(tmp_path, {"model": "toy"})
    with Image.open(tmp_path / "reliability.png") as picture:
        assert picture.info["model"] == "toy"
    # Without a ranking the goal is not met.
    alike = ConfidenceSection(world.judged.model_copy(update={"auroc": None}))
    assert not alike.goals()[0].met and "AUROC -" in "\n".join(alike.markdown())
