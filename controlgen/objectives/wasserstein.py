"""The Wasserstein game that the WGAN family plays (Arjovsky et al., ICML 2017, arXiv:1701.07875).

Its members differ only in how they hold the critic's slope: clipping, penalty, spectral norm.
"""

import torch
from pydantic import Field
from torch import Tensor

from controlgen.objectives.base import Critic, CriticTerms, Game
from controlgen.objectives.penalties import interpolates, squared_gradient


class Wasserstein(Game):
    """Several critic steps per generator step; the slope is held by other means than the loss."""

    critic_steps: int = Field(5, ge=1)

    def critic_loss(
        self, critic: Critic, real: Tensor, fake: Tensor, rng: torch.Generator
    ) -> CriticTerms:
        """D(G(z)) - D(x), per pair (n); no penalty (eq. 2 with its sign turned)."""
        on_real, on_fake = critic(torch.cat([real, fake.detach()])).chunk(2)
        gap = on_real - on_fake
        return CriticTerms(-gap, gap, torch.zeros_like(gap))

    def generator_loss(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """-D(G(z)), per image (n)."""
        return -critic(fake)


class PenalisedWasserstein(Wasserstein):
    """The critic's slope is held at 1 between the data (Gulrajani et al. 2017, 1704.00028)."""

    penalty_weight: float = Field(10.0, ge=0, description="lambda of eq. 3")

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
