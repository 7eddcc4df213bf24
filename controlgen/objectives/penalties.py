"""Gradient penalties shared by objectives; all per image, differentiable a second time."""

import torch
from torch import Tensor


def squared_gradient(scores: Tensor, images: Tensor) -> Tensor:
    """|grad_x D(x)|^2 per image (n), summed over channels, height and width.

    `scores` (n) must have been computed from `images` (n c h w) with `requires_grad` set.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def interpolate_real_fake(real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
    """One point per pair, uniform from fake to real (Gulrajani et al. 2017, alg. 1)."""
    weight = torch.rand(len(real), 1, 1, 1, generator=rng).to(real.device)
    return weight * real + (1 - weight) * fake
