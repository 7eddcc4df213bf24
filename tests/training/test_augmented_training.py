"""Augmentation in training: adaptive and scheduled p, one step, resume, and what is refused."""

import copy
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from controlgen.augmentations import AdaptiveAugment, ScheduledAugment
from controlgen.config import RunConfig, TrainConfig
from controlgen.errors import ArtifactCorrupt, ConfigError, Incompatible
from controlgen.images import to_signed_float
from controlgen.rng import torch_stream
from controlgen.stages.artifact_refs import artifact_ref
from controlgen.training import TrainState, train

pytestmark = pytest.mark.usefixtures("global_randomness_untouched")

CONFIGS = Path(__file__).parents[2] / "configs"


def test_adaptive_p_moves_at_its_speed_and_stays_within_its_limits() -> None:
    augment = AdaptiveAugment(target=0.6, images_to_one=1000, most_p=0.8)
    assert augment.updated_probability(0.5, 1.0, 64) == pytest.approx(0.564)
    assert augment.updated_probability(0.5, 0.8, 64) == pytest.approx(0.532)
    assert augment.updated_probability(0.5, 0.6, 64) == 0.5
    assert augment.updated_probability(0.5, 0.4, 64) == pytest.approx(0.468)
    assert augment.updated_probability(0.78, 1.0, 64) == 0.8
    assert augment.updated_probability(0.03, -1.0, 64) == 0.0


def test_adaptive_p_settles_where_the_critic_orders_as_well_as_the_target() -> None:
    """Against a critic that augmentation makes worse: 2 share - 1 = 0.9 - 0.6 p, so p = 0.5."""
    augment, numbers, p, path = (
        AdaptiveAugment(images_to_one=20_000),
        np.random.default_rng(1),
        0.0,
        [],
    )
    for _ in range(10_000):
        rightly = numbers.random(16) < 0.95 - 0.3 * p
        p = augment.updated_probability(p, float(2 * rightly.mean() - 1), 16)
        path.append(p)
    assert np.mean(path[5000:]) == pytest.approx(0.5, abs=0.02)


def adaptive(**changes: Any) -> dict[str, Any]:
    return {"kind": "adaptive", "images_to_one": 200, **changes}


@pytest.mark.parametrize("objective", ["r3gan", "wgan-gp"])
def test_one_step_shows_augmented_reals_and_fakes_to_the_critic_and_the_generator(
    objective: str, tiny_config: Callable[..., TrainConfig]
) -> None:
    """Both losses and the next p, recomputed with the augmentation in hand."""
    game = {"kind": objective} | ({"critic_steps": 1} if objective == "wgan-gp" else {})
    config = tiny_config(augment=adaptive(colour={"kind": "plain"}), objective=game)
    dataset = config.dataset.open()
    state = TrainState(config, dataset.image_shape)
    state.augment_p = p = 0.75
    generator, critic = copy.deepcopy(state.generator), copy.deepcopy(state.critic)
    progress = next(train(config, dataset, state))
    assert progress.augment_p == p

    rng = torch_stream(config.seed, "train", 0)

    def pair() -> tuple[Tensor, Tensor]:
        indices = torch.randint(len(dataset), (8,), generator=rng)
        latents = torch.randn(8, 8, generator=rng)
        real = config.augment.augment_real(to_signed_float(dataset.pixels(indices.numpy())), p, rng)
        return real, config.augment.augment_fake(generator(latents), p, rng)

    playing = config.objective.at(0.0)
    real, fake = pair()
    terms = playing.critic_loss(critic, real, fake, rng)
    assert progress.critic_loss == pytest.approx(terms.loss.mean().item(), rel=1e-5)
    # The generator plays against the critic of after its step, which is the one in the state.
    real, fake = pair()
    expected = playing.generator_loss(state.critic, real, fake).mean().item()
    assert progress.generator_loss == pytest.approx(expected, rel=1e-5)
    ordering = (terms.gap > 0).float().mean().item() * 2 - 1
    assert state.augment_p == config.augment.updated_probability(p, ordering, 8) != p


def test_scheduled_p_follows_the_burn_in(tiny_config: Callable[..., TrainConfig]) -> None:
    config = tiny_config(
        augment={"kind": "scheduled", "p": {"start": 0, "end": 0.4}}, total_images=64
    )
    dataset = config.dataset.open()
    state = TrainState(config, dataset.image_shape)
    actual = [progress.augment_p for progress in train(config, dataset, state)]
    expected = [0.2 * (1 - math.cos(math.pi * min(item / 48, 1))) for item in range(0, 64, 8)]
    assert actual == pytest.approx(expected)
    assert "augment_p" not in state.tensors()
    fixed = ScheduledAugment.model_validate({"p": 0.3})
    assert fixed.probability(0.0, 0.9) == fixed.probability(2.0, 0.1) == 0.3


