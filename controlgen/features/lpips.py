"""LPIPS, the learned perceptual distance of Zhang et al. 2018, as torchmetrics computes it.

Distances between the feature maps of an ImageNet network, weighted to match human judgements. The
weighting comes with torchmetrics; the networks' weights are torchvision's.
"""

import re
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from controlgen.base_config import BaseConfig, runtime_field
from controlgen.errors import ArtifactCorrupt, ArtifactMissing, ConfigError, Incompatible
from controlgen.features._download import download, sha256_of_weights
from controlgen.features._torchvision import ensure_torchvision
from controlgen.images import tensor_to_channels

Net = Literal["alex", "vgg", "squeeze"]
SERVER = "https://download.pytorch.org/models/"
# The eight digits before ".pth" are the SHA-256's first.
FILES: dict[Net, str] = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
SLICE = re.compile(r"slice(s\.)?\d+\.")
LEAST: dict[Net, int] = {"alex": 31, "vgg": 16, "squeeze": 17}  # pixels per side


class LpipsConfig(BaseConfig):
    """LPIPS by `net`. `weights`: the folder of its file, named as in FILES.

    By default torch's cache is used, and missing weights are downloaded once.
    """

    net: Net = "alex"
    weights: Path | None = runtime_field(None)

    @property
    def name(self) -> str:
        """The name of metrics with this distance."""
        return f"LPIPS-{self.net}"

    def open(self) -> "LpipsNetwork":
        """Build the network. Raises ConfigError if torchmetrics is not installed,
        ArtifactMissing or ArtifactCorrupt for the weights.
        """
        return LpipsNetwork(self.net, _network(self.net, self._file()))

    def _file(self) -> Path:
        file = FILES[self.net]
        if self.weights is None:
            advice = "name the folder that holds it as `weights` (score: --lpips-weights)"
            return download(SERVER + file, _expected_sha256(file), self.name, advice)
        path = self.weights / file
        if not path.is_file():
            raise ArtifactMissing(
                f"{self.name}: {self.weights} holds no {file}; fetch it from {SERVER}{file}"
            )
        return path


class LpipsNetwork(nn.Module):
    """Pairs of Images (n 1|3 h w) -> distances (n), differentiable; nothing is resized."""

    def __init__(self, net: Net, network: nn.Module) -> None:
        super().__init__()
        self.net, self.network = net, network

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Values outside -1..1 are clipped, as when stored as Pixels.

        Raises Incompatible if images are smaller than the network allows.
        """
        least, (height, width) = LEAST[self.net], a.shape[2:]
        if min(height, width) < least:
            raise Incompatible(
                f"LPIPS-{self.net}: sees images of {least} x {least} pixels or more, not "
                f"{height} x {width}; choose another net ({', '.join(LEAST)}) or larger images"
            )
        sides = (tensor_to_channels(side.float().clamp(-1, 1), 3) for side in (a, b))
        distances: Tensor = self.network(*sides)
        return distances.flatten()


def _network(net: Net, path: Path) -> nn.Module:
    # torchmetrics' own loader would unpickle files in the cache, so the backbone is filled here.
    ensure_torchvision()
    try:
        from torchmetrics.functional.image.lpips import _NoTrainLpips
    except ImportError:
        raise ConfigError("LPIPS needs torchmetrics: pip install 'controlgen[lpips]'") from None
    stored = _read(path)
    network: nn.Module = _NoTrainLpips(net=net, pnet_rand=True)
    backbone: Any = network.net

    # "slice2.3.weight" there (of squeeze "slices.1.3.weight") is "features.3.weight" on disk.
    names = {name: SLICE.sub("features.", name) for name in backbone.state_dict()}
    try:
        backbone.load_state_dict({name: stored[source] for name, source in names.items()})
    except (KeyError, RuntimeError):
        raise ArtifactCorrupt(f"{path}: holds other weights than LPIPS-{net}'s") from None
    return network


def _read(path: Path) -> dict[str, Tensor]:
    # torch's own archive is opened as tensors only, and only if it is the published one.
    if not sha256_of_weights(path, "LPIPS").startswith(_expected_sha256(path.name)):
        raise ArtifactCorrupt(f"{path}: not the published {path.name}; remove it and fetch it anew")
    stored: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return stored


def _expected_sha256(file: str) -> str:
    return file.removesuffix(".pth").rpartition("-")[2]
