"""Frechet distance from moments, kernel distance by blocks, CMMD: closed forms and properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlgen.features import InceptionV3Config
from controlgen.metrics import kernel as kernel_module
from controlgen.metrics.cmmd import cmmd
from controlgen.metrics.frechet import (
    Moments,
    frechet_distance,
    frechet_interval,
    frechet_of_moments,
    merged,
    moments,
)
from controlgen.metrics.jackknife import half_width, jackknife_error
from controlgen.metrics.kernel import kernel_distance
from controlgen.metrics.naming import (
    cmmd_name,
    few_images,
    frechet_name,
    inception_score_name,
    kernel_name,
)


def normal(n, d, seed, scale=1.0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, scale, (n, d)).astype(np.float32)


# Moments


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 40), max_size=4), shift=st.sampled_from([0.0, 1e6]))
def test_moments_are_numpys_however_rows_arrive(cuts, shift):
    rows = normal(40, 5, 0).astype(np.float64) + shift
    actual = moments(np.split(rows, sorted(cuts)))
    assert actual.n == 40
    np.testing.assert_allclose(actual.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(actual.covariance, np.cov(rows, rowvar=False), rtol=1e-7, atol=1e-9)


def test_merging_is_seeing_all_rows_in_either_order():
    a, b = normal(30, 4, 1), normal(9, 4, 2, 3.0, 5.0)
    parts, full = (moments([a]), moments([b])), moments([np.concatenate([a, b])])
    for actual in (merged(*parts), merged(*parts[::-1])):
        np.testing.assert_allclose(actual.mean, full.mean, rtol=1e-12)
        np.testing.assert_allclose(actual.scatter, full.scatter, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n", "d"), [(12, 40), (39, 40), (41, 40), (300, 3)])
def test_frechet_of_moments_is_that_of_rows_below_full_rank_too(n, d):
    a, b = normal(n, d, 3) * 0.9 ** np.arange(d), normal(n + 5, d, 4, 1.3, 0.2)
    expected = frechet_distance(a, b)
    assert frechet_of_moments(moments([a]), moments([b])) == pytest.approx(expected, rel=1e-6)
    assert frechet_of_moments(moments([a]), moments([a])) == pytest.approx(0, abs=1e-6)


def test_what_has_no_moments_is_refused():
    single, three = moments([np.ones((1, 4))]), moments([normal(3, 5, 0)])
    with pytest.raises(ValueError, match="no row"):
        moments([np.ones((0, 4))])
    with pytest.raises(ValueError, match="two rows"):
        frechet_of_moments(single, single)
    with pytest.raises(ValueError, match="two rows"):
        _ = single.covariance
    with pytest.raises(ValueError, match="differ"):
        merged(single, three)


# Intervals of the Frechet distance


def test_jackknife_error_of_a_mean_is_the_standard_error():
    values = normal(50, 1, 5)[:, 0].astype(np.float64)
    left_out = (values.sum() - values) / 49
    assert jackknife_error(left_out) == pytest.approx(values.std(ddof=1) / np.sqrt(50), rel=1e-9)
    with pytest.raises(ValueError, match="two parts"):
        jackknife_error(np.ones(1))


SKEWED = 0.9 ** np.arange(30)


@pytest.mark.parametrize(("n", "d"), [(90, 3), (25, 30), (200, 30)])
def test_frechet_interval_is_as_wide_as_the_distance_scatters(n, d):
    # The truth is the scatter of the distance over fresh samples of the same size.
    answers = [
        frechet_interval(
            normal(n + 30, d, 2 * i) * SKEWED[:d], normal(n, d, 2 * i + 1, 1.3, 0.5) * SKEWED[:d]
        )
        for i in range(200)
    ]
    means = np.array([answer.mean for answer in answers])
    inside = [answer.low <= means.mean() <= answer.high for answer in answers]
    assert 0.91 <= np.mean(inside) <= 0.99
    reach = np.median([answer.high - answer.mean for answer in answers])
    assert reach == pytest.approx(1.98 * means.std(), rel=0.2)
    assert answers[0].n == n


def test_frechet_interval_between_many_rows_holds_the_closed_form():
    # |shift|^2 + sum (sd_a - sd_b)^2; the bias that few rows have is gone.
    answers = [
        frechet_interval(normal(9_000, 3, 2 * i), normal(9_000, 3, 2 * i + 1, 1.2, 0.5))
        for i in range(100)
    ]
    inside = [answer.low <= 3 * (0.25 + 0.04) <= answer.high for answer in answers]
    assert 0.89 <= np.mean(inside) <= 1


@pytest.mark.parametrize(("n", "d"), [(14, 40), (60, 7)])
def test_frechet_interval_is_the_jackknife_of_tiny_weights(n, d):
    # Rows weighted a little more change the distance by the row's influence over n.
    a, b = (normal(n, d, seed, shift=0.1 * seed).astype(np.float64) for seed in (6, 7))
    step, variance = 1e-5, 0.0
    for cut, full in ((a, b), (b, a)):
        changes = []
        for row in range(n):
            weights = np.ones(n)
            weights[row] += step
            mean = weights @ cut / weights.sum()
            scatter = np.cov(cut, rowvar=False, aweights=weights, ddof=0) * n / (n - 1)
            actual = frechet_of_moments(Moments(n, mean, scatter * (n - 1)), moments([full]))
            changes.append((actual - frechet_distance(a, b)) * n / step)
        variance += np.var(changes, ddof=1) / n
    answer = frechet_interval(a, b)
    assert answer.high - answer.mean == pytest.approx(half_width(variance**0.5, n), rel=1e-3)
    assert answer.mean == pytest.approx(frechet_distance(a, b), rel=1e-12)


def test_frechet_interval_stands_without_variance_and_refuses_too_few():
    a, b = normal(40, 3, 6), normal(50, 3, 7)
    assert frechet_interval(a, b) == frechet_interval(a, b)
    assert frechet_interval(a, a)[:3] == pytest.approx((0, 0, 0), abs=1e-6)
    still = frechet_interval(np.ones((9, 3)), np.zeros((9, 3)))
    assert still[:3] == pytest.approx((3, 3, 3))
    flat = a * [1, 0, 1]
    assert frechet_interval(flat, b * [1, 0, 1])[:3] == pytest.approx(
        frechet_interval(a[:, ::2], b[:, ::2])[:3]
    )
    with pytest.raises(ValueError, match="two sets of rows"):
        frechet_interval(a[:1], b)


# Blocks


@pytest.mark.parametrize("metric", [kernel_distance, cmmd])
@pytest.mark.parametrize("block", [1, 7, 16])
def test_blocks_change_no_number(monkeypatch, metric, block):
    a, b = normal(33, 6, 8, 1.0, 0.5), normal(20, 6, 9, 1.2)
    full = metric(a, b, 3, 50)
    monkeypatch.setattr(kernel_module, "BLOCK", block)
    assert metric(a, b, 3, 50) == pytest.approx(full, rel=1e-9)


def test_draws_of_one_row_alone_are_left_out_among_a_handful_of_rows():
    # Half of the draws of two rows hold one of them twice, and no pair.
    a, b = normal(2, 3, 0), normal(2, 3, 1)
    answer = kernel_distance(a, b, 0, 200)
    assert np.isfinite(answer).all()
    with pytest.raises(ValueError, match="holds a pair"):
        kernel_module.bootstrap_interval(np.array([1.0, np.nan]), 2)


def test_no_table_is_larger_than_a_block(monkeypatch):
    recorded = []

    def watched_kernel(a, b):
        recorded.append((len(a), len(b)))
        return np.ones((len(a), len(b)))

    monkeypatch.setattr(kernel_module, "BLOCK", 8)
    a, b = normal(20, 2, 0), normal(9, 2, 1)
    means = kernel_module.pair_means(watched_kernel, a, b, np.ones((1, 20)), np.ones((1, 9)))
    assert max(max(pair) for pair in recorded) == 8
    assert len(recorded) == 6 + 3 + 6  # the half of 3 x 3 and 2 x 2 blocks, and 3 x 2 across
    assert np.ravel(means) == pytest.approx([1, 1, 1])


# CMMD


def test_cmmd_of_two_opposite_points_is_its_largest_value():
    # Kernels are 1 within either point and exp(-4 / 200) across.
    point = np.tile([[3.0, 4.0]], (5, 1))
    answer = cmmd(point, -2 * point[:3], 0, 20)
    assert answer == pytest.approx((1000 * (2 - 2 * np.exp(-0.02)),) * 3 + (3,), rel=1e-9)


def test_cmmd_is_zero_of_itself_symmetric_and_blind_to_length():
    a, b = normal(40, 8, 10), normal(30, 8, 11, 1.0, 0.4)
    assert cmmd(a, a[::-1], 0, 20).mean == pytest.approx(0, abs=1e-9)
    assert cmmd(a, b, 0, 20).mean == pytest.approx(cmmd(b, 8 * a, 0, 20).mean, rel=1e-9)


def test_cmmd_interval_holds_its_estimate_where_there_is_no_difference():
    # Plain bootstrap draws of a V-statistic would all lie above it.
    answers = [cmmd(normal(60, 4, 2 * i), normal(50, 4, 2 * i + 1), i, 100) for i in range(40)]
    assert np.mean([answer.low <= answer.mean <= answer.high for answer in answers]) > 0.9
    assert cmmd(normal(60, 4, 1), normal(50, 4, 2, 1.0, 1.0), 0).low > answers[0].high


def test_cmmd_refuses_what_has_no_direction():
    with pytest.raises(ValueError, match="no direction"):
        cmmd(np.zeros((3, 2)), np.ones((3, 2)), 0)
    with pytest.raises(ValueError, match="two sets of rows"):
        cmmd(np.ones((3, 2)), np.ones((3, 4)), 0)


# Names


def test_published_names_are_kept_for_their_extractors():
    assert frechet_name("inception-v3", 2048) == "FID"
    assert frechet_name("inception-v3", 768) == "FD-inception-v3-768"
    assert frechet_name("efficientnet-lite0", 2048) == "FD-efficientnet-lite0"
    assert kernel_name("inception-v3", 2048) == "KID"
    assert kernel_name("clip-mini", 64) == "KD-clip-mini"
    assert cmmd_name("ViT-L-14-336-openai", 768) == "CMMD"
    assert inception_score_name("inception-v3") == "IS"
    assert inception_score_name("efficientnet-lite0") == "IS-efficientnet-lite0"
    assert cmmd_name("clip-mini", 64) == "MMD-clip-mini"


def test_no_two_layers_of_inception_share_a_name_however_they_are_given():
    full = InceptionV3Config().name
    text = [name(full, 2048) for name in (frechet_name, kernel_name, cmmd_name)]
    assert text == ["FID", "KID", "MMD-inception-v3"]
    assert inception_score_name(full) == "IS"
    for size in (64, 192, 768):
        layer = InceptionV3Config(features=size).name
        assert layer == f"inception-v3-{size}"
        for extractor in (layer, full):
            text = [name(extractor, size) for name in (frechet_name, kernel_name, cmmd_name)]
            assert text == [f"{short}-{layer}" for short in ("FD", "KD", "MMD")]


def test_few_images_are_told_of_and_rank_is_named_truly():
    assert few_images(2048, 1280) is None
    assert few_images(50_000, 2048) is None
    for n, size, words in [(2048, 2048, "rank-deficient"), (1000, 64, "mostly bias")]:
        line = few_images(n, size)
        assert words in line
        assert "KID" in line and "CMMD" in line and "\n" not in line
