"""A plain network of strided convolutions in the manner of DCGAN (Radford et al., ICLR 2016,
arXiv:1511.06434), so that objectives can be compared where nothing else helps them.

As published: a linear projection to 4x4, transposed 4x4 convolutions of stride 2 with ReLU, tanh at
the end; a mirrored critic with leaky ReLU of slope 0.2. Different, and why: no batch norm anywhere.
In the critic, a penalty on each image's own gradient has no meaning where images see one another
(Gulrajani et al. 2017, section 4); in the generator, an image must be the same in any batch. The
generator has pixel norm in its place (Karras et al. 2018, arXiv:1710.10196, section 4.2): each
pixel's channels are brought to length sqrt(c), by the image alone, so that the signal keeps its
size through any depth, under spectral norm too. The critic has no norm. Weights start normal with
gain sqrt(2)/sqrt(fan_in) (He et al. 2015), not at 0.02, which wants batch norm behind it.
"""

import itertools
import math
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from controlgen.base_config import BaseConfig

SLOPE = 0.2  # of the critic's leaky ReLUs
BASE = 4  # resolution at which the generator starts and the critic ends
KERNEL = 4  # of the strided convolutions
GAIN = math.sqrt(2)  # of layers before a ReLU


class DCGANConfig(BaseConfig):
    """Widths from the 4x4 stage upwards; each doubles the resolution once, the last one to the
    image.
    """

    kind: Literal["dcgan"] = "dcgan"
    widths: tuple[int, ...] = (512, 256, 128, 64)
    blocks: int = Field(0, ge=0, description="further 3x3 convolutions per resolution")
    patch: Literal[1, 2, 4] = Field(1, description="pixels per side that one network cell covers")
    latent_size: int = Field(64, ge=2)

    @model_validator(mode="after")
    def _has_widths(self) -> Self:
        if not self.widths or min(self.widths) < 1:
            raise ValueError("widths must name at least one stage, each of one channel or more")
        return self

    @property
    def image_size(self) -> int:
        """Pixels per side of the images this network makes."""
        return int(BASE * 2 ** len(self.widths) * self.patch)

    def generator(self, channels: int, rng: torch.Generator, bf16: bool = False) -> "Generator":
        """A freshly initialised generator for `channels` image channels."""
        return Generator(self, channels, rng, bf16)

    def critic(self, channels: int, rng: torch.Generator, bf16: bool = False) -> "Critic":
        """A freshly initialised critic for `channels` image channels."""
        return Critic(self, channels, rng, bf16)


class _Layer(nn.Module):
    """A weight (outputs, inputs, ...) and a bias, computed in the input's dtype."""

    def __init__(self, shape: tuple[int, ...], fan_in: int, gain: float, rng: torch.Generator):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape, generator=rng) * (gain / math.sqrt(fan_in)))
        self.bias = nn.Parameter(torch.zeros(shape[0]))


class Linear(_Layer):
    """(n inputs) -> (n outputs)."""

    def __init__(self, inputs: int, outputs: int, gain: float, rng: torch.Generator) -> None:
        super().__init__((outputs, inputs), inputs, gain, rng)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


class Conv3x3(_Layer):
    """A 3x3 convolution at one resolution: (n c h w) -> (n c h w)."""

    def __init__(self, width: int, gain: float, rng: torch.Generator) -> None:
        super().__init__((width, width, 3, 3), width * 9, gain, rng)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight.to(x.dtype), self.bias.to(x.dtype), padding=1)


class DownConv(_Layer):
    """A strided convolution: (n i 2h 2w) -> (n o h w)."""

    def __init__(self, inputs: int, outputs: int, gain: float, rng: torch.Generator) -> None:
        super().__init__((outputs, inputs, KERNEL, KERNEL), inputs * KERNEL**2, gain, rng)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return functional.conv2d(x, weight, bias, stride=2, padding=1)


class UpConv(_Layer):
    """A transposed convolution of stride 2: (n i h w) -> (n o 2h 2w)."""

    def __init__(self, inputs: int, outputs: int, gain: float, rng: torch.Generator) -> None:
        # Each output pixel is reached by a quarter of the kernel. The weight is kept outputs first.
        fan_in = inputs * KERNEL**2 // 4
        super().__init__((outputs, inputs, KERNEL, KERNEL), fan_in, gain, rng)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype).transpose(0, 1), self.bias.to(x.dtype)
        return functional.conv_transpose2d(x, weight, bias, stride=2, padding=1)


