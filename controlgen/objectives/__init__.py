"""Adversarial objectives, one a file. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.objectives.base import CriticTerms, Normalised, Objective, Optimiser
from controlgen.objectives.hinge import Hinge
from controlgen.objectives.minimax import Minimax
from controlgen.objectives.non_saturating import NonSaturating
from controlgen.objectives.r3gan import R3GAN
from controlgen.objectives.wgan import WGAN
from controlgen.objectives.wgan_gp import WGANGP
from controlgen.objectives.wgan_gp_sn import WGANGPSN
from controlgen.objectives.wgan_sn import WGANSN

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
    "Normalised",
    "Objective",
    "Optimiser",
]
