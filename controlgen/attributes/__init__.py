"""Image attributes measured by closed formulas. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.attributes.base import Attributes
from controlgen.attributes.strokes import StrokeAttributes
from controlgen.attributes.tissue import TissueAttributes

AnyAttributes = Annotated[StrokeAttributes | TissueAttributes, Field(discriminator="kind")]

__all__ = ["AnyAttributes", "Attributes", "StrokeAttributes", "TissueAttributes"]
