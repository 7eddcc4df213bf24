"""Intervals of the evaluation context."""

from types import SimpleNamespace

import numpy as np

from controlgen.evaluation.context import EvaluationContext
from toy_two_sides import make_sides_config


def test_interval_of_a_single_source_is_over_values():
    context = SimpleNamespace(config=make_sides_config(bootstraps=200))
    values = np.arange(10.0)
    single = EvaluationContext.mean_interval(context, values, np.zeros(10, np.int64))
    assert single == EvaluationContext.mean_interval(context, values)
    assert single.n == 10 and single.low < single.mean < single.high
    two = EvaluationContext.mean_interval(context, values, np.arange(10) // 5)
    assert two.n == 2 and two.high - two.low > single.high - single.low
