"""Ranking and reliability of probabilities against scikit-learn and against hand-made cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from controlgen.metrics.calibration import (
    auroc,
    auroc_interval,
    brier,
    expected_calibration_error,
    reliability,
)


@given(
    scores=st.lists(st.integers(0, 6), min_size=4, max_size=40),
    seed=st.integers(0, 1000),
)
def test_auroc_and_brier_are_scikit_learns_with_ties_and_weights(
    scores: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = np.array(scores) / 6
    events = rng.random(len(values)) < 0.5
    events[:2] = [True, False]
    weights = rng.integers(1, 5, (3, len(values)))
    assert auroc(values, events)[0] == pytest.approx(roc_auc_score(events, values))
    for row, actual in zip(weights, auroc(values, events, weights), strict=True):
        assert actual == pytest.approx(roc_auc_score(events, values, sample_weight=row))
    assert brier(values, events) == pytest.approx(brier_score_loss(events, values))


def test_one_outcome_has_no_auroc() -> None:
    scores, sources = np.linspace(0, 1, 5), np.arange(5)
    assert np.isnan(auroc(scores, np.ones(5, bool))).all()
    assert auroc_interval(scores, np.zeros(5, bool), sources, 0) is None
    assert auroc_interval(scores[:0], np.zeros(0, bool), sources[:0], 0) is None


def test_intervals_hold_the_truth_and_know_repeated_sources() -> None:
    # Normal scores a standard deviation apart: the truth is Phi(1 / sqrt 2).
    truth, held, widths = 0.76025, 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        events = rng.random(200) < 0.5
        scores = rng.standard_normal(200) + events
        actual = auroc_interval(scores, events, np.arange(200), seed, 300)
        assert actual is not None and actual.n == 200
        held += actual.low <= truth <= actual.high
        # The same items ten times over tell nothing new.
        again = auroc_interval(
            np.tile(scores, 10), np.tile(events, 10), np.tile(np.arange(200), 10), seed, 300
        )
        assert again is not None
        np.testing.assert_allclose(again, actual, atol=1e-9)
        widths.append(actual.high - actual.low)
    assert held >= 34
    assert 0.08 < np.mean(widths) < 0.2


def test_reliability_by_hand() -> None:
    scores = np.array([0.05, 0.05, 0.55, 0.55, 0.55, 0.55, 1.0, 0.0])
    events = np.array([0, 1, 1, 1, 1, 0, 1, 0], bool)
    bins = reliability(scores, events, np.arange(8), 0, 100)
    assert [(b.low, b.high, b.n) for b in bins] == [(0, 0.1, 3), (0.5, 0.6, 4), (0.9, 1.0, 1)]
    np.testing.assert_allclose([b.predicted for b in bins], [0.1 / 3, 0.55, 1.0])
    np.testing.assert_allclose([b.observed.mean for b in bins], [1 / 3, 0.75, 1.0])
    gaps = 3 * abs(1 / 3 - 0.1 / 3) + 4 * 0.2 + 0
    assert expected_calibration_error(scores, events) == pytest.approx(gaps / 8)


@pytest.mark.parametrize(("power", "low", "high"), [(1.0, 0.0, 0.02), (3.0, 0.15, 0.3)])
def test_the_error_is_small_for_true_probabilities_alone(
    power: float, low: float, high: float
) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(20_000)
    events = rng.random(20_000) < truth
    assert low <= expected_calibration_error(truth**power, events) <= high
