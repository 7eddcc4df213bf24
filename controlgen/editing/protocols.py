"""What the parts of control see of an Editor: each protocol holds the one before it."""

from collections.abc import Sequence
from typing import Protocol

from controlgen.editing.attribute_model import AttributeModel
from controlgen.editing.confidence.score import Reachability
from controlgen.editing.directions.axes import Axis, EarlyGenerator
from controlgen.editing.edit import Samples
from controlgen.editing.feature_pca import Statistics
from controlgen.features import FeatureSpace
from controlgen.types import Direction, Features, Latents, Pixels, Shape


class Maker(Protocol):
    """Generator and feature space: what answers are made and seen with."""

    def generate(self, latents: Latents) -> Pixels: ...

    def embed(self, pixels: Pixels) -> Features: ...


class Drawn(Maker, Protocol):
    """What samples are drawn from."""

    @property
    def latent_size(self) -> int: ...


class Walked(Maker, Protocol):
    """What an axis is found in and tried on."""

    @property
    def generator(self) -> EarlyGenerator: ...

    @property
    def statistics(self) -> Statistics: ...

    @property
    def latent_size(self) -> int: ...


class Model(Walked, Protocol):
    """All that expressions, edits and the gallery use; an Editor."""

    space: FeatureSpace
    image_shape: Shape
    attributes: AttributeModel | None
    reachability: Reachability | None

    def sample(self, n: int, seed: int = 0, start: int = 0) -> Samples: ...

    def bank_items(self, start: int, stop: int) -> Samples: ...

    def invert(self, features: Features) -> Latents: ...

    def refine(self, latents: Latents, asked: Features, steps: int) -> Latents: ...

    def embed_text(self, text: str | Sequence[str]) -> Direction: ...

    def axis(self, family: str, index: int) -> Axis: ...

    def attribute(self, name: str, hold: str | Sequence[str] = ()) -> Direction: ...

    def within(self, change: Direction, hold: str | Sequence[str] = ()) -> Direction: ...
