"""The original GAN losses (Goodfellow et al., NeurIPS 2014, arXiv:1406.2661).

D is the logit: the paper's probability is sigmoid(D). R1 and R2 are the zero-centred penalties of
Mescheder et al. (ICML 2018, arXiv:1801.04406, eqs. 9 and 10).
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from controlgen.objectives.base import Critic, CriticTerms, R1R2Objective
from controlgen.objectives.penalties import squared_gradient
from controlgen.schedules import CosineSchedule


class VanillaGAN(R1R2Objective):
    """The critic classifies each image as real or generated, independently of the others."""

    gamma: CosineSchedule = Field(
        CosineSchedule(start=0.0, end=0.0), description="weight of R1 and R2; 0: no penalty"
    )
    critic_steps: int = Field(1, ge=1, description="k of algorithm 1")

    def critic_loss(
        self, critic: Critic, real: Tensor, fake: Tensor, rng: torch.Generator
    ) -> CriticTerms:
        """sp(-D(x)) + sp(D(G(z))) + gamma/2 (|grad D(x)|^2 + |grad D(G(z))|^2), per pair (n)."""
        gamma = self.gamma.end
        images = torch.cat([real, fake.detach()]).requires_grad_(gamma != 0)
        scores = critic(images)
        on_real, on_fake = scores.chunk(2)
        penalty = torch.zeros_like(on_real)
        if gamma != 0:
            r1, r2 = squared_gradient(scores, images).chunk(2)
            penalty = gamma / 2 * (r1 + r2)
        return CriticTerms(
            softplus(-on_real) + softplus(on_fake) + penalty, on_real - on_fake, penalty
        )


class Minimax(VanillaGAN):
    """Eq. 1: the generator minimises what the critic maximises; its gradient vanishes where the
    critic recognises fakes."""

    kind: Literal["minimax"] = "minimax"

    def generator_loss(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """log(1 - sigmoid(D(G(z)))) = -sp(D(G(z))), per image (n)."""
        return -softplus(critic(fake))


class NonSaturating(VanillaGAN):
    """Section 3: the generator maximises log sigmoid(D(G(z))); its gradient does not vanish."""

    kind: Literal["non-saturating"] = "non-saturating"

    def generator_loss(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """-log sigmoid(D(G(z))) = sp(-D(G(z))), per image (n)."""
        return softplus(-critic(fake))
