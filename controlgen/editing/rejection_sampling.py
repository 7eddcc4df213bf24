"""Rejection sampling: keep samples whose features are near to those of real images. No labels.

A generator is continuous but the kinds of real images are not, so between two kinds it generates
images that are neither. In feature space these lie where few real images do (the manifold of real
features behind improved precision, Kynkäänniemi et al. 2019, arXiv:1904.06991). Here cluster
centres stand for the real features, so that no single image's feature is stored. A sample is
accepted if its cosine with the nearest centre is at least that of all but the furthest held-out
real images. A rejected sample is drawn again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from controlgen import rng
from controlgen.config import RejectionSamplingConfig
from controlgen.editing.edit import Samples
from controlgen.editing.protocols import Sampleable
from controlgen.errors import ArtifactCorrupt, DataError
from controlgen.types import Features, Indices, Latents
from controlgen.utils.rows import normalize_rows

CALIBRATION_SHARE = 0.2  # of the real sources, held out from the centres to set the threshold
MIN_IMAGES = 20  # real images on either side
MIN_CLUSTER_SIZE = 4  # images for each centre, on average
TIE_MARGIN = 1e-3  # of the threshold: more than rounding in another batch changes a similarity
BATCH = 1024  # rows compared with the centres at once


@dataclass(frozen=True)
class RealismFilter:
    """Accepts samples that are similar to real images.

    centres (m d): unit rows of real features, float16. threshold: the least cosine accepted.
    max_draws: draws for each sample; if none is accepted, the most similar is used.
    """

    centres: NDArray[np.float16]
    threshold: float
    max_draws: int

    @classmethod
    def fit(cls, features: Features, sources: Indices, config: RejectionSamplingConfig) -> Self:
        """From features (n d) of real images and the indices of their sources (n).

        Raises DataError where there are too few images or sources to set a threshold.
        """
        held_out = calibration_split(sources, config)
        fitted = np.asarray(features[~held_out], np.float32)
        distinct = len(np.unique(fitted, axis=0))
        clusters = max(min(config.centres, len(fitted) // MIN_CLUSTER_SIZE, distinct), 1)
        state = rng.key(config.seed, "likeness centres") % 2**32
        centres = KMeans(clusters, n_init=1, random_state=state).fit(fitted).cluster_centers_
        unfiltered = cls(normalize_rows(centres).astype(np.float16), -1.0, config.tries)
        similarity = unfiltered.similarity(features[held_out])
        threshold = float(np.quantile(similarity, 1 - config.share))
        return cls(unfiltered.centres, threshold, config.tries)

    def similarity(self, features: Features) -> NDArray[np.float32]:
        """Cosine (n) of unit features (n d) with the nearest centre, -1..1."""
        centres = self.centres.astype(np.float32)
        parts = [np.empty(0, np.float32)]
        for first in range(0, len(features), BATCH):
            parts.append((features[first : first + BATCH] @ centres.T).max(1))
        return np.concatenate(parts)

    def accepts(self, features: Features) -> NDArray[np.bool_]:
        """Whether samples with these unit features (n d) are accepted: (n)."""
        return np.asarray(self.similarity(features) >= self.threshold)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays, for saving."""
        return {"centres": self.centres}

    @classmethod
    def restore(
        cls, arrays: Mapping[str, NDArray[Any]], threshold: float, max_draws: int, size: int
    ) -> Self:
        """From `arrays()`, for features of `size`. Raises ArtifactCorrupt."""
        centres = arrays.get("centres")
        if centres is None or centres.ndim != 2 or centres.shape[1] != size:
            raise ArtifactCorrupt(f"holds no centres of features of size {size}")
        return cls(centres, threshold, max_draws)


def calibration_split(sources: Indices, config: RejectionSamplingConfig) -> NDArray[np.bool_]:
    """Which real images (n), by their source indices, set the threshold; the others the centres.

    Raises DataError where there are too few images or sources for both.
    """
    order = rng.stream(config.seed, "likeness unseen").permutation(np.unique(sources))
    held_out = np.isin(sources, order[: round(CALIBRATION_SHARE * len(order))])
    if min(held_out.sum(), len(sources) - held_out.sum()) < MIN_IMAGES:
        raise DataError(
            f"sample.likeness: {len(sources)} real images of {len(order)} sources are too few to "
            "fit a filter; omit it"
        )
    return held_out


def draw_accepted(
    model: Sampleable,
    realism_filter: RealismFilter | None,
    seed: int,
    purpose: str,
    start: int,
    stop: int,
) -> Samples:
    """Samples start..stop of a stream; sample i depends on (seed, purpose, i) alone.

    The first draw of each is the stream's row i: accepted samples are those of unfiltered sampling.
    """
    latents = rng.normals(seed, purpose, start, stop, model.latent_size)
    pixels = model.generate(latents)
    if realism_filter is None:
        return Samples(latents, pixels)
    best = realism_filter.similarity(model.embed(pixels))
    _resolve_ties(model, realism_filter, latents, best)
    redrawn = False
    for attempt in range(1, realism_filter.max_draws):
        rejected = np.flatnonzero(best < realism_filter.threshold)
        if not len(rejected):
            break
        redrawn = True
        rows = rng.normals(seed, f"{purpose}, draw {attempt}", start, stop, model.latent_size)
        draws = rows[rejected]
        similarity = realism_filter.similarity(model.embed(model.generate(draws)))
        _resolve_ties(model, realism_filter, draws, similarity)
        better = similarity > best[rejected]
        latents[rejected[better]], best[rejected[better]] = draws[better], similarity[better]
    # Generated again in the same batch, so that no byte depends on which others were redrawn.
    return Samples(latents, model.generate(latents) if redrawn else pixels)


def _resolve_ties(
    model: Sampleable,
    realism_filter: RealismFilter,
    latents: Latents,
    similarity: NDArray[np.float32],
) -> None:
    # The last bit of a similarity depends on its batch. Where that may decide, compute it alone.
    for row in np.flatnonzero(np.abs(similarity - realism_filter.threshold) < TIE_MARGIN):
        features = model.embed(model.generate(latents[row : row + 1]))
        similarity[row] = realism_filter.similarity(features)[0]
