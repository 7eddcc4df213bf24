"""Feature spaces, one family a file. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.features.base import ClassSpace, FeatureSpace, RawSpace, TextSpace
from controlgen.features.efficientnet import EfficientNetLite0
from controlgen.features.inception import InceptionV3
from controlgen.features.lpips import Lpips
from controlgen.features.open_clip import OpenClip, OpenClipSpace
from controlgen.features.self_supervised import SelfSupervised

AnyFeatureSpace = Annotated[
    OpenClip | EfficientNetLite0 | InceptionV3 | SelfSupervised, Field(discriminator="kind")
]

__all__ = [
    "AnyFeatureSpace",
    "ClassSpace",
    "EfficientNetLite0",
    "FeatureSpace",
    "InceptionV3",
    "Lpips",
    "OpenClip",
    "OpenClipSpace",
    "RawSpace",
    "SelfSupervised",
    "TextSpace",
]
