"""What expressions and the gallery see of an Editor."""

from collections.abc import Sequence
from typing import Protocol

from controlgen.control.axes import Axis
from controlgen.control.edits import Samples
from controlgen.control.statistics import Statistics
from controlgen.features import FeatureSpace
from controlgen.types import Direction, Features, Latents, Pixels, Shape


class Bank(Protocol):
    """The bank that a map was fitted on, drawn again, and the space that it is seen in."""

    space: FeatureSpace

    def bank_items(self, start: int, stop: int) -> Samples: ...

    def embed(self, pixels: Pixels) -> Features: ...


class Model(Bank, Protocol):
    """Generator, map and feature space, as an expression uses them."""

    statistics: Statistics
    image_shape: Shape

    def sample(self, n: int, seed: int = 0, start: int = 0) -> Samples: ...

    def generate(self, latents: Latents) -> Pixels: ...

    def invert(self, features: Features) -> Latents: ...

    def embed_text(self, text: str | Sequence[str]) -> Direction: ...

    def axis(self, family: str, index: int) -> Axis: ...

    def attribute(self, name: str, hold: Sequence[str] = ()) -> Direction: ...

    def within(self, change: Direction, hold: str | Sequence[str] = ()) -> Direction: ...
