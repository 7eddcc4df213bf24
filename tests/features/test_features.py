"""Feature spaces agree with their libraries and refuse what they cannot trust."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter
from safetensors.torch import save_file

from controlgen.errors import ArtifactCorrupt, ArtifactMissing, ConfigError
from controlgen.features import (
    AnyFeatureSpace,
    EfficientNetLite0Config,
    OpenClipConfig,
    OpenClipSpace,
    SelfSupervisedConfig,
)
from controlgen.features._torchvision import ensure_torchvision
from controlgen.images import to_signed_float
from controlgen.types import Pixels

PREPROCESSINGS: dict[str, dict[str, Any]] = {
    "shortest-48-bicubic": {"size": 48, "interpolation": "bicubic", "resize_mode": "shortest"},
    "longest-32-bilinear-grey-border": {
        "size": 32,
        "interpolation": "bilinear",
        "resize_mode": "longest",
        "fill_color": 100,
    },
    "squash-40-bicubic": {"size": 40, "interpolation": "bicubic", "resize_mode": "squash"},
}
SIZES = [(32, 32), (48, 48), (64, 41), (37, 90), (150, 151), (20, 28)]


def write_clip(folder: Path, preprocess: dict[str, Any]) -> Path:
    """A small randomly initialised CLIP in a folder, as open_clip keeps one."""
    ensure_torchvision()
    import open_clip

    side = preprocess["size"]
    model = {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": side,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 1,
        },
    }
    preprocess = {"mean": [0.45, 0.4, 0.5], "std": [0.3, 0.25, 0.2], **preprocess}
    torch.manual_seed(0)
    network = open_clip.CLIP(**model)
    folder.mkdir(parents=True)
    config = {"model_cfg": model, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module", params=list(PREPROCESSINGS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "toy", PREPROCESSINGS[request.param])


@pytest.fixture(scope="module")
def space(folder: Path) -> OpenClipSpace:
    return OpenClipConfig(model=str(folder)).open()


@pytest.fixture(scope="module")
def efficientnet() -> Any:
    return EfficientNetLite0Config(image_size=64).open()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An untrained self-supervised encoder, through its folder."""
    from controlgen.config import EncoderConfig
    from controlgen.training.vicreg import EncoderState, export

    config = EncoderConfig.parse(
        {"dataset": {"kind": "digits"}, "augment": {"kind": "digits"}, "tower": "test_resnet"}
    )
    folder = tmp_path_factory.mktemp("encoder")
    export(EncoderState(config, (1, 32, 32)), folder)
    return SelfSupervisedConfig(path=folder).open()


