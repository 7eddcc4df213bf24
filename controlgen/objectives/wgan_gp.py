"""Wasserstein loss with gradient penalty (Gulrajani et al., NeurIPS 2017, arXiv:1704.00028)."""

from typing import Literal

from controlgen.objectives.wasserstein import PenalisedWasserstein


class WGANGP(PenalisedWasserstein):
    """Several critic steps per generator step; the critic's slope is held at 1 between the data."""

    kind: Literal["wgan-gp"] = "wgan-gp"
