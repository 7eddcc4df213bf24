"""What every network family must do; the union AnyNetwork lists the members."""

from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load, save

from controlgen.base_config import BaseConfig
from controlgen.networks import AnyNetwork
from controlgen.rng import torch_stream

# Add a small member of a new family here: a kind that is missing fails the first test.
SMALL: dict[str, dict[str, Any]] = {
    "r3gan": {"widths": [16, 16], "blocks": 1, "patch": 4, "latent_size": 8},
    "mlp": {"image_size": 8, "width": 16, "depth": 2, "latent_size": 8},
    "dcgan": {"widths": [16, 8], "blocks": 1, "patch": 2, "latent_size": 8},
}
FAMILIES = get_args(get_args(AnyNetwork)[0])

pytestmark = [
    pytest.mark.usefixtures("global_randomness_untouched"),
    pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__),
]


def small(family: type[Any]) -> Any:
    return family.parse(SMALL[family().kind])


def weights(seed: int = 0) -> torch.Generator:
    return torch_stream(seed, "contract weights")


def latents(spec: Any, n: int = 4) -> torch.Tensor:
    return torch.randn(n, spec.latent_size, generator=torch_stream(0, "contract latents"))


def test_every_family_has_a_small_member(family: type[Any]) -> None:
    spec = small(family)
    assert isinstance(spec, BaseConfig)
    assert family.parse(spec.to_dict()) == spec
    adapter: TypeAdapter[Any] = TypeAdapter(AnyNetwork)
    assert adapter.validate_python(spec.to_dict()) == spec
    assert [item().kind for item in FAMILIES].count(spec.kind) == 1


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_and_types(family: type[Any], channels: int, bf16: bool) -> None:
    spec = small(family)
    images = spec.generator(channels, weights(), bf16)(latents(spec))
    scores = spec.critic(channels, weights(), bf16)(images)
    assert images.shape == (4, channels, spec.image_size, spec.image_size)
    assert scores.shape == (4,)
    assert images.dtype == scores.dtype == torch.float32
    assert images.isfinite().all() and scores.isfinite().all()
    assert images.std() > 0.05 and not torch.equal(images[0], images[1])


def test_the_generator_knows_what_it_is(family: type[Any]) -> None:
    spec = small(family)
    generator = spec.generator(1, weights())
    assert (generator.latent_size, generator.spec, generator.bf16) == (8, spec, False)


@pytest.mark.parametrize("part", ["generator", "critic"])
def test_weights_come_from_the_given_stream(family: type[Any], part: str) -> None:
    make = getattr(small(family), part)
    first, again, other = (make(1, weights(seed)).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("part", ["generator", "critic"])
def test_weights_survive_safetensors(family: type[Any], part: str) -> None:
    spec = small(family)
    saved, fresh = (getattr(spec, part)(3, weights(seed)) for seed in (0, 1))
    content = save({name: value.contiguous() for name, value in saved.state_dict().items()})
    fresh.load_state_dict(load(content))
    images = torch.rand(2, 3, spec.image_size, spec.image_size, generator=weights())
    inputs = latents(spec) if part == "generator" else images
    assert torch.equal(saved(inputs), fresh(inputs))


def test_no_item_sees_another(family: type[Any]) -> None:
    spec = small(family)
    generator, critic = spec.generator(1, weights()), spec.critic(1, weights())
    z = latents(spec, 5)
    images, scores = generator(z), critic(generator(z))
    torch.testing.assert_close(generator(z[1:3]), images[1:3], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(critic(images[1:3]), scores[1:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bf16", [False, True])
def test_the_critic_can_be_differentiated_twice(family: type[Any], bf16: bool) -> None:
    spec = small(family)
    critic = spec.critic(1, weights(), bf16)
    images = spec.generator(1, weights())(latents(spec)).detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    slope.square().sum().backward()
    gradients = [weight.grad for weight in critic.parameters() if weight.grad is not None]
    assert any(gradient.any() for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_every_weight_learns(family: type[Any]) -> None:
    """After one step in a random direction, no parameter is out of the graph."""
    spec = small(family)
    generator, critic = spec.generator(1, weights()), spec.critic(1, weights())
    noise = torch_stream(0, "contract noise")
    with torch.no_grad():
        for weight in (*generator.parameters(), *critic.parameters()):
            weight.add_(0.1 * torch.randn(weight.shape, generator=noise))
    critic(generator(latents(spec))).square().sum().backward()
    for network in (generator, critic):
        for name, weight in network.named_parameters():
            assert weight.grad is not None and weight.grad.any(), name


# Where the generator's own modules see the first activation: a module, and its input or output.
FIRST = {
    "r3gan": ("stages.0.0", "input"),
    "mlp": ("hidden.0", "output"),
    "dcgan": ("project", "output"),
}


def perturbed(generator: Any) -> Any:
    """The generator with random biases: what starts at zero could hide a mistake."""
    noise = torch_stream(0, "contract shake")
    with torch.no_grad():
        for weight in generator.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=noise))
    return generator


def inner_activations(generator: Any, z: torch.Tensor) -> torch.Tensor:
    """The first activation as it passes through the real forward pass."""
    saved: list[torch.Tensor] = []
    module, side = FIRST[generator.spec.kind]
    hooked = generator.get_submodule(module)
    if side == "input":
        handle = hooked.register_forward_pre_hook(lambda _, given: saved.append(given[0]))
    else:
        handle = hooked.register_forward_hook(lambda _, given, output: saved.append(output))
    with torch.no_grad():
        generator(z)
    handle.remove()
    (activation,) = saved
    return activation.flatten(1)


def test_the_first_layer_says_how_far_a_latent_moves_the_first_activation(
    family: type[Any],
) -> None:
    spec = small(family)
    generator = perturbed(spec.generator(1, weights()))
    layer, z = generator.first_layer().detach(), latents(spec)
    assert layer.shape[1] == spec.latent_size
    for t, v in zip((0.5, -2.0, 7.0), latents(spec, 3), strict=True):
        change = inner_activations(generator, z + t * v) - inner_activations(generator, z)
        expected = torch.full((len(z),), abs(t)) * (layer @ v).norm()
        torch.testing.assert_close(change.norm(dim=1), expected, rtol=1e-4, atol=1e-5)


def test_early_activations_are_those_of_the_forward_pass(family: type[Any]) -> None:
    spec = small(family)
    generator, z = perturbed(spec.generator(1, weights())), latents(spec)
    first = generator.first_activation(z).flatten(1)
    torch.testing.assert_close(first.detach(), inner_activations(generator, z), rtol=0, atol=0)
    # The stage's end is another array, one row an item, and nothing but a function of the latent.
    stage = generator.first_stage(z)
    assert stage.dtype == torch.float32 and len(stage) == len(z)
    assert not torch.equal(stage.flatten(1), first)
    torch.testing.assert_close(generator.first_stage(z[1:2]), stage[1:2], rtol=1e-4, atol=1e-5)
