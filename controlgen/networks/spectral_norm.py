"""Spectral normalisation (Miyato et al., ICLR 2018, arXiv:1802.05957) around any network.

Every weight of a layer (a parameter named `weight`, outputs first, flattened to outputs x the rest,
as published) is divided by its largest singular value, which power iteration estimates. Biases and
learned constants are unchanged. The wrapped network keeps its plain weights. Unlike torch's
parametrisation, a forward pass changes no state: `advance`, called once per update of the weights,
does the one power iteration of algorithm 1.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

SETTLE = 15  # power iterations at the start


class SpectralNorm(nn.Module):
    """A network whose layers all have a largest singular value of about 1.

    `rng` draws the first vectors, and weights for layers that start at zero (the last of a residual
    block), whose norm could not be scaled to 1.
    """

    def __init__(self, network: nn.Module, rng: torch.Generator) -> None:
        super().__init__()
        self.network = network
        self.layers = [
            name
            for name, weight in network.named_parameters()
            if name.rpartition(".")[2] == "weight" and weight.ndim > 1
        ]
        for name in self.layers:
            weight = network.get_parameter(name)
            if not weight.any():
                noise = torch.randn(weight.shape, generator=rng) / math.sqrt(weight[0].numel())
                with torch.no_grad():
                    weight.copy_(noise)
            vector = normalize(torch.randn(len(weight), generator=rng), dim=0).to(weight)
            self.register_buffer(_vector(name), vector)
        self.reset_estimates()

    def forward(self, x: Tensor) -> Tensor:
        """The network's output for x with normalised weights."""
        result: Tensor = torch.func.functional_call(self.network, self.normalised(), (x,))
        return result

    def normalised(self) -> dict[str, Tensor]:
        """W / sigma (eq. 8) of every layer by the weight's name; differentiable, including sigma.

        sigma = |W^T u| is u^T W v of eq. 19 with v = W^T u / |W^T u| inserted; u is a constant.
        """
        normalised = {}
        for name in self.layers:
            weight = self.network.get_parameter(name)
            sigma = (weight.flatten(1).t() @ self.get_buffer(_vector(name))).norm()
            normalised[name] = weight / sigma
        return normalised

    def advance(self) -> None:
        """One power iteration per layer (eq. 18): u <- W W^T u, normalised."""
        with torch.no_grad():
            for name in self.layers:
                matrix = self.network.get_parameter(name).flatten(1)
                vector = self.get_buffer(_vector(name))
                vector.copy_(normalize(matrix @ (matrix.t() @ vector), dim=0))

    def reset_estimates(self) -> None:
        """Repeat the power iterations that a new set of weights needs."""
        for _ in range(SETTLE):
            self.advance()


def power_iteration_step(network: nn.Module) -> None:
    """Update the estimates after a change of weights; without spectral norm do nothing."""
    if isinstance(network, SpectralNorm):
        network.advance()


def unwrap(network: nn.Module) -> nn.Module:
    """The wrapped network, or the network itself: its parameters have plain names."""
    return network.network if isinstance(network, SpectralNorm) else network


def effective_weights(network: nn.Module) -> dict[str, Tensor]:
    """Every effective parameter by its plain name: a layer's weight after normalisation."""
    parameters: dict[str, Tensor] = dict(unwrap(network).named_parameters())
    return parameters | network.normalised() if isinstance(network, SpectralNorm) else parameters


def _vector(name: str) -> str:
    # A buffer's name must not contain dots.
    return "left/" + name.replace(".", "/")
