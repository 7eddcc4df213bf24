"""What is measured on an image by formula alone. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.attributes.base import Attributes
from controlgen.attributes.strokes import Strokes
from controlgen.attributes.tissue import Tissue

AnyAttributes = Annotated[Strokes | Tissue, Field(discriminator="kind")]

__all__ = ["AnyAttributes", "Attributes", "Strokes", "Tissue"]
