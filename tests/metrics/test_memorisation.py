"""Memorisation statistics: poses, nearest neighbours, the threshold and the verdict."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from controlgen.augmentations.geometry import apply_pose_and_shift
from controlgen.errors import Incompatible
from controlgen.metrics import memorisation
from controlgen.metrics.memorisation import (
    FeatureBlock,
    apply_pose,
    audit,
    has_poses,
    iter_pose_features,
    nearest,
    nearest_posed,
    p_value,
)
from controlgen.rng import stream


def tiles(n, name="tiles", channels=3, size=6):
    return stream(0, name).integers(0, 256, (n, channels, size, size)).astype(np.uint8)


def embed(pixels):
    """Centred pixels: different random tiles are far from each other."""
    rows = pixels.reshape(len(pixels), -1).astype(np.float32) - 127.5
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def unit_rows(n, d, name):
    rows = stream(0, name).normal(size=(n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("pose", range(8))
def test_poses_are_those_of_the_augmentation(pose):
    pixels = tiles(2, size=5)
    shifted = apply_pose_and_shift(
        torch.from_numpy(pixels), torch.tensor([pose] * 2), torch.zeros(2, 2).long()
    )
    np.testing.assert_array_equal(apply_pose(pixels, pose), shifted.numpy())


def test_only_square_colour_images_have_poses():
    assert has_poses((3, 64, 64))
    assert not has_poses((1, 64, 64))
    assert not has_poses((3, 64, 48))
    with pytest.raises(Incompatible, match="6x5 have no eight poses"):
        apply_pose(np.zeros((1, 3, 5, 6), np.uint8), 1)


def test_nearest_in_chunks_equals_the_full_table(monkeypatch):
    monkeypatch.setattr(memorisation, "CHUNK", 3)
    queries, rows = unit_rows(10, 7, "queries"), unit_rows(23, 7, "rows")
    blocks = [FeatureBlock(rows[k : k + 9], np.arange(k, min(k + 9, 23)), 0) for k in (0, 9, 18)]
    actual = nearest(queries, blocks)
    table = 1 - queries.astype(np.float64) @ rows.T
    np.testing.assert_array_equal(actual.item, table.argmin(1))
    np.testing.assert_allclose(actual.distance, table.min(1), atol=1e-6)
    assert not actual.pose.any()


def test_ties_go_to_the_first_and_empty_blocks_are_rejected():
    rows = unit_rows(1, 4, "row")
    blocks = [FeatureBlock(rows, np.array([5]), 0), FeatureBlock(rows, np.array([2]), 3)]
    actual = nearest(rows, blocks)
    assert (actual.item[0], actual.pose[0]) == (5, 0)
    assert 0 <= actual.distance[0] < 1e-6
    with pytest.raises(ValueError, match="no training image"):
        nearest(rows, [])


def test_a_rotated_copy_matches_in_its_pose(monkeypatch):
    monkeypatch.setattr(memorisation, "TILES", 4)
    training = tiles(11)
    batches = []

    def read(indices):
        batches.append(len(indices))
        return training[indices]

    for pose in range(8):
        rotated = apply_pose(training[3:9], pose)
        actual = nearest(embed(rotated), iter_pose_features(read, np.arange(11), embed))
        np.testing.assert_allclose(actual.distance, 0, atol=1e-6)
        np.testing.assert_array_equal(actual.item, np.arange(3, 9))
        np.testing.assert_array_equal(actual.pose, pose)
        if pose:
            upright = iter_pose_features(read, np.arange(11), embed, poses=False)
            assert nearest(embed(rotated), upright).distance.min() > 0.3
    assert max(batches) == 4


@pytest.mark.parametrize("pose", range(8))
def test_posed_queries_equal_posed_rows(pose):
    rows, noise = tiles(30), stream(1, "noise").integers(-9, 9, (4, 3, 6, 6))
    images = apply_pose(np.clip(rows[[3, 9, 20, 29]] + noise, 0, 255).astype(np.uint8), pose)
    upright = iter_pose_features(lambda indices: rows[indices], np.arange(30), embed, poses=False)
    actual = nearest_posed(images, embed, upright)
    expected = nearest(embed(images), iter_pose_features(lambda i: rows[i], np.arange(30), embed))
    for values, expected_values in zip(actual, expected, strict=True):
        np.testing.assert_allclose(values, expected_values, atol=1e-6)
    assert (actual.item == [3, 9, 20, 29]).all() and (actual.pose == pose).all()


@given(st.integers(1, 500), st.integers(0, 2**32 - 1))
def test_the_threshold_is_the_first_percentile(m, seed):
    held_out = np.random.default_rng(seed).random(m)
    actual = audit(np.array([0.5]), held_out, 0, bootstraps=10)
    assert actual.threshold == np.percentile(held_out, 1, method="inverted_cdf")
    assert (held_out < actual.threshold).mean() < 0.01


def distances(n, name, low=0.1):
    return low + stream(1, name).gamma(4, 0.05, n)


def test_copies_are_suspected_if_some_samples_are_too_near():
    samples = distances(500, "samples")
    samples[:25] = 0.01  # one in twenty is a copy
    actual = audit(samples, distances(400, "held out"), 0, 300)
    assert actual.suspected
    assert actual.verdict == "copies suspected"
    assert actual.nearer_than_all >= 0.05
    assert 0.02 < actual.share.low < actual.share.mean < actual.share.high < 0.15
    assert actual.share.mean == (samples < actual.threshold).mean()


@pytest.mark.parametrize(("m", "sources"), [(150, None), (400, None), (380, 95)])
def test_new_samples_are_rarely_suspected(m, sources):
    # Samples and held-out images of one distribution, the latter single or in groups of four equal
    # ones: at most 1 error in 40, and 9 or more errors in 120 audits with probability 1/300.
    wrong = 0
    for k in range(120):
        held_out = distances(sources or m, f"h{k}")
        owners = None if sources is None else np.repeat(np.arange(sources), m // sources)
        repeated = held_out if owners is None else held_out[owners]
        wrong += audit(distances(500, f"s{k}"), repeated, k, 100, owners).suspected
    assert wrong < 9


def test_p_value_equals_the_share_of_orders():
    # With 80 held-out images the percentile is the nearest of them.
    for near in (0, 1, 5):
        expected = math.comb(30, near) / math.comb(110, near)
        assert p_value(near, 30, 80) == pytest.approx(expected)
    # With 150 it is the second nearest; counted over random orders.
    draws = stream(0, "orders")
    table = draws.random((40_000, 190))
    second = np.partition(table[:, :150], 1, axis=1)[:, 1]
    counts = (table[:, 150:] < second[:, None]).sum(1)
    for near in (1, 2, 3):
        assert p_value(near, 40, 150) == pytest.approx((counts >= near).mean(), abs=0.012)


def test_no_near_sample_gives_an_exact_upper_end():
    actual = audit(np.full(200, 0.9), distances(100, "held out"), 0, 50)
    assert (actual.share.mean, actual.share.low) == (0, 0)
    assert actual.share.high == pytest.approx(1 - 0.025 ** (1 / 200))
    assert actual.verdict == "no sign of copies"


def test_repeated_sources_count_as_one():
    # Twenty equal tiles of each of twenty sources are no more evidence than twenty tiles.
    held_out = np.repeat(distances(20, "sources"), 20)
    samples = distances(400, "samples", low=0.09)
    sources = np.repeat(np.arange(20), 20)
    single, grouped = audit(samples, held_out, 0, 500), audit(samples, held_out, 0, 500, sources)
    assert (single.sources, grouped.sources) == (400, 20)
    assert single.threshold == grouped.threshold
    assert grouped.share.high > single.share.high


def test_empty_inputs_are_rejected():
    with pytest.raises(ValueError, match="needs samples and held-out"):
        audit(np.array([]), np.array([0.1]), 0)
    with pytest.raises(ValueError, match="needs samples and held-out"):
        audit(np.array([0.1]), np.array([]), 0)
