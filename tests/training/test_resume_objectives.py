"""Every objective, on both networks: a killed and resumed training equals an uninterrupted one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file

from controlgen.config import TrainConfig
from controlgen.editing.checkpoint import load_generator, save_generator
from controlgen.errors import ArtifactCorrupt
from controlgen.networks.spectral_norm import SpectralNorm
from controlgen.objectives import AnyObjective
from controlgen.training import TrainState, train

pytestmark = pytest.mark.usefixtures("global_randomness_untouched")

STEPS, BATCH = 4, 4
DCGAN = {"kind": "dcgan", "widths": [16, 8], "patch": 2, "latent_size": 8}
KINDS = [member().kind for member in get_args(get_args(AnyObjective)[0])]
# Every member as it comes, and the settings that change what a checkpoint must hold.
OBJECTIVES: dict[str, dict[str, Any]] = {kind: {"kind": kind} for kind in KINDS} | {
    "wgan by adam": {"kind": "wgan", "rmsprop": False},
    "wgan-sn on both": {"kind": "wgan-sn", "normalised": "both"},
    "minimax with R1 and R2": {"kind": "minimax", "gamma": {"start": 1, "end": 0.1}},
    "non-saturating with R1 and R2": {"kind": "non-saturating", "gamma": 1},
}
# Both networks where a network's weights are treated by name; else they take turns.
RUNS = {f"{name}, {turn % 2}": (name, turn % 2) for turn, name in enumerate(OBJECTIVES)} | {
    f"wgan-sn on both, {network}": ("wgan-sn on both", network) for network in (0, 1)
}

# A child of one process trains and saves after every step; it is killed after the second, while it
# makes the next, and another child that knows only the file goes on.
SUPERVISOR = """
import json, os, signal, sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from controlgen.config import TrainConfig
from controlgen.training import TrainState, train

torch.set_num_threads(1)
folder = Path(sys.argv[1])


def attempt(config, dataset, path, pipe):
    state = TrainState(config, dataset.image_shape)
    if path.exists():
        state.restore(load_file(path))
    for _ in train(config, dataset, state):
        save_file(state.tensors(), path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
        os.write(pipe, b".")


for name, settings in json.loads((folder / "runs.json").read_text()).items():
    config, path = TrainConfig.parse(settings), folder / f"{name}.safetensors"
    dataset = config.dataset.open()
    # What torch imports at the first step is imported here, once, and not in every child.
    next(train(config, dataset, TrainState(config, dataset.image_shape)))
    seen = []
    for kill in (True, False):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            attempt(config, dataset, path, writing)
            os._exit(0)
        os.close(writing)
        if kill:
            for _ in range(2):
                os.read(reading, 1)
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status) != kill:
            sys.exit(f"{name}: an attempt ended in an unexpected way ({status})")
        seen.append(int(load_file(path)["images_seen"]))
    path.with_suffix(".json").write_text(json.dumps(seen))
