"""Adversarial objectives, one a file. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.objectives.base import CriticTerms, Objective
from controlgen.objectives.r3gan import R3GAN
from controlgen.objectives.wgan_gp import WGANGP

AnyObjective = Annotated[R3GAN | WGANGP, Field(discriminator="kind")]

__all__ = ["R3GAN", "WGANGP", "AnyObjective", "CriticTerms", "Objective"]
