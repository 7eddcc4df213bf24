"""None, poses for data without an up, and the gated set with p on a schedule or adaptive.

The gated set follows Karras et al., NeurIPS 2020, "Training Generative Adversarial Networks with
Limited Data" (arXiv:2006.06676), and like Zhao et al. 2020 (arXiv:2006.10738) it acts on reals and
fakes alike, in the critic's step and in the generator's, with gradients through it.

Why it does not leak. Each transform is the identity with probability 1 - p. A uniform draw from a
group of moves is a projection of the distribution over poses, so the mixture has the eigenvalues 1
and 1 - p, and for every p < 1 only one distribution of plain images fits the augmented ones. The
other transforms T are contractions of distributions, and (1 - p) + p T can be undone for every
p < 1/2 whatever T loses; above it the paper finds no leak in practice below p = 0.8.

Gradient penalties are taken where the critic is: with respect to the augmented image. Moves without
translation only permute pixels, so the norm of the gradient is that of the plain image.
"""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from controlgen.augmentations.colour import AnyColour, NoColour
from controlgen.augmentations.geometry import POSES, apply_pose_and_shift
from controlgen.base_config import BaseConfig
from controlgen.schedules import CosineSchedule
from controlgen.types import Shape

GATES, AMOUNTS = 6, 7  # flip, turns, translation, 3 of colour; translation needs two amounts


def random_poses(images: Tensor, rng: torch.Generator) -> Tensor:
    """Every image in one of the eight poses of a square, evenly; Images (n c s s) -> the same."""
    pose = torch.randint(len(POSES), (len(images),), generator=rng)
    return apply_pose_and_shift(images, pose, torch.zeros(len(images), 2, dtype=torch.int64))


class NoAugment(BaseConfig):
    """The critic sees the images; nothing is drawn."""

    kind: Literal["none"] = "none"

    def check(self, shape: Shape) -> None:
        """Any shape."""

    def probability(self, burn_in: float, p: float) -> float:
        """Always 0."""
        return 0.0

    def updated_probability(self, p: float, ordering: float, images: int) -> float:
        """p as it is."""
        return p

    def augment_real(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor:
        """The images themselves."""
        return images

    def augment_fake(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor:
        """The images themselves."""
        return images


class DihedralAugment(BaseConfig):
    """Every real image in a random pose, fakes as they are: eight times the data.

    For subjects without an up, such as tissue. It is meant to be learned: the generator makes every
    pose. For subjects with an up, take flips and turns with p < 1 on both sides instead.
    """

    kind: Literal["dihedral"] = "dihedral"

    def check(self, shape: Shape) -> None:
        """Any square image."""

    def probability(self, burn_in: float, p: float) -> float:
        """Always 1."""
        return 1.0

    def updated_probability(self, p: float, ordering: float, images: int) -> float:
        """p as it is."""
        return p

    def augment_real(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor:
        """Each image in one of its eight poses."""
        return random_poses(images, rng)

    def augment_fake(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor:
        """The images themselves."""
        return images


class ProbabilisticAugment(BaseConfig):
    """Transforms that each act on each image with probability p, on reals and fakes alike."""

    flips: bool = Field(True, description="mirror left-right, in half of the chosen images")
    turns: bool = Field(True, description="0 to 3 quarter turns")
    translate: float = Field(0.125, ge=0, le=0.5, description="most, as a share of the side")
    colour: AnyColour = NoColour()
    free_poses: bool = Field(False, description="reals in any pose first: the data has no up")

    def check(self, shape: Shape) -> None:
        """Raise Incompatible where the colour jitter needs other channels."""
        self.colour.check(shape[0])

    def augment_real(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor:
        """The real images as the critic sees them."""
        return self.augment_fake(random_poses(images, rng) if self.free_poses else images, p, rng)

    def augment_fake(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor:
        """The generated images as the critic sees them."""
        # One table of uniform numbers, of one size whatever p is.
        table = torch.rand(len(images), GATES + AMOUNTS, generator=rng, dtype=torch.float64)
        open_gate, amount = table[:, :GATES] < p, table[:, GATES:]

        # A closed gate leaves the identity: upright, unmoved, colours as they are.
        flip = open_gate[:, 0] & (amount[:, 0] < 0.5) & self.flips
        quarters = (amount[:, 1] * 4).long() * (open_gate[:, 1] & self.turns)
        most = round(self.translate * images.shape[-1])
        shift = ((amount[:, 2:4] * (2 * most + 1)).long() - most) * open_gate[:, 2:3]
        moved = apply_pose_and_shift(images, 4 * flip.long() + quarters, shift)
        return self.colour.apply(moved, (2 * amount[:, 4:] - 1) * open_gate[:, 3:])


class ScheduledAugment(ProbabilisticAugment):
    """p moves along the burn-in's half cosine; one number stands for a fixed p."""

    kind: Literal["scheduled"] = "scheduled"
    p: CosineSchedule = CosineSchedule(start=0.0, end=0.3)

    @model_validator(mode="after")
    def _probabilities(self) -> Self:
        if not (0 <= self.p.start <= 1 and 0 <= self.p.end <= 1):
            raise ValueError("p is a probability: both ends in 0..1")
        return self

    def probability(self, burn_in: float, p: float) -> float:
        """The schedule's value."""
        return self.p.at(burn_in)

    def updated_probability(self, p: float, ordering: float, images: int) -> float:
        """p as it is; the schedule decides."""
        return p


class AdaptiveAugment(ProbabilisticAugment):
    """p rises while the critic orders its pairs too well, and falls while it does not.

    Karras et al. steer by r_t = E[sign(D(x))] over the reals. That has no meaning here: the losses
    compare scores, so D + constant is the same critic and D(x) has no zero. What is invariant, and
    is the logit of the relativistic game's own question "is x more real than G(z)?", is the gap
    D(x) - D(G(z)) of a pair. So the sign of the gap takes the place of the sign of D(x):
    r = E[sign(D(x) - D(G(z)))] = 2 (share of pairs ordered rightly) - 1. It is 0 for a critic
    that guesses and 1 for one that has learned its reals by heart; the target 0.6 of the paper
    means four pairs in five. Like r_t it is blind to why the critic wins: a generator that is
    merely poor raises p too.

    After every step p moves in proportion to r - target, so fast that a critic which orders every
    pair rightly takes it from 0 to 1 in `images_to_one` images (500 k in the paper). The paper
    averages four batches and moves by a sign. A sign would settle where the median of a batch is
    on target, and in a small batch that is not where the mean is (p = 0.58 for 0.50 at 16 pairs);
    in proportion it needs no average, and p is all there is to save.
    """

    kind: Literal["adaptive"] = "adaptive"
    target: float = Field(0.6, gt=-1, lt=1, description="mean sign of D(x) - D(G(z)) aimed at")
    images_to_one: int = Field(500_000, ge=1, description="images p takes to 1 at r = 1")
    most_p: float = Field(0.8, gt=0, le=1, description="p stays below, so that nothing leaks")

    def probability(self, burn_in: float, p: float) -> float:
        """The p carried on."""
        return p

    def updated_probability(self, p: float, ordering: float, images: int) -> float:
        """p + (ordering - target) / (1 - target) images / images_to_one, kept in 0..most_p."""
        speed = (ordering - self.target) / (1 - self.target)
        return min(max(p + speed * images / self.images_to_one, 0.0), self.most_p)
