"""Shared by the neural maps: residual blocks, whitening, training steps, arrays."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from controlgen import rng
from controlgen.errors import ArtifactCorrupt

N = TypeVar("N", bound=nn.Module)


class ResidualBlock(nn.Module):
    """x + W2 gelu(W1 norm(x)) on rows (n width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, width)
        self.reduce = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Rows (n width) -> rows (n width)."""
        change: Tensor = self.reduce(functional.gelu(self.expand(self.norm(x))))
        return x + change


def residual_network(inputs: int, outputs: int, width: int, depth: int, seed: int) -> nn.Sequential:
    """Rows (n inputs) -> rows (n outputs) by `depth` residual blocks; weights from the seed."""
    blocks = (ResidualBlock(width) for _ in range(depth))
    network = nn.Sequential(
        nn.Linear(inputs, width), *blocks, nn.LayerNorm(width), nn.Linear(width, outputs)
    )
    # Initialised from the seed alone: torch's own initialisers draw from global state.
    draws = rng.torch_stream(seed, "map weights")
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2:
            std = parameter.shape[1] ** -0.5
            parameter.data = torch.randn(parameter.shape, generator=draws) * std
        elif name.endswith("bias"):
            parameter.data.zero_()
    return network


def one_cycle_adamw(
    network: nn.Module, rate: float, steps: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.OneCycleLR]:
    """AdamW with a one-cycle rate: up to `rate` in a tenth of the steps, then almost to zero."""
    adam = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-3)
    # With ten steps in total, torch would divide by a warm-up of length zero.
    total = 11 if steps == 9 else steps + 1
    return adam, torch.optim.lr_scheduler.OneCycleLR(adam, rate, total, pct_start=0.1)


def train_steps(
    network: nn.Module, loss_of: Callable[[int], Tensor], rate: float, steps: int
) -> Iterator[int]:
    """Minimise the loss of each step with the one-cycle rate; yield the finished steps."""
    adam, decay = one_cycle_adamw(network, rate, steps)
    for step in range(steps):
        loss = loss_of(step)
        adam.zero_grad()
        loss.backward()
        adam.step()
        decay.step()
        yield step + 1


def freeze_float64(network: N) -> N:
    """The trained network in float64, so that no prediction depends on the batch it is in."""
    return network.double().requires_grad_(False)


def export_arrays(network: nn.Module) -> dict[str, NDArray[Any]]:
    """The network's weights and scales by name, in float32."""
    return {name: value.float().numpy() for name, value in network.state_dict().items()}


def load_arrays_into(
    arrays: Mapping[str, NDArray[Any]], make: Callable[[Tensor, Tensor], N]
) -> tuple[N, int]:
    """The frozen network of the arrays `saved`, and its number of inputs.

    `make` builds a network for features (n d) and latents (n z). Raises ArtifactCorrupt if they do
    not match.
    """
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    try:
        inputs, outputs = tensors["shift"].shape[0], tensors["latent_shift"].shape[0]
        network = make(torch.zeros(2, inputs), torch.zeros(2, outputs))
        network.load_state_dict(tensors)
    except (KeyError, IndexError, RuntimeError) as error:
        raise ArtifactCorrupt(f"the map's arrays do not fit its settings ({error})") from None
    return freeze_float64(network), inputs


class Whitening(nn.Module):
    """Maps features to half-whitened features, and standard latents to their own scale.

    The variance of features is concentrated in a few directions. Each principal component is
    divided by the square root of its deviation, so that the small ones contribute, too.
    """

    shift: Tensor
    mixing: Tensor
    latent_shift: Tensor
    latent_scale: Tensor

    def __init__(self, features: Tensor, latents: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", features.mean(0))
        self.register_buffer("mixing", half_whitening(features))
        spread = latents.std(0, correction=0)
        self.register_buffer("latent_shift", latents.mean(0))
        self.register_buffer("latent_scale", torch.where(spread > 1e-8, spread, 1.0))

    def condition(self, features: Tensor) -> Tensor:
        """Features (n d), half-whitened (n d)."""
        return (features - self.shift) @ self.mixing

    def scaled(self, latents: Tensor) -> Tensor:
        """Latents (n z) standardised to mean 0 and deviation 1 per coordinate."""
        return (latents - self.latent_shift) / self.latent_scale

    def unscaled(self, standard: Tensor) -> Tensor:
        """The inverse of `scaled`."""
        return standard * self.latent_scale + self.latent_shift


def half_whitening(features: Tensor) -> Tensor:
    """The matrix (d d) from centred features (n d) to components with the root of their deviation.

    The results have variance 1 on average; deviations below a hundredth of the largest count as
    that hundredth, so that directions without variance are not amplified.
    """
    centred = (features - features.mean(0)).double()
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
    deviations = variances.clamp_min(0).sqrt()
    floored = torch.maximum(deviations, deviations[-1] / 100).clamp_min(1e-8)
    level = (variances.clamp_min(0) / floored).mean().sqrt().clamp_min(1e-8)
    mixing: Tensor = axes / floored.sqrt() / level
    return mixing.float()


def arithmetic_targets(
    features: Tensor, indices: Tensor, share: float, draws: torch.Generator
) -> tuple[Tensor, int]:
    """Rows `indices` (b) of features (n d), the first of them unchanged, and the number of those.

    The others, a `share` of all, are unit rows c + t (a - b) of random rows a, b and t in 0..1, the
    targets of edits.
    """
    edited = int(share * len(indices))
    plain = len(indices) - edited
    targets = features[indices].clone()
    if edited:
        pairs = torch.randint(len(features), (2, edited), generator=draws)
        amount = torch.rand(edited, 1, generator=draws)
        targets[plain:] += amount * (features[pairs[0]] - features[pairs[1]])
        targets[plain:] = functional.normalize(targets[plain:], dim=1)
    return targets, plain
