"""Procedural data sets of captioned images, one a package. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.synthetic.base import CaptionedBatch, SyntheticDataset
from controlgen.synthetic.digits import SyntheticDigits
from controlgen.synthetic.tissue import SyntheticTissue

AnySynthetic = Annotated[SyntheticDigits | SyntheticTissue, Field(discriminator="kind")]

__all__ = [
    "AnySynthetic",
    "CaptionedBatch",
    "SyntheticDataset",
    "SyntheticDigits",
    "SyntheticTissue",
]
