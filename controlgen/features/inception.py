"""The Inception-v3 that defines FID, KID and the Inception Score, in torchvision's blocks.

Szegedy et al. 2016, "Rethinking the Inception Architecture", as TensorFlow's graph of 2015-12-05
computes it: average pools exclude the padding, and the last block pools by maximum (as in pytorch-
fid and torch-fidelity, whose tensor names are used). 1008 outputs.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as functional
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from controlgen.base_config import BaseConfig
from controlgen.errors import ArtifactCorrupt, ArtifactMissing
from controlgen.features._download import cache_path, download, sha256_of_weights
from controlgen.features._torchvision import ensure_torchvision
from controlgen.features.base import TorchClassifierSpace, TorchSpace
from controlgen.features.preprocessing import Preprocessing

FILE = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
# Files on disk known to hold the same weights: up to Mixed_7a, batch norm folded.
SAME_WEIGHTS = ("9b8fbca37d1102eb9810b0cc3f582e9c277824141b5793a5dccc1a4bc424993e",)
CLASSES = 1008
FULL_SIZE = 2048  # features of the complete network
AT_ONCE = 32  # images of 299 x 299 in memory at once
LAYERS: dict[int, tuple[str, ...]] = {
    64: ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1"),
    192: ("Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"),
    768: tuple(f"Mixed_{name}" for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e")),
    2048: ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
}
AVERAGING = tuple(f"Mixed_{name}" for name in ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b"))


class InceptionV3Config(BaseConfig):
    """`features` pooled features of an image resized to 299 pixels per side, as TensorFlow 1
    did.

    `weights`: a safetensors file, or the standard .pth; it must reach as far as `features`. By
    default the standard weights (95 MB) are taken from torch's cache and downloaded once. Only the
    2048 features are FID's, and only they predict classes.
    """

    kind: Literal["inception-v3"] = "inception-v3"
    features: Literal[64, 192, 768, 2048] = 2048
    weights: Path | None = None

    @property
    def name(self) -> str:
        """The name of metrics in this space.

        Features other than FID's add their number, and non-standard weights their file name.
        """
        sized = self.kind if self.features == FULL_SIZE else f"{self.kind}-{self.features}"
        is_standard = self.weights is None or sha256_of_weights(self.weights, self.kind) in (
            SHA256,
            *SAME_WEIGHTS,
        )
        return sized if is_standard or self.weights is None else f"{sized}-{self.weights.stem}"

    def open(self, search: Sequence[Path] = ()) -> TorchSpace:
        """Build the network up to `features`.

        Raises ArtifactMissing if weights cannot be read or downloaded, ArtifactCorrupt if they do
        not reach `features` or differ from what is expected.
        """
        stored = _read(self.weights) if self.weights is not None else _standard()
        network = _network(self.features)
        _copy(network, stored, self._source)
        shade = (128 / 255,) * 3
        preprocessing = Preprocessing(
            size=(299, 299),
            mean=shade,
            std=shade,
            interpolation="bilinear-tensorflow1",
            resize_mode="squash",
        )

        def encode(images: Tensor) -> Tensor:
            maps: Tensor = network(images)
            return maps.mean((2, 3))

        # The score of Salimans et al. leaves the bias of the logits out, and so do all since.
        weight = stored.get("fc.weight")
        if self.features < 2048 or weight is None:
            return TorchSpace(network, encode, preprocessing, AT_ONCE)
        if tuple(weight.shape) != (CLASSES, 2048):
            raise ArtifactCorrupt(
                f"{self._source}: fc.weight is {tuple(weight.shape)}, not ({CLASSES}, 2048); give "
                "the FID weights, not torchvision's"
            )
        logits: Tensor = weight.float().T
        return TorchClassifierSpace(
            network, encode, preprocessing, lambda raw: raw @ logits, AT_ONCE
        )

    @property
    def _source(self) -> str:
        return str(self.weights or cache_path(URL))


def _network(features: int) -> nn.Module:
    ensure_torchvision()
    from torchvision.models.inception import Inception3

    inception: Any = Inception3(
        num_classes=1, aux_logits=False, transform_input=False, init_weights=False
    )
    for name in AVERAGING:
        _pool_otherwise(getattr(inception, name), _mean_inside)
    _pool_otherwise(inception.Mixed_7c, lambda maps: functional.max_pool2d(maps, 3, 1, 1))
    chosen = [name for size, names in LAYERS.items() if size <= features for name in names]
    return nn.Sequential(OrderedDict((name, getattr(inception, name)) for name in chosen))


def _pool_otherwise(block: Any, pool: Callable[[Tensor], Tensor]) -> None:
    # torchvision's block lists its branches, the pooled one last; that one is replaced.
    branches = block._forward
    block._forward = lambda maps: [*branches(maps)[:-1], block.branch_pool(pool(maps))]


def _mean_inside(maps: Tensor) -> Tensor:
    return functional.avg_pool2d(maps, 3, 1, 1, count_include_pad=False)


def _copy(network: nn.Module, stored: dict[str, Tensor], source: str) -> None:
    # Counts of training batches have no effect here, and not every file has them.
    tensor_names = [
        name for name in network.state_dict() if not name.endswith("num_batches_tracked")
    ]
    absent = [name for name in tensor_names if name not in stored]
    if absent:
        reached = [size for size, names in LAYERS.items() if _holds(stored, names)]
        advice = f"set features = {reached[-1]}" if reached else "give the FID weights"
        raise ArtifactCorrupt(
            f"{source}: lacks {absent[0]}; {advice}, or name a file that holds it"
        )
    try:
        network.load_state_dict({name: stored[name] for name in tensor_names}, strict=False)
    except RuntimeError:
        raise ArtifactCorrupt(
            f"{source}: its tensors have other shapes than Inception-v3's; give the FID weights"
        ) from None


def _holds(stored: dict[str, Tensor], layers: Sequence[str]) -> bool:
    prefixes = {name.partition(".")[0] for name in stored}
    return all(name in prefixes or name.startswith("maxpool") for name in layers)


def _standard() -> dict[str, Tensor]:
    advice = "name a file that holds them as `weights`"
    return _read(download(URL, SHA256, "inception-v3", advice))


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise ArtifactMissing(f"{path}: no such file; name the weights of inception-v3")
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ArtifactCorrupt(f"{path}: no safetensors file ({error}); copy it again") from None

    # torch's own archive is opened as tensors only, and only if its hash is known.
    if sha256_of_weights(path, "inception-v3") != SHA256:
        raise ArtifactCorrupt(
            f"{path}: not {FILE}, and any other pickle is never opened; remove it, or give a "
            "safetensors file"
        )
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors
