"""The audit of copies: poses, nearest neighbours, the threshold, the verdict and its pictures."""

import importlib
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from controlgen.augmentations.geometry import move
from controlgen.config import EvaluateConfig
from controlgen.datasets.arrays import ArrayImages
from controlgen.errors import Incompatible
from controlgen.evaluation.memorisation import copies
from controlgen.evaluation.report import _plain
from controlgen.metrics import memorisation
from controlgen.metrics.memorisation import (
    Block,
    audit,
    chance_of,
    has_poses,
    in_pose,
    nearest,
    nearest_posed,
    posed_blocks,
)
from controlgen.rng import normals, stream


def tiles(n, name="tiles", channels=3, size=6):
    return stream(0, name).integers(0, 256, (n, channels, size, size)).astype(np.uint8)


def embed(pixels):
    """Pixels as they are: no two different random tiles are near each other."""
    rows = pixels.reshape(len(pixels), -1).astype(np.float32) - 127.5
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def unit(n, d, name):
    rows = stream(0, name).normal(size=(n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("pose", range(8))
def test_poses_are_those_of_the_augmentation(pose):
    pixels = tiles(2, size=5)
    moved = move(torch.from_numpy(pixels), torch.tensor([pose] * 2), torch.zeros(2, 2).long())
    np.testing.assert_array_equal(in_pose(pixels, pose), moved.numpy())


def test_only_squares_in_colour_have_poses():
    assert has_poses((3, 64, 64))
    assert not has_poses((1, 64, 64))
    assert not has_poses((3, 64, 48))
    with pytest.raises(Incompatible, match="6x5 have no eight poses"):
        in_pose(np.zeros((1, 3, 5, 6), np.uint8), 1)


def test_nearest_in_pieces_is_the_nearest_of_one_whole_table(monkeypatch):
    monkeypatch.setattr(memorisation, "CHUNK", 3)
    queries, rows = unit(10, 7, "queries"), unit(23, 7, "rows")
    blocks = [Block(rows[at : at + 9], np.arange(at, min(at + 9, 23)), 0) for at in (0, 9, 18)]
    found = nearest(queries, blocks)
    table = 1 - queries.astype(np.float64) @ rows.T
    np.testing.assert_array_equal(found.item, table.argmin(1))
    np.testing.assert_allclose(found.distance, table.min(1), atol=1e-6)
    assert not found.pose.any()


def test_the_first_of_equally_near_ones_is_named_and_nothing_to_search_is_refused():
    rows = unit(1, 4, "row")
    twice = [Block(rows, np.array([5]), 0), Block(rows, np.array([2]), 3)]
    found = nearest(rows, twice)
    assert (found.item[0], found.pose[0]) == (5, 0)
    assert 0 <= found.distance[0] < 1e-6
    with pytest.raises(ValueError, match="no training image"):
        nearest(rows, [])


def test_a_turned_copy_is_found_in_its_pose(monkeypatch):
    monkeypatch.setattr(memorisation, "TILES", 4)
    training = tiles(11)
    seen = []

    def read(indices):
        seen.append(len(indices))
        return training[indices]

    for pose in range(8):
        turned = in_pose(training[3:9], pose)
        found = nearest(embed(turned), posed_blocks(read, np.arange(11), embed))
        np.testing.assert_allclose(found.distance, 0, atol=1e-6)
        np.testing.assert_array_equal(found.item, np.arange(3, 9))
        np.testing.assert_array_equal(found.pose, pose)
        if pose:
            upright = posed_blocks(read, np.arange(11), embed, poses=False)
            assert nearest(embed(turned), upright).distance.min() > 0.3
    assert max(seen) == 4


@pytest.mark.parametrize("pose", range(8))
def test_a_few_images_in_all_poses_find_what_they_find_among_posed_rows(pose):
    rows, noise = tiles(30), stream(1, "noise").integers(-9, 9, (4, 3, 6, 6))
    images = in_pose(np.clip(rows[[3, 9, 20, 29]] + noise, 0, 255).astype(np.uint8), pose)
    upright = posed_blocks(lambda indices: rows[indices], np.arange(30), embed, poses=False)
    found = nearest_posed(images, embed, upright)
    wanted = nearest(embed(images), posed_blocks(lambda i: rows[i], np.arange(30), embed))
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    assert (found.item == [3, 9, 20, 29]).all() and (found.pose == pose).all()


@given(st.integers(1, 500), st.integers(0, 2**32 - 1))
def test_the_threshold_is_the_first_percentile(m, seed):
    held_out = np.random.default_rng(seed).random(m)
    found = audit(np.array([0.5]), held_out, 0, bootstraps=10)
    assert found.threshold == np.percentile(held_out, 1, method="inverted_cdf")
    assert (held_out < found.threshold).mean() < 0.01


def distances(n, name, low=0.1):
    return low + stream(1, name).gamma(4, 0.05, n)


def test_copies_are_suspected_where_some_samples_lie_too_near():
    samples = distances(500, "samples")
    samples[:25] = 0.01  # one in twenty is a copy
    found = audit(samples, distances(400, "held out"), 0, 300)
    assert found.suspected
    assert found.verdict == "copies suspected"
    assert found.nearer_than_all >= 0.05
    assert 0.02 < found.share.low < found.share.mean < found.share.high < 0.15
    assert found.share.mean == (samples < found.threshold).mean()


@pytest.mark.parametrize(("m", "sources"), [(150, None), (400, None), (380, 95)])
def test_new_samples_are_seldom_suspected(m, sources):
    # Samples and held-out images of one distribution, the latter alone or in fours that are alike:
    # the rule errs at most 1 time in 40. Of 120 audits 9 or more would be wrong once in 300.
    wrong = 0
    for k in range(120):
        held_out = distances(sources or m, f"h{k}")
        owners = None if sources is None else np.repeat(np.arange(sources), m // sources)
        repeated = held_out if owners is None else held_out[owners]
        wrong += audit(distances(500, f"s{k}"), repeated, k, 100, owners).suspected
    assert wrong < 9


def test_the_chance_of_near_samples_by_counting_orders():
    # Against 80 held-out images the percentile is their nearest: no order with one of them first.
    for near in (0, 1, 5):
        expected = math.comb(30, near) / math.comb(110, near)
        assert chance_of(near, 30, 80) == pytest.approx(expected)
    # Against 150 it is the second nearest; counted over shuffled orders.
    draws = stream(0, "orders")
    table = draws.random((40_000, 190))
    second = np.partition(table[:, :150], 1, axis=1)[:, 1]
    counts = (table[:, 150:] < second[:, None]).sum(1)
    for near in (1, 2, 3):
        assert chance_of(near, 40, 150) == pytest.approx((counts >= near).mean(), abs=0.012)


def test_no_near_sample_leaves_an_exact_upper_end():
    found = audit(np.full(200, 0.9), distances(100, "held out"), 0, 50)
    assert (found.share.mean, found.share.low) == (0, 0)
    assert found.share.high == pytest.approx(1 - 0.025 ** (1 / 200))
    assert found.verdict == "no sign of copies"


def test_repeated_sources_count_as_one():
    # Twenty alike tiles of each of twenty sources are no more evidence than twenty tiles.
    held_out = np.repeat(distances(20, "sources"), 20)
    samples = distances(400, "samples", low=0.09)
    sources = np.repeat(np.arange(20), 20)
    alone, grouped = audit(samples, held_out, 0, 500), audit(samples, held_out, 0, 500, sources)
    assert (alone.sources, grouped.sources) == (400, 20)
    assert alone.threshold == grouped.threshold
    assert grouped.share.high > alone.share.high


def test_nothing_to_compare_is_refused():
    with pytest.raises(ValueError, match="needs samples and held-out"):
        audit(np.array([]), np.array([0.1]), 0)
    with pytest.raises(ValueError, match="needs samples and held-out"):
        audit(np.array([0.1]), np.array([]), 0)


def subject(generate, channels=3, memorisation=40):
    train, test = tiles(30, "train", channels), tiles(60, "test", channels)

    def drawn(n, seed, purpose):
        return SimpleNamespace(pixels=generate(normals(seed, purpose, 0, n, 4), train))

    return SimpleNamespace(
        config=EvaluateConfig(memorisation=memorisation, bootstraps=100),
        editor=SimpleNamespace(image_shape=train.shape[1:], drawn=drawn),
        real_train=ArrayImages(train),
        real_test=ArrayImages(test, groups=np.arange(60) // 3),
        audit=SimpleNamespace(embed=embed),
    )


def memorised(latents, train):
    """Training images turned by a quarter."""
    return in_pose(train[np.arange(len(latents)) % len(train)], 1)


def new(latents, train):
    return tiles(len(latents), "new", train.shape[1])


def test_a_generator_of_turned_training_images_is_found_out(tmp_path):
    found = copies(subject(memorised))
    assert found.found.suspected
    assert found.found.share.mean == 1
    assert [target.met for target in found.targets()] == [False]
    assert (found.training, found.found.held_out, found.found.sources) == (30, 60, 20)
    assert (len(found.closest), len(found.closest_held_out)) == (12, 12)
    for pair in found.closest:
        np.testing.assert_array_equal(pair.image, pair.training)
        assert pair.pose == 1
    assert found.markdown()[1].startswith("**Copies suspected.**")
    assert "all eight poses" in found.markdown()[1]

    # The pictures are named in the section, and say that real images are in them.
    found.draw(tmp_path, {"model": "toy"})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "closest-pairs.png",
        "nearest-distances.png",
    ]
    assert found.shows_real == ("closest-pairs.png",)
    for path in tmp_path.iterdir():
        assert any(f"({path.name})" in part for part in found.markdown())
        with Image.open(path) as opened:
            assert opened.text["model"] == "toy"
            assert np.asarray(opened.convert("L")).std() > 5
    with Image.open(tmp_path / "closest-pairs.png") as opened:
        assert opened.text["synthetic"] == "in part"

    # Numbers are JSON, pictures and long lists stay out.
    values = json.loads(json.dumps(_plain(found), allow_nan=False))
    assert values["found"]["verdict"] == "copies suspected"
    assert values["closest"][0].keys() == {"distance", "training_index", "pose"}
    assert "distances" not in values


def test_a_generator_of_new_images_is_clear():
    found = copies(subject(new))
    assert found.found.verdict == "no sign of copies"
    assert found.markdown()[1].startswith("**No sign of copies.**")
    assert "rests on the nearest 1 of them" in found.markdown()[2]


def test_grey_images_are_compared_upright_unless_asked():
    # Turned digits are other pictures; where poses are asked for they are found.
    assert not copies(subject(memorised, channels=1)).poses
    assert not copies(subject(memorised, channels=1)).found.suspected
    assert copies(subject(memorised, channels=1), poses=True).found.suspected


def test_no_audit_where_none_was_asked_for():
    assert copies(subject(new, memorisation=0)) is None


def test_large_sets_are_drawn_from_by_seed(monkeypatch):
    module = importlib.import_module("controlgen.evaluation.memorisation")
    monkeypatch.setattr(module, "MOST_TRAINING", 10)
    monkeypatch.setattr(module, "MOST_HELD_OUT", 20)
    found = copies(subject(memorised))
    assert (found.training, found.training_available, found.found.held_out) == (10, 30, 20)
    assert "10 of 30 training images" in found.markdown()[1]
    again = copies(subject(memorised))
    np.testing.assert_array_equal(found.distances, again.distances)
