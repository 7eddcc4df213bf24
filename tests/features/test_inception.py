"""Inception-v3 against torch-fidelity's own code with the same weights, and what it refuses."""

import os
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from skimage import data

from controlgen.errors import ArtifactCorrupt, ArtifactMissing, ConfigError
from controlgen.features import (
    AnyFeatureSpace,
    ClassifierSpace,
    EfficientNetLite0Config,
    InceptionV3Config,
    OpenClipConfig,
    UnnormalizedSpace,
)
from controlgen.features import inception as module
from controlgen.features._torchvision import ensure_torchvision
from controlgen.features.efficientnet import _weights_path
from controlgen.features.preprocessing import resize_like_tensorflow1
from controlgen.images import to_signed_float
from controlgen.types import Pixels

SHARED = Path(os.environ.get("CONTROLGEN_SHARED", Path(__file__).parents[3] / "shared"))
UP_TO_7A = SHARED / "weights" / "inception-2015-12-05-upto-Mixed_7a.safetensors"
needs_weights = pytest.mark.skipif(
    not UP_TO_7A.is_file(), reason=f"{UP_TO_7A} is absent; set CONTROLGEN_SHARED to its folder"
)


def crops(size: int) -> Pixels:
    """Two colour pictures (2 3 size size + 9)."""
    pictures = (data.astronaut()[:size, : size + 9], data.chelsea()[60 : 60 + size, 90 : 99 + size])
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))


@pytest.fixture(scope="module")
def fidelity() -> Any:
    """torch-fidelity's extractor of every layer, with random weights that keep scale."""
    ensure_torchvision()
    theirs = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    names = ["64", "192", "768", "2048", "logits_unbiased"]
    draws = torch.Generator().manual_seed(0)

    def fabricate_weights(*_: Any, **__: Any) -> dict[str, torch.Tensor]:
        from torchvision.models.inception import Inception3

        with torch.device("meta"):
            empty = Inception3(1008, aux_logits=False, init_weights=False).state_dict()
        result = {}
        for name, tensor in empty.items():
            if tensor.ndim > 1:
                spread = (2 / tensor[0].numel()) ** 0.5
                result[name] = torch.randn(tensor.shape, generator=draws) * spread
            elif name.endswith(("running_var", "bn.weight")):
                result[name] = torch.rand(tensor.shape, generator=draws) + 0.5
            else:
                result[name] = torch.randn(tensor.shape, generator=draws).to(tensor.dtype) * 0.1
        return result

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(theirs, "load_state_dict_from_url", fabricate_weights)
        return theirs.FeatureExtractorInceptionV3("inception", names)


def reference(extractor: Any, pixels: Pixels) -> dict[str, np.ndarray]:
    with torch.no_grad():
        rows = extractor(torch.from_numpy(pixels))
    return dict(zip(extractor.features_list, (row.numpy() for row in rows), strict=True))


