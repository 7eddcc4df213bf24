"""Trainings run to their end, and how their states compare."""

import torch
from torch import Tensor

from controlgen.config import TrainConfig
from controlgen.training import Progress, TrainState, train

WGAN_GP = {"kind": "wgan-gp", "critic_steps": 2}


def uninterrupted(config: TrainConfig) -> tuple[TrainState, list[Progress]]:
    dataset = config.dataset.open()
    state = TrainState(config, dataset.image_shape)
    return state, list(train(config, dataset, state))


def snapshot(state: TrainState) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.tensors().items()}


def assert_same_bits(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []
