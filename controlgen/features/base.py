"""What a feature space is, and the embedding of images that all of them share."""

import hashlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from controlgen.features.preprocessing import Preprocessing, unit_rows
from controlgen.images import to_unit
from controlgen.types import Features, Pixels


class FeatureSpace(Protocol):
    """Images to unit vectors. It owns resizing, colour and normalisation."""

    @property
    def size(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    def embed(self, pixels: Pixels, batch_size: int = 256) -> Features: ...

    def embed_images(self, images: Tensor) -> Tensor: ...


class TextSpace(FeatureSpace, Protocol):
    """A feature space in which sentences live as well."""

    def embed_text(self, texts: list[str]) -> Features: ...


class TorchSpace:
    """A frozen network behind its own preprocessing.

    `encode` maps what `preprocessing` makes, float (n 3 H W), to features (n d) through `network`.
    The network goes to the device of the last images it was given.
    """

    def __init__(
        self,
        network: nn.Module,
        encode: Callable[[Tensor], Tensor],
        preprocessing: Preprocessing,
    ) -> None:
        # Convolutions run about 1.7 times faster on a CPU with the channels innermost.
        frozen: Any = network.eval().requires_grad_(False)
        self.network: nn.Module = frozen.to(memory_format=torch.channels_last)
        self.encode = encode
        self.preprocessing = preprocessing
        self.fingerprint = fingerprint(network, preprocessing)
        self.size = int(self.embed_images(torch.zeros(1, 3, *preprocessing.size)).shape[1])

    def embed_images(self, images: Tensor) -> Tensor:
        """Images (n 1|3 h w) in -1..1, any device -> unit rows float32 (n d), differentiable."""
        self.network.to(images.device)
        return unit_rows(self.encode(self.preprocessing.apply(images)))

    def embed(self, pixels: Pixels, batch_size: int = 256) -> Features:
        """Pixels (n 1|3 h w) of any size -> Features (n d), `batch_size` at a time."""
        device = next(self.network.parameters()).device
        rows = np.empty((len(pixels), self.size), np.float32)
        with torch.no_grad():
            for first in range(0, len(pixels), batch_size):
                part = slice(first, first + batch_size)
                rows[part] = self.embed_images(to_unit(pixels[part]).to(device)).cpu().numpy()
        return rows


def fingerprint(network: nn.Module, preprocessing: Preprocessing) -> str:
    """12 hex digits of SHA-256 over all weights (name, shape, float32 bytes) and preprocessing."""
    digest = hashlib.sha256(preprocessing.fingerprint().encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
