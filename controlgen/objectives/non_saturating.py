"""The non-saturating loss (Goodfellow et al., NeurIPS 2014, arXiv:1406.2661, section 3)."""

from typing import Literal

from torch import Tensor
from torch.nn.functional import softplus

from controlgen.objectives.base import Critic
from controlgen.objectives.classic import Classic


class NonSaturating(Classic):
    """The generator maximises log sigmoid(D(G(z))): its slope stays where fakes are found."""

    kind: Literal["non-saturating"] = "non-saturating"

    def generator_loss(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """-log sigmoid(D(G(z))) = sp(-D(G(z))), per image (n)."""
        return softplus(-critic(fake))
