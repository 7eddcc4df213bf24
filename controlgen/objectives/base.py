"""What every adversarial objective offers to the training loop."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

Critic = Callable[[Tensor], Tensor]


class CriticTerms(NamedTuple):
    """Per-image terms (n) of one critic step: the loss to minimise and what to watch beside it."""

    loss: Tensor
    gap: Tensor  # D(real) - D(fake)
    penalty: Tensor  # the weighted gradient penalty inside the loss


class Objective(Protocol):
    """Losses of one adversarial game; never calls backward, never logs."""

    @property
    def critic_steps(self) -> int: ...

    def at(self, burn_in: float) -> Self:
        """The objective with its schedules resolved for this share (0..1) of the burn-in."""

    def critic_loss(
        self, critic: Critic, real: Tensor, fake: Tensor, rng: torch.Generator
    ) -> CriticTerms: ...

    def generator_loss(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor: ...
