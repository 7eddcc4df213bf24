"""What the critic is shown instead of the plain images. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.augmentations.base import Augmentation
from controlgen.augmentations.kinds import Adaptive, Dihedral, NoAugment, Scheduled

AnyAugment = Annotated[NoAugment | Dihedral | Scheduled | Adaptive, Field(discriminator="kind")]

__all__ = ["Adaptive", "AnyAugment", "Augmentation", "Dihedral", "NoAugment", "Scheduled"]
