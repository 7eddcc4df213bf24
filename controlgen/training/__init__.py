"""Adversarial training: a generator function over a state that is resumed bit by bit."""

from controlgen.training.loop import Progress, train
from controlgen.training.state import TrainState

__all__ = ["Progress", "TrainState", "train"]
