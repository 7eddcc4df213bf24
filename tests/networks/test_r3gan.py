"""R3GAN's networks against parameter counts, closed forms and an explicit resampling reference."""

import math

import numpy as np
import pytest
import torch
from scipy import signal, stats
from torch import Tensor, nn

from controlgen.errors import ConfigError
from controlgen.networks import R3GANConfig
from controlgen.networks.r3gan import Critic, Generator, ResidualBlock
from controlgen.networks.resample import downsample, upsample
from controlgen.rng import torch_stream

WIDE = (768, 768, 768, 768)
KERNEL = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def draw(*shape: int, index: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_stream(1, "test", index))


def built(
    channels: int = 1, bf16: bool = False, awake: bool = False, **settings: object
) -> tuple[Generator, Critic]:
    """Generator and critic; `awake` gives every block's last convolution weights of its own."""
    spec = R3GANConfig.parse({"blocks": 1, "latent_size": 8, **settings})
    rng = torch_stream(0, "weights")
    networks = (spec.generator(channels, rng, bf16), spec.critic(channels, rng, bf16))
    if awake:
        for network in networks:
            for index, module in enumerate(network.modules()):
                if isinstance(module, ResidualBlock):
                    with torch.no_grad():
                        module.reduce.weight.copy_(0.1 * draw(*module.reduce.weight.shape))
                        module.bias1.copy_(0.1 * draw(*module.bias1.shape, index=index))
                        module.bias2.copy_(0.1 * draw(*module.bias2.shape, index=index + 1))
    return networks


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("channels", "widths", "size", "generator_count", "critic_count"),
    [
        (3, WIDE, 32, 20_732_160, 20_683_776),
        (3, (*WIDE, 384), 64, 22_429_824, 22_381_440),
        (3, (*WIDE, 384, 192, 96), 256, 23_057_952, 23_009_568),
        (1, (128, 128, 128, 128), 32, 833_664, 825_600),
        (1, (256, 256, 128, 64), 32, 1_685_056, 1_668_928),
    ],
)
def test_parameter_counts_of_the_paper(
    channels: int, widths: tuple[int, ...], size: int, generator_count: int, critic_count: int
) -> None:
    spec = R3GANConfig(widths=widths)
    rng = torch_stream(0, "weights")
    assert spec.image_size == size
    assert count(spec.generator(channels, rng)) == generator_count
    assert count(spec.critic(channels, rng)) == critic_count


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_sizes_and_channels(size: int, patch: int, channels: int) -> None:
    widths = (8,) * (int(math.log2(size // patch)) - 1)
    generator, critic = built(channels, widths=widths, patch=patch)
    with torch.no_grad():
        images = generator(draw(2, 8))
        scores = critic(images)
    assert images.shape == (2, channels, size, size)
    assert scores.shape == (2,)
    assert images.dtype == scores.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"widths": []}, "widths"),
        ({"widths": [12]}, "16"),
        ({"patch": 3}, "patch"),
        ({"blocks": 0}, "blocks"),
    ],
)
def test_impossible_networks_are_refused(settings: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        R3GANConfig.parse(settings)


def test_every_block_is_the_identity_at_the_start() -> None:
    for network in built(widths=(32, 32, 16), blocks=2):
        blocks = [module for module in network.modules() if isinstance(module, ResidualBlock)]
        assert len(blocks) == 6
        for block in blocks:
            x = draw(2, block.expand.weight.shape[1], 8, 8)
            assert torch.equal(block(x), x)


def test_block_formula() -> None:
    """An awake block against the formula written with torch's own layers."""
    generator, _ = built(widths=(32,), patch=4, awake=True)
    block = generator.stages[0][0]  # type: ignore[index]
    expand, mix = nn.Conv2d(32, 64, 1), nn.Conv2d(64, 64, 3, padding=1, groups=4)
    reduce = nn.Conv2d(64, 32, 1, bias=False)
    with torch.no_grad():
        for layer, weight in ((expand, block.expand), (mix, block.mix), (reduce, block.reduce)):
            layer.weight.copy_(weight.weight)
        expand.bias.copy_(block.bias1)  # type: ignore[union-attr]
        mix.bias.copy_(block.bias2)  # type: ignore[union-attr]
        x = draw(2, 32, 4, 4)
        inner = nn.Sequential(expand, nn.LeakyReLU(0.2), mix, nn.LeakyReLU(0.2), reduce)
        torch.testing.assert_close(block(x), x + inner(x), rtol=1e-5, atol=1e-5)
        assert (inner(x)).abs().max() > 0.1


def dense_down(image: np.ndarray) -> np.ndarray:
    """[1,3,3,1] outer product at stride 2 after repeating the edge once."""
    return signal.convolve2d(np.pad(image, 1, mode="edge"), KERNEL, mode="valid")[::2, ::2]


def dense_up(image: np.ndarray) -> np.ndarray:
    """Zeros between samples, then four times the kernel, edges repeated outside."""
    stuffed = np.zeros([2 * (side + 2) for side in image.shape])
    stuffed[::2, ::2] = np.pad(image, 1, mode="edge")
    full = signal.convolve2d(stuffed, 4 * KERNEL, mode="full")
    return full[3 : 3 + 2 * image.shape[0], 3 : 3 + 2 * image.shape[1]]


@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 6), (2, 10)])
def test_resampling_against_an_explicit_kernel(height: int, width: int) -> None:
    x = draw(2, 3, height, width).double()
    for resample, reference in ((downsample, dense_down), (upsample, dense_up)):
        expected = np.stack([[reference(plane) for plane in item] for item in x.numpy()])
        np.testing.assert_allclose(resample(x).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_resampling_keeps_constants() -> None:
    flat = torch.full((1, 2, 8, 8), 0.7, dtype=torch.float64)
    for resampled in (downsample(flat), upsample(flat)):
        torch.testing.assert_close(resampled, torch.full_like(resampled, 0.7), rtol=1e-14, atol=0)


def test_upsampling_is_four_times_the_transpose_in_the_interior() -> None:
    size = 6
    basis = torch.eye(size * size, dtype=torch.float64).reshape(-1, 1, size, size)
    up = upsample(basis).reshape(size * size, -1)
    fine = torch.eye(4 * size * size, dtype=torch.float64).reshape(-1, 1, 2 * size, 2 * size)
    down = downsample(fine).reshape(-1, size * size)
    inside = torch.zeros(size, size, dtype=torch.bool)
    inside[1:-1, 1:-1] = True
    torch.testing.assert_close(up[inside.ravel()], 4 * down.T[inside.ravel()], rtol=0, atol=1e-14)


def test_the_generator_starts_as_its_linear_path() -> None:
    """With identity blocks it is: map x projection, 1x1 changes of width, upsampling, to image."""
    generator, _ = built(channels=3, widths=(32, 32, 16), patch=1)
    z = draw(4, 8)
    state = {name: value.detach().double().numpy() for name, value in generator.named_parameters()}
    x = state["basis"] * (z.double().numpy() @ state["linear.weight"].T)[:, :, None, None]
    for level in range(2):
        if level == 1:
            mixing = state["transitions.1.weight"][:, :, 0, 0]
            x = np.einsum("oi,nihw->nohw", mixing, x)
        x = np.stack([[dense_up(plane) for plane in item] for item in x])
    expected = np.einsum("oi,nihw->nohw", state["to_image.weight"][:, :, 0, 0], x)
    with torch.no_grad():
        np.testing.assert_allclose(generator(z).numpy(), expected, rtol=1e-4, atol=1e-5)
        # The latent is not normalised: twice the latent is twice the image, until blocks wake.
        torch.testing.assert_close(generator(2 * z), 2 * generator(z))
        awake, _ = built(channels=3, widths=(32, 32, 16), patch=1, awake=True)
        assert (awake(2 * z) - 2 * awake(z)).abs().max() > 0.01


def test_the_critic_starts_as_its_linear_path() -> None:
    _, critic = built(channels=3, widths=(32, 32, 16), patch=1)
    images = draw(2, 3, 16, 16)
    state = {name: value.detach().double().numpy() for name, value in critic.named_parameters()}
    x = np.einsum("oi,nihw->nohw", state["from_image.weight"][:, :, 0, 0], images.double().numpy())
    x = np.stack([[dense_down(plane) for plane in item] for item in x])
    x = np.einsum("oi,nihw->nohw", state["transitions.1.weight"][:, :, 0, 0], x)
    x = np.stack([[dense_down(plane) for plane in item] for item in x])
    pooled = (x * state["head.weight"][:, 0]).sum((2, 3))
    with torch.no_grad():
        expected = pooled @ state["linear.weight"][0]
        np.testing.assert_allclose(critic(images).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_initial_weights_follow_the_gain_formulas() -> None:
    widths, blocks = (128, 128, 64), 2
    generator, critic = built(channels=3, widths=widths, blocks=blocks, patch=4, latent_size=64)
    gain = math.sqrt(2 / 1.04) * (len(widths) * blocks) ** -0.25
    # A substring of the parameter's name decides its gain and fan-in.
    rules = {
        "expand": lambda w: gain / math.sqrt(w.shape[1]),
        "mix": lambda w: gain / math.sqrt(16 * 9),
        "transitions": lambda w: 1 / math.sqrt(w.shape[1]),
        "to_image": lambda w: 1 / math.sqrt(64),
        "from_image": lambda w: 1 / math.sqrt(3 * 16),
        "head": lambda w: 1 / 4,
        "linear": lambda w: 1 / math.sqrt(w.shape[1]),
        "basis": lambda w: 1.0,
    }
    used = set()
    for network in (generator, critic):
        for name, weight in network.named_parameters():
            if "reduce" in name or "bias" in name:
                assert not weight.any()
                continue
            (rule,) = [rule for rule in rules if rule in name]
            used.add(rule)
            values = weight.detach().flatten().double().numpy() / rules[rule](weight)
            assert stats.kstest(values, "norm").pvalue > 1e-4, name
            assert abs(values.std() - 1) < 5 / math.sqrt(2 * values.size), name
    assert used == set(rules)


def test_the_only_biases_sit_before_the_two_leaky_relus() -> None:
    for network in built(channels=3, widths=(32, 16), blocks=2):
        biases = [name for name, value in network.named_parameters() if "bias" in name]
        vectors = [name for name, value in network.named_parameters() if value.ndim == 1]
        assert biases == vectors
        assert len(biases) == 2 * 2 * 2
        assert {name.rsplit(".", 1)[1] for name in biases} == {"bias1", "bias2"}


def test_no_item_sees_another() -> None:
    generator, critic = built(widths=(32, 16), patch=4, awake=True)
    images, latents = draw(5, 1, 32, 32).requires_grad_(), draw(5, 8).requires_grad_()
    for network, inputs in ((critic, images), (generator, latents)):
        outputs = network(inputs)
        (gradient,) = torch.autograd.grad(outputs[2].sum(), inputs)
        recorded = gradient.flatten(1).abs().sum(1) > 0
        assert recorded.tolist() == [False, False, True, False, False]
        with torch.no_grad():
            torch.testing.assert_close(network(inputs[2:3])[0], outputs[2], rtol=1e-4, atol=1e-5)


def penalty(critic: Critic, images: Tensor) -> Tensor:
    images = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    return gradient.square().sum()


@pytest.mark.parametrize("bf16", [False, True])
def test_double_backward(bf16: bool) -> None:
    """The gradient of R1 by autograd against a central difference (fp32), and bf16 against fp32."""
    _, critic = built(widths=(32, 16), patch=4, awake=True)
    _, tested = built(widths=(32, 16), patch=4, awake=True, bf16=bf16)
    images = draw(4, 1, 32, 32)
    weights = [w for name, w in tested.named_parameters() if "bias" not in name]
    gradients = torch.autograd.grad(penalty(tested, images), weights)
    assert all(g.isfinite().all() and g.any() for g in gradients)
    # Move every weight of the fp32 critic along its gradient and compare the slope.
    direction = [g / torch.stack([h.norm() for h in gradients]).norm() for g in gradients]
    slope = sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True))
    reference = [w for name, w in critic.named_parameters() if "bias" not in name]
    actual = []
    for step in (1e-2, -1e-2):
        with torch.no_grad():
            for w, d in zip(reference, direction, strict=True):
                w.add_(step * d)
        actual.append(penalty(critic, images).item())
        with torch.no_grad():
            for w, d in zip(reference, direction, strict=True):
                w.sub_(step * d)
    measured = (actual[0] - actual[1]) / 2e-2
    assert slope == pytest.approx(measured, rel=0.1 if bf16 else 0.02)


