"""Wasserstein loss under spectral norm (Miyato et al., ICLR 2018, arXiv:1802.05957)."""

from typing import Literal

from pydantic import Field

from controlgen.objectives.base import Normalised
from controlgen.objectives.wasserstein import Wasserstein


class WGANSN(Wasserstein):
    """The critic's slope is bounded by its weight matrices alone."""

    kind: Literal["wgan-sn"] = "wgan-sn"
    normalised: Literal["critic", "both"] = Field("critic", description="under spectral norm")

    @property
    def spectral_norm(self) -> Normalised:
        """The critic, or the generator too."""
        return self.normalised
