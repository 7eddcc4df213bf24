"""Procedural worlds of captioned images, one a file. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.worlds.base import Captioned, World
from controlgen.worlds.glyphs import Glyphs
from controlgen.worlds.tissue import Tissue

AnyWorld = Annotated[Glyphs | Tissue, Field(discriminator="kind")]

__all__ = ["AnyWorld", "Captioned", "Glyphs", "Tissue", "World"]
