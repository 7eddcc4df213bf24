"""The WGAN family (Arjovsky et al., ICML 2017, arXiv:1701.07875).

Its members differ only in how they bound the critic's slope: weight clipping (Arjovsky et al.),
gradient penalty (Gulrajani et al., NeurIPS 2017, arXiv:1704.00028), spectral norm (Miyato et al.,
ICLR 2018, arXiv:1802.05957).
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from controlgen.objectives.base import (
    Critic,
    CriticTerms,
    GANObjective,
    Optimiser,
    SpectralNormTarget,
)
from controlgen.objectives.penalties import interpolate_real_fake, squared_gradient


class Wasserstein(GANObjective):
    """The Wasserstein loss with several critic steps per generator step; no bound on the slope."""

    critic_steps: int = Field(5, ge=1)

    def critic_loss(
        self, critic: Critic, real: Tensor, fake: Tensor, rng: torch.Generator
    ) -> CriticTerms:
        """D(G(z)) - D(x), per pair (n); no penalty (eq. 2 with its sign reversed)."""
        on_real, on_fake = critic(torch.cat([real, fake.detach()])).chunk(2)
        gap = on_real - on_fake
        return CriticTerms(-gap, gap, torch.zeros_like(gap))

    def generator_loss(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """-D(G(z)), per image (n)."""
        return -critic(fake)


class WGAN(Wasserstein):
    """Every critic parameter is clipped to -clip..clip after each critic step (algorithm 1).

    Published with RMSprop at a learning rate of 5e-5; the rate is a setting of the training.
    """

    kind: Literal["wgan"] = "wgan"
    clip: float = Field(0.01, gt=0, description="c of algorithm 1")
    rmsprop: bool = Field(True, description="RMSprop, as published; otherwise Adam")

    @property
    def optimiser(self) -> Optimiser:
        """RMSprop, as published, unless switched off."""
        return "rmsprop" if self.rmsprop else "adam"

    def after_critic_step(self, critic: nn.Module) -> None:
        """w <- clip(w, -c, c) for every parameter, biases included (line 7)."""
        with torch.no_grad():
            for weight in critic.parameters():
                weight.clamp_(-self.clip, self.clip)


class WGANSN(Wasserstein):
    """Spectral norm of the weight matrices alone bounds the critic's slope."""

    kind: Literal["wgan-sn"] = "wgan-sn"
    normalised: Literal["critic", "both"] = Field(
        "critic", description="networks under spectral norm"
    )

    @property
    def spectral_norm(self) -> SpectralNormTarget:
        """The critic, or also the generator."""
        return self.normalised


class WGANGP(Wasserstein):
    """A gradient penalty pulls the critic's slope to 1 between real and generated images."""

    kind: Literal["wgan-gp"] = "wgan-gp"
    penalty_weight: float = Field(10.0, ge=0, description="lambda of eq. 3")

    def critic_loss(
        self, critic: Critic, real: Tensor, fake: Tensor, rng: torch.Generator
    ) -> CriticTerms:
        """D(G(z)) - D(x) + lambda (|grad D(x^)| - 1)^2 with x^ uniform between (eq. 3), (n)."""
        between = interpolate_real_fake(real, fake.detach(), rng).requires_grad_()
        on_real, on_fake, on_between = critic(torch.cat([real, fake.detach(), between])).chunk(3)
        # A square root has no slope at 0: the floor gives a flat critic the gradient 0, not NaN.
        slope = squared_gradient(on_between, between).clamp_min(1e-30).sqrt()
        penalty = self.penalty_weight * (slope - 1).square()
        gap = on_real - on_fake
        return CriticTerms(penalty - gap, gap, penalty)


class WGANGPSN(WGANGP):
    """Gradient penalty and spectral norm: slope near 1 between the data, bounded everywhere."""

    kind: Literal["wgan-gp-sn"] = "wgan-gp-sn"  # type: ignore[assignment]
    normalised: Literal["critic", "both"] = Field(
        "critic", description="networks under spectral norm"
    )

    @property
    def spectral_norm(self) -> SpectralNormTarget:
        """The critic, or also the generator."""
        return self.normalised
