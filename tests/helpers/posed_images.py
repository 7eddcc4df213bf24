"""Random images, their eight poses, and how often each was shown."""

from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from controlgen.rng import torch_stream


def draws(index: int = 0) -> torch.Generator:
    return torch_stream(7, "augment test", index)


def images(n: int, size: int = 8, channels: int = 3, index: int = 0) -> Tensor:
    return 2 * torch.rand(n, channels, size, size, generator=draws(index)) - 1


def posed(batch: Tensor, pose: int) -> Tensor:
    """What pose 4 f + k means, in torch's own words."""
    return torch.rot90(batch.flip(3) if pose >= 4 else batch, pose % 4, (2, 3))


def still(n: int) -> Tensor:
    return torch.zeros(n, 2, dtype=torch.int64)


def pose_counts(poses_of: Tensor, original: Tensor) -> np.ndarray:
    """How often each of the eight poses of one asymmetric image was shown."""
    poses = torch.cat([posed(original, pose) for pose in range(8)])
    same = (poses_of[:, None] == poses[None]).flatten(2).all(2)
    assert (same.sum(1) == 1).all()
    return same.sum(0).numpy()


def chance(counts: np.ndarray, shares: np.ndarray) -> float:
    return float(stats.chisquare(counts, shares * counts.sum()).pvalue)


def adaptive(**changes: Any) -> dict[str, Any]:
    return {"kind": "adaptive", "images_to_one": 200, **changes}
