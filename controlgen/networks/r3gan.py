"""R3GAN's generator and critic (Huang et al., NeurIPS 2024, arXiv:2501.05441, config E).

Written from the paper's formulas. Any number of image channels, sizes 32 to 256. `patch` > 1 adds a
pixel-shuffle stem at the image end (patch x patch pixels become channels) and thereby removes the
costly full-resolution stage, so that two CPU cores can train the network.
"""

import math
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from controlgen.base_config import BaseConfig
from controlgen.networks.resample import downsample, upsample

SLOPE = 0.2  # of every leaky ReLU
GAIN = math.sqrt(2 / (1 + SLOPE**2))
BASE = 4  # resolution at which the generator starts and the critic ends


class R3GANConfig(BaseConfig):
    """Widths from the 4x4 stage upwards; the number of stages and the patch set the image size."""

    kind: Literal["r3gan"] = "r3gan"
    widths: tuple[int, ...] = (768, 768, 768, 768)
    blocks: int = Field(2, ge=1, description="residual blocks per resolution")
    patch: Literal[1, 2, 4] = Field(1, description="pixels per side that one network cell covers")
    latent_size: int = Field(64, ge=2)
    latent_map: Literal["learned", "fixed"] = Field(
        "learned", description="whether the linear map of the latent is trained; see Generator"
    )
    group_size: int = Field(16, ge=1, description="channels per group of the 3x3 convolutions")

    @model_validator(mode="after")
    def _widths_fit_groups(self) -> Self:
        if not self.widths or any(2 * width % self.group_size for width in self.widths):
            raise ValueError(f"widths must make 2 x width a multiple of {self.group_size}")
        return self

    def identity(self) -> dict[str, Any]:
        """Without `latent_map` if it is the published one, so that older runs keep their
        fingerprints.
        """
        settings = super().identity()
        if self.latent_map == "learned":
            del settings["latent_map"]
        return settings

    @property
    def image_size(self) -> int:
        """Pixels per side of the images this network makes."""
        return int(BASE * 2 ** (len(self.widths) - 1) * self.patch)

    def generator(self, channels: int, rng: torch.Generator, bf16: bool = False) -> "Generator":
        """A freshly initialised generator for `channels` image channels."""
        return Generator(self, channels, rng, bf16)

    def critic(self, channels: int, rng: torch.Generator, bf16: bool = False) -> "Critic":
        """A freshly initialised critic for `channels` image channels."""
        return Critic(self, channels, rng, bf16)


def _normal(*shape: int, std: float, rng: torch.Generator) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=rng) * std)


