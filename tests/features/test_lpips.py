"""LPIPS against torchmetrics on the same weights; where weights are found; what is refused."""

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch

from controlgen import stages
from controlgen.artifacts import Store
from controlgen.config import CompareConfig, EvaluateConfig, RunConfig
from controlgen.errors import ArtifactCorrupt, ArtifactMissing, ConfigError, Incompatible
from controlgen.evaluation.scores import ReferenceSet, path_length_score
from controlgen.features import EfficientNetLite0Config, LpipsConfig
from controlgen.features import lpips as module
from controlgen.features._torchvision import ensure_torchvision
from controlgen.images import to_signed_float
from controlgen.metrics.perceptual import ImageDistance, open_distance

ensure_torchvision()
theirs: Any = pytest.importorskip("torchmetrics.functional.image.lpips")
models: Any = pytest.importorskip("torchvision.models")

NETS = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
CONFIGS = Path(__file__).parents[2] / "configs"


def random_images(n: int, size: int, seed: int, channels: int = 3) -> Any:
    shape = n, channels, size, size + 3
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def random_features() -> Any:
    """torchvision's feature layers of each net, as they are before any training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        result = {net: getattr(models, name)(weights=None).features for net, name in NETS.items()}
    return {net: features.eval() for net, features in result.items()}


@pytest.fixture(scope="module")
def cache(random_features: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """torch's cache with those weights, named as published files are; (TORCH_HOME, names)."""
    home, names = tmp_path_factory.mktemp("torch"), {}
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    for net, features in random_features.items():
        stored = {f"features.{name}": value for name, value in features.state_dict().items()}
        torch.save({**stored, "classifier.1.bias": torch.zeros(3)}, folder / net)
        digits = hashlib.sha256((folder / net).read_bytes()).hexdigest()[:8]
        names[net] = (folder / net).rename(folder / f"{net}-{digits}.pth").name
    return home, names


@pytest.fixture
def cached(cache: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the weights, which are the published ones for this test."""
    home, names = cache
    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setattr(module, "FILES", names)
    return Path(home) / "hub" / "checkpoints"


def reference(net: str, features: Any, a: Any, b: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """torchmetrics' own answer, its backbone handed to it."""
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda *_, **__: features[net])
    compare = theirs.learned_perceptual_image_patch_similarity
    return compare(to_signed_float(a), to_signed_float(b), net_type=net, reduction="none").numpy()


@pytest.mark.parametrize("net", NETS)
def test_it_is_torchmetrics_number(
    net: str, cached: Path, random_features: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = random_images(5, 48, 0), random_images(5, 48, 1)
    opened = open_distance(LpipsConfig.parse({"net": net}))
    actual = opened.distance(a, b)
    expected = reference(net, random_features, a, b, monkeypatch)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    assert opened.name == f"LPIPS-{net}" and actual.shape == (5,) and actual.min() > 0
    np.testing.assert_array_equal(opened.distance(a, a), 0)
    np.testing.assert_allclose(
        opened.image_distance(to_signed_float(a).numpy(), to_signed_float(b).numpy()),
        actual,
        rtol=1e-6,
    )


def test_torchmetrics_finds_the_same_file_in_torchs_cache(cached: Path, tmp_path: Path) -> None:
    # The whole way of their own loader, with the smallest of the nets.
    full = models.squeezenet1_1(weights=None).state_dict()
    stored = torch.load(cached / module.FILES["squeeze"], weights_only=True)
    full |= {name: value for name, value in stored.items() if name.startswith("features")}
    torch.save(full, cached / "squeezenet1_1-b8a52dc0.pth")
    a, b = random_images(3, 40, 2), random_images(3, 40, 3)
    compare = theirs.learned_perceptual_image_patch_similarity
    expected = compare(to_signed_float(a), to_signed_float(b), net_type="squeeze", reduction="none")
    actual = open_distance(LpipsConfig(net="squeeze")).distance(a, b)
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-6)


@pytest.fixture
def squeeze(cached: Path) -> ImageDistance:
    return open_distance(LpipsConfig(net="squeeze"))


def test_grey_is_as_grey_in_three_channels_and_nothing_counts_beyond_white(
    squeeze: ImageDistance,
) -> None:
    a, b = random_images(70, 24, 4, 1), random_images(70, 24, 5, 1)
    coloured = [np.repeat(side, 3, axis=1) for side in (a, b)]
    np.testing.assert_allclose(squeeze.distance(a, b), squeeze.distance(*coloured), rtol=1e-6)
    assert squeeze.distance(a[:0], b[:0]).shape == (0,)
    bright = np.ones((1, 3, 24, 24))
    assert squeeze.image_distance(bright, 3 * bright).tolist() == [0]
    with pytest.raises(Incompatible, match="LPIPS-squeeze: compares images pair by pair"):
        squeeze.distance(a, b[:2])


@pytest.mark.parametrize("net", NETS)
def test_images_too_small_for_a_net_are_refused_and_no_others(net: Any, cached: Path) -> None:
    opened, least = open_distance(LpipsConfig(net=net)), module.LEAST[net]
    a, b = (random_images(1, least, seed)[..., :least] for seed in (6, 7))
    assert opened.distance(a, b).shape == (1,)
    with pytest.raises(Incompatible, match=f"{least} x {least} pixels or more, not {least - 1} x"):
        opened.distance(a[:, :, 1:], b[:, :, 1:])
    with pytest.raises(RuntimeError, match="too small"):
        opened._between.network(*(to_signed_float(side[:, :, 1:]) for side in (a, b)))  # type: ignore[attr-defined]