"""


@pytest.fixture
def configured(tiny_config: Callable[..., TrainConfig]) -> Callable[[str], TrainConfig]:
    def make(run: str) -> TrainConfig:
        name, network = RUNS[run]
        objective = OBJECTIVES[name]
        critic_steps = 1 if objective["kind"] == "r3gan" else 2
        images = STEPS * BATCH * critic_steps
        return tiny_config(
            objective={**objective, "critic_steps": critic_steps},
            batch_size=BATCH,
            total_images=images,
            burn_in_images=images,
            **({"network": DCGAN} if network else {}),
        )

    return make


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resumed")


def finished(config: TrainConfig) -> TrainState:
    dataset = config.dataset.open()
    state = TrainState(config, dataset.image_shape)
    for _ in train(config, dataset, state):
        pass
    return state


@pytest.mark.parametrize("run", RUNS)
def test_killed_and_resumed_equals_uninterrupted(
    run: str, folder: Path, configured: Callable[[str], TrainConfig]
) -> None:
    # The first to come kills and resumes them all, in one process.
    if not (folder / "runs.json").exists():
        settings = {name: configured(name).to_dict() for name in RUNS}
        (folder / "runs.json").write_text(json.dumps(settings))
        (folder / "supervisor.py").write_text(SUPERVISOR)
        root = str(Path(__file__).parents[2])
        environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(folder / "supervisor.py"), str(folder)]
        subprocess.run(command, check=True, env=environment, timeout=300)
    config = configured(run)
    killed_at, ended_at = json.loads((folder / f"{run}.json").read_text())
    assert 0 < killed_at < ended_at == config.total_images
    actual, expected = load_file(folder / f"{run}.safetensors"), finished(config).tensors()
    assert actual.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []
    # What the optimiser and the norm carry from step to step is in the file, and both nets moved.
    objective, fresh = config.objective, TrainState(config, (1, 32, 32)).tensors()
    assert {name.split("/")[0] for name in expected if "_" in name.split("/")[0]} == {
        "images_seen",
        f"generator_{objective.optimiser}",
        f"critic_{objective.optimiser}",
    }
    for part, normed in (
        ("critic", objective.spectral_norm != "none"),
        ("generator", objective.spectral_norm == "both"),
    ):
        vectors = [name for name in expected if name.startswith(f"{part}/left/")]
        assert bool(vectors) == normed
        shifted = [name for name in fresh if not torch.equal(fresh[name], expected[name])]
        # The vector of a layer with one output is 1 or -1, and stays.
        assert {name for name in vectors if expected[name].numel() > 1} <= set(shifted)
        assert any(name.startswith(f"{part}/") and "weight" in name for name in shifted)


def test_clipping_holds_in_a_training(configured: Callable[[str], TrainConfig]) -> None:
    run = next(name for name in RUNS if name.startswith("wgan, "))
    state = finished(configured(run))
    assert all(weight.abs().max() <= 0.01 for weight in state.critic.parameters())
    assert any(weight.abs().max() > 0.01 for weight in state.generator.parameters())


def test_rmsprop_is_as_published(configured: Callable[[str], TrainConfig]) -> None:
    """s <- a s + (1 - a) g^2; w <- w - lr g / (sqrt(s) + eps), with beta2 of the settings as a."""
    config = configured(next(name for name in RUNS if name.startswith("wgan, ")))
    state = TrainState(config, (1, 32, 32))
    weight = next(iter(state.generator.parameters()))
    expected, square = weight.detach().clone(), torch.zeros_like(weight)
    for step, (rate, beta2) in enumerate([(1e-3, 0.9), (5e-4, 0.95)]):
        gradient = torch.full_like(weight, 0.5 + step)
        weight.grad = gradient
        state.schedule(rate, beta2)
        state.generator_optimiser.step()
        square = beta2 * square + (1 - beta2) * gradient**2
        expected = expected - rate * gradient / (square.sqrt() + 1e-8)
    torch.testing.assert_close(weight.detach(), expected)


@pytest.mark.parametrize("network", [0, 1])
def test_a_generator_under_spectral_norm_is_saved_plain(
    network: int, tmp_path: Path, configured: Callable[[str], TrainConfig]
) -> None:
    config = configured(f"wgan-sn on both, {network}")
    config = config.model_copy(update={"ema_half_life": type(config.ema_half_life)(start=0, end=0)})
    state = finished(config)
    assert isinstance(state.generator, SpectralNorm)
    save_generator(tmp_path, state.average, config.network, 1)
    loaded, shape = load_generator(tmp_path)
    assert shape == (1, 32, 32) and type(loaded) is type(state.generator.network)
    # With a half-life of 0 the average is what acts now, to the bit.
    latents = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        # The generator made one power iteration after it was averaged: none is made in between.
        assert torch.equal(loaded(latents), state.generator(latents))
    # Trained on from there, the new run's average begins as its generator acts.
    begun = TrainState(config, (1, 32, 32))
    begun.start_from(loaded)
    with torch.no_grad():
        assert torch.equal(begun.average(latents), begun.generator(latents))
        torch.testing.assert_close(begun.average(latents), loaded(latents), rtol=0.05, atol=0.05)


def test_a_checkpoint_without_its_second_moments_is_refused(
    configured: Callable[[str], TrainConfig],
) -> None:
    state = finished(configured(next(name for name in RUNS if name.startswith("wgan, "))))
    by_name = state.tensors()
    missing = next(name for name in by_name if name.startswith("critic_rmsprop/square_avg/"))
    del by_name[missing]
    with pytest.raises(ArtifactCorrupt, match="square_avg"):
        state.restore(by_name)
