"""What every adversarial objective offers to the training loop."""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from controlgen.base_config import BaseConfig
from controlgen.schedules import Schedule

Critic = Callable[[Tensor], Tensor]
Optimiser = Literal["adam", "rmsprop"]
Normalised = Literal["none", "critic", "both"]


class CriticTerms(NamedTuple):
    """Per-image terms (n) of one critic step: the loss to minimise and what to watch beside it."""

    loss: Tensor
    gap: Tensor  # D(real) - D(fake)
    penalty: Tensor  # the weighted gradient penalty inside the loss; zeros where there is none


class Objective(Protocol):
    """Losses of one adversarial game, and what it asks of the training; never calls backward."""

    @property
    def critic_steps(self) -> int: ...

    @property
    def optimiser(self) -> Optimiser: ...

    @property
    def spectral_norm(self) -> Normalised: ...

    def at(self, burn_in: float) -> Self:
        """The objective with its schedules resolved for this share (0..1) of the burn-in."""

    def critic_loss(
        self, critic: Critic, real: Tensor, fake: Tensor, rng: torch.Generator
    ) -> CriticTerms: ...

    def generator_loss(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor: ...

    def after_critic_step(self, critic: nn.Module) -> None:
        """Act on the critic's weights once its optimiser has moved them."""


class Game(BaseConfig):
    """What an objective asks of the training where it does not say otherwise."""

    @property
    def optimiser(self) -> Optimiser:
        """Both networks are trained with this one."""
        return "adam"

    @property
    def spectral_norm(self) -> Normalised:
        """Whose weight matrices are divided by their largest singular value."""
        return "none"

    def at(self, burn_in: float) -> Self:
        """Nothing here is scheduled."""
        return self

    def after_critic_step(self, critic: nn.Module) -> None:
        """The critic is left as the optimiser made it."""


class Penalised(Game):
    """A game whose weight of R1 and R2 moves along the burn-in."""

    gamma: Schedule

    def at(self, burn_in: float) -> Self:
        """The same objective with gamma fixed at its value for this share of the burn-in."""
        gamma = self.gamma.at(burn_in)
        return self.model_copy(update={"gamma": Schedule(start=gamma, end=gamma)})
