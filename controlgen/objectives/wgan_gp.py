"""Wasserstein loss with gradient penalty (Gulrajani et al., NeurIPS 2017, arXiv:1704.00028)."""

from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from controlgen.objectives.base import Critic, CriticTerms
from controlgen.objectives.penalties import interpolates, squared_gradient
from controlgen.spec import Spec


class WGANGP(Spec):
    """Several critic steps per generator step; the critic's slope is held at 1 between the data."""

    kind: Literal["wgan-gp"] = "wgan-gp"
    penalty_weight: float = Field(10.0, ge=0, description="lambda of eq. 3")
    critic_steps: int = Field(5, ge=1)

    def at(self, burn_in: float) -> Self:
        """Nothing here is scheduled."""
        return self

    def critic_loss(
        self, critic: Critic, real: Tensor, fake: Tensor, rng: torch.Generator
    ) -> CriticTerms:
        """D(G(z)) - D(x) + lambda (|grad D(x^)| - 1)^2 with x^ uniform between (eq. 3), (n)."""
        between = interpolates(real, fake.detach(), rng).requires_grad_()
        on_real, on_fake, on_between = critic(torch.cat([real, fake.detach(), between])).chunk(3)
        # A square root has no slope at 0: the floor gives a flat critic the gradient 0, not NaN.
        slope = squared_gradient(on_between, between).clamp_min(1e-30).sqrt()
        penalty = self.penalty_weight * (slope - 1).square()
        gap = on_real - on_fake
        return CriticTerms(penalty - gap, gap, penalty)

    def generator_loss(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """-D(G(z)), per image (n)."""
        return -critic(fake)
