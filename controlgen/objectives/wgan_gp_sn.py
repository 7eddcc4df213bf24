"""Wasserstein loss with gradient penalty, under spectral norm as well.

The penalty is that of Gulrajani et al. 2017, the norm that of Miyato et al. 2018.
"""

from typing import Literal

from pydantic import Field

from controlgen.objectives.base import Normalised
from controlgen.objectives.wasserstein import PenalisedWasserstein


class WGANGPSN(PenalisedWasserstein):
    """The penalty pulls the critic's slope to 1; spectral norm bounds it from above everywhere."""

    kind: Literal["wgan-gp-sn"] = "wgan-gp-sn"
    normalised: Literal["critic", "both"] = Field("critic", description="under spectral norm")

    @property
    def spectral_norm(self) -> Normalised:
        """The critic, or the generator too."""
        return self.normalised
