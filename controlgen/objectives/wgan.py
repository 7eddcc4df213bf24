"""Wasserstein loss with weight clipping (Arjovsky et al., ICML 2017, arXiv:1701.07875, alg. 1)."""

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from controlgen.objectives.base import Optimiser
from controlgen.objectives.wasserstein import Wasserstein


class WGAN(Wasserstein):
    """Every critic parameter is clipped to -clip..clip after each critic step.

    Published with RMSprop at a learning rate of 5e-5: that rate belongs to the training's settings.
    """

    kind: Literal["wgan"] = "wgan"
    clip: float = Field(0.01, gt=0, description="c of algorithm 1")
    rmsprop: bool = Field(True, description="as published; Adam otherwise")

    @property
    def optimiser(self) -> Optimiser:
        """RMSprop, as published, unless switched off."""
        return "rmsprop" if self.rmsprop else "adam"

    def after_critic_step(self, critic: nn.Module) -> None:
        """w <- clip(w, -c, c) for every parameter, biases included (line 7)."""
        with torch.no_grad():
            for weight in critic.parameters():
                weight.clamp_(-self.clip, self.clip)
