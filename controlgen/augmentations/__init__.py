"""Augmentation of the critic's images, and random views for an encoder.

The unions are the registries.
"""

from typing import Annotated

from pydantic import Field

from controlgen.augmentations.base import Augmentation
from controlgen.augmentations.critic import (
    AdaptiveAugment,
    DihedralAugment,
    NoAugment,
    ScheduledAugment,
)
from controlgen.augmentations.views import AnyViews, DigitViews, TissueViews, Views

AnyAugment = Annotated[
    NoAugment | DihedralAugment | ScheduledAugment | AdaptiveAugment, Field(discriminator="kind")
]

__all__ = [
    "AdaptiveAugment",
    "AnyAugment",
    "AnyViews",
    "Augmentation",
    "DigitViews",
    "DihedralAugment",
    "NoAugment",
    "ScheduledAugment",
    "TissueViews",
    "Views",
]
