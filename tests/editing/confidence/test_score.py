"""Reachability in a linear world: what can be reached is a subspace, and known exactly."""

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
from controlgen.editing.confidence.fit import Trip, calibrate, first_half
from controlgen.editing.confidence.probe_targets import Trials
from controlgen.editing.confidence.score import (
    DISTANCES,
    INPUTS,
    PENALTY,
    Reachability,
    Yardstick,
    fitted,
)
from controlgen.editing.feature_pca import Statistics
from controlgen.errors import ArtifactCorrupt, ConfigError
from controlgen.evaluation.confidence import Believed

D, K = 24, 5  # features, of which the generator moves five
Rows = NDArray[np.float32]


class World(NamedTuple):
    """Features near a pole that only K directions lead away from, and what came of learning."""

    pole: Any
    axes: Any  # K D
    outward: Any  # D, orthogonal to pole and axes
    found: Reachability
    judged: Any
    trials: Trials
    tried: Trip
    outside: Any  # n, how far each trial was moved out of reach


def inside(world: Any, n: int, seed: int) -> Rows:
    """Features that the bank holds, with a trace of everything else."""
    pole, axes = world
    rng = np.random.default_rng(seed)
    moves = rng.standard_normal((n, K)) * [0.3, 0.2, 0.2, 0.1, 0.1]
    trace = 0.002 * rng.standard_normal((n, D))
    return feature_math.unit((pole + moves @ axes + trace).astype(np.float32))


def answered(world: Any, asked: Rows, seed: int, noise: float = 0.02) -> Trip:
    """The nearest that can be reached, missed by a little; the audit space is another turn."""
    pole, axes = world
    rng = np.random.default_rng(seed)
    basis = np.vstack([pole, axes])
    reached = asked @ basis.T @ basis + noise * rng.standard_normal((len(asked), K)) @ axes
    obtained = feature_math.unit(reached.astype(np.float32))
    scales = np.random.default_rng(99).uniform(0.7, 1.3, D)
    audit = feature_math.cosine((asked * scales).astype(np.float32), (obtained * scales))
    return Trip(asked, obtained, audit)


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((D, D)))[0].T
    space = turn[0], turn[1 : 1 + K]
    training = inside(space, 3000, 1)
    held_out = answered(space, inside(space, 1000, 2), 3)
    n = 1200
    outside = np.where(rng.random(n) < 0.4, 0, rng.uniform(0.1, 1.0, n))
    asked = feature_math.unit(
        (inside(space, n, 4) + outside[:, None] * turn[-1]).astype(np.float32)
    )
    tried = answered(space, asked, 5)
    kinds = np.where(outside == 0, "bank", "foreign")
    trials = Trials(np.zeros((n, 1, 1, 1), np.uint8), kinds, np.arange(n) // 2)
    config = ReachabilityConfig(stored=800)
    statistics = Statistics.of(training)
    found, judged = calibrate(config, statistics, training, held_out, trials, tried)
    return World(space[0], space[1], turn[-1], found, judged, trials, tried, outside)


def test_what_cannot_be_reached_is_told_from_what_can(world: World) -> None:
    judging = ~first_half(world.trials.sources, 0)
    scores = world.found.score(world.tried.asked, world.tried.obtained)
    assert roc_auc_score(world.outside[judging] == 0, scores[judging]) > 0.999
    # The event itself is less certain: by its definition a tenth of the bank's answers fail too.
    events = world.tried.audit >= world.judged.near_means
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


def test_no_source_is_both_fitted_and_judged(world: World) -> None:
    half = first_half(world.trials.sources, 0)
    assert not set(world.trials.sources[half]) & set(world.trials.sources[~half])
    assert half.sum() == world.judged.fitted == 600
    assert not np.array_equal(half, first_half(world.trials.sources, 1))


def test_the_score_falls_as_a_target_moves_out(world: World) -> None:
    starts = inside((world.pole, world.axes), 20, 7)
    for start in starts:
        steps = np.linspace(0, 3, 40)[:, None]
        asked = feature_math.unit((start + steps * world.outward).astype(np.float32))
        trip = answered((world.pole, world.axes), asked, 8, noise=0)
        scores = world.found.score(trip.asked, trip.obtained)
        assert (np.diff(scores) <= 1e-6).all()
        assert scores[0] > 0.8 and scores[-1] < 0.01
        distances = world.found.yardstick.inputs(trip.asked, trip.obtained)
        assert (np.diff(distances[:, DISTANCES.index("outside")]) > 0).all()


def test_the_score_falls_with_the_agreement_alone(world: World) -> None:
    asked = np.repeat(inside((world.pole, world.axes), 1, 9), 50, 0)
    off = np.linspace(0, np.pi, 50)[:, None]
    obtained = (np.cos(off) * asked + np.sin(off) * world.outward).astype(np.float32)
    scores = world.found.score(asked, obtained)
    assert (np.diff(scores) <= 0).all() and scores[0] - scores[-1] > 0.5


def test_percentiles_of_held_out_features_are_uniform(world: World) -> None:
    fresh = inside((world.pole, world.axes), 1000, 11)
    percentiles = world.found.percentiles(fresh)
    yardstick = world.found.yardstick
    for column, name in enumerate(DISTANCES):
        uniform = (np.arange(1000) + 0.5) / 10
        # Two samples of 1000 differ by that much once in a thousand.
        assert ks_2samp(percentiles[:, column], uniform).statistic < 0.0872, name
        own = np.sort(yardstick.measure(fresh)[:, column])
        moved = ks_2samp(own, yardstick.distances[:, column]).statistic
        assert ks_2samp(percentiles[:, column], uniform).statistic == pytest.approx(moved, abs=2e-3)
    assert (percentiles >= 0).all() and (percentiles <= 100).all()


def test_distances_against_other_libraries(world: World) -> None:
    yardstick = world.found.yardstick
    asked = feature_math.unit(np.random.default_rng(1).standard_normal((30, D)).astype(np.float32))
    found = yardstick.measure(asked)
    parts = yardstick.statistics
    covariance = (parts.components.T * parts.variances) @ parts.components
    change = (asked - parts.mean).astype(np.float64)
    inverse = np.linalg.pinv(covariance.astype(np.float64), rcond=1e-6, hermitian=True)
    wanted = np.einsum("nd,de,ne->n", change, inverse, change)
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-3)
    residual = change - change @ parts.components.T @ parts.components
    np.testing.assert_allclose(found[:, 1], (residual**2).sum(1), rtol=1e-4)
    search = NearestNeighbors(n_neighbors=5).fit(yardstick.stored.astype(np.float64))
    nearest = search.kneighbors(change @ parts.components.T)[0][:, -1]
    np.testing.assert_allclose(found[:, 2], nearest, rtol=1e-4)
    # Gaussian features: the squared Mahalanobis distance is chi-squared.
    rows = np.random.default_rng(2).standard_normal((4000, K)).astype(np.float32)
    statistics = Statistics.of(rows)
    plain = Yardstick(statistics, np.zeros((1, K), np.float16), 1, *[np.empty(0)] * 2)
    measured = plain.measure(np.random.default_rng(3).standard_normal((4000, K)).astype(np.float32))
    assert ks_2samp(measured[:, 0], chi2(K).rvs(4000, random_state=4)).statistic < 0.044


def test_the_score_is_the_logistic_of_its_inputs(world: World) -> None:
    asked, obtained = world.tried.asked[:50], world.tried.obtained[:50]
    inputs = world.found.yardstick.inputs(asked, obtained)
    said = world.found.regression
    x = (np.clip(inputs, said.low, said.high) - said.mean) / said.spread
    pairs = combinations_with_replacement(range(len(INPUTS)), 2)
    terms = np.column_stack([x, *(x[:, i] * x[:, j] for i, j in pairs)])
    wanted = 1 / (1 + np.exp(-(terms @ said.weights + said.intercept)))
    np.testing.assert_allclose(world.found.score(asked, obtained), wanted, atol=1e-6)
    assert inputs.shape == (50, len(INPUTS))
    far = world.found.yardstick.measure(obtained)[:, [0, 2]]
    np.testing.assert_allclose(inputs[:, -2:], np.log(far))


