"""The plain network of strided convolutions: sizes, parameter counts, norms and first signals."""

from typing import Any

import pytest
import torch
from torch import nn

from controlgen.config import TrainConfig
from controlgen.errors import ConfigError
from controlgen.networks import DCGANConfig, R3GANConfig
from controlgen.networks.dcgan import Conv3x3, DownConv, UpConv, pixel_norm
from controlgen.rng import torch_stream

pytestmark = pytest.mark.usefixtures("global_randomness_untouched")


def draws(index: int = 0) -> torch.Generator:
    return torch_stream(0, "dcgan", index)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"widths": [1024, 512, 256, 128]}, 64),  # as published
        ({"widths": [64, 32, 16]}, 32),
        ({"widths": [64, 32], "patch": 2}, 32),
        ({"widths": [8]}, 8),
    ],
)
def test_widths_and_patch_fix_the_image_size(settings: dict[str, Any], size: int) -> None:
    assert DCGANConfig.parse(settings).image_size == size


def test_parameter_counts_by_hand() -> None:
    """A 4x4 kernel and a bias per channel for each doubling; the two networks mirror each other."""
    spec = DCGANConfig(widths=(64, 32, 16), latent_size=10)
    doublings = 64 * 32 * 16 + 32 + 32 * 16 * 16 + 16
    assert count(spec.generator(3, draws())) == 10 * 1024 + 1024 + doublings + 16 * 3 * 16 + 3
    halvings = 3 * 16 * 16 + 16 + 16 * 32 * 16 + 32 + 32 * 64 * 16 + 64
    assert count(spec.critic(3, draws())) == halvings + 64 * 16 + 1
    refined = spec.model_copy(update={"blocks": 2})
    extra = 2 * sum(width * width * 9 + width for width in (64, 32, 16))
    for part in ("generator", "critic"):
        plain, wider = (getattr(item, part)(3, draws()) for item in (spec, refined))
        assert count(wider) - count(plain) == extra


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (UpConv(6, 4, 1.0, draws(1)), nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1)),
        (DownConv(6, 4, 1.0, draws(2)), nn.Conv2d(6, 4, 4, stride=2, padding=1)),
        (Conv3x3(6, 1.0, draws(3)), nn.Conv2d(6, 6, 3, padding=1)),
    ],
    ids=["double", "halve", "same"],
)
def test_layers_are_torchs_own(ours: Any, theirs: Any) -> None:
    """Weights are outputs first; torch's transposed convolution has its inputs first."""
    with torch.no_grad():
        ours.bias.copy_(torch.randn(ours.bias.shape, generator=draws(4)))
        turned = isinstance(theirs, nn.ConvTranspose2d)
        theirs.weight.copy_(ours.weight.transpose(0, 1) if turned else ours.weight)
        theirs.bias.copy_(ours.bias)
    x = torch.randn(2, 6, 8, 8, generator=draws(5))
    assert torch.equal(ours(x), theirs(x))


def test_pixel_norm_brings_each_pixel_to_mean_square_1() -> None:
    x = 30 * torch.randn(3, 6, 4, 4, generator=draws(6))
    result = pixel_norm(x)
    torch.testing.assert_close(result.square().mean(1), torch.ones(3, 4, 4))
    # Its direction stays, and no pixel and no image sees another.
    torch.testing.assert_close(nn.functional.cosine_similarity(result, x), torch.ones(3, 4, 4))
    torch.testing.assert_close(pixel_norm(x[1:2, :, 2:3, 2:3]), result[1:2, :, 2:3, 2:3])
    assert pixel_norm(torch.zeros(1, 2, 1, 1)).isfinite().all()


@pytest.mark.parametrize("widths", [(64, 64), (64, 64, 64, 64)])
def test_the_signal_keeps_its_size_through_the_depth(widths: tuple[int, ...]) -> None:
    """At the start a critic answers unit noise with scores of about 1, deep or shallow."""
    spec = DCGANConfig(widths=widths)
    critic, generator = spec.critic(1, draws(7)), spec.generator(1, draws(8))
    with torch.no_grad():
        noise = torch.randn(64, 1, spec.image_size, spec.image_size, generator=draws(9))
        images = generator(torch.randn(64, spec.latent_size, generator=draws(10)))
        scores = critic(noise)
    assert 0.3 < scores.square().mean().sqrt().item() < 3
    # Before its tanh the generator's signal is about 1 too: neither flat nor saturated.
    assert 0.3 < images.std().item() < 0.9
    assert images.abs().max() <= 1


def test_there_are_no_batch_statistics() -> None:
    spec = DCGANConfig(widths=(16, 8), blocks=1)
    for network in (spec.generator(1, draws()), spec.critic(1, draws())):
        assert not list(network.buffers())
    # An image alone is the image in a batch, in training mode too.
    generator, z = spec.generator(1, draws()).train(), torch.randn(5, 64, generator=draws(11))
    torch.testing.assert_close(generator(z[2:3]), generator(z)[2:3], rtol=1e-4, atol=1e-5)


def test_the_kind_may_be_left_out_and_is_r3gan_then() -> None:
    digits = {"dataset": {"kind": "digits"}}
    for network in ({}, {"widths": [32, 32]}, {"kind": "r3gan"}):
        config = TrainConfig.parse({**digits, "network": network})
        assert isinstance(config.network, R3GANConfig)
    chosen = TrainConfig.parse({**digits, "network": {"kind": "dcgan", "widths": [32, 16]}})
    assert chosen.network == DCGANConfig(widths=(32, 16))
    with pytest.raises(ConfigError, match=r"r3gan.*dcgan"):
        TrainConfig.parse({**digits, "network": {"kind": "stylegan"}})
    for widths in ([], [16, 0]):
        with pytest.raises(ConfigError, match="widths must name at least one stage"):
            DCGANConfig.parse({"widths": widths})


def test_settings_that_name_runs_are_what_they_were() -> None:
    """Adding a family must not make every trained GAN anew."""
    assert R3GANConfig().fingerprint() == "66c6d56432ed"