def test_bf16_stays_close_to_fp32() -> None:
    settings = {"channels": 1, "widths": (64, 32, 16), "patch": 2, "awake": True}
    plain, plain_critic = built(**settings)  # type: ignore[arg-type]
    half, half_critic = built(bf16=True, **settings)  # type: ignore[arg-type]
    z = draw(16, 8)
    with torch.no_grad():
        images = plain(z)
        for exact, rough in (
            (images, half(z)),
            (plain_critic(images), half_critic(images)),
        ):
            assert rough.dtype == torch.float32
            error = (rough - exact).norm() / exact.norm()
            assert 0 < error < 0.02
    assert {value.dtype for value in half.parameters()} == {torch.float32}


def test_the_4x4_stage_stays_in_fp32() -> None:
    for network, inputs in zip(
        built(widths=(32, 16, 16), patch=2, bf16=True),
        (draw(2, 8), draw(2, 1, 32, 32)),
        strict=True,
    ):
        recorded: dict[int, set[torch.dtype]] = {}
        for level, blocks in enumerate(network.stages):
            for block in blocks:  # type: ignore[union-attr]
                block.register_forward_hook(
                    lambda _m, x, y, level=level, dtypes=recorded: dtypes.setdefault(
                        level, set()
                    ).update({x[0].dtype, y.dtype})
                )
        with torch.no_grad():
            network(inputs)
        assert recorded == {0: {torch.float32}, 1: {torch.bfloat16}, 2: {torch.bfloat16}}
