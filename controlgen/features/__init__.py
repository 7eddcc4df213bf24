"""Feature spaces, one family per file. The union of settings is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.features.base import ClassifierSpace, FeatureSpace, TextSpace, UnnormalizedSpace
from controlgen.features.efficientnet import EfficientNetLite0Config
from controlgen.features.inception import InceptionV3Config
from controlgen.features.lpips import LpipsConfig
from controlgen.features.open_clip import OpenClipConfig, OpenClipSpace
from controlgen.features.self_supervised import SelfSupervisedConfig

AnyFeatureSpace = Annotated[
    OpenClipConfig | EfficientNetLite0Config | InceptionV3Config | SelfSupervisedConfig,
    Field(discriminator="kind"),
]

__all__ = [
    "AnyFeatureSpace",
    "ClassifierSpace",
    "EfficientNetLite0Config",
    "FeatureSpace",
    "InceptionV3Config",
    "LpipsConfig",
    "OpenClipConfig",
    "OpenClipSpace",
    "SelfSupervisedConfig",
    "TextSpace",
    "UnnormalizedSpace",
]