def random_picture(channels: int, height: int, width: int) -> Pixels:
    """A blocky random image: edges, so that filters matter, but not only noise."""
    draws = np.random.default_rng(height * 1000 + width)
    coarse = draws.integers(0, 256, (channels, -(-height // 8), -(-width // 8)), np.uint8)
    blocks = coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width]
    return np.ascontiguousarray(blocks[None])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_agrees_with_open_clips_own_preprocessing(
    folder: Path, space: OpenClipSpace, tmp_path: Path, size: tuple[int, int], channels: int
) -> None:
    import open_clip

    pixels = random_picture(channels, *size)
    plane = pixels[0].transpose(1, 2, 0)
    Image.fromarray(plane[..., 0] if channels == 1 else plane).save(tmp_path / "picture.png")
    network, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    network.eval()
    with Image.open(tmp_path / "picture.png") as opened, torch.no_grad():
        wanted_input = preprocess(opened)[None]
        expected = network.encode_image(wanted_input, normalize=True)[0].numpy()
    recorded = space.preprocessing.apply(to_signed_float(pixels))
    assert recorded.shape == wanted_input.shape
    # Pillow rounds to bytes after each of its two passes and has its own fixed-point filters.
    assert (recorded - wanted_input).abs().mean() < 1 / 255 / 0.2
    assert space.embed(pixels)[0] @ expected > 0.999


def test_text_agrees_with_open_clip(folder: Path, space: OpenClipSpace) -> None:
    import open_clip

    network, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["a thin seven", "eight"])
    with torch.no_grad():
        expected = network.eval().encode_text(tokens, normalize=True).numpy()
    np.testing.assert_allclose(space.embed_text(["a thin seven", "eight"]), expected, atol=1e-5)


@pytest.mark.parametrize("texts", [[], [""], ["a seven", "  \n"]])
def test_blank_text_is_refused(space: OpenClipSpace, texts: list[str]) -> None:
    with pytest.raises(ConfigError, match="blank"):
        space.embed_text(texts)


@pytest.mark.parametrize("which", ["space", "encoder"])
def test_two_greys_embed_differently(
    which: str, request: pytest.FixtureRequest, space: OpenClipSpace
) -> None:
    space = request.getfixturevalue(which)
    greys = np.stack([np.full((1, 32, 32), shade, np.uint8) for shade in (0, 10, 20, 200, 255)])
    features = space.embed(greys)
    gram = features @ features.T
    assert (gram[~np.eye(5, dtype=bool)] < 1 - 1e-6).all()


@pytest.mark.parametrize("which", ["space", "efficientnet", "encoder"])
def test_embeds_unit_rows_in_any_batch_size(
    which: str, request: pytest.FixtureRequest, space: OpenClipSpace
) -> None:
    chosen = request.getfixturevalue(which)
    pixels = np.concatenate([random_picture(1, 32, 32) // (i + 1) for i in range(5)])
    features = chosen.embed(pixels)
    assert features.shape == (5, chosen.size) and features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(chosen.embed(pixels, batch_size=2), features, atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(
            chosen.embed_images(to_signed_float(pixels)), features, atol=1e-5
        )


@pytest.mark.parametrize("which", ["space", "efficientnet", "encoder"])
def test_gradient_reaches_the_image(
    which: str, request: pytest.FixtureRequest, space: OpenClipSpace
) -> None:
    chosen = request.getfixturevalue(which)
    image = (to_signed_float(random_picture(1, 30, 30)) * 0.8).requires_grad_()
    (chosen.embed_images(image)[0] @ torch.arange(float(chosen.size))).backward()
    assert image.grad is not None and image.grad.abs().max() > 0
    assert all(weight.grad is None for weight in chosen.network.parameters())


def test_fingerprint_follows_weights_and_preprocessing(tmp_path: Path) -> None:
    values = PREPROCESSINGS["squash-40-bicubic"]
    first = OpenClipConfig(model=str(write_clip(tmp_path / "a", values))).open()
    again = OpenClipConfig(model=str(write_clip(tmp_path / "b", values))).open()
    other = OpenClipConfig(model=str(write_clip(tmp_path / "c", values | {"fill_color": 9}))).open()
    assert first.fingerprint == again.fingerprint != other.fingerprint
    changed = write_clip(tmp_path / "d", values) / "open_clip_model.safetensors"
    from safetensors.torch import load_file

    weights = load_file(changed)
    weights["text_projection"][0, 0] += 0.001
    save_file(weights, changed)
    assert OpenClipConfig(model=str(changed.parent)).open().fingerprint != first.fingerprint


def test_a_plain_name_is_looked_up_in_the_given_folders_first(tmp_path: Path) -> None:
    write_clip(tmp_path / "mine", PREPROCESSINGS["squash-40-bicubic"])
    assert OpenClipConfig(model="mine").open([tmp_path / "empty", tmp_path]).size == 24
    with pytest.raises(ArtifactMissing, match="mine"):
        OpenClipConfig(model="mine").open([tmp_path / "empty"])


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "pickled", PREPROCESSINGS["squash-40-bicubic"])
    (folder / "open_clip_model.safetensors").rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ArtifactMissing, match="pickle"):
        OpenClipConfig(model=str(folder)).open()


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "odd", PREPROCESSINGS["squash-40-bicubic"])
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["embed_dim"] = 25
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactCorrupt, match="odd"):
        OpenClipConfig(model=str(folder)).open()


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("hf-hub:laion/no-such-model", ConfigError),
        ("ViT-B-32/laion2b_s34b_b79k", ConfigError),
        ("ViT-B-32/no-such-tag", ConfigError),
        ("no-such-folder", ArtifactMissing),
        ("./no/such/folder", ArtifactMissing),
    ],
)
def test_what_cannot_be_had_is_one_line(
    model: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(error) as caught:
        OpenClipConfig(model=model, cache=tmp_path).open()
    assert "\n" not in str(caught.value) and model in str(caught.value)


def test_efficientnet_copies_weights_of_the_same_kind(efficientnet: Any) -> None:
    from controlgen.features.efficientnet import _weights_path

    # By order means that each tensor lands on one of the same name ending and shape.
    stored = torch.load(_weights_path(), map_location="cpu", weights_only=True)
    pairs = list(zip(efficientnet.network.state_dict().items(), stored.items(), strict=False))
    assert len(pairs) == len(efficientnet.network.state_dict()) == len(stored) - 2
    for (name, mine), (theirs_name, theirs) in pairs:
        assert name.split(".")[-1] == theirs_name.split(".")[-1]
        assert torch.equal(mine, theirs)


def test_efficientnet_tells_textures_apart(efficientnet: Any) -> None:
    # Stripes of any phase are closer to stripes than to checks, which random weights do not grant.
    y, x = np.mgrid[:64, :64]
    stripes = [np.where((x + phase) // 8 % 2, 230, 20) for phase in (0, 3, 5)]
    checks = [np.where(((x + phase) // 8 + y // 8) % 2, 230, 20) for phase in (0, 3, 5)]
    features = efficientnet.embed(np.stack(stripes + checks)[:, None].astype(np.uint8))
    gram = features @ features.T
    assert gram[:3, :3].min() > gram[:3, 3:].max() and gram[3:, 3:].min() > gram[:3, 3:].max()


def test_the_union_reads_either_kind_and_refuses_others() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(AnyFeatureSpace)
    assert adapter.validate_python({"kind": "open_clip"}) == OpenClipConfig()
    assert adapter.validate_python({"kind": "efficientnet-lite0"}) == EfficientNetLite0Config()
    chosen = adapter.validate_python({"kind": "self-supervised", "path": "mine"})
    assert chosen == SelfSupervisedConfig(path=Path("mine"))
    with pytest.raises(ValueError, match="kind"):
        adapter.validate_python({"kind": "inception"})
