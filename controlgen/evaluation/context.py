"""What the evaluation needs of the things it judges, and what its parts share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from controlgen.config import EvaluateConfig
from controlgen.errors import ConfigError
from controlgen.metrics.bootstrap import Interval, interval, resampled
from controlgen.metrics.classifier import Judge, LabelledDataset
from controlgen.types import Features, Latents, Pixels, Shape

CONFIDENT = 0.9  # probability above which the judge is sure of a class
Predict = Callable[[Features], Latents]  # a map: features (n d) -> latents (n z)
OnProgress = Callable[[str, float], None]  # what is being done, and the share done, 0..1


class Embedding(Protocol):
    """Pixels (n c h w) -> unit features (n d)."""

    def embed(self, pixels: Pixels) -> Features: ...


class Perceptual(Protocol):
    """How different images look: pairs of pixels (n c h w) -> (n), 0 for equal ones."""

    @property
    def name(self) -> str: ...

    def distance(self, a: Pixels, b: Pixels) -> NDArray[np.float64]: ...


class LikenessLike(Protocol):
    """Which samples are kept."""

    def keeps(self, features: Features) -> NDArray[np.bool_]: ...


class Drawn(Protocol):
    """Latents (n z) and their pixels (n c h w)."""

    @property
    def latents(self) -> Latents: ...

    @property
    def pixels(self) -> Pixels: ...


class EditorLike(Protocol):
    """Generator and steering feature space."""

    @property
    def likeness(self) -> LikenessLike | None: ...

    @property
    def latent_size(self) -> int: ...

    @property
    def image_shape(self) -> Shape: ...

    @property
    def space(self) -> Any: ...

    def drawn(self, n: int, seed: int, purpose: str, start: int = 0) -> Drawn: ...

    def generate(self, latents: Latents) -> Pixels: ...

    def embed(self, pixels: Pixels) -> Features: ...

    def features_of_latents(self, latents: Tensor) -> Tensor: ...


class BankLike(Protocol):
    """Latents (N z), pixels (N c h w), features (N d) and the two parts maps see and never see."""

    @property
    def latents(self) -> Latents: ...

    @property
    def pixels(self) -> Pixels: ...

    @property
    def features(self) -> Features: ...

    @property
    def train(self) -> slice: ...

    @property
    def held_out(self) -> slice: ...


@dataclass(frozen=True)
class Subject:
    """Everything that is judged, and the means of judging it."""

    editor: EditorLike
    bank: BankLike
    maps: Mapping[str, Predict]
    map_name: str
    real_train: LabelledDataset
    real_test: LabelledDataset
    audit: Embedding
    judge: Judge | None
    class_names: Sequence[str]
    prompts: Sequence[str]
    config: EvaluateConfig
    perceptual: Perceptual | None = None

    def mean(self, values: NDArray[Any], sources: NDArray[np.int64] | None = None) -> Interval:
        """Mean with its interval, by the configured seed and number of draws.

        Draws are of whole `sources`; where all values are of one source, of the values, for one
        source repeated says nothing about others and would give an interval of width zero.
        """
        if sources is not None and len(np.unique(sources)) < 2:
            sources = None
        return interval(values, self.config.seed, self.config.bootstraps, sources)

    def resampled(
        self,
        measure: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        sources: NDArray[np.int64],
    ) -> Interval:
        """A measure of weights (draws m) -> (draws) with its interval; draws are as in `mean`."""
        own = np.arange(len(sources)) if len(np.unique(sources)) < 2 else sources
        return resampled(measure, own, self.config.seed, self.config.bootstraps)

    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        """What the judge thinks of pixels (n c h w): (n classes). Only where there is a judge."""
        if self.judge is None:
            raise ConfigError('evaluate: nobody judges here; set evaluate.judge = "probe"')
        return self.judge.probabilities(pixels)

    def predict(self, name: str, features: Features) -> Latents:
        """Latents float32 by the named map."""
        return np.asarray(self.maps[name](features), np.float32)

    def held_out(self, n: int) -> tuple[Latents, Pixels, Features]:
        """The first n held-out items of the bank, copied out of their memory map."""
        start, stop, _ = self.bank.held_out.indices(len(self.bank.latents))
        part = slice(start, min(stop, start + n))
        bank = self.bank
        return tuple(np.array(rows[part]) for rows in (bank.latents, bank.pixels, bank.features))  # type: ignore[return-value]
