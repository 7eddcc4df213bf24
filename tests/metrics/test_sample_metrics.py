"""Scores of samples: clarity, neighbourhoods, path length, variety and modes, by closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist

from controlgen.metrics import precision_recall as neighbourhoods
from controlgen.metrics.diversity import diversity, euclidean, group_diversity, nearest_distance
from controlgen.metrics.inception_score import inception_score, split_scores
from controlgen.metrics.mode_coverage import mode_coverage, stacked_mnist_modes
from controlgen.metrics.path_length import (
    LOWER_IS_BETTER,
    lerp,
    path_length,
    path_lengths,
    slerp,
)
from controlgen.metrics.precision_recall import density_coverage, precision_recall


def normal(n, d, seed, scale=1.0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, scale, (n, d))


# Inception Score


def test_inception_score_counts_clear_and_equal_classes():
    assert inception_score(np.tile(np.eye(8), (5, 1))).mean == pytest.approx(8)
    assert inception_score(np.full((40, 8), 1 / 8)).mean == pytest.approx(1)
    one_class = inception_score(np.eye(8)[np.zeros(40, int)])
    assert one_class == pytest.approx((1, 1, 1, 40))


def test_inception_score_interval_covers_its_expectation():
    # Fresh samples of the same size tell what the interval must hold.
    answers = [
        inception_score(np.random.default_rng(seed).dirichlet([0.3] * 5, 150))
        for seed in range(150)
    ]
    means = np.array([answer.mean for answer in answers])
    inside = [answer.low <= means.mean() <= answer.high for answer in answers]
    assert 0.89 <= np.mean(inside) <= 0.99
    assert answers[0].n == 150


def test_split_scores_are_the_score_of_each_part():
    table = np.random.default_rng(0).dirichlet([0.5] * 4, 25)
    expected = [inception_score(part).mean for part in (table[:8], table[8:16], table[16:])]
    assert split_scores(table, 3) == pytest.approx(expected)
    with pytest.raises(ValueError, match="26 parts"):
        split_scores(table, 26)


@pytest.mark.parametrize("table", [normal(9, 4, 0), np.ones((9, 4)), np.full((1, 4), 0.25)])
def test_inception_score_refuses_what_is_no_probability(table):
    with pytest.raises(ValueError, match="probabilities"):
        inception_score(table)


# Precision and recall, density and coverage


def test_neighbourhoods_of_equal_sets_are_full_and_of_distant_sets_empty():
    rows = normal(60, 5, 1)
    same, far = precision_recall(rows, rows[::-1], 0), precision_recall(rows, rows + 1e4, 0)
    assert (same.precision.mean, same.recall.mean) == (1, 1)
    assert (far.precision.mean, far.recall.mean) == (0, 0)
    assert density_coverage(rows, rows, 0).coverage.mean == 1
    # Each ball holds its centre and exactly five others, the farthest on its edge.
    assert density_coverage(rows, rows, 0).density.mean == pytest.approx(6 / 5)


def test_collapse_costs_recall_and_wildness_costs_precision():
    real = normal(200, 3, 2)
    collapsed = precision_recall(real, 0.05 * normal(200, 3, 3), 0)
    wild = precision_recall(real, 6 * normal(200, 3, 4), 0)
    assert collapsed.precision.mean > 0.95 and collapsed.recall.mean < 0.2
    assert wild.precision.mean < 0.5 and wild.recall.mean > 0.9


def test_an_outlier_among_samples_swells_recall_but_no_density():
    # The weakness that density and coverage were made to mend: a lone sample has a huge ball.
    real = normal(100, 2, 5)
    few = np.concatenate([0.01 * normal(60, 2, 6) - 6, [[40.0, 40.0]]])
    assert precision_recall(real, few, 0).recall.mean == 1
    assert density_coverage(real, few, 0).coverage.mean < 0.1


@pytest.mark.parametrize("table", [1, 500])
def test_memory_changes_no_number(monkeypatch, table):
    real, generated = normal(50, 4, 7), normal(40, 4, 8, 1.1)
    full = precision_recall(real, generated, 0), density_coverage(real, generated, 0)
    monkeypatch.setattr(neighbourhoods, "TABLE", table)
    assert (precision_recall(real, generated, 0), density_coverage(real, generated, 0)) == full


@settings(max_examples=20)
@given(shift=st.floats(-1e3, 1e3), scale=st.floats(1e-2, 1e2))
def test_moving_and_scaling_everything_changes_no_number(shift, scale):
    real, generated = normal(30, 3, 9), normal(30, 3, 10, 1.2, 0.3)
    shifted = scale * real + shift, scale * generated + shift
    assert precision_recall(*shifted, 0) == precision_recall(real, generated, 0)


def test_copies_of_one_image_lie_in_a_ball_of_no_size():
    ones = np.full((6, 3), 0.1)
    assert precision_recall(ones, ones, 0).precision.mean == 1


def test_neighbourhoods_refuse_too_few_rows_and_other_sizes():
    with pytest.raises(ValueError, match="more rows"):
        precision_recall(normal(3, 2, 0), normal(9, 2, 1), 0)
    with pytest.raises(ValueError, match="equal size"):
        density_coverage(normal(9, 2, 0), normal(9, 3, 1), 0)


# Perceptual path length


def squared(a, b):
    return np.square(a.astype(np.float64) - b).sum(1)


def as_given(latents):
    return latents


def test_the_round_way_keeps_lengths_and_meets_both_ends():
    start, end = normal(50, 7, 11, 2.0), normal(50, 7, 12, 0.5)
    zero, half, single = (np.full((50, 1), position) for position in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(slerp(start, end, zero), start, rtol=1e-9)
    np.testing.assert_allclose(slerp(start, end, single), end, rtol=1e-9)
    middle, expected = slerp(start, end, half), (start, end)
    lengths = [np.linalg.norm(rows, axis=1) for rows in (middle, *expected)]
    np.testing.assert_allclose(lengths[0], (lengths[1] + lengths[2]) / 2, rtol=1e-9)
    assert (np.linalg.norm(lerp(start, end, half), axis=1) < lengths[0]).all()


def test_the_round_way_refuses_opposite_and_zero_latents_and_takes_equal_ones():
    rows, position = normal(3, 4, 13), np.full((3, 1), 0.3)
    np.testing.assert_allclose(slerp(rows, 2 * rows, position), 1.3 * rows, rtol=1e-9)
    with pytest.raises(ValueError, match="opposite"):
        slerp(rows, -rows, position)
    with pytest.raises(ValueError, match="zero"):
        slerp(rows, 0 * rows, position)


def test_path_length_of_the_identity_is_the_speed_of_its_path():
    # Round: angle^2 r(t)^2 + (r1 - r0)^2 in polar coordinates. Straight: |end - start|^2.
    start, end = normal(40, 6, 14), normal(40, 6, 15, 3.0)
    positions = np.random.default_rng(16).random(40)
    radii = [np.linalg.norm(rows, axis=1) for rows in (start, end)]
    angle = np.arccos((start * end).sum(1) / (radii[0] * radii[1]))
    radius = (1 - positions) * radii[0] + positions * radii[1]
    expected = (angle * radius) ** 2 + (radii[1] - radii[0]) ** 2
    actual = path_lengths(as_given, squared, start, end, positions, 1e-3)
    np.testing.assert_allclose(actual, expected, rtol=5e-3)
    flat = path_lengths(as_given, squared, start, end, positions, 1e-3, lerp)
    np.testing.assert_allclose(flat, np.square(end - start).sum(1), rtol=5e-3)


def test_lengths_of_latents_reach_the_generator():
    # A generator that looks at the length alone: the path of normalised latents would score 0.
    start, end = normal(30, 5, 17), normal(30, 5, 18, 3.0)
    lengths = [np.linalg.norm(rows, axis=1) for rows in (start, end)]

    def radius(latents):
        return np.linalg.norm(latents.astype(np.float64), axis=1, keepdims=True)

    actual = path_lengths(radius, squared, start, end, np.zeros(30), 1e-2)
    np.testing.assert_allclose(actual, (lengths[1] - lengths[0]) ** 2, rtol=1e-2)


def test_a_rougher_generator_has_a_longer_path_and_longer_is_worse():
    start, end, at = normal(70, 4, 19), normal(70, 4, 20), np.linspace(0, 0.9, 70)
    scores = [
        path_length(path_lengths(lambda z, f=f: np.sin(f * z), squared, start, end, at), 0).mean
        for f in (1, 6)
    ]
    assert scores[0] < scores[1]
    assert LOWER_IS_BETTER


def test_jumps_are_left_out_of_the_mean():
    lengths = np.concatenate([np.linspace(1, 2, 200), [1e9]])
    saved = path_length(lengths, 0)
    assert saved.mean < 2 < path_length(lengths, 0, None).mean
    assert saved.n < 201 == path_length(lengths, 0, None).n
    with pytest.raises(ValueError, match="non-empty"):
        path_length(np.empty(0), 0)
    with pytest.raises(ValueError, match="epsilon"):
        path_lengths(as_given, squared, np.ones((2, 3)), np.ones((2, 3)), np.zeros(2), 0.0)


# Diversity


def test_diversity_is_the_mean_distance_and_its_interval_covers_it():
    # The mean distance of two standard normal numbers is 2 / sqrt(pi).
    answers = [diversity(normal(120, 1, seed), euclidean, seed) for seed in range(50)]
    assert answers[0].n == 60
    inside = [answer.low <= 2 / np.sqrt(np.pi) <= answer.high for answer in answers]
    assert 0.86 <= np.mean(inside) <= 1
    assert diversity(np.ones((9, 4)), euclidean, 0).mean == 0


def test_each_item_is_in_one_pair_at_most():
    recorded = []

    def watching(a, b):
        recorded.extend(np.concatenate([a, b]).ravel().tolist())
        return np.zeros(len(a))

    assert diversity(np.arange(700)[:, None], watching, 0).n == 350
    assert sorted(recorded) == list(range(700))


def test_group_diversity_is_scipys_mean_distance_in_each_group():
    items, groups = normal(30, 3, 21), np.repeat([5, 2, 9], [4, 10, 16])
    expected = np.mean([pdist(items[groups == group]).mean() for group in (2, 5, 9)])
    order = np.random.default_rng(0).permutation(30)
    answer = group_diversity(items[order], groups[order], euclidean, 0)
    assert answer.mean == pytest.approx(expected)
    assert answer.n == 3
    with pytest.raises(ValueError, match="no pair"):
        group_diversity(items, np.arange(30), euclidean, 0)


def test_nearest_distance_takes_the_best_candidate_of_each_item():
    items, references = normal(8, 3, 22), normal(20, 3, 23)
    table = np.linalg.norm(items[:, None] - references, axis=2)
    candidates = np.argsort(table, axis=1)[:, [4, 0, 9]]
    actual = nearest_distance(items, references, candidates, euclidean)
    np.testing.assert_allclose(actual, table.min(1))
    with pytest.raises(ValueError, match="candidates"):
        nearest_distance(items, references, candidates[:3], euclidean)


# Modes


def test_modes_of_an_even_and_of_a_collapsed_generator():
    even = mode_coverage(np.arange(1000).repeat(3), 0)
    assert (even.covered, even.modes, even.n) == (1000, 1000, 3000)
    assert even.kl == pytest.approx((0, 0, 0, 3000), abs=1e-9)
    collapsed = mode_coverage(np.full(500, 7), 0)
    assert collapsed.covered == 1
    assert collapsed.kl.mean == pytest.approx(np.log(1000))


def test_mode_divergence_is_scipys_against_any_shares():
    shares = np.array([0.5, 0.2, 0.2, 0.1])
    calls = np.repeat([0, 1, 2, 3], [10, 0, 25, 5])
    actual = mode_coverage(calls, 0, 4, shares)
    assert actual.kl.mean == pytest.approx(stats.entropy([10, 0, 25, 5], shares))
    assert actual.covered == 3


def test_mode_divergence_interval_is_the_jackknife_by_hand():
    calls = np.repeat([0, 1, 3], [6, 3, 11])
    left = [
        stats.entropy(np.bincount(np.delete(calls, i), minlength=4), [1] * 4) for i in range(20)
    ]
    error = np.sqrt(19 / 20 * np.square(np.array(left) - np.mean(left)).sum())
    actual = mode_coverage(calls, 0, 4).kl
    assert actual.high - actual.mean == pytest.approx(stats.t.ppf(0.975, 19) * error)


def test_a_perfect_generator_is_scored_at_the_same_n():
    # Of 1000 equal modes 1000 (1 - 0.999^n) are expected to be seen, and KL is near 999 / 2n.
    actual = mode_coverage(np.random.default_rng(3).integers(0, 1000, 20_000), 1)
    assert actual.perfect_seen == pytest.approx(1000 * (1 - 0.999**20_000), rel=1e-3)
    assert actual.perfect_kl == pytest.approx(999 / 40_000, rel=0.03)
    assert actual.kl.low <= actual.perfect_kl <= actual.kl.high
    small = mode_coverage(np.random.default_rng(4).integers(0, 1000, 500), 1)
    assert small.perfect_seen == pytest.approx(1000 * (1 - 0.999**500), rel=0.02)


def test_stacked_digits_are_numbered_as_they_are_read():
    assert stacked_mnist_modes(np.array([[0, 0, 0], [1, 2, 3], [9, 9, 9]])).tolist() == [
        0,
        123,
        999,
    ]
    with pytest.raises(ValueError, match="three channels"):
        stacked_mnist_modes(np.array([[1, 2, 10]]))


@pytest.mark.parametrize("calls", [[1], [0, 4], [-1, 2]])
def test_modes_out_of_range_are_refused(calls):
    with pytest.raises(ValueError, match=r"0\.\.3"):
        mode_coverage(np.array(calls), 0, 4)
    with pytest.raises(ValueError, match="sum to 1"):
        mode_coverage(np.array([0, 1]), 0, 2, np.array([1.0, 0.0]))
