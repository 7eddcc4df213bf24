"""Colour jitter in closed form."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from skimage.color import separate_stains
from torch import Tensor, nn

from controlgen.augmentations.colour import EOSIN, HAEMATOXYLIN, NoColour, PlainColour, StainColour
from posed_images import make_generator, random_images

pytestmark = pytest.mark.usefixtures("global_randomness_untouched")

COLOURS = [NoColour(), PlainColour(), StainColour()]


@pytest.mark.parametrize("colour", COLOURS, ids=lambda colour: colour.kind)
def test_amount_zero_is_the_identity(colour: Any) -> None:
    # Generated images may leave -1..1.
    batch = 2 * random_images(6)
    assert torch.equal(colour.apply(batch, torch.zeros(6, 3, dtype=torch.float64)), batch)


def stained(haematoxylin: np.ndarray, eosin: np.ndarray) -> Tensor:
    """Images -1..1 of tissue with these concentrations (n h w), by Beer-Lambert."""
    vectors = np.array([HAEMATOXYLIN, EOSIN])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    density = np.einsum("knhw,kc->nchw", np.stack([haematoxylin, eosin]), vectors)
    return torch.from_numpy(2 * np.exp(-density) - 1)


def concentrations(batch: Tensor) -> np.ndarray:
    """(n h w 3) by scikit-image, relative to its own unit of density."""
    vectors = np.array([HAEMATOXYLIN, EOSIN, np.cross(HAEMATOXYLIN, EOSIN)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    light = ((batch + 1) / 2).permute(0, 2, 3, 1).numpy()
    return separate_stains(light, np.linalg.inv(vectors))


def test_stain_amounts_scale_the_concentrations() -> None:
    numbers = np.random.default_rng(3)
    tissue = stained(numbers.uniform(0.1, 1, (5, 4, 4)), numbers.uniform(0.1, 1, (5, 4, 4)))
    amounts = torch.tensor(
        [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 0.5, 0], [-0.25, 1, 0]], dtype=torch.float64
    )
    before = concentrations(tissue)
    after = concentrations(StainColour(strength=0.4).apply(tissue, amounts))
    factors = np.array([[1, 1], [1.4, 1], [0.6, 1], [1, 1.2], [0.9, 1.4]])[:, None, None, :]
    np.testing.assert_allclose(after[..., :2], before[..., :2] * factors, rtol=1e-6)
    np.testing.assert_allclose(after[..., 2], 0, atol=1e-9)


def test_hue_turns_by_its_angle_about_the_greys() -> None:
    colours = torch.rand(4, 3, 6, 6, generator=make_generator(1), dtype=torch.float64) * 0.8 + 0.1
    turned = StainColour(hue_degrees=12).apply(
        2 * colours - 1, torch.tensor([[0, 0, 1.0]], dtype=torch.float64).expand(4, -1)
    )
    before, after = -colours.log(), -((turned + 1) / 2).log()
    torch.testing.assert_close(after.mean(1), before.mean(1))
    across = [density - density.mean(1, keepdim=True) for density in (before, after)]
    cosine = nn.functional.cosine_similarity(*across, dim=1)
    torch.testing.assert_close(cosine, torch.full_like(cosine, math.cos(math.radians(12))))
    torch.testing.assert_close(across[0].norm(dim=1), across[1].norm(dim=1))


def test_white_and_grey_keep_their_colour() -> None:
    white = torch.ones(2, 3, 4, 4)
    amounts = torch.tensor([[1.0, -1, 1], [-1, 1, -1]])
    assert torch.equal(StainColour().apply(white, amounts), white)
    grey = torch.full((2, 3, 4, 4), -0.3)
    turn = torch.tensor([[0, 0, 1.0], [0, 0, -1]])
    torch.testing.assert_close(StainColour().apply(grey, turn), grey)


def test_plain_colour_changes_brightness_contrast_and_saturation() -> None:
    colour = PlainColour(brightness=0.3, contrast=1, saturation=2)
    batch = random_images(1)

    def jitter(*amounts: float) -> Tensor:
        return colour.apply(batch, torch.tensor([amounts]))

    torch.testing.assert_close(jitter(0.5, 0, 0), batch + 0.15)
    torch.testing.assert_close(jitter(0, 1, 0), 2 * batch)
    torch.testing.assert_close(jitter(0, -1, 0), batch / 2)
    calm = jitter(0, 0, -1)
    torch.testing.assert_close(calm.mean(1), batch.mean(1))
    torch.testing.assert_close(calm.std(1), batch.std(1) / 4)
    grey = random_images(1, channels=1)
    torch.testing.assert_close(colour.apply(grey, torch.tensor([[0, 0, 1.0]])), grey)