KILLED = """
import os, signal, sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from controlgen.config import TrainConfig
from controlgen.training import TrainState, train

torch.set_num_threads(1)
path = Path(sys.argv[1])
config = TrainConfig.model_validate_json(sys.argv[2])
dataset = config.dataset.open()
next(train(config, dataset, TrainState(config, dataset.image_shape)))
for patience in (3, 5, 2, None):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        state = TrainState(config, dataset.image_shape)
        if path.exists():
            state.restore(load_file(path))
        for _ in train(config, dataset, state):
            save_file(state.tensors(), path.with_suffix(".partial"))
            path.with_suffix(".partial").replace(path)
            os.write(writing, b".")
        os._exit(0)
    os.close(writing)
    if patience is not None:
        for _ in range(patience):
            os.read(reading, 1)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) == (patience is not None), status
    named = load_file(path)
    print(int(named["images_seen"]), float(named["augment_p"]))
"""


def test_resume_after_sigkill_is_bit_exact_and_carries_p(
    tmp_path: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    config = tiny_config(
        augment=adaptive(colour={"kind": "plain"}, target=0.2), total_images=8 * 20
    )
    path = tmp_path / "state.safetensors"
    root = str(Path(__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), json.dumps(config.to_dict())],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    killed_at = [float(row.split()[0]) for row in ran.stdout.splitlines()]
    carried = [float(row.split()[1]) for row in ran.stdout.splitlines()]
    assert len(killed_at) == 4 and killed_at == sorted(set(killed_at))
    assert max(carried[:3]) > 0

    dataset = config.dataset.open()
    state = TrainState(config, dataset.image_shape)
    path_of_p = [progress.augment_p for progress in train(config, dataset, state)]
    assert max(path_of_p) > 0.02
    actual, expected = load_file(path), state.tensors()
    assert actual.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


def test_a_state_without_its_p_is_refused(tiny_config: Callable[..., TrainConfig]) -> None:
    plain = TrainState(tiny_config(), (1, 32, 32)).tensors()
    with pytest.raises(ArtifactCorrupt, match="augment_p"):
        TrainState(tiny_config(augment=adaptive()), (1, 32, 32)).restore(plain)


def test_no_augmentation_leaves_names_as_they_were(
    tiny_config: Callable[..., TrainConfig],
) -> None:
    # The name of a model that was made before there was a choice of either.
    displayed = ["train.total_images=600000", "train.burn_in_images=600000"]
    learned = ["train.network.latent_map=learned", *displayed]
    mnist = RunConfig.load(CONFIGS / "mnist.toml", learned).train
    assert str(artifact_ref("gan", "mnist", mnist)) == "gan/mnist-cc782537dbd2"
    assert "augment" not in mnist.identity()
    assert tiny_config(augment={"kind": "none"}).fingerprint() == tiny_config().fingerprint()
    chosen = [
        {"kind": "dihedral"},
        {"kind": "scheduled"},
        {"kind": "scheduled", "p": 0.2},
        {"kind": "adaptive"},
        {"kind": "adaptive", "colour": {"kind": "plain"}},
    ]
    names = {tiny_config(augment=augment).fingerprint() for augment in chosen}
    assert len(names | {tiny_config().fingerprint()}) == 6
    for augment in chosen:
        config = tiny_config(augment=augment)
        assert TrainConfig.parse(config.to_dict()).fingerprint() == config.fingerprint()


def test_stain_jitter_of_grey_images_is_refused(tiny_config: Callable[..., TrainConfig]) -> None:
    config = tiny_config(augment=adaptive(colour={"kind": "stain"}))
    with pytest.raises(Incompatible, match=r"have 1 channel\(s\); set .*\"plain\""):
        TrainState(config, (1, 32, 32))
    assert TrainState(config, (3, 32, 32)).augment_p == 0


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ({"kind": "mirror"}, "none.*dihedral.*scheduled.*adaptive"),
        ({"kind": "scheduled", "p": 1.5}, "p is a probability"),
        ({"kind": "adaptive", "most_p": 1.1}, "most_p"),
        ({"kind": "adaptive", "taget": 0.5}, "unknown key .*taget"),
        ({"kind": "dihedral", "p": 0.5}, "unknown key .*p"),
    ],
)
def test_mistakes_are_named(
    augment: dict[str, Any], message: str, tiny_config: Callable[..., TrainConfig]
) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_config(augment=augment)
    with pytest.raises(ValidationError):
        ScheduledAugment(translate=0.6)
