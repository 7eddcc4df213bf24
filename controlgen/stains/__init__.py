"""Stain normalisation, one method a module. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.stains.base import Stain, StainProfile
from controlgen.stains.macenko import Macenko
from controlgen.stains.none import NoStain
from controlgen.stains.reinhard import Reinhard

AnyStain = Annotated[NoStain | Macenko | Reinhard, Field(discriminator="kind")]

__all__ = ["AnyStain", "Macenko", "NoStain", "Reinhard", "Stain", "StainProfile"]
