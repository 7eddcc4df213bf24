"""Adversarial objectives by family. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.objectives.base import CriticTerms, Objective, Optimiser, SpectralNormTarget
from controlgen.objectives.hinge import Hinge
from controlgen.objectives.r3gan import R3GAN
from controlgen.objectives.vanilla import Minimax, NonSaturating
from controlgen.objectives.wgan import WGAN, WGANGP, WGANGPSN, WGANSN

AnyObjective = Annotated[
    R3GAN | WGANGP | WGAN | WGANSN | WGANGPSN | Minimax | NonSaturating | Hinge,
    Field(discriminator="kind"),
]

__all__ = [
    "R3GAN",
    "WGAN",
    "WGANGP",
    "WGANGPSN",
    "WGANSN",
    "AnyObjective",
    "CriticTerms",
    "Hinge",
    "Minimax",
    "NonSaturating",
    "Objective",
    "Optimiser",
    "SpectralNormTarget",
]