def pixel_norm(x: Tensor) -> Tensor:
    """Bring each pixel's channels (n c h w) to a mean square of 1."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class _Network(nn.Module):
    """Shared by generator and critic: layers per resolution, and the working dtype."""

    def __init__(self, spec: DCGANConfig, rng: torch.Generator, bf16: bool) -> None:
        super().__init__()
        self.same = nn.ModuleList(
            nn.ModuleList(Conv3x3(width, GAIN, rng) for _ in range(spec.blocks))
            for width in spec.widths
        )
        self.spec = spec
        self.bf16 = bf16

    def _typed(self, x: Tensor, level: int) -> Tensor:
        # The 4x4 stage stays in fp32; the larger ones may run in bf16.
        return x.to(torch.bfloat16 if self.bf16 and level > 0 else torch.float32)


class Generator(_Network):
    """Latents (n z) float32 -> Images (n c h w) float32 in -1..1."""

    def __init__(self, spec: DCGANConfig, channels: int, rng: torch.Generator, bf16: bool) -> None:
        super().__init__(spec, rng, bf16)
        self.project = Linear(spec.latent_size, spec.widths[0] * BASE**2, GAIN, rng)
        self.doublings = nn.ModuleList(
            UpConv(low, high, GAIN, rng) for low, high in itertools.pairwise(spec.widths)
        )
        self.to_image = UpConv(spec.widths[-1], channels * spec.patch**2, 1.0, rng)
        self.latent_size = spec.latent_size

    def first_layer(self) -> Tensor:
        """A (16 c, z): moving the latent by v moves `first_activation` by exactly A v."""
        return self.project.weight

    def first_activation(self, latents: Tensor) -> Tensor:
        """Latents (n z) -> their projection (n c 4 4), affine, before any ReLU."""
        activation: Tensor = self.project(latents).unflatten(1, (self.spec.widths[0], BASE, BASE))
        return activation

    def first_stage(self, latents: Tensor) -> Tensor:
        """Latents (n z) -> float32 activations (n c 4 4) at the end of the 4x4 stage."""
        return self._refined(self.first_activation(latents), 0)

    def forward(self, latents: Tensor) -> Tensor:
        # The latent becomes a 4x4 map; each further stage doubles the resolution.
        x = self.first_stage(latents)
        for level in range(1, len(self.same)):
            x = self._refined(self.doublings[level - 1](self._typed(x, level)), level)
        # The last doubling makes the image.
        x = self.to_image(self._typed(x, len(self.spec.widths)))
        return torch.tanh(functional.pixel_shuffle(x, self.spec.patch).float())

    def _refined(self, x: Tensor, level: int) -> Tensor:
        x = pixel_norm(functional.relu(x))
        for same in self.same[level]:  # type: ignore[attr-defined]
            x = pixel_norm(functional.relu(same(x)))
        return x


class Critic(_Network):
    """Images (n c h w) float32 -> scores (n) float32; mirrors the generator, without a norm."""

    def __init__(self, spec: DCGANConfig, channels: int, rng: torch.Generator, bf16: bool) -> None:
        super().__init__(spec, rng, bf16)
        gain = math.sqrt(2 / (1 + SLOPE**2))
        widths = (*spec.widths, channels * spec.patch**2)
        self.halvings = nn.ModuleList(
            DownConv(high, low, gain, rng) for low, high in itertools.pairwise(widths)
        )
        self.linear = Linear(spec.widths[0] * BASE**2, 1, 1.0, rng)

    def forward(self, images: Tensor) -> Tensor:
        x = functional.pixel_unshuffle(images, self.spec.patch)
        # From the image down: halve the resolution, then refine.
        for level in range(len(self.spec.widths) - 1, -1, -1):
            x = self.halvings[level](self._typed(x, level + 1))
            x = self._typed(functional.leaky_relu(x, SLOPE), level)
            for same in self.same[level]:  # type: ignore[attr-defined]
                x = functional.leaky_relu(same(x), SLOPE)
        scores: Tensor = self.linear(x.flatten(1))
        return scores.squeeze(1)
