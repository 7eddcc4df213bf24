"""How a source's stain is brought to a reference, one way a file. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.stains.base import Stain, StainProfile
from controlgen.stains.macenko import Macenko
from controlgen.stains.none import NoStain
from controlgen.stains.reinhard import Reinhard

AnyStain = Annotated[NoStain | Macenko | Reinhard, Field(discriminator="kind")]

__all__ = ["AnyStain", "Macenko", "NoStain", "Reinhard", "Stain", "StainProfile"]
