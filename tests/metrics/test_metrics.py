"""Metrics against closed forms and trusted libraries."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import linalg, stats

from controlgen.attributes import strokes
from controlgen.datasets import Digits
from controlgen.errors import Incompatible
from controlgen.features._torchvision import ensure_torchvision
from controlgen.metrics.bootstrap import Interval, mean_interval, statistic_interval
from controlgen.metrics.classifier import train_judge
from controlgen.metrics.frechet import frechet_distance
from controlgen.metrics.inversion import (
    latent_r2,
    orthogonal_cosine,
    paired_cosine,
    pixel_error,
    recall_at_1,
    relative_latent_norm,
    weighted_correlation,
    weighted_r2,
)
from controlgen.metrics.kernel import kernel_distance
from controlgen.utils.rows import normalize_rows

DRAWS = np.random.default_rng(7)


def normal(n, d, seed, scale=1.0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, scale, (n, d)).astype(np.float32)


# Frechet distance


def by_matrix_root(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    shift = np.square(a.mean(0) - b.mean(0)).sum()
    return shift + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.trace(root)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 8), (400, 60, 20), (61, 300, 60)])
def test_frechet_agrees_with_scipys_matrix_square_root(n, m, d):
    a, b = normal(n, d, 0) @ normal(d, d, 1), normal(m, d, 2, 1.5, 0.3)
    assert frechet_distance(a, b) == pytest.approx(by_matrix_root(a, b), rel=1e-6)


def test_frechet_agrees_with_torchmetrics():
    ensure_torchvision()
    fid = pytest.importorskip("torchmetrics.image.fid")
    a, b = normal(300, 16, 3), normal(250, 16, 4, 2.0, -1.0)
    moments = []
    for rows in (a, b):
        tensor = torch.from_numpy(rows).double()
        moments += [tensor.mean(0), tensor.T.cov()]
    expected = fid._compute_fid(*moments).item()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_of_two_gaussians_is_the_closed_form():
    # Means (0, 0) and (3, 4), deviations 1 and 2 on each axis: 25 + 2 * (1 - 2)^2 = 27.
    rows = normal(200_000, 2, 5)
    assert frechet_distance(rows, 2 * normal(200_000, 2, 6) + [3, 4]) == pytest.approx(27, rel=0.02)


def test_frechet_is_exact_below_full_rank():
    # One axis only: (mean difference)^2 + (deviation difference)^2, whatever the unused axes.
    a, b = np.zeros((2, 50)), np.zeros((2, 50))
    a[:, 3], b[:, 3] = [-1, 1], [2, 8]
    expected = 25 + (np.std([-1, 1], ddof=1) - np.std([2, 8], ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_frechet_is_zero_of_itself_symmetric_and_blind_to_rotation():
    a, b = normal(40, 64, 7), normal(50, 64, 8, 1.2, 0.1)
    turn = stats.ortho_group(64, seed=0).rvs()
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b), rel=1e-5)


def test_frechet_refuses_what_has_no_covariance():
    with pytest.raises(ValueError, match="two sets of rows"):
        frechet_distance(np.zeros((1, 4)), np.zeros((9, 4)))


# Kernel distance


def test_kernel_distance_agrees_with_torchmetrics():
    ensure_torchvision()
    kid = pytest.importorskip("torchmetrics.image.kid")
    a, b = normal(80, 12, 9), normal(80, 12, 10, 1.3, 0.4)
    expected = kid.poly_mmd(torch.from_numpy(a).double(), torch.from_numpy(b).double()).item()
    assert kernel_distance(a, b, seed=0, bootstraps=20).mean == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_agrees_with_plain_loops_at_unequal_n():
    a, b = normal(7, 3, 11), normal(5, 3, 12, 2.0)

    def k(x, y):
        return (float(x @ y) / 3 + 1) ** 3

    same_a = np.mean([k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j])
    same_b = np.mean([k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j])
    across = np.mean([k(x, y) for x in a for y in b])
    answer = kernel_distance(a, b, seed=0, bootstraps=20)
    assert answer.mean == pytest.approx(same_a + same_b - 2 * across, rel=1e-5)
    assert answer.n == 5


def test_kernel_distance_is_unbiased_and_its_interval_covers_zero():
    answers = [
        kernel_distance(normal(60, 4, 2 * i), normal(60, 4, 2 * i + 1), i, 200) for i in range(60)
    ]
    means = np.array([answer.mean for answer in answers])
    assert abs(means.mean()) < 4 * means.std() / np.sqrt(len(means))
    assert np.mean([answer.low <= 0 <= answer.high for answer in answers]) > 0.8
    far = kernel_distance(normal(60, 4, 1), normal(60, 4, 2, 1.0, 1.0), 0, 200)
    assert far.low > 0


# Bootstrap


def test_interval_is_that_of_scipys_bootstrap():
    values = DRAWS.exponential(size=120)
    ours = mean_interval(values, seed=3, bootstraps=4000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.06 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.06 * width)
    assert ours.n == 120


def test_interval_covers_the_truth_about_95_percent_of_the_time():
    inside = 0
    for seed in range(300):
        low, high = mean_interval(normal(50, 1, seed)[:, 0], seed, 300)[1:3]
        inside += low <= 0 <= high
    assert 0.90 <= inside / 300 <= 0.98


def test_repeating_a_source_adds_no_certainty():
    values = DRAWS.normal(size=40)
    once = mean_interval(values, 0, 2000)
    repeated = mean_interval(np.repeat(values, 9), 0, 2000, sources=np.repeat(np.arange(40), 9))
    assert repeated == pytest.approx(once)
    assert mean_interval(np.repeat(values, 9), 0, 2000).high < once.high


def test_interval_is_repeatable_and_refuses_nothing():
    values = DRAWS.normal(size=10)
    assert mean_interval(values, 5) == mean_interval(values, 5)
    assert mean_interval(np.ones(4, bool), 0) == Interval(1.0, 1.0, 1.0, 4)
    with pytest.raises(ValueError, match="non-empty"):
        mean_interval(np.empty(0), 0)


# Inversion


rows = hnp.arrays(np.float32, (6, 5), elements=st.floats(-3, 3, width=32))


@settings(max_examples=40, deadline=None)
@given(a=rows, b=rows)
def test_paired_cosine_is_one_minus_scipys_cosine_distance(a, b):
    from scipy.spatial.distance import cosine

    a, b = a + np.float32([4, 0, 0, 0, 0]), b + np.float32([0, 4, 0, 0, 0])
    expected = [1 - cosine(x.astype(float), y.astype(float)) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(paired_cosine(a, b), expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(normalize_rows(a), axis=1), 1, atol=1e-5)


def test_unit_rows_leaves_a_zero_row():
    assert not normalize_rows(np.zeros((2, 3))).any()


def test_recall_at_1_counts_rows_that_find_themselves():
    targets = np.eye(4, dtype=np.float32)
    predictions = targets[[0, 2, 2, 3]] + np.float32(0.1)
    assert recall_at_1(targets, predictions).tolist() == [1, 0, 1, 1]


def test_latent_r2_agrees_with_sklearn():
    from sklearn.metrics import r2_score

    targets, predictions = normal(60, 4, 1, 2.0), normal(60, 4, 2)
    expected = r2_score(targets, predictions, multioutput="variance_weighted")
    assert latent_r2(targets, predictions) == pytest.approx(expected, rel=1e-6)
    assert latent_r2(targets, targets) == 1


def test_weighted_measures_are_those_of_repeated_items():
    targets, predictions = normal(40, 4, 1, 2.0), normal(40, 4, 2)
    predictions += targets
    counts = np.random.default_rng(3).integers(0, 4, (5, 40))
    weights = counts.astype(float)
    r2 = weighted_r2(targets, predictions, weights)
    correlation = weighted_correlation(targets[:, 0], predictions[:, 0], weights)
    for draw, count in enumerate(counts):
        x, y = (np.repeat(rows, count, axis=0).astype(float) for rows in (targets, predictions))
        assert r2[draw] == pytest.approx(latent_r2(x, y), rel=1e-6)
        assert correlation[draw] == pytest.approx(np.corrcoef(x[:, 0], y[:, 0])[0, 1], rel=1e-6)
    # A draw of one item over and over says nothing.
    alone = np.eye(40)[:1] * 40
    assert weighted_r2(targets, predictions, alone)[0] == 0
    assert weighted_correlation(targets[:, 0], predictions[:, 0], alone)[0] == 0


def test_a_resampled_mean_is_the_interval_of_the_mean():
    values, sources = normal(60, 1, 4)[:, 0], np.arange(60) // 3
    actual = statistic_interval(lambda weights: weights @ values / weights.sum(1), sources, 5, 200)
    assert actual == pytest.approx(mean_interval(values, 5, 200, sources), rel=1e-5)
    with pytest.raises(ValueError, match="one item"):
        statistic_interval(lambda weights: weights, sources[:0], 5)


def test_shell_norm_of_normal_latents_is_about_one():
    assert relative_latent_norm(normal(500, 64, 3)).mean() == pytest.approx(1, abs=0.02)
    assert relative_latent_norm(np.full((1, 9), 2, np.float32)).tolist() == [2]


def test_pixel_error_spans_zero_to_four():
    black, white = np.zeros((2, 1, 4, 4), np.uint8), np.full((2, 1, 4, 4), 255, np.uint8)
    half = black.copy()
    half[:, :, :2] = 255
    assert pixel_error(black, black).tolist() == [0, 0]
    assert pixel_error(black, white).tolist() == [4, 4]
    assert pixel_error(black, half) == pytest.approx([2, 2])


def test_orthogonal_cosine_ignores_the_direction_and_nothing_else():
    before, direction = normal(8, 5, 4), normal(8, 5, 5)
    shifted = before + 3 * direction
    assert orthogonal_cosine(before, shifted, direction) == pytest.approx(np.ones(8), abs=1e-5)
    assert paired_cosine(before, shifted).max() < 0.999
    other = orthogonal_cosine(before, normal(8, 5, 6), direction)
    assert np.abs(other).max() < 0.999


# Shape


def bar(width, height, shear=0.0):
    picture = np.zeros((1, 1, 64, 64), np.uint8)
    for row in range(height):
        left = 32 - width // 2 + round(shear * (height / 2 - row))
        picture[0, 0, 32 - height // 2 + row, left : left + width] = 255
    return picture


def measure_bar(pixels):
    return dict(zip(strokes.NAMES, strokes.measure_strokes(pixels)[0], strict=True))


@pytest.mark.parametrize(("width", "height"), [(3, 20), (5, 40), (12, 12)])
def test_shape_of_an_upright_bar(width, height):
    actual = measure_bar(bar(width, height))
    assert actual["ink"] == pytest.approx(width * height)
    assert actual["width"] == pytest.approx(width)
    assert actual["height"] == pytest.approx(height)
    assert actual["slant"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("shear", [-0.5, 0.25, 1.0])
def test_slant_is_the_shear_and_width_is_free_of_it(shear):
    actual = measure_bar(bar(4, 40, shear))
    assert actual["slant"] == pytest.approx(shear, abs=0.02)
    assert actual["width"] == pytest.approx(4, abs=0.3)


def test_thickness_is_the_width_of_a_long_stroke_and_grows_with_it():
    thin, thick = measure_bar(bar(2, 56))["thickness"], measure_bar(bar(6, 56))["thickness"]
    assert thin == pytest.approx(2, rel=0.1)
    assert thick == pytest.approx(6, rel=0.15)


def test_an_empty_image_has_no_shape():
    assert not strokes.measure_strokes(np.zeros((1, 1, 8, 8), np.uint8)).any()


# Judge


@pytest.fixture(scope="module")
def judge():
    return train_judge(Digits(split="train").open(), epochs=6, seed=0)


def test_judge_learns_real_digits(judge):
    assert judge.accuracy(Digits(split="test").open()) > 0.9


def test_judge_gives_probabilities_in_any_batch(judge):
    pixels = Digits(split="test").open().pixels(np.arange(20))
    together = judge.probabilities(pixels)
    assert together.shape == (20, 10)
    assert together.sum(1) == pytest.approx(np.ones(20), abs=1e-5)
    np.testing.assert_allclose(judge.probabilities(pixels[:3]), together[:3], atol=1e-5)
    assert judge.probabilities(pixels[:0]).shape == (0, 10)


def test_judge_refuses_other_channels(judge):
    with pytest.raises(Incompatible, match="1-channel"):
        judge.probabilities(np.zeros((1, 3, 32, 32), np.uint8))


def test_judge_is_the_same_with_any_number_of_threads():
    data, before = Digits(split="train").open(), torch.get_num_threads()
    judges = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        judges.append(train_judge(data, 2, 0))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    first, second = [judge.probabilities(data.pixels(np.arange(99))) for judge in judges]
    np.testing.assert_array_equal(first, second)


def test_judge_is_the_same_for_the_same_seed():
    data = Digits(split="train").open()
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    first = train_judge(data, 1, 3).probabilities(data.pixels(np.arange(9)))
    torch.manual_seed(2)
    second = train_judge(data, 1, 3).probabilities(data.pixels(np.arange(9)))
    other = train_judge(data, 1, 4).probabilities(data.pixels(np.arange(9)))
    torch.random.set_rng_state(state)
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 1e-4
