"""Perceptual distance of two images: between feature maps instead of pixels.

Equation 1 of Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual
Metric", with every channel weight 1. Their LPIPS has weights learned from human judgements, on
AlexNet or VGG: PD-efficientnet-lite0 is not LPIPS, and its values are not comparable.
`open_distance` opens either.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from controlgen.errors import Incompatible
from controlgen.features import EfficientNetLite0Config, LpipsConfig
from controlgen.features.base import TorchSpace
from controlgen.images import to_signed_float
from controlgen.types import Pixels

NAME = "PD-efficientnet-lite0"
TINY = 1e-10  # added to lengths, so that a vector of zeros stays zero
BATCH = 64  # pairs at once


def feature_map_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Feature maps (n c h w) of both sides, layer by layer -> distances (n), 0..4.

    Channel vectors are scaled to unit length at every position; their squared difference is summed
    over channels, averaged over positions and then over layers.
    """
    layers = []
    for left, right in zip(a, b, strict=True):
        units = [maps / (maps.norm(dim=1, keepdim=True) + TINY) for maps in (left, right)]
        layers.append((units[0] - units[1]).square().sum(1).mean((1, 2)))
    return torch.stack(layers).mean(0)


class ImageDistance:
    """A named perceptual distance between pairs of images.

    `between` maps two sides of Images (n 1|3 h w) to distances (n) through `network`, on its
    device.
    """

    def __init__(
        self, name: str, network: nn.Module, between: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        self.name = name
        self._network, self._between = network, between

    def distance(self, a: Pixels, b: Pixels) -> NDArray[np.float64]:
        """Distance of each pair of images (n c h w): (n), 0 where they are the same.

        Raises Incompatible where the two sides differ in shape.
        """
        if a.shape != b.shape:
            raise Incompatible(
                f"{self.name}: compares images pair by pair, not {a.shape} with {b.shape}"
            )
        rows = [np.empty(0)]
        for first in range(0, len(a), BATCH):
            part = slice(first, first + BATCH)
            rows.append(self._rows(to_signed_float(a[part]), to_signed_float(b[part])))
        return np.concatenate(rows)

    def image_distance(
        self, a: NDArray[np.floating], b: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """The distance between Images (n c h w) in -1..1 without rounding to bytes: (n)."""
        return self._rows(*(torch.from_numpy(np.asarray(side, np.float32)) for side in (a, b)))

    def _rows(self, *sides: Tensor) -> NDArray[np.float64]:
        device = next(self._network.parameters()).device
        with torch.no_grad():
            distances = self._between(*(side.to(device) for side in sides))
        return np.asarray(distances.double().cpu().numpy())


class PerceptualDistance(ImageDistance):
    """PD-efficientnet-lite0: the five stages of ImageNet's EfficientNet-Lite0, at 1/2 to 1/32.

    Images of any size are resized to `image_size` first, by the feature space's own preprocessing.
    Construction reads the weights: create it once. Raises what the feature space raises.
    """

    def __init__(self, image_size: int = 128) -> None:
        self._space: TorchSpace = EfficientNetLite0Config(image_size=image_size).open()
        super().__init__(
            NAME,
            self._space.network,
            lambda a, b: feature_map_distance(self.maps(a), self.maps(b)),
        )

    def maps(self, images: Tensor) -> list[Tensor]:
        """Images (n 1|3 h w) in -1..1 -> five feature maps (n c h w), differentiable."""
        self._space.network.to(images.device)
        network: object = self._space.network
        maps: list[Tensor] = network.forward_intermediates(  # type: ignore[attr-defined]
            self._space.preprocessing.apply(images), intermediates_only=True
        )
        return maps


def open_distance(lpips: LpipsConfig | None, image_size: int = 128) -> ImageDistance:
    """LPIPS if it is configured, else PD-efficientnet-lite0. Raises what opening either raises."""
    if lpips is None:
        return PerceptualDistance(image_size)
    network = lpips.open()
    return ImageDistance(lpips.name, network, network)
