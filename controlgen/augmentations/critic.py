"""No augmentation, poses for data without orientation, and transforms with probability p.

The probabilistic transforms follow Karras et al., NeurIPS 2020, "Training Generative Adversarial
Networks with Limited Data" (arXiv:2006.06676), and like Zhao et al. 2020 (arXiv:2006.10738) they
act on reals and fakes alike, in the critic's step and in the generator's, with gradients through
them.

Why they do not leak. Each transform is the identity with probability 1 - p. A uniform draw from a
group of transforms is a projection of the distribution over poses, so the mixture has the
eigenvalues 1 and 1 - p, and for every p < 1 only one distribution of plain images fits the
augmented ones. The other transforms T are contractions of distributions, and (1 - p) + p T can be
undone for every p < 1/2 whatever T loses; above it the paper finds no leak in practice below
p = 0.8.

Gradient penalties are taken with respect to the augmented image. Transforms without translation
only permute pixels, so the norm of the gradient is that of the original image.
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

GATES, AMOUNTS = 6, 7  # flip, turns, translation, 3 of colour; translation has two amounts


def random_poses(images: Tensor, rng: torch.Generator) -> Tensor:
    """Each image in a uniformly random pose of a square; Images (n c s s) -> the same."""
    pose = torch.randint(len(POSES), (len(images),), generator=rng)
    return apply_pose_and_shift(images, pose, torch.zeros(len(images), 2, dtype=torch.int64))


class NoAugment(BaseConfig):
    """The images themselves; no random number is drawn."""

    kind: Literal["none"] = "none"

    def check(self, shape: Shape) -> None:
        """Any shape."""

    def probability(self, burn_in: float, p: float) -> float:
        """Always 0."""
        return 0.0

    def updated_probability(self, p: float, ordering: float, images: int) -> float:
        """p unchanged."""
        return p

    def augment_real(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor:
        """The images themselves."""
        return images

    def augment_fake(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor:
        """The images themselves."""
        return images


class DihedralAugment(BaseConfig):
    """Each real image in a random pose, fakes unchanged: eight times the data.

    For subjects without orientation, such as tissue; the generator learns every pose. For oriented
    subjects, use flips and turns with p < 1 on both sides instead.
    """

    kind: Literal["dihedral"] = "dihedral"

    def check(self, shape: Shape) -> None:
        """Any square image."""

    def probability(self, burn_in: float, p: float) -> float:
        """Always 1."""
        return 1.0

    def updated_probability(self, p: float, ordering: float, images: int) -> float:
        """p unchanged."""
        return p

    def augment_real(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor:
        """Each image in one of its eight poses."""
        return random_poses(images, rng)

    def augment_fake(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor:
        """The images themselves."""
        return images


class ProbabilisticAugment(BaseConfig):
    """Transforms that each apply to each image with probability p, on reals and fakes alike."""

    flips: bool = Field(True, description="mirror left-right, in half of the selected images")
    turns: bool = Field(True, description="0 to 3 quarter turns")
    translate: float = Field(
        0.125, ge=0, le=0.5, description="largest shift, as a share of the side"
    )
    colour: AnyColour = NoColour()
    free_poses: bool = Field(False, description="reals in random poses: data without orientation")

    def check(self, shape: Shape) -> None:
        """Raise Incompatible if the colour jitter needs other channels."""
        self.colour.check(shape[0])

    def augment_real(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor:
        """The real images as the critic sees them."""
        return self.augment_fake(random_poses(images, rng) if self.free_poses else images, p, rng)

    def augment_fake(self, images: Tensor, p: float, rng: torch.Generator) -> Tensor:
        """The generated images as the critic sees them."""
        # A table of uniform numbers whose size does not depend on p.
        table = torch.rand(len(images), GATES + AMOUNTS, generator=rng, dtype=torch.float64)
        open_gate, amount = table[:, :GATES] < p, table[:, GATES:]

        # A closed gate is the identity: upright, not shifted, colours unchanged.
        flip = open_gate[:, 0] & (amount[:, 0] < 0.5) & self.flips
        quarters = (amount[:, 1] * 4).long() * (open_gate[:, 1] & self.turns)
        largest = round(self.translate * images.shape[-1])
        shift = ((amount[:, 2:4] * (2 * largest + 1)).long() - largest) * open_gate[:, 2:3]
        images = apply_pose_and_shift(images, 4 * flip.long() + quarters, shift)
        return self.colour.apply(images, (2 * amount[:, 4:] - 1) * open_gate[:, 3:])


class ScheduledAugment(ProbabilisticAugment):
    """p follows a half cosine during the burn-in; a single number is a constant p."""

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
        """p unchanged; the schedule decides."""
        return p


class AdaptiveAugment(ProbabilisticAugment):
    """p rises while the critic orders its pairs too well, and falls otherwise.

    Karras et al. use r_t = E[sign(D(x))] over the reals. That is undefined here: the losses compare
    scores, so D + constant is the same critic and D(x) has no zero. The logit gap D(x) - D(G(z)) of
    a pair is invariant, so its sign replaces the sign of D(x):
    r = E[sign(D(x) - D(G(z)))] = 2 (share of correctly ordered pairs) - 1. It is 0 for a critic
    that guesses and 1 for one that has memorised its reals; the paper's target 0.6 means four pairs
    in five. Like r_t it ignores why the critic wins: a poor generator raises p too.

    After every step p changes in proportion to r - target, at a rate that takes it from 0 to 1 in
    `images_to_one` images (500 k in the paper) if every pair is ordered correctly. The paper
    averages four batches and uses a sign. A sign would settle where the median of a batch is on
    target, and in a small batch the mean is elsewhere (p = 0.58 for 0.50 at 16 pairs); the
    proportional rule needs no average, and p is the only state.
    """

    kind: Literal["adaptive"] = "adaptive"
    target: float = Field(0.6, gt=-1, lt=1, description="target mean of sign(D(x) - D(G(z)))")
    images_to_one: int = Field(500_000, ge=1, description="images until p = 1 at r = 1")
    most_p: float = Field(0.8, gt=0, le=1, description="upper limit of p, against leaks")

    def probability(self, burn_in: float, p: float) -> float:
        """The adaptive state."""
        return p

    def updated_probability(self, p: float, ordering: float, images: int) -> float:
        """p + (ordering - target) / (1 - target) images / images_to_one, clipped to 0..most_p."""
        speed = (ordering - self.target) / (1 - self.target)
        return min(max(p + speed * images / self.images_to_one, 0.0), self.most_p)
