"""Shared by all tests: no network, one torch thread, shape checks, small configurations."""

# ruff: noqa: E402 (the import hook must be in place before the library is imported)

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from jaxtyping import install_import_hook

# The array modules run with shape and dtype annotations checked. Modules that annotate with
# `Self` or with a Protocol that is not runtime-checkable cannot be decorated by beartype.
CHECKED = (
    "controlgen.rng",
    "controlgen.images",
    "controlgen.datasets",
    "controlgen.networks.resample",
    "controlgen.objectives.penalties",
)
install_import_hook(CHECKED, "beartype.beartype")

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import settings

# Assertions in shared helper modules are reported in detail, as in test files.
pytest.register_assert_rewrite(*(path.stem for path in Path(__file__).parent.glob("helpers/*.py")))

from controlgen import Editor, cli, stages
from controlgen.artifacts import ArtifactRef, Store
from controlgen.config import FitConfig, RunConfig, TrainConfig

# Properties have no deadline: machines may be busy.
settings.register_profile("controlgen", deadline=None)
settings.load_profile("controlgen")

TINY_NETWORK = {
    "kind": "r3gan",
    "widths": [16, 16],
    "blocks": 1,
    "patch": 4,
    "latent_size": 8,
}


# Tests that train, serve, evaluate or read images: `make test-fast` leaves them out.
SLOW_FIXTURES = {"line", "toy_clip", "harness", "tiny", "server", "page"}
SLOW_FOLDERS = {
    *("benchmarks", "cli", "datasets", "docs", "evaluation", "examples", "features", "flows"),
    *("golden", "metrics", "regressors", "serve", "slides", "stages", "synthetic", "training"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests by what they need, not one by one."""
    for item in items:
        folders = set(item.path.relative_to(Path(__file__).parent).parts)
        if folders & SLOW_FOLDERS or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Bits depend on how sums are split among threads, and workers must not fight for cores."""
    torch.set_num_threads(1)


@pytest.fixture
def global_randomness_untouched() -> Iterator[None]:
    """Fail a test that draws from torch's global generator."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state()), "torch's global generator was drawn from"


@pytest.fixture
def tiny_config() -> Callable[..., TrainConfig]:
    """Settings of a tiny training on scikit-learn's digits; keywords change them."""

    def make(**changes: Any) -> TrainConfig:
        chosen = {
            "dataset": {"kind": "digits"},
            "network": TINY_NETWORK,
            "objective": {"kind": "r3gan", "gamma": {"start": 1.0, "end": 0.1}},
            "batch_size": 8,
            "total_images": 64,
            "burn_in_images": 48,
            "learning_rate": {"start": 2e-3, "end": 5e-4},
            "ema_half_life": {"start": 0, "end": 40},
            "precision": "fp32",
            "seed": 3,
            "device": "cpu",
        }
        return TrainConfig.parse({**chosen, **changes})

    return make


@dataclass(frozen=True)
class Line:
    """The artifacts of a tiny run, from the GAN to the map, in their own store."""

    run: RunConfig
    overrides: list[str]
    store: Store
    gan: ArtifactRef
    bank: ArtifactRef
    features: ArtifactRef
    map: ArtifactRef

    @property
    def map_folder(self) -> Path:
        return self.store.path(self.map)

    def refitted(self, root: Path, **changes: Any) -> Path:
        """The folder of the map, fitted again with other settings in another store."""
        shutil.copytree(self.store.root, root)
        fit = FitConfig.parse({**self.run.fit.to_dict(), **changes})
        run, store = self.run.model_copy(update={"fit": fit}), Store(root)
        return store.path(stages.fit_map(run, self.gan, self.bank, self.features, store))


@pytest.fixture(scope="session")
def toy_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised CLIP of a few thousand weights (and its vocabulary) in a folder."""
    from safetensors.torch import save_file

    from controlgen.features._torchvision import ensure_torchvision

    ensure_torchvision()
    import open_clip

    model = {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    folder = tmp_path_factory.mktemp("clip") / "toy"
    folder.mkdir()
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3, "size": 32, "resize_mode": "squash"}
    described = {"model_cfg": model, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = open_clip.CLIP(**model).state_dict()
    save_file(
        {name: value.contiguous() for name, value in weights.items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


@pytest.fixture(scope="session")
def line(toy_clip: Path, one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Line:
    """configs/tiny.toml with a faster map and report, run once by the stages."""

    overrides = [
        f'embed.space={{ kind = "open_clip", model = "{toy_clip}" }}',
        "train.checkpoint_images=1_600",
        "train.precision=fp32",
        "train.device=cpu",
        "fit.held_out=160",
        "fit.map.warm_steps=30",
        "evaluate.samples=32",
        "evaluate.inversions=16",
        "evaluate.amounts=[1.0]",
        "evaluate.optimisation_steps=1",
        "evaluate.bootstraps=10",
    ]
    run = RunConfig.load(Path(__file__).parents[1] / "configs" / "tiny.toml", overrides)
    store = Store(tmp_path_factory.mktemp("line") / "store")
    gan = stages.train_gan(run.name, run.train, store)
    bank = stages.draw_samples(run, gan, store)
    features = stages.embed_images(run.name, run.embed, bank, store)
    fitted = stages.fit_map(run, gan, bank, features, store)
    return Line(run, overrides, store, gan, bank, features, fitted)


@pytest.fixture(scope="session")
def believed(line: Line, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny run's map, fitted again with a confidence model."""
    audit = {"kind": "efficientnet-lite0", "image_size": 32}
    values = {"targets": 60, "stored": 50, "audit": audit}
    folder = line.refitted(tmp_path_factory.mktemp("believed") / "store", reachability=values)
    assert folder.name != line.map.name
    return folder


@pytest.fixture(scope="module")
def editor(line: Line) -> Editor:
    """The Editor of the tiny run."""
    return Editor.load(line.map_folder)


class Answer(NamedTuple):
    """The result of a command line."""

    code: int
    out: str
    err: str


@pytest.fixture
def command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Run an entry point in this process with the given arguments."""

    def run(entry: Callable[[], None], *words: object) -> Answer:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [*map(str, words)])
        try:
            entry()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        answer = capsys.readouterr()
        return Answer(code, answer.out, answer.err)

    return run


@pytest.fixture
def controlgen(command_line: Callable[..., Answer]) -> Callable[..., Answer]:
    """Run `controlgen ...` in this process through the installed entry point."""
    return partial(command_line, cli.main, "controlgen")
