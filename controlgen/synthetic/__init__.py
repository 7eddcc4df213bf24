"""Procedural worlds of captioned images, one a file. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.synthetic.base import Captioned, World
from controlgen.synthetic.digits.dataset import Glyphs
from controlgen.synthetic.tissue.dataset import Tissue

AnyWorld = Annotated[Glyphs | Tissue, Field(discriminator="kind")]

__all__ = ["AnyWorld", "Captioned", "Glyphs", "Tissue", "World"]