# Weights


def test_a_folder_may_be_named_and_does_not_change_what_it_is(
    cached: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    by_name = LpipsConfig(net="squeeze", weights=cached)
    assert (
        by_name.fingerprint()
        == LpipsConfig(net="squeeze").fingerprint()
        != LpipsConfig().fingerprint()
    )
    assert open_distance(by_name).distance(random_images(1, 20, 0), random_images(1, 20, 1))[0] > 0
    with pytest.raises(ArtifactMissing, match=f"holds no {module.FILES['squeeze']}; fetch it from"):
        LpipsConfig(net="squeeze", weights=tmp_path).open()


def test_what_cannot_be_fetched_says_what_was_tried_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(url: str, target: str, expected_sha256: str, progress: bool) -> None:
        assert (url, expected_sha256) == (f"{module.SERVER}vgg16-397923af.pth", "397923af")
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
    with pytest.raises(ArtifactMissing) as caught:
        LpipsConfig(net="vgg").open()
    text = str(caught.value)
    assert all(part in text for part in ("no network", str(tmp_path), "--lpips-weights"))
    assert "\n" not in text


def test_only_published_bytes_are_opened(cached: Path, tmp_path: Path) -> None:
    other = tmp_path / module.FILES["squeeze"]
    torch.save({"any": torch.zeros(1)}, other)
    with pytest.raises(ArtifactCorrupt, match="not the published squeeze"):
        LpipsConfig(net="squeeze", weights=tmp_path).open()


def test_weights_of_another_network_are_refused(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILES", {"alex": module.FILES["squeeze"]})
    with pytest.raises(ArtifactCorrupt, match="holds other weights than LPIPS-alex's"):
        LpipsConfig(net="alex").open()


def test_without_torchmetrics_it_says_what_to_install(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image.lpips", None)
    with pytest.raises(ConfigError, match=r"pip install 'controlgen\[lpips\]'"):
        LpipsConfig(net="squeeze").open()


# Where it is asked for


def test_a_reference_takes_it_in_place_of_pd(squeeze: ImageDistance) -> None:
    sides = [random_images(20, 32, seed) for seed in (8, 9)]
    space = EfficientNetLite0Config(image_size=32)
    reference = ReferenceSet(sides[1], None, space.open(), space.name, 0, perceptual=squeeze)
    actual = reference.scores(sides[0], only=["diversity", "nearest"])
    assert [item.name for item in actual] == [
        "LPIPS-squeeze diversity",
        "LPIPS-squeeze to nearest real",
    ]
    assert all(item.value.mean > 0 for item in actual)

    def generate(latents: Any) -> torch.Tensor:
        return torch.from_numpy(np.tanh(np.tile(latents, (1, 3 * 20 * 5)))).view(-1, 3, 20, 20)

    score = path_length_score(generate, 4, 0, 8, squeeze)
    assert score.name == "PPL-LPIPS-squeeze" and score.value.mean > 0


def test_score_asks_for_it_by_net(controlgen: Any, cached: Path, tmp_path: Path) -> None:
    words = ("score", "digits", "digits:test", "--extractor", "efficientnet-lite0-32", "--n", "24")
    options = ("--metrics", "diversity,nearest", "--lpips")
    code, out, _ = controlgen(*words, *options, "squeeze", "--lpips-weights", cached)
    assert code == 0
    assert "| LPIPS-squeeze diversity |" in out and "| LPIPS-squeeze to nearest real |" in out

    for arguments, message in (
        (("--lpips", "resnet"), "--lpips resnet: net: input should be 'alex', 'vgg' or 'squeeze'"),
        (("--lpips-weights", tmp_path), "requires --lpips"),
        (("--lpips", "alex", "--lpips-weights", tmp_path), "holds no alex-"),
    ):
        code, out, err = controlgen(*words, *arguments)
        assert (code, out) == (2, "")
        assert message in err.splitlines()[-1]


def test_runs_that_do_not_ask_for_it_keep_their_names() -> None:
    plain = EvaluateConfig()
    assert "perceptual" not in plain.identity()
    with_lpips = EvaluateConfig.parse({"perceptual": {"net": "vgg"}})
    assert (
        with_lpips.perceptual == LpipsConfig(net="vgg")
        and with_lpips.fingerprint() != plain.fingerprint()
    )
    compare = CompareConfig.load(CONFIGS / "compare-mnist.toml", ["perceptual.net=squeeze"])
    assert compare.identity()["perceptual"] == {"net": "squeeze"}


def test_a_report_measures_with_it(line: Any, cached: Path, tmp_path: Path) -> None:
    run = RunConfig.load(
        CONFIGS / "tiny.toml", [*line.overrides, 'evaluate.perceptual={net="squeeze"}']
    )
    # In a copy, for the tests share the store.
    shutil.copytree(line.store.root, tmp_path / "store")
    store = Store(tmp_path / "store")
    ref = stages.evaluate(run, line.map, line.bank, line.features, store)
    assert "LPIPS-squeeze" in (store.path(ref) / "report.md").read_text()