def test_beyond_what_was_seen_nothing_is_extrapolated() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((400, 2))
    found = fitted(inputs, rng.random(400) < expit(2 * inputs[:, 0] ** 2 - inputs[:, 1]))
    edge, beyond = np.array([[9.0, -9.0], [-9.0, 9.0]]), np.array([[1e6, -1e6], [-1e6, 1e6]])
    np.testing.assert_array_equal(found.log_odds(edge), found.log_odds(beyond))


@settings(max_examples=60)
@given(
    asked=arrays(np.float32, (3, D), elements=st.floats(-1, 1, width=32)),
    obtained=arrays(np.float32, (3, D), elements=st.floats(-1, 1, width=32)),
)
def test_any_finite_features_have_a_finite_score(world: World, asked: Any, obtained: Any) -> None:
    asked, obtained = feature_math.unit(asked), feature_math.unit(obtained)
    scores = world.found.score(asked, obtained)
    assert scores.shape == (3,) and np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    percentiles = world.found.percentiles(asked)
    assert np.isfinite(percentiles).all() and percentiles.min() >= 0 and percentiles.max() <= 100
    warned = [bool(text) for text in world.found.warnings(asked, obtained)]
    assert warned == (scores < world.found.warn_below).tolist()


def test_a_bank_without_spread_still_gives_numbers() -> None:
    same = np.repeat(feature_math.unit(np.ones((1, D), np.float32)), 30, 0)
    yardstick = Yardstick.of(Statistics.of(same), same, 5, same, same)
    other = feature_math.unit(np.random.default_rng(0).standard_normal((10, D)).astype(np.float32))
    assert np.isfinite(yardstick.inputs(other, same[:10])).all()
    assert np.isfinite(yardstick.inputs(same, same)).all()


def test_warnings_appear_exactly_below_the_threshold_and_say_why(world: World) -> None:
    asked, obtained = world.tried.asked, world.tried.obtained
    scores = world.found.score(asked, obtained)
    for threshold in (0.0, float(scores[7]), 0.5, world.found.warn_below, 1.1):
        found = replace(world.found, warn_below=threshold)
        warned = np.array([bool(text) for text in found.warnings(asked, obtained)])
        np.testing.assert_array_equal(warned, scores < threshold)
    far = world.outside > 0.5
    texts = np.array(world.found.warnings(asked, obtained))
    agreement = feature_math.cosine(asked, obtained)
    usual = np.quantile(world.found.yardstick.agreements, 0.05)
    for text, cosine in zip(texts[far], agreement[far], strict=True):
        assert "further out than all 1000 held-out samples" in text
        assert f"asked and obtained agree to {cosine:.3f} only" in text
        assert f"95% of the bank's own answers reach {usual:.3f}" in text
    # Between the 99th percentile and the farthest, the percentile is named.
    everything = replace(world.found, warn_below=2.0)
    inner = inside((world.pole, world.axes), 2000, 13)
    highest = world.found.percentiles(inner).max(1)
    rare = inner[(highest >= 99) & (highest < 99.9)]
    assert len(rare)
    for row, percentile in zip(rare, highest[(highest >= 99) & (highest < 99.9)], strict=True):
        (text,) = everything.warnings(row[None], row[None])
        assert text == (
            f"the target lies outside what the bank holds ({percentile:.1f}th percentile)"
        )
    usual = inner[highest < 50][:1]
    assert everything.warnings(usual, usual) == (
        "the answer is less near than those of the bank are",
    )


def test_a_twentieth_of_the_banks_answers_is_warned_of(world: World) -> None:
    fresh = answered((world.pole, world.axes), inside((world.pole, world.axes), 2000, 15), 16)
    warned = np.mean([bool(text) for text in world.found.warnings(fresh.asked, fresh.obtained)])
    assert 0.02 < warned < 0.09


