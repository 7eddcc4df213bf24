"""Methods at equal identity: where a sweep crosses a level, and what straight sweeps give there."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlgen.config import EvaluateConfig
from controlgen.evaluation.context import Subject
from controlgen.evaluation.equal_identity import Trace, at_equal_identity, crossing


@given(
    st.lists(st.floats(0, 1, width=32), min_size=2, max_size=8),
    st.floats(0, 1, width=32),
)
def test_the_crossing_lies_on_the_level_and_nothing_behind_it_reaches_it(identity, level):
    amounts = list(np.linspace(0, 2, len(identity)))
    found = crossing(amounts, identity, level)
    if found is None:
        assert max(identity) < level
        return
    place, weight = found
    assert max(identity[place + 1 :], default=-1) < level
    if place == len(identity) - 1:
        assert weight == 0
        return
    there = (1 - weight) * identity[place] + weight * identity[place + 1]
    assert 0 <= weight <= 1
    assert there == pytest.approx(level, abs=1e-6)


def test_equal_identity_of_two_straight_sweeps():
    # Of twenty edits k flip at amount 1 and all at amount 2, while identity falls in a line.
    subject = SimpleNamespace(
        mean=Subject.mean.__get__(SimpleNamespace(config=EvaluateConfig(bootstraps=60)))
    )
    amounts, sources = [0.0, 1.0, 2.0], np.arange(20)

    def trace(flipped, slope):
        flips = np.zeros((3, 20), bool)
        flips[1, :flipped] = True
        flips[2] = True
        return Trace(amounts, flips, np.repeat(1 - slope * np.array([[0], [1], [2]]), 20, 1))

    traces = {
        "feature arithmetic": trace(16, 0.2),
        "latent arithmetic": trace(10, 0.4),
        "residual edit": trace(4, 0.0),
    }
    found = at_equal_identity(subject, traces, 0.7, sources)
    feature, latent, residual = found.methods
    assert (feature.amount, latent.amount, residual.amount) == pytest.approx((1.5, 0.75, 2.0))
    assert (feature.flip.mean, latent.flip.mean) == pytest.approx((0.9, 0.375))
    assert (residual.flip.mean, residual.identity) == (1, 1)
    assert found.lead.mean == pytest.approx(0.525)
    assert at_equal_identity(subject, traces, 1.1, sources).lead is None
