"""Fully connected networks for points and very small images: the toy problems of the literature.

Hidden layers with leaky ReLU of slope 0.2 in both networks, no normalisation, a linear output: a
coordinate may leave -1..1. Weights start normal with gain sqrt(2 / 1.04) / sqrt(fan_in) (He et al.
2015).
"""

import itertools
import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from controlgen.base_config import BaseConfig

SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))


class MLPConfig(BaseConfig):
    """`depth` hidden layers of `width` units each; a point of the plane is one pixel of two
    channels.
    """

    kind: Literal["mlp"] = "mlp"
    image_size: int = Field(1, ge=1, le=32, description="pixels per side")
    width: int = Field(128, ge=1)
    depth: int = Field(3, ge=1)
    latent_size: int = Field(64, ge=2)

    def generator(self, channels: int, rng: torch.Generator, bf16: bool = False) -> "Generator":
        """A freshly initialised generator for `channels` image channels."""
        return Generator(self, channels, rng, bf16)

    def critic(self, channels: int, rng: torch.Generator, bf16: bool = False) -> "Critic":
        """A freshly initialised critic for `channels` image channels."""
        return Critic(self, channels, rng, bf16)


class _Linear(nn.Module):
    """(n inputs) -> (n outputs)."""

    def __init__(self, inputs: int, outputs: int, gain: float, rng: torch.Generator) -> None:
        super().__init__()
        weights = torch.randn(outputs, inputs, generator=rng)
        self.weight = nn.Parameter(weights * (gain / math.sqrt(inputs)))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class _Network(nn.Module):
    """Hidden layers and a linear output layer in fp32."""

    def __init__(
        self, spec: MLPConfig, inputs: int, outputs: int, rng: torch.Generator, bf16: bool
    ) -> None:
        super().__init__()
        sizes = [inputs, *[spec.width] * spec.depth]
        self.hidden = nn.ModuleList(
            _Linear(below, above, GAIN, rng) for below, above in itertools.pairwise(sizes)
        )
        self.last = _Linear(spec.width, outputs, 1.0, rng)
        self.spec = spec
        self.bf16 = bf16

    def _entered(self, x: Tensor) -> Tensor:
        # The output of the first hidden layer for (n inputs), before its ReLU.
        first: Tensor = self.hidden[0](x.to(torch.bfloat16 if self.bf16 else torch.float32))
        return first

    def _through(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(self._entered(x), SLOPE)
        for layer in self.hidden[1:]:
            x = functional.leaky_relu(layer(x), SLOPE)
        ended: Tensor = self.last(x.float())
        return ended


class Generator(_Network):
    """Latents (n z) float32 -> Images (n c h w) float32, around -1..1."""

    def __init__(self, spec: MLPConfig, channels: int, rng: torch.Generator, bf16: bool) -> None:
        self.shape = (channels, spec.image_size, spec.image_size)
        super().__init__(spec, spec.latent_size, math.prod(self.shape), rng, bf16)
        self.latent_size = spec.latent_size

    def first_layer(self) -> Tensor:
        """A (width z): moving the latent by v moves `first_activation` by exactly A v."""
        weight: Tensor = self.hidden[0].weight  # type: ignore[assignment]
        return weight

    def first_activation(self, latents: Tensor) -> Tensor:
        """Latents (n z) -> the first hidden layer (n width), affine, before its ReLU."""
        return self._entered(latents)

    def first_stage(self, latents: Tensor) -> Tensor:
        """Latents (n z) -> float32 activations (n width) after the first ReLU."""
        return functional.leaky_relu(self._entered(latents), SLOPE).float()

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self._through(latents).unflatten(1, self.shape)
        return images


class Critic(_Network):
    """Images (n c h w) float32 -> scores (n) float32."""

    def __init__(self, spec: MLPConfig, channels: int, rng: torch.Generator, bf16: bool) -> None:
        super().__init__(spec, channels * spec.image_size**2, 1, rng, bf16)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self._through(images.flatten(1))
        return scores.squeeze(1)
