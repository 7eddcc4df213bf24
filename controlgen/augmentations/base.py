"""The protocol of augmentations for the training loop."""

from typing import Protocol

import torch
from torch import Tensor

from controlgen.types import Shape


class Augmentation(Protocol):
    """Transforms of the critic's inputs: Images (n c h w) -> Images of the same shape.

    Differentiable, and exactly the identity for images that are not selected. The amount of numbers
    drawn from `rng` (a CPU generator) depends on n alone, never on `p`.
    """

    def check(self, shape: Shape) -> None:
        """Raise Incompatible if images of this shape (c h w) cannot be augmented."""

    def probability(self, burn_in: float, p: float) -> float:
        """The p (0..1) of a step at this share of the burn-in; `p` is the adaptive state."""

    def updated_probability(self, p: float, ordering: float, images: int) -> float:
        """The adaptive state after a step of `images` images.

        `ordering` is the mean of sign(D(x) - D(G(z))), -1..1.
        """

    def augment_real(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor: ...

    def augment_fake(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor: ...
