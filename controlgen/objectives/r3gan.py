"""The relativistic pairing loss with R1 and R2 (Huang et al., NeurIPS 2024, arXiv:2501.05441)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from controlgen.objectives.base import Critic, CriticTerms, R1R2Objective
from controlgen.objectives.penalties import squared_gradient
from controlgen.schedules import CosineSchedule


class R3GAN(R1R2Objective):
    """Reals and fakes are paired by index; both penalties act at every step."""

    kind: Literal["r3gan"] = "r3gan"
    gamma: CosineSchedule = Field(
        CosineSchedule(start=1.0, end=1.0), description="weight of R1 and R2"
    )
    critic_steps: Literal[1] = 1

    def critic_loss(
        self, critic: Critic, real: Tensor, fake: Tensor, rng: torch.Generator
    ) -> CriticTerms:
        """sp(-(D(x) - D(G(z)))) + gamma/2 (|grad D(x)|^2 + |grad D(G(z))|^2), per pair (n)."""
        images = torch.cat([real, fake.detach()]).requires_grad_()
        scores = critic(images)
        on_real, on_fake = scores.chunk(2)
        r1, r2 = squared_gradient(scores, images).chunk(2)
        penalty = self.gamma.end / 2 * (r1 + r2)
        gap = on_real - on_fake
        return CriticTerms(softplus(-gap) + penalty, gap, penalty)

    def generator_loss(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """sp(-(D(G(z)) - D(x))), per pair (n)."""
        with torch.no_grad():
            on_real = critic(real)
        return softplus(on_real - critic(fake))