@pytest.fixture(scope="module")
def weights_file(fidelity: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file({name: t.contiguous() for name, t in fidelity.state_dict().items()}, path)
    return path


def test_every_layer_agrees_with_torch_fidelity(fidelity: Any, weights_file: Path) -> None:
    pixels = crops(96)
    expected = reference(fidelity, pixels)
    for size in (64, 192, 768, 2048):
        space = InceptionV3Config(features=size, weights=weights_file).open()
        raw = space.embed_raw(pixels)
        assert raw.shape == (2, size) and isinstance(space, UnnormalizedSpace)
        scale = np.abs(expected[str(size)]).max()
        np.testing.assert_allclose(raw / scale, expected[str(size)] / scale, atol=1e-5)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    np.testing.assert_allclose(space.embed(pixels), raw / lengths, atol=1e-6)

    # The classes of the last layer, without the bias of the logits.
    assert isinstance(space, ClassifierSpace)
    logits = torch.from_numpy(expected["logits_unbiased"]).double()
    actual = space.probabilities(raw)
    assert actual.shape == (2, 1008)
    np.testing.assert_allclose(actual, logits.softmax(1).numpy(), atol=1e-4)


@needs_weights
def test_the_published_weights_agree_with_torch_fidelity_at_768(fidelity: Any) -> None:
    theirs = fidelity.state_dict()
    saved = {name: tensor.clone() for name, tensor in theirs.items()}
    fidelity.load_state_dict(theirs | load_file(UP_TO_7A))
    try:
        expected = reference(fidelity, crops(64))["768"]
    finally:
        fidelity.load_state_dict(saved)
    settings = InceptionV3Config(features=768, weights=UP_TO_7A)
    raw = settings.open().embed_raw(crops(64))
    np.testing.assert_allclose(raw, expected, rtol=1e-4, atol=1e-5)
    assert settings.name == "inception-v3-768"


@pytest.mark.parametrize("size", [(299, 299), (40, 64), (400, 31)])
def test_resizing_agrees_with_torch_fidelity(size: tuple[int, int]) -> None:
    ensure_torchvision()
    theirs = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    images = torch.rand((2, 3, *size), generator=torch.Generator().manual_seed(1))
    expected = theirs.interpolate_bilinear_2d_like_tensorflow1x(
        images, size=(299, 299), align_corners=False
    )
    torch.testing.assert_close(
        resize_like_tensorflow1(images, (299, 299)), expected, atol=2e-5, rtol=0
    )


def test_gradient_and_grey(weights_file: Path) -> None:
    space = InceptionV3Config(features=64, weights=weights_file).open()
    grey = crops(32)[:, :1]
    np.testing.assert_allclose(space.embed(grey), space.embed(grey.repeat(3, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(space.embed(grey), axis=1), 1, atol=1e-5)
    images = (to_signed_float(grey[:1]) * 0.8).requires_grad_()
    space.embed_images(images)[0, 0].backward()
    assert images.grad is not None and images.grad.abs().max() > 0


def test_weights_of_ones_own_tell_their_name(weights_file: Path) -> None:
    assert InceptionV3Config(weights=weights_file).name == "inception-v3-random"
    assert InceptionV3Config(features=64).name == "inception-v3-64"
    assert InceptionV3Config(features=64, weights=weights_file).name == "inception-v3-64-random"


def test_weights_that_reach_less_far_say_so(weights_file: Path, tmp_path: Path) -> None:
    stored = load_file(weights_file)
    short = {k: t for k, t in stored.items() if not k.startswith(("Mixed", "fc"))}
    save_file(short, tmp_path / "short.safetensors")
    with pytest.raises(ArtifactCorrupt, match="set features = 192"):
        InceptionV3Config(features=768, weights=tmp_path / "short.safetensors").open()
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ArtifactCorrupt, match="give the FID weights"):
        InceptionV3Config(features=64, weights=tmp_path / "other.safetensors").open()
    short["Conv2d_1a_3x3.conv.weight"] = torch.zeros(1)
    save_file(short, tmp_path / "odd.safetensors")
    with pytest.raises(ArtifactCorrupt, match="other shapes"):
        InceptionV3Config(features=64, weights=tmp_path / "odd.safetensors").open()


def test_files_that_are_none_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ArtifactCorrupt, match="no safetensors"):
        InceptionV3Config(weights=tmp_path / "bad.safetensors").open()
    for name in ("none.safetensors", "none.pth"):
        with pytest.raises(ArtifactMissing, match="none"):
            InceptionV3Config(weights=tmp_path / name).open()


def test_a_pickle_of_unknown_bytes_is_never_opened(tmp_path: Path) -> None:
    torch.save({"any": torch.zeros(1)}, tmp_path / "any.pth")
    with pytest.raises(ArtifactCorrupt, match="never opened"):
        InceptionV3Config(weights=tmp_path / "any.pth").open()


def test_what_cannot_be_fetched_says_where_to_put_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(module.torch.hub, "download_url_to_file", refused)
    with pytest.raises(ArtifactMissing) as caught:
        InceptionV3Config().open()
    assert str(tmp_path) in str(caught.value) and module.FILE in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_was_fetched_is_read_where_its_bytes_are_the_known_ones(
    fidelity: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / module.FILE

    def fetch(url: str, target: str, expected_sha256: str, progress: bool) -> None:
        assert (url, expected_sha256) == (module.URL, module.SHA256)
        torch.save(fidelity.state_dict(), target)

    monkeypatch.setattr(module.torch.hub, "download_url_to_file", fetch)
    with pytest.raises(ArtifactCorrupt, match="never opened"):
        InceptionV3Config(features=64).open()
    monkeypatch.setattr(module, "SHA256", module.sha256_of_weights(path, ""))
    assert InceptionV3Config(features=64).open().size == 64


def test_the_union_knows_it() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(AnyFeatureSpace)
    assert adapter.validate_python({"kind": "inception-v3"}) == InceptionV3Config()
    with pytest.raises(ConfigError, match="features"):
        InceptionV3Config.parse({"features": 512})


# EfficientNet-lite0's classes, kept apart from its features


def test_efficientnets_classes_are_those_of_the_whole_network() -> None:
    ensure_torchvision()
    import timm

    stored = torch.load(_weights_path(), map_location="cpu", weights_only=True)
    full = timm.create_model("tf_efficientnet_lite0")
    full.load_state_dict(dict(zip(full.state_dict(), stored.values(), strict=True)))
    space = EfficientNetLite0Config(image_size=224).open()
    square = data.coffee()[:400, 100:500].transpose(2, 0, 1)[None].copy()
    with torch.no_grad():
        expected = (
            full.eval()(space.preprocessing.apply(to_signed_float(square))).softmax(1).numpy()
        )
    actual = space.probabilities(space.embed_raw(square))
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert actual[0].argmax() == 967  # ImageNet's "espresso"


def test_efficientnets_features_are_what_they_were() -> None:
    # Maps on disk know the space they were fitted in by this fingerprint.
    assert EfficientNetLite0Config(image_size=128).open().fingerprint == "c975330ba474"


def test_spaces_name_the_numbers_made_in_them(tmp_path: Path) -> None:
    assert EfficientNetLite0Config(image_size=64).name == "efficientnet-lite0-64"
    assert OpenClipConfig().name == "clip-mini"
    assert OpenClipConfig(model="ViT-L-14-336/openai").name == "ViT-L-14-336-openai"
    assert OpenClipConfig(model="hf-hub:org/model").name == "org-model"
    assert OpenClipConfig(model=str(tmp_path / "mine")).name == "mine"