class Conv(nn.Module):
    """Bias-free convolution, computed in the input's dtype. Init: normal, gain/sqrt(fan_in)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        gain: float,
        rng: torch.Generator,
        groups: int = 1,
    ) -> None:
        super().__init__()
        fan_in = inputs // groups * size * size
        self.weight = _normal(
            outputs, inputs // groups, size, size, std=gain / math.sqrt(fan_in), rng=rng
        )
        self.groups = groups

    def forward(self, x: Tensor, padding: int = 0) -> Tensor:
        return functional.conv2d(x, self.weight.to(x.dtype), padding=padding, groups=self.groups)


class Linear(nn.Module):
    """Bias-free linear map with gain 1."""

    def __init__(self, inputs: int, outputs: int, rng: torch.Generator) -> None:
        super().__init__()
        self.weight = _normal(outputs, inputs, std=1 / math.sqrt(inputs), rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight)


class ResidualBlock(nn.Module):
    """x + conv1x1(C->2C), lrelu, grouped conv3x3, lrelu, conv1x1(2C->C); starts as identity."""

    def __init__(self, width: int, group_size: int, gain: float, rng: torch.Generator) -> None:
        super().__init__()
        inner = 2 * width
        self.expand = Conv(width, inner, 1, gain, rng)
        self.bias1 = nn.Parameter(torch.zeros(inner))
        self.mix = Conv(inner, inner, 3, gain, rng, groups=inner // group_size)
        self.bias2 = nn.Parameter(torch.zeros(inner))
        self.reduce = Conv(inner, width, 1, 0.0, rng)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x) + self.bias1.to(x.dtype)[:, None, None]
        y = functional.leaky_relu(y, SLOPE)
        y = self.mix(y, padding=1) + self.bias2.to(x.dtype)[:, None, None]
        change: Tensor = self.reduce(functional.leaky_relu(y, SLOPE))
        return x + change


class _Stages(nn.Module):
    """Shared by generator and critic: a list of blocks per resolution, and the working dtype."""

    def __init__(self, spec: R3GANConfig, rng: torch.Generator, bf16: bool) -> None:
        super().__init__()
        # As in Fixup, the first two convolutions of a block shrink with the depth, L^(-1/4).
        depth = spec.blocks * len(spec.widths)
        gain = GAIN * depth ** (-1 / 4)
        self.stages = nn.ModuleList(
            nn.ModuleList(
                ResidualBlock(width, spec.group_size, gain, rng) for _ in range(spec.blocks)
            )
            for width in spec.widths
        )
        self.spec = spec
        self.bf16 = bf16

    def _stage(self, x: Tensor, level: int) -> Tensor:
        # The 4x4 stage stays in fp32; the larger ones may run in bf16.
        x = x.to(torch.bfloat16 if self.bf16 and level > 0 else torch.float32)
        for block in self.stages[level]:  # type: ignore[attr-defined]
            x = block(x)
        return x

    def _transitions(self, rng: torch.Generator, upward: bool) -> nn.ModuleDict:
        transitions = nn.ModuleDict()
        for level, (low, high) in enumerate(
            zip(self.spec.widths, self.spec.widths[1:], strict=False)
        ):
            if low != high:
                pair = (low, high) if upward else (high, low)
                transitions[str(level)] = Conv(*pair, 1, 1.0, rng)
        return transitions


class Generator(_Stages):
    """Latents (n z) float32 -> Images (n c h w) float32, about -1..1 (no tanh: may overshoot).

    Over tens of thousands of steps of small batches, Adam makes the linear map of the latent nearly
    singular: few latent directions have an effect, and images change in jumps. A `fixed` map keeps
    its initial weights, so that every direction keeps its effect.
    """

    def __init__(self, spec: R3GANConfig, channels: int, rng: torch.Generator, bf16: bool) -> None:
        super().__init__(spec, rng, bf16)
        self.basis = _normal(spec.widths[0], BASE, BASE, std=1.0, rng=rng)
        self.linear = Linear(spec.latent_size, spec.widths[0], rng)
        self.linear.weight.requires_grad_(spec.latent_map == "learned")
        self.transitions = self._transitions(rng, upward=True)
        self.to_image = Conv(spec.widths[-1], channels * spec.patch**2, 1, 1.0, rng)
        self.latent_size = spec.latent_size

    def first_layer(self) -> Tensor:
        """A (c z): moving the latent by v moves `first_activation` by a change of norm |A v|.

        A = diag(|B_c|) W: channel c is its 4x4 basis B_c, of Frobenius norm |B_c|, times (W z)_c.
        """
        weights: Tensor = self.basis.flatten(1).norm(dim=1)[:, None] * self.linear.weight
        return weights

    def first_activation(self, latents: Tensor) -> Tensor:
        """Latents (n z) -> the output of the first layer alone (n c 4 4): no bias, linear."""
        # A learned 4x4 map is scaled per channel by a linear map of the latent.
        activation: Tensor = self.basis * self.linear(latents)[:, :, None, None]
        return activation

    def first_stage(self, latents: Tensor) -> Tensor:
        """Latents (n z) -> float32 activations (n c 4 4) at the end of the 4x4 stage."""
        return self._stage(self.first_activation(latents), 0)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.first_stage(latents)
        # Each further stage: change the width if needed, double the resolution, refine.
        for level in range(1, len(self.spec.widths)):
            if (name := str(level - 1)) in self.transitions:
                x = self.transitions[name](x)
            x = self._stage(upsample(x), level)
        return functional.pixel_shuffle(self.to_image(x), self.spec.patch).float()


class Critic(_Stages):
    """Images (n c h w) float32 -> scores (n) float32; mirrors the generator."""

    def __init__(self, spec: R3GANConfig, channels: int, rng: torch.Generator, bf16: bool) -> None:
        super().__init__(spec, rng, bf16)
        width = spec.widths[0]
        self.from_image = Conv(channels * spec.patch**2, spec.widths[-1], 1, 1.0, rng)
        self.transitions = self._transitions(rng, upward=False)
        self.head = Conv(width, width, BASE, 1.0, rng, groups=width)
        self.linear = Linear(width, 1, rng)

    def forward(self, images: Tensor) -> Tensor:
        x = self.from_image(functional.pixel_unshuffle(images, self.spec.patch))
        # From the largest stage down: refine, halve the resolution, change the width if needed.
        for level in range(len(self.spec.widths) - 1, 0, -1):
            x = downsample(self._stage(x, level))
            if (name := str(level - 1)) in self.transitions:
                x = self.transitions[name](x)
        x = self.head(self._stage(x, 0))
        scores: Tensor = self.linear(x.flatten(1))
        return scores.squeeze(1)
