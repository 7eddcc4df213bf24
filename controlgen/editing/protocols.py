"""What the functions of this package use of an Editor, from the least to the most."""

from collections.abc import Sequence
from typing import Protocol

from controlgen.editing.attribute_model import AttributeModel
from controlgen.editing.confidence.score import ConfidenceModel
from controlgen.editing.directions.axes import Axis, HasEarlyLayers
from controlgen.editing.edit import Samples
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.features import FeatureSpace
from controlgen.types import Direction, Features, Latents, Pixels, Shape


class GeneratesAndEmbeds(Protocol):
    """A generator and a feature space."""

    def generate(self, latents: Latents) -> Pixels: ...

    def embed(self, pixels: Pixels) -> Features: ...


class Sampleable(GeneratesAndEmbeds, Protocol):
    """For sampling."""

    @property
    def latent_size(self) -> int: ...


class AxisSource(Sampleable, Protocol):
    """For fitting and evaluating unsupervised directions."""

    @property
    def generator(self) -> HasEarlyLayers: ...

    @property
    def statistics(self) -> FeaturePCA: ...


class ModelProtocol(AxisSource, Protocol):
    """For searching the bank and ranking candidates."""

    space: FeatureSpace
    image_shape: Shape
    attributes: AttributeModel | None
    confidence_model: ConfidenceModel | None

    def sample(self, n: int, seed: int = 0, start: int = 0) -> Samples: ...

    def bank_items(self, start: int, stop: int) -> Samples: ...

    def invert(self, features: Features) -> Latents: ...

    def refine(self, latents: Latents, target_features: Features, steps: int) -> Latents: ...


class EditorProtocol(ModelProtocol, Protocol):
    """For expressions, directions and edits."""

    def embed_text(self, text: str | Sequence[str]) -> Direction: ...

    def axis(self, family: str, index: int) -> Axis: ...

    def attribute(self, name: str, hold: str | Sequence[str] = ()) -> Direction: ...

    def constrain(self, direction: Direction, hold: str | Sequence[str] = ()) -> Direction: ...
