"""What is evaluated, what the evaluation needs of it, and statistics that its sections share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from controlgen.config import EvaluateConfig
from controlgen.errors import ConfigError
from controlgen.metrics.bootstrap import Interval, mean_interval, statistic_interval
from controlgen.metrics.classifier import Judge, LabelledDataset
from controlgen.types import Features, Latents, Pixels, Shape

MIN_CONFIDENCE = 0.9  # probability above which a judge counts as confident
PredictLatents = Callable[[Features], Latents]  # a map: features (n d) -> latents (n z)
OnProgress = Callable[[str, float], None]  # (description, share done 0..1)


class Embedding(Protocol):
    """Pixels (n c h w) -> unit features (n d)."""

    def embed(self, pixels: Pixels) -> Features: ...


class Perceptual(Protocol):
    """Perceptual distance of pairs of images (n c h w): (n), 0 for equal images."""

    @property
    def name(self) -> str: ...

    def distance(self, a: Pixels, b: Pixels) -> NDArray[np.float64]: ...


class RealismFilterLike(Protocol):
    """Accepts samples that resemble real images."""

    def accepts(self, features: Features) -> NDArray[np.bool_]: ...


class SamplesLike(Protocol):
    """Latents (n z) and their pixels (n c h w)."""

    @property
    def latents(self) -> Latents: ...

    @property
    def pixels(self) -> Pixels: ...


class EditorLike(Protocol):
    """A generator and the feature space that steers it."""

    @property
    def realism_filter(self) -> RealismFilterLike | None: ...

    @property
    def latent_size(self) -> int: ...

    @property
    def image_shape(self) -> Shape: ...

    @property
    def space(self) -> Any: ...

    def sample_stream(self, n: int, seed: int, purpose: str, start: int = 0) -> SamplesLike: ...

    def generate(self, latents: Latents) -> Pixels: ...

    def embed(self, pixels: Pixels) -> Features: ...

    def features_of_latents(self, latents: Tensor) -> Tensor: ...


class BankLike(Protocol):
    """Latents (N z), pixels (N c h w), features (N d); maps are fitted on `train` alone."""

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
class EvaluationContext:
    """Everything that is evaluated, and the means to measure it.

    `maps` are compared by name; `map_name` is the evaluated one. `class_names` and `prompts` (one
    text per class) are in the order of the labels. `audit` is the feature space that steers
    nothing. `perceptual` adds a distance of real images to their reconstructions.
    """

    editor: EditorLike
    bank: BankLike
    maps: Mapping[str, PredictLatents]
    map_name: str
    real_train: LabelledDataset
    real_test: LabelledDataset
    audit: Embedding
    class_names: Sequence[str]
    prompts: Sequence[str]
    config: EvaluateConfig
    perceptual: Perceptual | None = None
    judge: Judge | None = None

    def mean_interval(
        self, values: NDArray[Any], sources: NDArray[np.int64] | None = None
    ) -> Interval:
        """Mean with its bootstrap interval, by the configured seed and number of draws.

        Whole `sources` are drawn. If all values are of one source, values are drawn instead: one
        source says nothing about others and would give an interval of width zero.
        """
        if sources is not None and len(np.unique(sources)) < 2:
            sources = None
        return mean_interval(values, self.config.seed, self.config.bootstraps, sources)

    def statistic_interval(
        self,
        statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        sources: NDArray[np.int64],
    ) -> Interval:
        """Interval of a statistic of weights (draws m) -> (draws); draws are as in the mean's."""
        owners = np.arange(len(sources)) if len(np.unique(sources)) < 2 else sources
        return statistic_interval(statistic, owners, self.config.seed, self.config.bootstraps)

    def judge_probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        """Class probabilities of pixels (n c h w) by the judge: (n classes).

        Raises ConfigError without a judge.
        """
        if self.judge is None:
            raise ConfigError('evaluate: there is no judge; set evaluate.judge = "probe"')
        return self.judge.probabilities(pixels)

    def predict(self, name: str, features: Features) -> Latents:
        """Latents float32 (n z) of features (n d) by the map called `name`."""
        return np.asarray(self.maps[name](features), np.float32)

    def held_out_items(self, n: int) -> tuple[Latents, Pixels, Features]:
        """The first n held-out items of the bank, copied out of their memory map."""
        start, stop, _ = self.bank.held_out.indices(len(self.bank.latents))
        part = slice(start, min(stop, start + n))
        bank = self.bank
        return tuple(np.array(rows[part]) for rows in (bank.latents, bank.pixels, bank.features))  # type: ignore[return-value]
