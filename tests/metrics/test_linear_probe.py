"""The linear probe against closed forms, and what it must not learn: the sources of images."""

import numpy as np
import pytest
from scipy.special import expit

from controlgen.config import EvaluateConfig
from controlgen.errors import DataError
from controlgen.evaluation.judge import train_configured_judge
from controlgen.metrics.classifier import is_correct, source_ids
from controlgen.metrics.linear_probe import train_probe


class Plain:
    """The features are the pixels, flat."""

    def embed(self, pixels):
        return np.asarray(pixels, np.float32).reshape(len(pixels), -1)


class Rows:
    """Rows (n d) as images (n 1 1 d), with labels, and groups where they are given."""

    def __init__(self, rows, labels, groups=None):
        self.rows, self.names = np.asarray(rows, np.float32), np.asarray(labels, np.int64)
        if groups is not None:
            self.groups = lambda indices: np.asarray(groups, np.int64)[indices]

    def __len__(self):
        return len(self.names)

    def pixels(self, indices):
        return self.rows[indices][:, None, None]

    def labels(self, indices):
        return self.names[indices]


def gaussians(n, seed, shift=1.2):
    """Two classes at -shift and +shift on the first of three axes, spread 1."""
    draws = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    rows = draws.normal(size=(n, 3))
    rows[:, 0] += shift * (2 * labels - 1)
    return rows, labels


def signed_sources(n, seed, copies=8):
    """Every source has a place of its own among 60 axes, which says nothing of its class."""
    draws = np.random.default_rng(seed)
    groups = draws.permutation(np.repeat(np.arange(n // copies), copies))
    places = draws.normal(size=(len(groups) // copies, 60))
    labels = np.arange(len(places)) % 2
    rows = places[groups] + 0.01 * draws.normal(size=(len(groups), 60))
    return rows, labels[groups], groups


def test_probabilities_are_those_of_the_closed_form():
    # Of two equal Gaussians at -m and m the posterior is the logistic function of 2 m x.
    probe = train_probe(Rows(*gaussians(6000, 0)), Plain(), seed=0)
    rows, _ = gaussians(500, 1)
    actual = probe.probabilities(rows[:, None, None].astype(np.float32))
    np.testing.assert_allclose(actual[:, 1], expit(2 * 1.2 * rows[:, 0]), atol=0.06)
    np.testing.assert_allclose(actual.sum(1), 1, atol=1e-6)


def test_cross_validated_accuracy_is_bayes_on_gaussians():
    probe = train_probe(Rows(*gaussians(2000, 2)), Plain(), seed=0)
    rows, labels = gaussians(100_000, 3)
    bayes = ((rows[:, 0] > 0) == labels).mean()
    assert probe.strength.accuracy == pytest.approx(bayes, abs=0.02)


def test_three_classes_are_three_probabilities_in_any_batch():
    draws = np.random.default_rng(0)
    labels = np.arange(300) % 3
    rows = np.eye(3)[labels] * 6 + draws.normal(size=(300, 3))
    probe = train_probe(Rows(rows, labels), Plain(), seed=0)
    pixels = rows[:, None, None].astype(np.float32)
    together = probe.probabilities(pixels)
    assert (probe.classes, together.shape) == (3, (300, 3))
    assert (together.argmax(1) == labels).mean() > 0.97
    np.testing.assert_allclose(probe.probabilities(pixels[:7]), together[:7], atol=1e-6)
    assert probe.probabilities(pixels[:0]).shape == (0, 3)


def test_sources_learned_by_heart_do_not_count():
    # Copies of one source give their class away to whoever has seen one of them; held out whole, a
    # source is a toss: a smaller strength is chosen, and accuracy is chance over sixty sources.
    rows, labels, groups = signed_sources(480, 0)
    grouped = train_probe(Rows(rows, labels, groups), Plain(), seed=0)
    leaking = train_probe(Rows(rows, labels), Plain(), seed=0)
    assert leaking.strength.accuracy == 1
    assert grouped.strength.accuracy < 0.75
    assert grouped.strength.value < leaking.strength.value
    assert (grouped.images, grouped.sources) == (480, 60)
    assert leaking.sources == 480


@pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
        ([0] * 8, range(8), "at least two classes"),
        ([0, 2] * 4, range(8), r"found \[0, 2\]"),
        ([0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 2, 3, 4, 4, 4, 4], r"\[4, 1\].*other sources"),
    ],
)
def test_what_cannot_be_held_out_by_source_is_refused(labels, groups, message):
    rows = np.random.default_rng(0).normal(size=(8, 3))
    with pytest.raises(DataError, match=message):
        train_probe(Rows(rows, labels, list(groups)), Plain(), seed=0)


def test_the_same_seed_gives_the_same_probe_whatever_numpy_was_drawing():
    data, pixels = Rows(*gaussians(300, 4)), gaussians(9, 5)[0][:, None, None]
    state = np.random.get_state()
    answers = []
    for seed in (1, 2):
        np.random.seed(seed)
        answers.append(train_probe(data, Plain(), seed=3).probabilities(pixels))
    np.random.set_state(state)
    np.testing.assert_array_equal(*answers)


def test_without_groups_every_image_is_its_own_source():
    assert source_ids(Rows(*gaussians(6, 0)), np.array([4, 1])).tolist() == [4, 1]
    tiled = Rows(*gaussians(6, 0), groups=[7, 7, 8, 8, 9, 9])
    assert source_ids(tiled, np.array([4, 1])).tolist() == [9, 7]


def test_accuracy_on_the_test_set_draws_sources_whole(probe_config):
    rows, labels = gaussians(400, 6)
    test_rows, test_labels = gaussians(200, 7)
    # Five copies of forty images: the interval must be that of forty, not of two hundred.
    test_rows, test_labels = np.repeat(test_rows[:40], 5, 0), np.repeat(test_labels[:40], 5)
    copied = Rows(test_rows, test_labels, np.repeat(np.arange(40), 5))
    train = Rows(rows, labels)
    judge, judging = train_configured_judge(train, copied, Plain(), probe_config)
    _, as_images = train_configured_judge(
        train, Rows(test_rows, test_labels), Plain(), probe_config
    )
    accuracy, naive = judging.accuracy, as_images.accuracy
    assert accuracy.n == 40
    assert accuracy.mean == naive.mean == is_correct(judge, copied).mean()
    assert 1.5 < (accuracy.high - accuracy.low) / (naive.high - naive.low) < 3
    assert judging.strength == judge.strength.value
    assert f"C = {judging.strength:g}" in judging.description


@pytest.fixture
def probe_config():
    return EvaluateConfig.parse({"judge": "probe", "bootstraps": 500})
