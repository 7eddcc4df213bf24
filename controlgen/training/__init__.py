"""Adversarial training: a generator function over a state that can be resumed bit by bit."""

from controlgen.training.gan import Progress, train
from controlgen.training.state import TrainState

__all__ = ["Progress", "TrainState", "train"]
