"""The memorisation audit of a generator: results, report section and figures."""

import json
from types import SimpleNamespace

import numpy as np
from PIL import Image

from controlgen.config import EvaluateConfig
from controlgen.datasets.arrays import ArrayDataset
from controlgen.evaluation import memorisation
from controlgen.evaluation.memorisation import audit_memorisation
from controlgen.evaluation.report import to_json_values
from controlgen.metrics.memorisation import apply_pose
from controlgen.rng import normals, stream


def tiles(n, name="tiles", channels=3, size=6):
    return stream(0, name).integers(0, 256, (n, channels, size, size)).astype(np.uint8)


def embed(pixels):
    """Centred pixels: different random tiles are far from each other."""
    rows = pixels.reshape(len(pixels), -1).astype(np.float32) - 127.5
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make_context(generate, channels=3, memorisation=40):
    train, test = tiles(30, "train", channels), tiles(60, "test", channels)

    def sample_stream(n, seed, purpose):
        return SimpleNamespace(pixels=generate(normals(seed, purpose, 0, n, 4), train))

    return SimpleNamespace(
        config=EvaluateConfig(memorisation=memorisation, bootstraps=100),
        editor=SimpleNamespace(image_shape=train.shape[1:], sample_stream=sample_stream),
        real_train=ArrayDataset(train),
        real_test=ArrayDataset(test, groups=np.arange(60) // 3),
        audit=SimpleNamespace(embed=embed),
    )


def rotated_copies(latents, train):
    """Training images rotated by 90 degrees."""
    return apply_pose(train[np.arange(len(latents)) % len(train)], 1)


def new_images(latents, train):
    return tiles(len(latents), "new", train.shape[1])


def test_rotated_training_images_are_suspected(tmp_path):
    result = audit_memorisation(make_context(rotated_copies))
    assert result.statistics.suspected
    assert result.statistics.share.mean == 1
    assert [goal.met for goal in result.goals()] == [False]
    assert (result.training, result.statistics.held_out, result.statistics.sources) == (30, 60, 20)
    assert (len(result.closest), len(result.closest_held_out)) == (12, 12)
    for pair in result.closest:
        np.testing.assert_array_equal(pair.image, pair.training)
        assert pair.pose == 1
    assert result.markdown()[1].startswith("**Copies suspected.**")
    assert "all eight poses" in result.markdown()[1]

    # The section links the figures, whose metadata declare real images.
    result.draw(tmp_path, {"model": "toy"})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "closest-pairs.png",
        "nearest-distances.png",
    ]
    assert result.shows_real == ("closest-pairs.png",)
    for path in tmp_path.iterdir():
        assert any(f"({path.name})" in part for part in result.markdown())
        with Image.open(path) as opened:
            assert opened.text["model"] == "toy"
            assert np.asarray(opened.convert("L")).std() > 5
    with Image.open(tmp_path / "closest-pairs.png") as opened:
        assert opened.text["synthetic"] == "in part"

    # JSON contains numbers, no images and no long lists.
    values = json.loads(json.dumps(to_json_values(result), allow_nan=False))
    assert values["found"]["verdict"] == "copies suspected"
    assert values["closest"][0].keys() == {"distance", "training_index", "pose"}
    assert "distances" not in values


def test_new_images_are_not_suspected():
    result = audit_memorisation(make_context(new_images))
    assert result.statistics.verdict == "no sign of copies"
    assert result.markdown()[1].startswith("**No sign of copies.**")
    assert "rests on the nearest 1 of them" in result.markdown()[2]


def test_grey_images_are_compared_upright_by_default():
    # Rotated digits are other images, unless poses are compared.
    assert not audit_memorisation(make_context(rotated_copies, channels=1)).poses
    assert not audit_memorisation(make_context(rotated_copies, channels=1)).statistics.suspected
    assert audit_memorisation(
        make_context(rotated_copies, channels=1), poses=True
    ).statistics.suspected


def test_no_audit_for_zero_samples():
    assert audit_memorisation(make_context(new_images, memorisation=0)) is None


def test_large_sets_are_sampled_by_seed(monkeypatch):
    monkeypatch.setattr(memorisation, "MAX_TRAINING", 10)
    monkeypatch.setattr(memorisation, "MAX_HELD_OUT", 20)
    result = audit_memorisation(make_context(rotated_copies))
    assert (result.training, result.training_available, result.statistics.held_out) == (10, 30, 20)
    assert "10 of 30 training images" in result.markdown()[1]
    again = audit_memorisation(make_context(rotated_copies))
    np.testing.assert_array_equal(result.distances, again.distances)
