"""What every augmentation offers to the training loop."""

from typing import Protocol

import torch
from torch import Tensor

from controlgen.types import Shape


class Augmentation(Protocol):
    """Transforms of what the critic sees: Images (n c h w) in, Images of that shape out.

    Differentiable, and the identity, exactly, for the images that chance leaves alone. How many
    numbers are drawn from `rng` (a CPU generator) depends on n alone, never on `p`.
    """

    def check(self, shape: Shape) -> None:
        """Raise Incompatible where images of this shape (c h w) cannot be augmented."""

    def probability(self, burn_in: float, p: float) -> float:
        """The p (0..1) of a step at this share of the burn-in, where `p` is the one carried on."""

    def updated_probability(self, p: float, ordering: float, images: int) -> float:
        """The p to carry on after a step of `images` images whose pairs were ordered so well.

        `ordering` is the mean of sign(D(x) - D(G(z))), -1..1.
        """

    def augment_real(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor: ...

    def augment_fake(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor: ...
