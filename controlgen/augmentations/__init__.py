"""What the critic is shown instead of the plain images, and an encoder's views of them.

The unions are the registries.
"""

from typing import Annotated

from pydantic import Field

from controlgen.augmentations.base import Augmentation
from controlgen.augmentations.critic import Adaptive, Dihedral, NoAugment, Scheduled
from controlgen.augmentations.views import AnyViews, DigitViews, TissueViews, Views

AnyAugment = Annotated[NoAugment | Dihedral | Scheduled | Adaptive, Field(discriminator="kind")]

__all__ = [
    "Adaptive",
    "AnyAugment",
    "AnyViews",
    "Augmentation",
    "DigitViews",
    "Dihedral",
    "NoAugment",
    "Scheduled",
    "TissueViews",
    "Views",
]
