"""What augmentation does to one image: exact moves, colour in closed form."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import separate_stains
from torch import Tensor, nn

from controlgen.augmentations.colour import EOSIN, HAEMATOXYLIN, NoColour, PlainColour, StainColour
from controlgen.augmentations.geometry import POSES, UPRIGHT, apply_pose_and_shift
from posed_images import in_pose, make_generator, no_shift, random_images

pytestmark = pytest.mark.usefixtures("global_randomness_untouched")

COLOURS = [NoColour(), PlainColour(), StainColour()]


@pytest.mark.parametrize("size", [1, 4, 5])
def test_poses_are_those_of_torch(size: int) -> None:
    batch = random_images(8, size)
    shifted = apply_pose_and_shift(batch, torch.arange(8), no_shift(8))
    for pose in range(8):
        assert torch.equal(shifted[pose], in_pose(batch[pose : pose + 1], pose)[0])
    assert torch.equal(shifted[UPRIGHT], batch[UPRIGHT])


def test_poses_are_the_dihedral_group() -> None:
    """Eight different moves; two in a row are the one that the product of matrices names."""
    batch = random_images(1, 5).expand(8, -1, -1, -1)
    each = apply_pose_and_shift(batch, torch.arange(8), no_shift(8))
    assert len({picture.numpy().tobytes() for picture in each}) == 8
    for second in range(8):
        row = []
        for first in range(8):
            product = POSES[first] @ POSES[second]
            (by_name,) = [k for k in range(8) if torch.equal(POSES[k], product)]
            twice = apply_pose_and_shift(
                each[first : first + 1], torch.tensor([second]), no_shift(1)
            )
            assert torch.equal(twice[0], each[by_name])
            row.append(by_name)
        # Every row of the table is a permutation: each move has one inverse.
        assert sorted(row) == list(range(8))


@given(
    st.integers(2, 9).flatmap(
        lambda size: st.tuples(
            st.just(size), st.integers(1 - size, size - 1), st.integers(1 - size, size - 1)
        )
    ),
    st.integers(0, 7),
)
def test_translation_is_reflect_padding_after_the_pose(
    placed: tuple[int, int, int], pose: int
) -> None:
    size, down, right = placed
    batch = random_images(1, size)
    shifted = apply_pose_and_shift(batch, torch.tensor([pose]), torch.tensor([[down, right]]))
    wide = size - 1
    padded = np.pad(
        in_pose(batch, pose).numpy(), ((0, 0), (0, 0), (wide, wide), (wide, wide)), "reflect"
    )
    top, left = wide - down, wide - right
    expected = padded[:, :, top : top + size, left : left + size]
    np.testing.assert_array_equal(shifted.numpy(), expected)


@pytest.mark.parametrize("colour", COLOURS, ids=lambda colour: colour.kind)
def test_amount_zero_changes_no_bit_of_a_colour(colour: Any) -> None:
    # Generated images leave -1..1, so they are looked at out there too.
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


def test_white_stays_white_and_grey_keeps_its_hue_when_only_the_hue_turns() -> None:
    white = torch.ones(2, 3, 4, 4)
    amounts = torch.tensor([[1.0, -1, 1], [-1, 1, -1]])
    assert torch.equal(StainColour().apply(white, amounts), white)
    grey = torch.full((2, 3, 4, 4), -0.3)
    turn = torch.tensor([[0, 0, 1.0], [0, 0, -1]])
    torch.testing.assert_close(StainColour().apply(grey, turn), grey)


def test_plain_colour_moves_brightness_contrast_and_saturation() -> None:
    colour = PlainColour(brightness=0.3, contrast=1, saturation=2)
    batch = random_images(1)

    def pose_and_shift(*amounts: float) -> Tensor:
        return colour.apply(batch, torch.tensor([amounts]))

    torch.testing.assert_close(pose_and_shift(0.5, 0, 0), batch + 0.15)
    torch.testing.assert_close(pose_and_shift(0, 1, 0), 2 * batch)
    torch.testing.assert_close(pose_and_shift(0, -1, 0), batch / 2)
    calm = pose_and_shift(0, 0, -1)
    torch.testing.assert_close(calm.mean(1), batch.mean(1))
    torch.testing.assert_close(calm.std(1), batch.std(1) / 4)
    grey = random_images(1, channels=1)
    torch.testing.assert_close(colour.apply(grey, torch.tensor([[0, 0, 1.0]])), grey)
