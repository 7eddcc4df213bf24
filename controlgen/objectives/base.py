"""The interface of adversarial objectives to the training loop."""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from controlgen.base_config import BaseConfig
from controlgen.schedules import CosineSchedule

Critic = Callable[[Tensor], Tensor]
Optimiser = Literal["adam", "rmsprop"]
SpectralNormTarget = Literal["none", "critic", "both"]


class CriticTerms(NamedTuple):
    """Per-image terms (n) of one critic step: the loss and two quantities to monitor."""

    loss: Tensor
    gap: Tensor  # D(real) - D(fake)
    penalty: Tensor  # weighted gradient penalty, part of the loss; zeros without one


class Objective(Protocol):
    """Losses and training requirements of an adversarial objective; never calls backward."""

    @property
    def critic_steps(self) -> int: ...

    @property
    def optimiser(self) -> Optimiser: ...

    @property
    def spectral_norm(self) -> SpectralNormTarget: ...

    def at(self, burn_in: float) -> Self:
        """The objective with its schedules resolved for this share (0..1) of the burn-in."""

    def critic_loss(
        self, critic: Critic, real: Tensor, fake: Tensor, rng: torch.Generator
    ) -> CriticTerms: ...

    def generator_loss(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor: ...

    def after_critic_step(self, critic: nn.Module) -> None:
        """Modify the critic's weights after its optimiser step."""


class GANObjective(BaseConfig):
    """Defaults of an objective's training requirements."""

    @property
    def optimiser(self) -> Optimiser:
        """The optimiser of both networks."""
        return "adam"

    @property
    def spectral_norm(self) -> SpectralNormTarget:
        """Networks whose weight matrices are divided by their largest singular value."""
        return "none"

    def at(self, burn_in: float) -> Self:
        """Return the objective itself: nothing is scheduled."""
        return self

    def after_critic_step(self, critic: nn.Module) -> None:
        """Leave the critic unchanged."""


class R1R2Objective(GANObjective):
    """An objective with R1 and R2 penalties whose weight is scheduled over the burn-in."""

    gamma: CosineSchedule

    def at(self, burn_in: float) -> Self:
        """The objective with gamma fixed at its value for this share (0..1) of the burn-in."""
        gamma = self.gamma.at(burn_in)
        return self.model_copy(update={"gamma": CosineSchedule(start=gamma, end=gamma)})
