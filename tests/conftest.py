"""What every test shares: no network, one torch thread, shape checks, small configurations."""

# ruff: noqa: E402 (the import hook must be in place before the library is imported)

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from jaxtyping import install_import_hook

# The array modules run with every shape and dtype annotation checked. Modules that annotate with
# `Self` or with a Protocol that is not runtime-checkable cannot be decorated by beartype.
CHECKED = (
    "controlgen.rng",
    "controlgen.images",
    "controlgen.datasets",
    "controlgen.networks.resample",
    "controlgen.objectives.penalties",
)
install_import_hook(CHECKED, "beartype.beartype")

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import settings

from controlgen.config import TrainConfig

# A loaded machine must not fail a property; what it found is reproducible all the same.
settings.register_profile("controlgen", deadline=None)
settings.load_profile("controlgen")

TINY_NETWORK = {
    "kind": "r3gan",
    "widths": [16, 16],
    "blocks": 1,
    "patch": 4,
    "latent_size": 8,
}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Bits depend on how sums are split among threads, and workers must not fight for cores."""
    torch.set_num_threads(1)


@pytest.fixture
def global_randomness_untouched() -> Iterator[None]:
    """Fails the test in whose course anything drew from torch's global generator."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state()), "torch's global generator was drawn from"


@pytest.fixture
def tiny_config() -> Callable[..., TrainConfig]:
    """A run of a few thousand weights on scikit-learn's digits; keywords change settings."""

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


def pytest_configure(config: pytest.Config) -> None:
    """Two folders may hold test files of the same name: import each by its path."""
    config.option.importmode = "importlib"
