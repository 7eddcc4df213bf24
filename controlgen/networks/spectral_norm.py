"""Spectral normalisation (Miyato et al., ICLR 2018, arXiv:1802.05957) around any network.

Every weight of a layer (a parameter named `weight`, outputs first, flattened to outputs x the rest,
as published) is divided by its largest singular value, of which power iteration keeps an estimate.
Biases and learned constants are left alone. The network inside keeps its plain weights and knows
nothing of it. Unlike torch's parametrisation, a forward pass changes nothing here: `advance`,
called once per update of the weights, makes the one power iteration of algorithm 1.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

SETTLE = 15  # power iterations at the start


class SpectralNorm(nn.Module):
    """A network whose layers all have a largest singular value of about 1.

    `rng` draws the first vectors, and weights for layers that start at zero (the last of a residual
    block), which have no direction that could be kept at norm 1.
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
                drawn = torch.randn(weight.shape, generator=rng) / math.sqrt(weight[0].numel())
                with torch.no_grad():
                    weight.copy_(drawn)
            vector = normalize(torch.randn(len(weight), generator=rng), dim=0).to(weight)
            self.register_buffer(_vector(name), vector)
        self.settle()

    def forward(self, x: Tensor) -> Tensor:
        """What the network says of x with its weights normalised."""
        result: Tensor = torch.func.functional_call(self.network, self.normalised(), (x,))
        return result

    def normalised(self) -> dict[str, Tensor]:
        """W / sigma (eq. 8) of every layer by the weight's name; differentiable, sigma included.

        sigma = |W^T u| is u^T W v of eq. 19 with v = W^T u / |W^T u| put in; u is a constant.
        """
        made = {}
        for name in self.layers:
            weight = self.network.get_parameter(name)
            sigma = (weight.flatten(1).t() @ self.get_buffer(_vector(name))).norm()
            made[name] = weight / sigma
        return made

    def advance(self) -> None:
        """One power iteration per layer (eq. 18): u <- W W^T u, brought to length 1."""
        with torch.no_grad():
            for name in self.layers:
                matrix = self.network.get_parameter(name).flatten(1)
                vector = self.get_buffer(_vector(name))
                vector.copy_(normalize(matrix @ (matrix.t() @ vector), dim=0))

    def settle(self) -> None:
        """As many power iterations as a new set of weights wants."""
        for _ in range(SETTLE):
            self.advance()


def advance(network: nn.Module) -> None:
    """Follow an update of the weights; a network without spectral norm has nothing to follow."""
    if isinstance(network, SpectralNorm):
        network.advance()


def plain(network: nn.Module) -> nn.Module:
    """The network inside, or the network itself: the one whose parameters have plain names."""
    return network.network if isinstance(network, SpectralNorm) else network


def plain_weights(network: nn.Module) -> dict[str, Tensor]:
    """Every parameter by its plain name, as it acts: a layer's weight after normalisation."""
    named: dict[str, Tensor] = dict(plain(network).named_parameters())
    return named | network.normalised() if isinstance(network, SpectralNorm) else named


def _vector(name: str) -> str:
    # A buffer's name must be free of dots.
    return "left/" + name.replace(".", "/")
