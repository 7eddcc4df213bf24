"""Comparison at equal identity: the last crossing of a level, and results of linear sweeps."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlgen.config import EvaluateConfig
from controlgen.evaluation.context import EvaluationContext
from controlgen.evaluation.equal_identity import (
    AmountSweep,
    compare_at_equal_identity,
    last_crossing,
)


@given(
    st.lists(st.floats(0, 1, width=32), min_size=2, max_size=8),
    st.floats(0, 1, width=32),
)
def test_last_crossing_is_on_the_level_and_later_amounts_are_below(identity, level):
    amounts = list(np.linspace(0, 2, len(identity)))
    crossing = last_crossing(amounts, identity, level)
    if crossing is None:
        assert max(identity) < level
        return
    index, weight = crossing
    assert max(identity[index + 1 :], default=-1) < level
    if index == len(identity) - 1:
        assert weight == 0
        return
    value = (1 - weight) * identity[index] + weight * identity[index + 1]
    assert 0 <= weight <= 1
    assert value == pytest.approx(level, abs=1e-6)


def test_equal_identity_of_linear_sweeps():
    # Of twenty edits k flip at amount 1 and all at amount 2, while identity falls linearly.
    context = SimpleNamespace(
        mean_interval=EvaluationContext.mean_interval.__get__(
            SimpleNamespace(config=EvaluateConfig(bootstraps=60))
        )
    )
    amounts, sources = [0.0, 1.0, 2.0], np.arange(20)

    def sweep(flipped, slope):
        flips = np.zeros((3, 20), bool)
        flips[1, :flipped] = True
        flips[2] = True
        return AmountSweep(amounts, flips, np.repeat(1 - slope * np.array([[0], [1], [2]]), 20, 1))

    sweeps = {
        "feature arithmetic": sweep(16, 0.2),
        "latent arithmetic": sweep(10, 0.4),
        "residual edit": sweep(4, 0.0),
    }
    results = compare_at_equal_identity(context, sweeps, 0.7, sources)
    feature, latent, residual = results.methods
    assert (feature.amount, latent.amount, residual.amount) == pytest.approx((1.5, 0.75, 2.0))
    assert (feature.flip.mean, latent.flip.mean) == pytest.approx((0.9, 0.375))
    assert (residual.flip.mean, residual.identity) == (1, 1)
    assert results.lead.mean == pytest.approx(0.525)
    assert compare_at_equal_identity(context, sweeps, 1.1, sources).lead is None