def test_saved_and_restored_it_says_the_same(world: World) -> None:
    found = world.found
    parts = (found.yardstick.statistics, 5, found.warn_below)
    again = Reachability.restore(found.arrays(), *parts)
    asked, obtained = world.tried.asked, world.tried.obtained
    np.testing.assert_array_equal(again.score(asked, obtained), found.score(asked, obtained))
    assert again.warnings(asked, obtained) == found.warnings(asked, obtained)
    for name in found.arrays():
        for broken in (
            {k: v for k, v in found.arrays().items() if k != name},
            found.arrays() | {name: found.arrays()[name][:0]},
            found.arrays() | {name: found.arrays()[name][..., None]},
        ):
            with pytest.raises(ArtifactCorrupt, match=f"reachability's {name} is missing or"):
                Reachability.restore(broken, *parts)
    empty = found.arrays() | {"regression weights": np.full(27, np.nan)}
    with pytest.raises(ArtifactCorrupt, match="regression weights is missing or wrong"):
        Reachability.restore(empty, *parts)


def test_the_regression_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((4000, 3)) * [1, 5, 0.1] + [3, 0, -2]
    odds = 2 - inputs[:, 0] + 0.1 * inputs[:, 0] * inputs[:, 1]
    events = rng.random(4000) < expit(odds)
    found = fitted(inputs, events)
    theirs = make_pipeline(
        StandardScaler(),
        PolynomialFeatures(2, include_bias=False),
        StandardScaler(),
        LogisticRegression(C=1 / PENALTY, max_iter=1000),
    ).fit(inputs, events)
    own = theirs.decision_function(inputs)
    np.testing.assert_allclose(expit(found.log_odds(inputs)), expit(own), atol=1e-3)
    fresh = rng.standard_normal((500, 3)) * [1, 5, 0.1] + [3, 0, -2]
    truth = 2 - fresh[:, 0] + 0.1 * fresh[:, 0] * fresh[:, 1]
    assert np.abs(expit(found.log_odds(fresh)) - expit(truth)).mean() < 0.03
    # What is the same for every item teaches nothing.
    still = fitted(np.column_stack([inputs, np.full(4000, 7.0)]), events)
    more = np.column_stack([fresh, np.linspace(0, 9, 500)])
    np.testing.assert_allclose(still.log_odds(more), found.log_odds(fresh), atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), rises=st.floats(-3, 3))
def test_the_score_never_rises_with_an_input_that_may_not(seed: int, rises: float) -> None:
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((200, 3)) @ rng.standard_normal((3, 3)) + rng.standard_normal(3)
    odds = rises * inputs[:, 0] + inputs[:, 1] ** 2 - inputs[:, 2] * inputs[:, 0]
    falling = np.array([True, False, True])
    found = fitted(inputs, rng.random(200) < expit(odds), falling)
    start = 3 * rng.standard_normal((50, 3))
    for at in np.flatnonzero(falling):
        moved = start.copy()
        moved[:, at] += rng.exponential(1, 50)
        assert (found.log_odds(moved) <= found.log_odds(start) + 1e-5).all()


@pytest.mark.parametrize("outcome", [True, False])
def test_one_outcome_teaches_nothing_but_its_share(outcome: bool) -> None:
    inputs = np.random.default_rng(0).standard_normal((8, 2))
    found = fitted(inputs, np.full(8, outcome))
    assert not found.weights.any()
    assert expit(found.log_odds(inputs)) == pytest.approx(0.9 if outcome else 0.1)


def test_too_few_are_refused(world: World) -> None:
    few = Trip(*(part[:10] for part in world.tried))
    statistics = world.found.yardstick.statistics
    with pytest.raises(ConfigError, match=r"10 held-out bank images .*raise fit\.held_out"):
        calibrate(ReachabilityConfig(), statistics, few.asked, few, world.trials, world.tried)


def test_the_report_says_what_it_is_worth(world: World, tmp_path: Path) -> None:
    believed = Believed(world.judged)
    (target,) = believed.targets()
    assert target.met and target.measured == world.judged.auroc.mean
    text = "\n".join(believed.markdown())
    for value in (world.judged.auroc, world.judged.auroc_near):
        assert f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})" in text
    for row in world.judged.kinds:
        assert f"| {row.kind} | {row.n} | {row.near:.2f} |" in text
    believed.draw(tmp_path, {"model": "toy"})
    with Image.open(tmp_path / "reliability.png") as picture:
        assert picture.info["model"] == "toy"
    # Nothing to rank is not a goal met.
    alike = Believed(world.judged.model_copy(update={"auroc": None}))
    assert not alike.targets()[0].met and "AUROC -" in "\n".join(alike.markdown())
