"""Likeness: samples are kept that look like real images to the steering feature space. No labels.

A generator is continuous and the kinds of real images are not, so between two kinds it makes images
that are neither. In feature space they lie where few real images do (the manifold of real features
that improved precision rests on, Kynkäänniemi et al. 2019, arXiv:1904.06991). Here the centres of
clusters of real features stand for them, so that no image's own feature is stored. A sample is kept
where it is nearer to a centre, by cosine, than the furthest few of the real images that the centres
have not seen. Where it is not, another is drawn in its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from controlgen import rng
from controlgen.config import LikenessConfig
from controlgen.editing.edit import Samples
from controlgen.editing.protocols import Drawn
from controlgen.errors import ArtifactCorrupt, DataError
from controlgen.types import Features, Indices, Latents

UNSEEN = 0.2  # of the real sources, kept from the centres: they set the bound
FEWEST = 20  # real images on either side
MEMBERS = 4  # images behind a centre, on average, at the least
NEAR = 1e-3  # of the bound: further than rounding in other company moves a score


@dataclass(frozen=True)
class Likeness:
    """Centres (m d) of real features as unit rows, float16; the least cosine that is kept; tries.

    `tries` draws are made for a sample at most; where none is kept, the likest of them is.
    """

    centres: NDArray[np.float16]
    least: float
    tries: int

    @classmethod
    def of(cls, features: Features, sources: Indices, config: LikenessConfig) -> Self:
        """From features (n d) of real images and the numbers of their sources (n).

        Raises DataError where there are too few images or sources to set a bound by.
        """
        unseen = kept_apart(sources, config)
        seen = np.asarray(features[~unseen], np.float32)
        distinct = len(np.unique(seen, axis=0))
        clusters = max(min(config.centres, len(seen) // MEMBERS, distinct), 1)
        state = rng.key(config.seed, "likeness centres") % 2**32
        found = KMeans(clusters, n_init=1, random_state=state).fit(seen).cluster_centers_
        unit = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        bare = cls(unit.astype(np.float16), -1.0, config.tries)
        least = float(np.quantile(bare.scores(features[unseen]), 1 - config.share))
        return cls(bare.centres, least, config.tries)

    def scores(self, features: Features) -> NDArray[np.float32]:
        """Cosine (n) of unit features (n d) with the nearest centre, -1..1."""
        centres = self.centres.astype(np.float32)
        found = [np.empty(0, np.float32)]
        for first in range(0, len(features), 1024):
            found.append((features[first : first + 1024] @ centres.T).max(1))
        return np.concatenate(found)

    def keeps(self, features: Features) -> NDArray[np.bool_]:
        """Whether a sample with each of these unit features (n d) is kept: (n)."""
        return np.asarray(self.scores(features) >= self.least)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays, for saving."""
        return {"centres": self.centres}

    @classmethod
    def restore(
        cls, arrays: Mapping[str, NDArray[Any]], least: float, tries: int, size: int
    ) -> Self:
        """From `arrays()`, for features of `size`. Raises ArtifactCorrupt."""
        centres = arrays.get("centres")
        if centres is None or centres.ndim != 2 or centres.shape[1] != size:
            raise ArtifactCorrupt(f"holds no centres of features of size {size}")
        return cls(centres, least, tries)


def kept_apart(sources: Indices, config: LikenessConfig) -> NDArray[np.bool_]:
    """Which real images (n), by the numbers of their sources, set the bound; others the centres.

    Raises DataError where there are too few images or sources for both.
    """
    order = rng.stream(config.seed, "likeness unseen").permutation(np.unique(sources))
    unseen = np.isin(sources, order[: round(UNSEEN * len(order))])
    if min(unseen.sum(), len(sources) - unseen.sum()) < FEWEST:
        raise DataError(
            f"sample.likeness: {len(sources)} real images of {len(order)} sources are too few to "
            "know others by; leave it out"
        )
    return unseen


def drawn(
    model: Drawn, likeness: Likeness | None, seed: int, purpose: str, start: int, stop: int
) -> Samples:
    """Samples start..stop of a stream; sample i depends on (seed, purpose, i) alone.

    Its first draw is the stream's row i, so that a sample that is kept is the one that there would
    be without likeness.
    """
    latents = rng.normals(seed, purpose, start, stop, model.latent_size)
    pixels = model.generate(latents)
    if likeness is None:
        return Samples(latents, pixels)
    scores = likeness.scores(model.embed(pixels))
    _settle(model, likeness, latents, scores)
    replaced = False
    for again in range(1, likeness.tries):
        poor = np.flatnonzero(scores < likeness.least)
        if not len(poor):
            break
        replaced = True
        others = rng.normals(seed, f"{purpose}, draw {again}", start, stop, model.latent_size)[poor]
        found = likeness.scores(model.embed(model.generate(others)))
        _settle(model, likeness, others, found)
        better = found > scores[poor]
        latents[poor[better]], scores[poor[better]] = others[better], found[better]
    # Drawn again in the same company, so that no byte depends on what else was replaced.
    return Samples(latents, model.generate(latents) if replaced else pixels)


def _settle(
    model: Drawn, likeness: Likeness, latents: Latents, scores: NDArray[np.float32]
) -> None:
    # The last bit of a score depends on what it was computed among. Where that might decide, the
    # row is scored alone.
    for row in np.flatnonzero(np.abs(scores - likeness.least) < NEAR):
        alone = model.embed(model.generate(latents[row : row + 1]))
        scores[row] = likeness.scores(alone)[0]
