"""Random images and their eight poses."""

from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from controlgen.rng import torch_stream


def make_generator(index: int = 0) -> torch.Generator:
    return torch_stream(7, "augment test", index)


def random_images(n: int, size: int = 8, channels: int = 3, index: int = 0) -> Tensor:
    return 2 * torch.rand(n, channels, size, size, generator=make_generator(index)) - 1


def in_pose(batch: Tensor, pose: int) -> Tensor:
    """Pose 4 f + k in terms of torch: flipped if f, rotated k times by 90 degrees."""
    return torch.rot90(batch.flip(3) if pose >= 4 else batch, pose % 4, (2, 3))


def no_shift(n: int) -> Tensor:
    return torch.zeros(n, 2, dtype=torch.int64)


def pose_counts(augmented: Tensor, original: Tensor) -> np.ndarray:
    """How often each of the eight poses of an asymmetric image occurs."""
    poses = torch.cat([in_pose(original, pose) for pose in range(8)])
    same = (augmented[:, None] == poses[None]).flatten(2).all(2)
    assert (same.sum(1) == 1).all()
    return same.sum(0).numpy()


def chi_square_p_value(counts: np.ndarray, shares: np.ndarray) -> float:
    return float(stats.chisquare(counts, shares * counts.sum()).pvalue)


def adaptive_settings(**changes: Any) -> dict[str, Any]:
    return {"kind": "adaptive", "images_to_one": 200, **changes}
