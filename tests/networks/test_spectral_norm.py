"""Spectral norm against NumPy's singular values, torch's own parametrisation and autograd."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from controlgen.networks import AnyNetwork, DCGANConfig, R3GANConfig
from controlgen.networks.spectral_norm import (
    SpectralNorm,
    effective_weights,
    power_iteration_step,
    unwrap,
)
from controlgen.rng import torch_stream

pytestmark = pytest.mark.usefixtures("global_randomness_untouched")
SMALL = [
    R3GANConfig(widths=(16, 16), blocks=1, patch=4, latent_size=8),
    DCGANConfig(widths=(16, 8), blocks=1, patch=2, latent_size=8),
]


def draws(index: int = 0) -> torch.Generator:
    return torch_stream(0, "spectral", index)


class Matrix(nn.Module):
    """x -> W x + b with a known W."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(torch.ones(len(weight), dtype=weight.dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.T + self.bias


def singular_matrix(shape: tuple[int, int] = (7, 5)) -> torch.Tensor:
    return torch.randn(*shape, generator=draws(1), dtype=torch.float64)


def double(weight: torch.Tensor) -> SpectralNorm:
    return SpectralNorm(Matrix(weight), draws(2)).double()


@pytest.mark.parametrize("shape", [(7, 5), (3, 9), (1, 6)])
def test_the_norm_is_the_largest_singular_value(shape: tuple[int, int]) -> None:
    weight = singular_matrix(shape)
    normed = double(weight)
    for _ in range(300):
        normed.advance()
    expected = weight.numpy() / np.linalg.svd(weight.numpy(), compute_uv=False)[0]
    np.testing.assert_allclose(normed.normalised()["weight"].detach().numpy(), expected, rtol=1e-10)
    # The bias is left alone, and so is the weight that learns.
    torch.testing.assert_close(
        normed(torch.zeros(1, shape[1]).double())[0], torch.ones(shape[0]).double()
    )
    assert torch.equal(normed.network.weight, weight)


@pytest.mark.parametrize("steps", [1, 4])
def test_each_step_is_torchs_own_power_iteration(steps: int) -> None:
    """From the same vector, torch's parametrisation in training mode makes the same weights."""
    weight = singular_matrix()
    ours = double(weight)
    with torch.random.fork_rng():
        theirs = parametrizations.spectral_norm(Matrix(weight), n_power_iterations=1)
    start = nn.functional.normalize(torch.randn(7, generator=draws(3)).double(), dim=0)
    ours.get_buffer("left/weight").copy_(start)
    state = theirs.parametrizations.weight[0]
    state._u.copy_(start)
    state._v.copy_(nn.functional.normalize(weight.T @ start, dim=0))
    for _ in range(steps):
        ours.advance()
        expected = theirs.weight
    torch.testing.assert_close(ours.normalised()["weight"], expected)


def test_the_gradient_goes_through_the_norm() -> None:
    """Once settled, d f(W / sigma(W)) / dW equals autograd's through an exact largest value."""
    weight, x = singular_matrix(), torch.randn(4, 5, generator=draws(4), dtype=torch.float64)
    normed = double(weight)
    for _ in range(300):
        normed.advance()
    (actual,) = torch.autograd.grad(normed(x).square().sum(), normed.network.weight)
    exact = weight.clone().requires_grad_()
    result = x @ (exact / torch.linalg.matrix_norm(exact, 2)).T + 1
    (expected,) = torch.autograd.grad(result.square().sum(), exact)
    torch.testing.assert_close(actual, expected)


def test_looking_changes_nothing() -> None:
    normed = double(singular_matrix())
    before = {name: value.clone() for name, value in normed.state_dict().items()}
    x = torch.ones(2, 5, dtype=torch.float64)
    assert torch.equal(normed(x), normed(x))
    assert all(torch.equal(value, before[name]) for name, value in normed.state_dict().items())
    # A network without the norm has nothing that could advance.
    power_iteration_step(network := Matrix(singular_matrix()))
    assert unwrap(network) is network and unwrap(normed) is normed.network


@pytest.mark.parametrize("part", ["generator", "critic"])
@pytest.mark.parametrize("spec", SMALL, ids=lambda spec: spec.kind)
def test_any_family_is_held_at_norm_1(spec: AnyNetwork, part: str) -> None:
    """Layers that start at zero too; what acts is a plain network of the same family."""
    network = getattr(spec, part)(3, draws(5))
    fresh = {name: value.clone() for name, value in network.named_parameters()}
    normed = SpectralNorm(network, draws(6))
    assert normed.layers
    for _ in range(60):
        normed.advance()
    acting = effective_weights(normed)
    assert acting.keys() == fresh.keys()
    for name, value in acting.items():
        if name in normed.layers:
            assert torch.linalg.matrix_norm(value.flatten(1), 2).item() == pytest.approx(
                1, abs=0.02
            )
        else:
            assert torch.equal(value, fresh[name])
    if spec.kind == "r3gan":
        assert not fresh["stages.0.0.reduce.weight"].any() and "basis" not in normed.layers
    other = getattr(spec, part)(3, draws(7))
    other.load_state_dict(acting)
    shape = (2, 8) if part == "generator" else (2, 3, spec.image_size, spec.image_size)
    inputs = torch.randn(shape, generator=draws(8))
    assert torch.equal(other(inputs), normed(inputs))


def test_a_whole_critic_is_a_contraction_of_its_layers() -> None:
    """A matrix of norm 1 moves no two points apart: the slope of W x / sigma is at most 1."""
    normed = double(singular_matrix())
    for _ in range(300):
        normed.advance()
    a, b = torch.randn(2, 50, 5, generator=draws(9), dtype=torch.float64)
    ratio = (normed(a) - normed(b)).norm(dim=1) / (a - b).norm(dim=1)
    assert ratio.max() <= 1 + 1e-9
