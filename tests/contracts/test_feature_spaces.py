"""Contract of every member of the union AnyFeatureSpace."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file

from controlgen.base_config import BaseConfig
from controlgen.features import AnyFeatureSpace
from controlgen.features._torchvision import ensure_torchvision
from controlgen.features.self_supervised import ENCODER, WEIGHTS, EncoderDescription

MEMBERS = get_args(get_args(AnyFeatureSpace)[0])
TILES = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)

each_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.__name__)


def random_inception(folder: Path) -> dict[str, Any]:
    """Settings of Inception's first layers with random weights."""
    ensure_torchvision()
    from torchvision.models.inception import Inception3

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = Inception3(num_classes=1, aux_logits=False, init_weights=False).state_dict()
        biases = {name: torch.randn_like(w) for name, w in weights.items() if "bn.bias" in name}
    save_file(weights | biases, folder / "random.safetensors")
    return {"features": 64, "weights": folder / "random.safetensors"}


def random_encoder(folder: Path) -> dict[str, Any]:
    """Settings of an encoder with random weights."""
    values = {
        "tower": "resnet10t",
        "channels": 3,
        "feature_size": 16,
        "preprocessing": {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3},
    }
    description = EncoderDescription.parse(values)
    save_file(description.network().state_dict(), folder / WEIGHTS)
    (folder / ENCODER).write_text(json.dumps(description.to_dict()), encoding="utf-8")
    return {"path": folder}


# Members whose defaults need files that are no part of the repository.
SETTINGS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "inception-v3": random_inception,
    "self-supervised": random_encoder,
}
opened: dict[str, tuple[Any, Any]] = {}


@pytest.fixture
def config_and_space(member: type[Any], tmp_path: Path) -> tuple[Any, Any]:
    """Settings of a member and the space they open; opened once."""
    kind = member.model_fields["kind"].default
    if kind not in opened:
        config = member(**SETTINGS[kind](tmp_path) if kind in SETTINGS else {})
        opened[kind] = config, config.open()
    return opened[kind]


@each_member
def test_settings_belong_to_the_union(member: type[Any], config_and_space: tuple[Any, Any]) -> None:
    config, _ = config_and_space
    assert isinstance(config, BaseConfig) and config.name
    adapter: TypeAdapter[Any] = TypeAdapter(AnyFeatureSpace)
    assert adapter.validate_python(config.to_dict()) == config
    kinds = [item.model_fields["kind"].default for item in MEMBERS]
    assert kinds.count(config.kind) == 1


@each_member
def test_features_are_unit_rows_that_depend_on_their_image_alone(
    member: type[Any], config_and_space: tuple[Any, Any]
) -> None:
    _, space = config_and_space
    features = space.embed(TILES)
    assert features.shape == (len(TILES), space.size) and features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(space.embed(TILES, batch_size=2), features, atol=1e-5)
    assert space.embed(TILES[:0]).shape == (0, space.size)
    np.testing.assert_allclose(space.embed(TILES[3:4]), features[3:4], atol=1e-5)


@each_member
def test_grey_images_and_other_sizes_are_converted(
    member: type[Any], config_and_space: tuple[Any, Any]
) -> None:
    _, space = config_and_space
    grey = TILES[:, :1]
    same = space.embed(np.repeat(grey, 3, axis=1))
    np.testing.assert_allclose(space.embed(grey), same, atol=1e-5)
    assert space.embed(TILES[:2, :, :20, :28]).shape == (2, space.size)


@each_member
def test_dark_and_bright_grey_have_different_features(
    member: type[Any], config_and_space: tuple[Any, Any]
) -> None:
    """Normalising twice, with a clamp between, would give dark pixels one feature."""
    _, space = config_and_space
    pair = np.full((2, 3, 32, 32), 40, np.uint8)
    pair[1] = 90
    first, second = space.embed(pair)
    assert np.abs(first - second).max() > 1e-4


@each_member
def test_images_embed_like_pixels_and_pass_gradients(
    member: type[Any], config_and_space: tuple[Any, Any]
) -> None:
    _, space = config_and_space
    images = (torch.from_numpy(TILES[:2]).float() / 127.5 - 1).requires_grad_()
    features = space.embed_images(images)
    np.testing.assert_allclose(features.detach().numpy(), space.embed(TILES[:2]), atol=1e-4)
    (features[0] @ features[1]).backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


@each_member
def test_the_fingerprint_is_that_of_the_weights(
    member: type[Any], config_and_space: tuple[Any, Any]
) -> None:
    config, space = config_and_space
    assert len(space.fingerprint) == 12
    assert config.open().fingerprint == space.fingerprint


@each_member
def test_texts_have_unit_features_where_the_space_embeds_them(
    member: type[Any], config_and_space: tuple[Any, Any]
) -> None:
    _, space = config_and_space
    if not hasattr(space, "embed_text"):
        pytest.skip("this space embeds no text")
    features = space.embed_text(["a digit three", "a digit eight"])
    assert features.shape == (2, space.size)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    assert features[0] @ features[1] < 0.999
