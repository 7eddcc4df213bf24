"""The bank as a gallery: which of its items are nearest to a feature."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import feature_math
from controlgen.editing.protocols import Model
from controlgen.errors import ConfigError
from controlgen.types import Direction, Features, Indices, Latents, Pixels

BLOCK = 128  # items drawn and embedded at once; what was stopped between two is not done again


class Neighbours(NamedTuple):
    """Items of the bank by likeness, the nearest first: k of them.

    items (k) count from 0, cosine (k) is that of their features and the one asked for, -1..1;
    Latents (k z) and Pixels (k c h w) are theirs.
    """

    items: Indices
    cosine: NDArray[np.float32]
    latents: Latents
    pixels: Pixels


class Gallery:
    """Features of the bank's first items, drawn and embedded once."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._features: Features = np.empty((0, model.space.size), np.float32)

    def grow(self, n: int) -> Iterator[int]:
        """Embed items until the first n are known, yielding how many are."""
        while (known := len(self._features)) < n:
            items = self._model.bank_items(known, min(known + BLOCK, n))
            rows = self._model.embed(items.pixels)
            self._features = np.concatenate([self._features, rows])
            yield len(self._features)

    def nearest(
        self,
        feature: Direction,
        n: int,
        among: int,
        on_progress: Callable[[int], None] | None = None,
    ) -> Neighbours:
        """The n of the bank's first `among` items whose features (d) are nearest by cosine.

        Of equally near ones the first. Raises ConfigError where there are no such numbers of items.
        """
        if not 1 <= n <= among:
            raise ConfigError(f"nearest: n = {n} among {among}; ask for 1 to {among}")
        for known in self.grow(among):
            if on_progress is not None:
                on_progress(known)
        cosine = self._features[:among] @ feature_math.unit(feature)
        items = np.argsort(-cosine, kind="stable")[:n]
        drawn = [self._model.bank_items(int(item), int(item) + 1) for item in items]
        latents, pixels = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        return Neighbours(items, cosine[items], latents, pixels)
