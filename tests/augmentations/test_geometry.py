"""Poses and translation of images, exact to the pixel."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from controlgen.augmentations.geometry import POSES, UPRIGHT, apply_pose_and_shift
from posed_images import in_pose, no_shift, random_images

pytestmark = pytest.mark.usefixtures("global_randomness_untouched")


@pytest.mark.parametrize("size", [1, 4, 5])
def test_poses_agree_with_torch(size: int) -> None:
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
def test_translation_reflects_after_the_pose(placed: tuple[int, int, int], pose: int) -> None:
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
