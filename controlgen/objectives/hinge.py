"""The hinge loss of the Geometric GAN (Lim and Ye 2017, arXiv:1705.02894)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import relu

from controlgen.objectives.base import Critic, CriticTerms, GANObjective, SpectralNormTarget


class Hinge(GANObjective):
    """Only images inside the margin train the critic; often combined with spectral norm."""

    kind: Literal["hinge"] = "hinge"
    critic_steps: int = Field(1, ge=1)
    normalised: SpectralNormTarget = Field("none", description="networks under spectral norm")

    @property
    def spectral_norm(self) -> SpectralNormTarget:
        """The networks that are set; none by default."""
        return self.normalised

    def critic_loss(
        self, critic: Critic, real: Tensor, fake: Tensor, rng: torch.Generator
    ) -> CriticTerms:
        """max(0, 1 - D(x)) + max(0, 1 + D(G(z))), per pair (n); no penalty."""
        on_real, on_fake = critic(torch.cat([real, fake.detach()])).chunk(2)
        gap = on_real - on_fake
        return CriticTerms(relu(1 - on_real) + relu(1 + on_fake), gap, torch.zeros_like(gap))

    def generator_loss(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """-D(G(z)), per image (n)."""
        return -critic(fake)
