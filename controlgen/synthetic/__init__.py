"""Procedural worlds of captioned images, one a file. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.synthetic.base import CaptionedBatch, SyntheticDataset
from controlgen.synthetic.digits.dataset import SyntheticDigits
from controlgen.synthetic.tissue.dataset import SyntheticTissue

AnySynthetic = Annotated[SyntheticDigits | SyntheticTissue, Field(discriminator="kind")]

__all__ = [
    "AnySynthetic",
    "CaptionedBatch",
    "SyntheticDigits",
    "SyntheticTissue",
    "SyntheticDataset",
]
