"""The minimax loss (Goodfellow et al., NeurIPS 2014, arXiv:1406.2661, eq. 1)."""

from typing import Literal

from torch import Tensor
from torch.nn.functional import softplus

from controlgen.objectives.base import Critic
from controlgen.objectives.classic import Classic


class Minimax(Classic):
    """The generator minimises what the critic maximises: its slope dies where fakes are found."""

    kind: Literal["minimax"] = "minimax"

    def generator_loss(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """log(1 - sigmoid(D(G(z)))) = -sp(D(G(z))), per image (n)."""
        return -softplus(critic(fake))
