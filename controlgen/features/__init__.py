"""Feature spaces, one family a file. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.features.base import FeatureSpace, TextSpace
from controlgen.features.efficientnet import EfficientNetLite0
from controlgen.features.open_clip import OpenClip, OpenClipSpace

AnyFeatureSpace = Annotated[OpenClip | EfficientNetLite0, Field(discriminator="kind")]

__all__ = [
    "AnyFeatureSpace",
    "EfficientNetLite0",
    "FeatureSpace",
    "OpenClip",
    "OpenClipSpace",
    "TextSpace",
]
