"""The perceptual distance against its formula and what it must order; projections of images."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage.data import immunohistochemistry
from skimage.filters import gaussian

from controlgen.errors import DataError, Incompatible
from controlgen.evaluation.projection import projection_table, unrelated_images
from controlgen.images import to_signed_float
from controlgen.metrics import perceptual
from controlgen.metrics.perceptual import PerceptualDistance, feature_map_distance
from controlgen.rng import stream


@pytest.fixture(scope="module")
def opened():
    return PerceptualDistance(image_size=64)


@pytest.fixture(scope="module")
def tissue():
    """Four real tiles (4 3 64 64)."""
    slide = immunohistochemistry()
    corners = [(0, 0), (128, 64), (256, 320), (400, 400)]
    crops = [slide[top : top + 64, left : left + 64] for top, left in corners]
    return np.ascontiguousarray(np.stack(crops).transpose(0, 3, 1, 2))


def test_the_formula_by_hand():
    draws = stream(0, "maps")
    shapes = [(3, 5, 4, 4), (3, 8, 2, 3), (3, 2, 1, 1)]
    a, b = ([draws.normal(size=shape) for shape in shapes] for _ in range(2))
    expected = np.zeros(3)
    for left, right in zip(a, b, strict=True):
        for n in range(3):
            height, width = left.shape[2:]
            for y in range(height):
                for x in range(width):
                    p, q = left[n, :, y, x], right[n, :, y, x]
                    gap = p / np.linalg.norm(p) - q / np.linalg.norm(q)
                    expected[n] += gap @ gap / (height * width) / len(shapes)
    actual = feature_map_distance(
        [torch.from_numpy(m) for m in a], [torch.from_numpy(m) for m in b]
    )
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-9)


def test_length_means_nothing_and_opposites_are_four_apart():
    maps = torch.from_numpy(stream(1, "maps").normal(size=(2, 6, 3, 3)))
    np.testing.assert_allclose(feature_map_distance([maps], [7 * maps]).numpy(), 0, atol=1e-12)
    np.testing.assert_allclose(feature_map_distance([maps], [-maps]).numpy(), 4, atol=1e-8)
    first, second = torch.eye(2).view(2, 2, 1, 1)
    np.testing.assert_allclose(feature_map_distance([first[None]], [second[None]]).numpy(), 2)
    nothing = torch.zeros(1, 3, 2, 2)
    assert feature_map_distance([nothing], [nothing]).item() == 0


def test_five_stages_halve_and_carry_gradients(opened, tissue):
    images = to_signed_float(tissue[:1]).requires_grad_(True)
    maps = opened.maps(images)
    assert [m.shape[2] for m in maps] == [32, 16, 8, 4, 2]
    other = opened.maps(to_signed_float(tissue[1:2]))
    (gradient,) = torch.autograd.grad(feature_map_distance(maps, other).sum(), [images])
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_it_is_zero_for_equal_images_and_symmetric(opened, tissue):
    other = tissue[[1, 2, 3, 0]]
    np.testing.assert_allclose(opened.distance(tissue, tissue), 0, atol=1e-12)
    there, back = opened.distance(tissue, other), opened.distance(other, tissue)
    np.testing.assert_allclose(there, back, rtol=1e-6)
    assert there.min() > 0.05
    assert opened.name == "PD-efficientnet-lite0"


def test_more_blur_and_more_noise_are_further_away(opened, tissue):
    steps = []
    for sigma in (0.6, 1.2, 2.4, 4.8):
        planes = [gaussian(plane, sigma) for plane in tissue.reshape(-1, 64, 64).astype(float)]
        steps.append(np.stack(planes).reshape(tissue.shape).round().astype(np.uint8))
    distances = np.array([opened.distance(tissue, step) for step in steps])
    assert (np.diff(distances, axis=0) > 0).all()

    noise = stream(0, "noise").normal(size=tissue.shape)
    noisy = [np.clip(tissue + level * noise, 0, 255).astype(np.uint8) for level in (4, 12, 36)]
    distances = np.array([opened.distance(tissue, step) for step in noisy])
    assert (np.diff(distances, axis=0) > 0).all()


def test_grey_is_as_grey_in_three_channels_and_batches_do_not_matter(opened, tissue, monkeypatch):
    grey = tissue[:, :1]
    coloured = np.repeat(grey, 3, axis=1)
    order = [1, 2, 3, 0]
    single = opened.distance(grey, grey[order])
    np.testing.assert_allclose(single, opened.distance(coloured, coloured[order]), rtol=1e-6)
    monkeypatch.setattr(perceptual, "BATCH", 3)
    np.testing.assert_allclose(single, opened.distance(grey, grey[order]), rtol=1e-5)
    assert opened.distance(grey[:0], grey[:0]).shape == (0,)


def test_other_shapes_are_refused(opened, tissue):
    with pytest.raises(Incompatible, match="pair by pair"):
        opened.distance(tissue, tissue[:2])


# A world in which projection loses nothing: an image has exactly WHITE white pixels, and its
# feature is the image itself.
WHITE, SIDE = 5, 4


def generate_images(latents):
    white = np.argsort(-latents, axis=1, kind="stable")[:, :WHITE]
    pixels = np.zeros((len(latents), SIDE * SIDE), np.uint8)
    np.put_along_axis(pixels, white, 255, axis=1)
    return pixels.reshape(-1, 1, SIDE, SIDE)


def embed_pixels(pixels):
    rows = pixels.reshape(len(pixels), -1).astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)


def world(invert):
    return SimpleNamespace(
        latent_size=SIDE * SIDE, embed=embed_pixels, invert=invert, generate=generate_images
    )


class PixelDistance:
    name = "pixels"

    def distance(self, a, b):
        return np.abs(a.astype(float) - b).mean((1, 2, 3))


def rows_of(invert, sources=None):
    pixels = generate_images(stream(0, "real").normal(size=(24, SIDE * SIDE)).astype(np.float32))
    audit = SimpleNamespace(embed=embed_pixels)
    actual = projection_table(world(invert), pixels, audit, PixelDistance(), 3, 100, sources)
    return {row.images: row for row in actual}


def test_a_faithful_projection_is_perfect_and_its_floor_is_not():
    rows = rows_of(lambda features: features)
    for name in ("real, projected", "generated, projected"):
        row = rows[name]
        assert row.n == 24
        assert row.audit_cosine.mean == pytest.approx(1)
        assert row.steering_cosine.mean == pytest.approx(1)
        assert row.perceptual.mean == row.pixel_error.mean == 0
    floor = rows["real, an unrelated real image"]
    assert floor.audit_cosine.high < 0.7
    assert floor.perceptual.low > 0


def test_a_projection_that_forgets_scores_no_better_than_the_floor():
    rows = rows_of(np.zeros_like)
    floor = rows["real, an unrelated real image"]
    assert rows["real, projected"].audit_cosine.low < floor.audit_cosine.high
    assert rows["real, projected"].pixel_error.high > floor.pixel_error.low


def test_intervals_are_over_sources():
    rows = rows_of(lambda features: features, np.arange(24) // 4)
    assert rows["real, projected"].audit_cosine.n == 6
    assert rows["generated, projected"].audit_cosine.n == 24


def test_the_unrelated_image_is_of_another_source():
    sources = np.array([4, 4, 4, 4, 4, 9, 9, 1])
    other = unrelated_images(sources, 0)
    assert (sources[other] != sources).all()
    np.testing.assert_array_equal(other, unrelated_images(sources, 0))
    with pytest.raises(DataError, match="all images are of one source"):
        unrelated_images(np.array([2, 2]), 0)
