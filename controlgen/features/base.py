"""The interface of feature spaces, and the embedding of images that all of them share."""

import hashlib
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from controlgen.features.preprocessing import Preprocessing, unit_rows
from controlgen.images import to_signed_float
from controlgen.types import Features, Pixels


class FeatureSpace(Protocol):
    """Maps images to unit vectors. It owns resizing, colour and normalisation."""

    @property
    def size(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    def embed(self, pixels: Pixels, batch_size: int = 256) -> Features: ...

    def embed_images(self, images: Tensor) -> Tensor: ...


class TextSpace(FeatureSpace, Protocol):
    """A feature space that also embeds text."""

    def embed_text(self, texts: list[str]) -> Features: ...


@runtime_checkable
class UnnormalizedSpace(FeatureSpace, Protocol):
    """A feature space that also returns its network's raw features, whose lengths are
    meaningful.

    Published distances (FID, KID) use raw features.
    """

    def embed_raw(self, pixels: Pixels, batch_size: int = 256) -> Features: ...


@runtime_checkable
class ClassifierSpace(UnnormalizedSpace, Protocol):
    """A feature space whose network also predicts classes, as an Inception Score needs."""

    def probabilities(self, raw: Features) -> NDArray[np.float32]: ...


class TorchSpace:
    """A frozen network with its preprocessing.

    `encode` maps the output of `preprocessing`, float (n 3 H W), to features (n d) through
    `network`. The network moves to the device of the images, in batches of at most `most_at_once`.
    """

    def __init__(
        self,
        network: nn.Module,
        encode: Callable[[Tensor], Tensor],
        preprocessing: Preprocessing,
        most_at_once: int = 256,
    ) -> None:
        # Convolutions run about 1.7 times faster on a CPU with the channels innermost.
        frozen: Any = network.eval().requires_grad_(False)
        self.network: nn.Module = frozen.to(memory_format=torch.channels_last)
        self.encode = encode
        self.preprocessing = preprocessing
        self.most_at_once = most_at_once
        self.fingerprint = fingerprint(network, preprocessing)
        self.size = int(self.embed_images(torch.zeros(1, 3, *preprocessing.size)).shape[1])

    def embed_images(self, images: Tensor) -> Tensor:
        """Images (n 1|3 h w) in -1..1, any device -> unit rows float32 (n d), differentiable."""
        return unit_rows(self._encoded(images))

    def embed(self, pixels: Pixels, batch_size: int = 256) -> Features:
        """Pixels (n 1|3 h w) of any size -> Features (n d), `batch_size` at a time."""
        return self._rows(pixels, batch_size, self.embed_images)

    def embed_raw(self, pixels: Pixels, batch_size: int = 256) -> Features:
        """Pixels (n 1|3 h w) of any size -> raw float32 features (n d)."""
        return self._rows(pixels, batch_size, self._encoded)

    def _encoded(self, images: Tensor) -> Tensor:
        # Checked first: `to` visits every weight, which takes as long as embedding a small picture.
        if next(self.network.parameters()).device != images.device:
            self.network.to(images.device)
        return self.encode(self.preprocessing.apply(images))

    def _rows(self, pixels: Pixels, batch_size: int, embed: Callable[[Tensor], Tensor]) -> Features:
        device = next(self.network.parameters()).device
        rows = np.empty((len(pixels), self.size), np.float32)
        step = min(batch_size, self.most_at_once)
        with torch.no_grad():
            for first in range(0, len(pixels), step):
                part = slice(first, first + step)
                rows[part] = embed(to_signed_float(pixels[part]).to(device)).float().cpu().numpy()
        return rows


class TorchClassifierSpace(TorchSpace):
    """A classifier's features and its classes.

    `classify` maps raw rows (n d) to logits (n k). It is not part of `network`, so the fingerprint
    of the features does not depend on it.
    """

    def __init__(
        self,
        network: nn.Module,
        encode: Callable[[Tensor], Tensor],
        preprocessing: Preprocessing,
        classify: Callable[[Tensor], Tensor],
        most_at_once: int = 256,
    ) -> None:
        super().__init__(network, encode, preprocessing, most_at_once)
        self._classify = classify

    def probabilities(self, raw: Features) -> NDArray[np.float32]:
        """Rows (n d) of `embed_raw` -> class probabilities (n k), rows that sum to 1."""
        with torch.no_grad():
            logits = self._classify(torch.from_numpy(np.require(raw, np.float32, ["C", "W"])))
        return np.asarray(logits.double().softmax(1).float().numpy())


def fingerprint(network: nn.Module, preprocessing: Preprocessing) -> str:
    """12 hex digits of SHA-256 over all weights (name, shape, float32 bytes) and preprocessing."""
    digest = hashlib.sha256(preprocessing.fingerprint().encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
