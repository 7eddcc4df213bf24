"""Exemplars, edits between classes and the methods that make them, on a toy of known answers."""

import numpy as np
import pytest

from controlgen.evaluation.class_edits import figure3
from controlgen.evaluation.edit_pairs import (
    TooFewClasses,
    class_directions,
    pick_edits,
    pick_exemplars,
)
from toy_protocol import CLASSES, ToySpace, make_subject


@pytest.fixture(scope="module")
def subject():
    return make_subject()


@pytest.fixture(scope="module")
def figure(subject):
    return figure3(subject)


def test_text_exemplars_lie_in_the_training_part_and_are_right(subject):
    exemplars, by, precision = pick_exemplars(subject)
    assert (by, precision.mean) == ("text", 1.0)
    assert exemplars.shape == (CLASSES, 8)
    assert exemplars.max() < subject.bank.train.stop


def test_without_text_the_judge_picks():
    exemplars, by, precision = pick_exemplars(make_subject(ToySpace()))
    assert (by, precision.mean) == ("judge", 1.0)
    assert len(np.unique(exemplars)) == exemplars.size


def test_edits_cover_every_ordered_pair_with_sure_sources(subject):
    edits, missing = pick_edits(subject)
    pairs = {(int(b), int(a)) for b, a in zip(edits.before, edits.after, strict=True)}
    assert pairs == {(b, a) for b in range(CLASSES) for a in range(CLASSES) if a != b}
    assert not missing
    assert len(edits) == 60
    probabilities = subject.judge.probabilities(edits.pixels)
    assert (probabilities.argmax(1) == edits.before).all()
    assert probabilities.max(1).min() > 0.9
    start = subject.bank.held_out.start
    np.testing.assert_array_equal(edits.latents, subject.bank.latents[start + edits.source])


def test_directions_are_differences_of_class_means(subject):
    exemplars, _, _ = pick_exemplars(subject)
    edits, _ = pick_edits(subject)
    directions = class_directions(subject, exemplars, edits)
    b, a = exemplars[edits.before[0]], exemplars[edits.after[0]]
    expected = subject.bank.features[a].mean(0) - subject.bank.features[b].mean(0)
    np.testing.assert_allclose(directions.features[0], expected, atol=1e-6)
    expected = subject.bank.latents[a].mean(0) - subject.bank.latents[b].mean(0)
    np.testing.assert_allclose(directions.latents[0], expected, atol=1e-6)


def test_figure3_tells_the_methods_apart(figure):
    feature, latent = figure.at_best("feature arithmetic"), figure.at_best("latent arithmetic")
    retrieval, random = figure.at_best("retrieval"), figure.at_best("random direction")
    assert feature.flip.mean > 0.95
    assert latent.flip.mean > 0.9
    assert retrieval.flip.mean > 0.9 > 0.6 > random.flip.mean
    # Retrieval returns some image of the class; arithmetic returns the same image otherwise.
    assert feature.identity.mean > retrieval.identity.mean + 0.1
    assert figure.at_best("optimisation").n == 6


def test_figure3_controls_are_exact(figure):
    unedited = figure.at_best("no edit")
    assert (unedited.flip.mean, unedited.pixel_error.mean) == (0, 0)
    assert unedited.identity.mean == pytest.approx(1, abs=1e-5)
    assert unedited.identity_of_flipped is None
    assert figure.at_best("round trip").flip.mean < 0.05


def test_best_is_the_smallest_amount_of_the_highest_rate(figure):
    for method in ("feature arithmetic", "latent arithmetic", "retrieval"):
        rates = {s.amount: s.flip.mean for s in figure.sweeps if s.method == method}
        expected = min(amount for amount, rate in rates.items() if rate == max(rates.values()))
        assert figure.at_best(method).amount == expected
        assert figure.at_best(method).flip.mean == rates[expected]


def test_intervals_count_sources_not_edits():
    # More edits a pair than a class has images: every source serves both of its pairs.
    figure = figure3(make_subject(sources=200, amounts=(1.0,), optimisation_steps=1))
    feature = figure.at_best("feature arithmetic")
    assert feature.n == figure.edits == 2 * figure.sources
    assert feature.flip.n == feature.identity.n == figure.sources


def test_pairs_average_to_the_flip_rate(figure):
    rates = [rate for row in figure.pairs for rate in row if rate is not None]
    assert len(rates) == 6
    assert np.mean(rates) == pytest.approx(figure.at_best("feature arithmetic").flip.mean)


def test_a_generator_of_one_class_cannot_be_edited():
    subject = make_subject()
    subject.judge.probabilities = lambda pixels: np.tile([1.0, 0.0, 0.0], (len(pixels), 1))
    with pytest.raises(TooFewClasses, match="sure of fewer than two classes"):
        figure3(subject)
