"""Methods that edit between classes, on a toy with known results."""

import numpy as np
import pytest

from controlgen.evaluation.class_edits import evaluate_class_edits
from controlgen.evaluation.edit_pairs import TooFewClasses
from toy_protocol import make_context


@pytest.fixture(scope="module")
def results():
    return evaluate_class_edits(make_context())


def test_methods_differ_in_flip_rate_and_identity(results):
    feature, latent = results.best_of("feature arithmetic"), results.best_of("latent arithmetic")
    retrieval, random = results.best_of("retrieval"), results.best_of("random direction")
    assert feature.flip.mean > 0.95
    assert latent.flip.mean > 0.9
    assert retrieval.flip.mean > 0.9 > 0.6 > random.flip.mean
    # Retrieval returns another image of the class; arithmetic changes only the class.
    assert feature.identity.mean > retrieval.identity.mean + 0.1
    assert results.best_of("optimisation").n == 6


def test_controls_are_exact(results):
    unedited = results.best_of("no edit")
    assert (unedited.flip.mean, unedited.pixel_error.mean) == (0, 0)
    assert unedited.identity.mean == pytest.approx(1, abs=1e-5)
    assert unedited.identity_of_flipped is None
    assert results.best_of("round trip").flip.mean < 0.05


def test_best_is_the_smallest_amount_of_the_highest_rate(results):
    for method in ("feature arithmetic", "latent arithmetic", "retrieval"):
        rates = {s.amount: s.flip.mean for s in results.sweeps if s.method == method}
        expected = min(amount for amount, rate in rates.items() if rate == max(rates.values()))
        assert results.best_of(method).amount == expected
        assert results.best_of(method).flip.mean == rates[expected]


def test_intervals_count_sources_not_edits():
    # More edits per pair than images per class: every source serves both of its pairs.
    context = make_context(sources=200, amounts=(1.0,), optimisation_steps=1)
    results = evaluate_class_edits(context)
    feature = results.best_of("feature arithmetic")
    assert feature.n == results.edits == 2 * results.sources
    assert feature.flip.n == feature.identity.n == results.sources


def test_pairs_average_to_the_flip_rate(results):
    rates = [rate for row in results.pairs for rate in row if rate is not None]
    assert len(rates) == 6
    assert np.mean(rates) == pytest.approx(results.best_of("feature arithmetic").flip.mean)


def test_generator_of_one_class_raises():
    context = make_context()
    context.judge.probabilities = lambda pixels: np.tile([1.0, 0.0, 0.0], (len(pixels), 1))
    with pytest.raises(TooFewClasses, match="confident of fewer than two classes"):
        evaluate_class_edits(context)
