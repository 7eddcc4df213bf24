"""Many answers to one feature, ranked by what came out of each."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from controlgen.editing.confidence.score import Reachability
from controlgen.editing.edit import Edit
from controlgen.editing.protocols import Maker, Model
from controlgen.errors import ConfigError
from controlgen.metrics.inversion import paired_cosine
from controlgen.regressors import Answering, Regressor
from controlgen.types import Features


@dataclass(frozen=True)
class Answers:
    """k answers to each of n features, best first.

    Latents (n k z), pixels (n k c h w), features of those (n k d), and their cosines with what was
    asked (n k), -1..1, falling along k. `asked` (n d); `unrefined` (n k d) are the features that
    the map's own answers had, as in an Edit.
    """

    latents: NDArray[np.float32]
    pixels: NDArray[np.uint8]
    obtained: NDArray[np.float32]
    agreement: NDArray[np.float64]
    asked: Features
    believing: Reachability | None = field(default=None, repr=False)
    unrefined: NDArray[np.float32] | None = field(default=None, repr=False)

    @cached_property
    def reachability(self) -> NDArray[np.float32] | None:
        """How far each answer can be believed (n k), 0..1; see `Edit.reachability`."""
        if self.believing is None:
            return None
        return self.believing.score(*self._judged).reshape(self.agreement.shape)

    @cached_property
    def warnings(self) -> tuple[tuple[str, ...], ...]:
        """What is wrong with each of k answers to each of n features, in words; see `Edit`."""
        n, k = self.agreement.shape
        if self.believing is None:
            return tuple(("",) * k for _ in range(n))
        words = self.believing.warnings(*self._judged)
        return tuple(words[row * k : (row + 1) * k] for row in range(n))

    def best(self, k: int) -> "Answers":
        """The first k of them."""
        return replace(
            self,
            latents=self.latents[:, :k],
            pixels=self.pixels[:, :k],
            obtained=self.obtained[:, :k],
            agreement=self.agreement[:, :k],
            unrefined=None if self.unrefined is None else self.unrefined[:, :k],
        )

    def edit(self, made: Edit, at: int = 0) -> Edit:
        """The edit that asked for these features, with answer `at` (0: the best) as what came."""
        return replace(
            made,
            pixels=self.pixels[:, at],
            latents=self.latents[:, at],
            obtained=self.obtained[:, at],
            unrefined=None if self.unrefined is None else self.unrefined[:, at],
        )

    @property
    def _judged(self) -> tuple[Features, Features]:
        # What was asked, and what the map itself answered, an answer a row (n * k d).
        own = self.obtained if self.unrefined is None else self.unrefined
        n, k, d = own.shape
        return np.repeat(self.asked, k, axis=0), own.reshape(n * k, d)


def latents_of(map: Regressor, features: Features, k: int, seed: int) -> NDArray[np.float32]:
    """k latents (n k z) for each feature (n d), in the order of the map's draws.

    Of a map with one answer only that answer, whatever k. Raises ConfigError for k below 1.
    """
    if k < 1:
        raise ConfigError(f"answers: k must be at least 1, not {k}")
    if isinstance(map, Answering):
        return np.asarray(map.answers(features, k, seed), np.float32)
    return np.asarray(map.predict(features)[:, None], np.float32)


def answered(
    model: Model, features: Features, latents: NDArray[np.float32], refine: int
) -> Answers:
    """Latents (n k z) for features (n d) as answers, each refined by so many steps, ranked.

    They are believed by what the map itself answered, where that is known of its answers.
    """
    if not refine:
        return ranked(model, features, latents, model.reachability)
    n, k, z = latents.shape
    flat, asked = latents.reshape(n * k, z), np.repeat(features, k, axis=0)
    own = None
    if model.reachability is not None:
        own = model.embed(model.generate(flat)).reshape(n, k, -1)
    refined = model.refine(flat, asked, refine).reshape(n, k, z)
    return ranked(model, features, refined, model.reachability, own)


def ranked(
    maker: Maker,
    features: Features,
    latents: NDArray[np.float32],
    believing: Reachability | None = None,
    unrefined: NDArray[np.float32] | None = None,
) -> Answers:
    """Latents (n k z) for features (n d) as answers: generated, embedded, the nearest first."""
    n, k = latents.shape[:2]
    pixels = maker.generate(latents.reshape(n * k, -1))
    obtained = maker.embed(pixels)
    agreement = paired_cosine(np.repeat(features, k, axis=0), obtained).reshape(n, k)

    # Equal answers keep the order of their draws.
    order = np.argsort(-agreement, axis=1, kind="stable")
    rows = np.arange(n)[:, None]
    return Answers(
        latents[rows, order],
        pixels.reshape(n, k, *pixels.shape[1:])[rows, order],
        obtained.reshape(n, k, -1)[rows, order],
        agreement[rows, order],
        features,
        believing,
        None if unrefined is None else unrefined[rows, order],
    )
