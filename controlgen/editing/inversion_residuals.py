"""Several answers of a map that has one: what it leaves out of other pictures is lent to its own.

Many latents share a feature f, and a map h answers one of them, h(f). What it leaves out of a
picture G(z), z - h(f(G(z))), is what that feature does not tell: added to the answer to another
feature it changes little of what was asked and much of the rest. (The residual bootstrap of
regression, Efron 1979, with latents as residuals.) Whole, it goes too far for many features; half
of it, and the best of a few, keeps the round trip about as near as the map's own answer.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from controlgen import rng
from controlgen.editing.protocols import Maker
from controlgen.errors import ConfigError
from controlgen.types import Features, Latents

LENDERS = 128  # samples that lend
SHARE = 0.5  # of what the map leaves out of them
TRIED = 4  # answers that are tried for each one asked for


def left_out(maker: Maker, invert: Callable[[Features], Latents], latent_size: int) -> Latents:
    """What a map, by its answers to features, leaves out of its generator's samples: (m z)."""
    latents = rng.normals(0, "lenders", 0, LENDERS, latent_size)
    return np.asarray(latents - invert(maker.embed(maker.generate(latents))), np.float32)


def borrowing(own: Latents, left: Latents, k: int, seed: int) -> NDArray[np.float32]:
    """Candidates (n m z) for k answers: the map's own (n z) first, then others that borrow.

    Which samples lend depends on the seed alone, and those of fewer answers lend to more as well.
    Raises ConfigError for k beyond 128.
    """
    if k > LENDERS:
        raise ConfigError(f"answers: k must be at most {LENDERS} for this map, not {k}")
    chosen = rng.stream(seed, "borrowing").permutation(len(left))[: TRIED * k - 1]
    moved = own[:, None] + np.float32(SHARE) * left[None, chosen]
    return np.concatenate([own[:, None], moved], axis=1)
