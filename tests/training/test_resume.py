"""Training, killed by SIGKILL and run again: bit-exact."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from controlgen.config import TrainConfig
from training_runs import WGAN_GP, assert_same_bits, uninterrupted

pytestmark = pytest.mark.usefixtures("global_randomness_untouched")

RUNS: dict[str, dict[str, Any]] = {
    "r3gan": {"total_images": 8 * 40, "precision": "auto"},
    "wgan-gp": {"objective": WGAN_GP, "total_images": 16 * 40},
    "accumulated": {"accumulate": 2, "total_images": 8 * 40},
}

# One process imports the library once; every attempt is a child of it that knows nothing but the
# checkpoint on disk. The child writes a byte after each step; its parent waits for a random number
# of them, then a random part of a step, and sends SIGKILL, which no code can see coming.
SUPERVISOR = """
import json, os, random, signal, sys, time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from controlgen.config import TrainConfig
from controlgen.training import TrainState, train

torch.set_num_threads(1)


def attempt(config, dataset, path, pipe):
    state = TrainState(config, dataset.image_shape)
    if path.exists():
        state.restore(load_file(path))
    for progress in train(config, dataset, state):
        partial = path.with_suffix(".partial")
        save_file(state.tensors(), partial)
        partial.replace(path)
        os.write(pipe, b".")


def killed_run(config, path, kills, dice):
    # What torch imports at the first step is imported here, once, and not in every child.
    dataset = config.dataset.open()
    next(train(config, dataset, TrainState(config, dataset.image_shape)))
    seen = []
    while True:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            attempt(config, dataset, path, writing)
            os._exit(0)
        os.close(writing)
        if len(seen) < kills:
            for _ in range(dice.randint(1, 4)):
                os.read(reading, 1)
            time.sleep(dice.uniform(0, 0.01))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(reading)
        if not os.WIFSIGNALED(status):
            if status:
                sys.exit("an attempt failed")
            return seen
        seen.append(int(load_file(path)["images_seen"]))


folder, kills = Path(sys.argv[1]), int(sys.argv[2])
runs = json.loads((folder / "runs.json").read_text())
dice = random.Random()
killed_at = {}
for name, settings in runs.items():
    path = folder / f"{name}.safetensors"
    killed_at[name] = killed_run(TrainConfig.parse(settings), path, kills, dice)
(folder / "killed_at.json").write_text(json.dumps(killed_at))
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """Runs every configuration in the supervisor, once; gives the folder of final states."""
    folder = tmp_path_factory.mktemp("killed")

    def run(configs: dict[str, TrainConfig]) -> Path:
        if not (folder / "killed_at.json").exists():
            settings = {name: config.to_dict() for name, config in configs.items()}
            (folder / "runs.json").write_text(json.dumps(settings))
            script = folder / "supervisor.py"
            script.write_text(SUPERVISOR)
            root = Path(__file__).parents[2]
            environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, str(script), str(folder), "5"]
            subprocess.run(command, check=True, env=environment, timeout=300)
        return folder

    yield run


@pytest.mark.parametrize("name", RUNS)
def test_resume_after_sigkill_is_bit_exact(
    name: str, killed: Callable[..., Path], tiny_config: Callable[..., TrainConfig]
) -> None:
    configs = {run: tiny_config(**changes) for run, changes in RUNS.items()}
    folder = killed(configs)
    # Every kill hit in the middle of training, and every attempt went on from the one before.
    killed_at = json.loads((folder / "killed_at.json").read_text())[name]
    total = configs[name].total_images
    assert len(killed_at) == 5
    assert killed_at == sorted(set(killed_at))
    assert killed_at[0] > 0 and killed_at[-1] < total
    # The final weights, averages and moments equal those of a run that was left alone.
    state, _ = uninterrupted(configs[name])
    assert state.images_seen == total
    assert_same_bits(load_file(folder / f"{name}.safetensors"), state.tensors())


def test_another_seed_gives_other_weights(tiny_config: Callable[..., TrainConfig]) -> None:
    """The bits above would also agree if nothing depended on anything."""
    (single, _), (other, _) = (
        uninterrupted(tiny_config(seed=seed, total_images=8)) for seed in (1, 2)
    )
    for name in ("generator/to_image.weight", "critic/from_image.weight", "average/basis"):
        assert not torch.equal(single.tensors()[name], other.tensors()[name])
