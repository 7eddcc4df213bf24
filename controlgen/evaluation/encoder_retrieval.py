"""How well a space knows an image again in another view of it: what can be asked without labels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.augmentations import AnyViews
from controlgen.images import to_pixels, to_unit
from controlgen.metrics.bootstrap import Interval, interval
from controlgen.metrics.inversion import recall_at_1, unit_rows
from controlgen.rng import stream, torch_stream
from controlgen.types import Features, Pixels

FEWEST_SOURCES = 16  # below, images of one source stand in a gallery together


class Gallery(NamedTuple):
    """Images, and one view of each, both Pixels (n c h w)."""

    pixels: Pixels
    views: Pixels
    sources: int

    @classmethod
    def draw(cls, dataset: Any, augment: AnyViews, most: int, seed: int) -> "Gallery":
        """At most `most` images at random, each of another source where there are sources enough.

        Copies of one image cannot be told apart in another view, and need not be.
        """
        order = stream(seed, "gallery").permutation(len(dataset))
        sources = np.asarray(dataset.groups(order))
        _, first = np.unique(sources, return_index=True)
        rows = order[np.sort(first)] if len(first) >= FEWEST_SOURCES else order
        pixels = dataset.pixels(rows[:most])
        views = augment.view(to_unit(pixels), torch_stream(seed, "gallery views"))
        number = len(np.unique(dataset.groups(rows[:most])))
        return cls(pixels, to_pixels(views), number)

    def recognised(self, embed: Callable[[Pixels], Features], seed: int = 0) -> Interval:
        """Share of views whose nearest image by cosine is their own; chance is 1 / n."""
        return interval(recall_at_1(embed(self.pixels), embed(self.views)), seed)


def plain_pixels(pixels: Pixels) -> NDArray[np.float32]:
    """The images themselves as a space: rows about their mean, of unit length."""
    rows = pixels.reshape(len(pixels), -1).astype(np.float32)
    return unit_rows(rows - rows.mean(1, keepdims=True))


def dimensions(features: Features) -> float:
    """How many directions the features (n d) use: (sum of variances)^2 / sum of their squares.

    Variances are those along principal components (the participation ratio): d where all are
    equal, 1 where the features lie on a line or have collapsed.
    """
    rows = features.astype(np.float64)
    variances = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
    return float(variances.sum() ** 2 / max((variances**2).sum(), 1e-300))


def nearest_others(features: Features, queries: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The k nearest other rows of `features` (n d) by cosine for each query (m): (m k)."""
    rows = unit_rows(features)
    cosines = rows[queries] @ rows.T
    cosines[np.arange(len(queries)), queries] = -np.inf
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k]
