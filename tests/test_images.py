"""Pixel ranges, grey and RGB, grids, and PNG files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp
from jaxtyping import TypeCheckError
from PIL import Image

from controlgen import image_io
from controlgen.images import (
    grid,
    shrink_png,
    tensor_to_channels,
    to_channels,
    to_pixels,
    to_signed_float,
    write_png,
)

rgb = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6).map(lambda s: (2, 3, *s))
)


def test_every_byte_survives_the_round_trip() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    images = to_signed_float(pixels)
    assert images.dtype == torch.float32
    assert (images.min().item(), images.max().item()) == (-1.0, 1.0)
    np.testing.assert_allclose(images.numpy().ravel(), np.linspace(-1, 1, 256), atol=1e-7)
    np.testing.assert_array_equal(to_pixels(images), pixels)
    np.testing.assert_array_equal(to_pixels(images.bfloat16().float()).shape, pixels.shape)


def test_overshoot_is_clipped_and_the_rest_rounded_to_nearest() -> None:
    images = torch.tensor([-7.0, -1.001, -1.0, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1, 1.0, 1.5])
    actual = to_pixels(images.reshape(1, 1, 1, -1).requires_grad_())
    assert actual.ravel().tolist() == [0, 0, 0, 0, 1, 255, 255]


def test_shapes_are_checked_in_tests() -> None:
    with pytest.raises(TypeCheckError):
        to_signed_float(np.zeros((1, 28, 28), np.uint8))
    with pytest.raises(TypeCheckError):
        to_signed_float(np.zeros((1, 1, 28, 28), np.float32))


@given(hnp.arrays(np.uint8, (2, 1, 3, 4)))
def test_grey_to_rgb_and_back_is_the_identity(grey: np.ndarray) -> None:
    coloured = to_channels(grey, 3)
    assert coloured.shape == (2, 3, 3, 4)
    assert (coloured == grey).all()
    np.testing.assert_array_equal(to_channels(coloured, 1), grey)
    assert to_channels(grey, 1) is grey


@given(rgb)
def test_luma_agrees_with_pillow(pixels: np.ndarray) -> None:
    actual = to_channels(pixels, 1)[:, 0].astype(int)
    pillow = [np.asarray(Image.fromarray(p.transpose(1, 2, 0)).convert("L")) for p in pixels]
    assert np.abs(actual - np.stack(pillow)).max() <= 1


@given(rgb)
def test_the_differentiable_conversion_agrees(pixels: np.ndarray) -> None:
    images = to_signed_float(pixels)
    grey = to_pixels(tensor_to_channels(images, 1)).astype(int)
    assert np.abs(grey - to_channels(pixels, 1)).max() <= 1
    back = tensor_to_channels(to_signed_float(to_channels(pixels, 1)), 3)
    np.testing.assert_array_equal(to_pixels(back), to_channels(to_channels(pixels, 1), 3))
    images.requires_grad_()
    tensor_to_channels(images, 1).sum().backward()
    assert images.grad is not None
    torch.testing.assert_close(images.grad.sum(1), torch.ones_like(images.grad[:, 0]))


def test_a_grid_holds_every_image_in_its_place() -> None:
    pixels = np.arange(1, 6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 4, 5), np.uint8)
    sheet = grid(pixels, columns=2, gap=1, paper=200)
    assert sheet.shape == (1, 3, 3 * 5 + 1, 2 * 6 + 1)
    for index in range(5):
        top, left = 1 + index // 2 * 5, 1 + index % 2 * 6
        np.testing.assert_array_equal(sheet[0, :, top : top + 4, left : left + 5], pixels[index])
    assert (sheet == 200).sum() == sheet.size - pixels.size


def test_png_round_trip_and_provenance(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 6, 4), np.uint8)
    path = tmp_path / "edit.png"
    write_png(path, pixels, {"synthetic": "true", "seed": 7, "recipe": {"amount": 1.5}})
    write_png(path, pixels, {"synthetic": "true", "seed": 7, "recipe": {"amount": 1.5}})
    with Image.open(path) as opened:
        assert opened.info["synthetic"] == "true"
        assert opened.info["seed"] == "7"
        assert opened.info["recipe"] == '{"amount": 1.5}'
    np.testing.assert_array_equal(image_io.read_image(path, (3, 6, 4)), pixels)
    assert [item.name for item in tmp_path.iterdir()] == ["edit.png"]


def test_png_grey_and_zoom(tmp_path: Path) -> None:
    pixels = np.array([[[[0, 255], [9, 128]]]], np.uint8)
    write_png(tmp_path / "a.png", pixels, {}, zoom=3)
    actual = image_io.read_image(tmp_path / "a.png", (1, 6, 6))
    np.testing.assert_array_equal(actual, pixels.repeat(3, 2).repeat(3, 3))


def test_a_large_picture_shrinks_and_keeps_what_it_says(tmp_path: Path) -> None:
    # Pink and purple noise in blocks, as tissue is, too large to be left alone.
    draws = np.random.default_rng(0)
    shades = draws.integers(0, 90, (1, 1, 1000, 1000))
    tissue = (np.array([250, 200, 240])[:, None, None] - shades).astype(np.uint8)
    tissue[0, :, :, :500] //= 2
    tissue[0, 0] ^= draws.integers(0, 4, (1000, 1000)).astype(np.uint8)
    before, after = tmp_path / "before.png", tmp_path / "after.png"
    write_png(before, tissue, {"synthetic": "true", "recipe": {"seed": 7}})
    shrink_png(before, after)
    assert after.stat().st_size < 0.6 * before.stat().st_size
    with Image.open(before) as first, Image.open(after) as second:
        assert second.text == first.text  # type: ignore[attr-defined]
        far = np.abs(np.asarray(second.convert("RGB"), int) - np.asarray(first, int))
    assert far.mean() < 4
    # A small one keeps its bytes.
    write_png(before, tissue[..., :50, :50], {"synthetic": "true"})
    shrink_png(before, after)
    assert after.read_bytes() == before.read_bytes()
