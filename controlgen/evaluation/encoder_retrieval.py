"""Label-free quality of an encoder: retrieval of augmented views and effective dimension."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.augmentations import AnyViews
from controlgen.images import to_pixels, to_signed_float
from controlgen.metrics.bootstrap import Interval, mean_interval
from controlgen.metrics.inversion import recall_at_1
from controlgen.rng import stream, torch_stream
from controlgen.types import Features, Pixels
from controlgen.utils.rows import normalize_rows

MIN_SOURCES = 16  # with fewer sources, a gallery contains several images of each


class RetrievalGallery(NamedTuple):
    """Images and one augmented view of each, both Pixels (n c h w)."""

    pixels: Pixels
    views: Pixels
    sources: int

    @classmethod
    def sample(cls, dataset: Any, augment: AnyViews, limit: int, seed: int) -> "RetrievalGallery":
        """Draw at most `limit` images, each from another source if there are 16 sources or more.

        Copies of one image cannot be distinguished by their views, and need not be.
        """
        order = stream(seed, "gallery").permutation(len(dataset))
        sources = np.asarray(dataset.groups(order))
        _, first = np.unique(sources, return_index=True)
        rows = order[np.sort(first)] if len(first) >= MIN_SOURCES else order
        pixels = dataset.pixels(rows[:limit])
        views = augment.view(to_signed_float(pixels), torch_stream(seed, "gallery views"))
        n_sources = len(np.unique(dataset.groups(rows[:limit])))
        return cls(pixels, to_pixels(views), n_sources)

    def recall_at_1(self, embed: Callable[[Pixels], Features], seed: int = 0) -> Interval:
        """Return the share of views whose nearest image by cosine is their own; chance is 1 / n."""
        return mean_interval(recall_at_1(embed(self.pixels), embed(self.views)), seed)


def raw_pixel_features(pixels: Pixels) -> NDArray[np.float32]:
    """Return centred pixel rows of unit length, the baseline feature space."""
    rows = pixels.reshape(len(pixels), -1).astype(np.float32)
    return normalize_rows(rows - rows.mean(1, keepdims=True))


def participation_ratio(features: Features) -> float:
    """Return the effective dimension of features (n d): (sum of variances)^2 / sum of squares.

    Variances are along principal components: d if all are equal, 1 if the features lie on a line.
    """
    rows = features.astype(np.float64)
    variances = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
    return float(variances.sum() ** 2 / max((variances**2).sum(), 1e-300))


def nearest_neighbours(features: Features, queries: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Return the k nearest other rows of `features` (n d) by cosine for each query (m): (m k)."""
    rows = normalize_rows(features)
    cosines = rows[queries] @ rows.T
    cosines[np.arange(len(queries)), queries] = -np.inf
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k]
