"""Many answers to one feature, ranked by what came out of each."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.control.model import Maker
from controlgen.errors import ConfigError
from controlgen.metrics.inversion import paired_cosine
from controlgen.regressors import GUIDED, MANY, Answering, Guided, Regressor
from controlgen.types import Features


class Answers(NamedTuple):
    """k answers to each of n features, best first.

    Latents (n k z), pixels (n k c h w), features of those (n k d), and their cosines with what was
    asked (n k), -1..1, falling along k.
    """

    latents: NDArray[np.float32]
    pixels: NDArray[np.uint8]
    obtained: NDArray[np.float32]
    agreement: NDArray[np.float64]


def latents_of(map: Regressor, features: Features, k: int, seed: int) -> NDArray[np.float32]:
    """k latents (n k z) for each feature (n d), in the order of the map's draws.

    Of a map with one answer only, that answer where k is 1. Raises ConfigError for k below 1, and
    above 1 of such a map.
    """
    if k < 1:
        raise ConfigError(f"answers: k must be at least 1, not {k}")
    if isinstance(map, Answering):
        return np.asarray(map.answers(features, k, seed), np.float32)
    if k == 1:
        return np.asarray(map.predict(features)[:, None], np.float32)
    raise ConfigError(
        f"answers: this map gives one answer to a feature, not {k}; fit one that gives many, with "
        f"--set fit.map.kind=KIND, KIND one of {', '.join(MANY)}"
    )


def guided(map: Regressor, guidance: float | None) -> Regressor:
    """The map, insisting so much on the features asked for; as it is for None.

    Raises ConfigError for a map that takes no guidance, and for one out of its range.
    """
    if guidance is None:
        return map
    if not isinstance(map, Guided):
        raise ConfigError(
            f"guidance {guidance:g}: this map has none; leave it out, or fit one that has, with "
            f"--set fit.map.kind={'|'.join(GUIDED)}"
        )
    return map.guided(guidance)


def ranked(maker: Maker, features: Features, latents: NDArray[np.float32]) -> Answers:
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
    )
