"""Nearest-neighbour search among the items of a bank."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.editing.protocols import ModelProtocol
from controlgen.errors import ConfigError
from controlgen.types import Direction, Features, Indices, Latents, Pixels
from controlgen.utils.rows import normalize_rows

BATCH = 128  # items generated and embedded at once; a cancelled search keeps finished batches


class Neighbours(NamedTuple):
    """k items of a bank, the nearest first.

    items (k) count from 0; cosine (k), -1..1, is their similarity; Latents (k z), Pixels (k c h w).
    """

    items: Indices
    cosine: NDArray[np.float32]
    latents: Latents
    pixels: Pixels


class BankIndex:
    """Features of the bank's first items, each generated and embedded once."""

    def __init__(self, model: ModelProtocol) -> None:
        self._model = model
        self._features: Features = np.empty((0, model.space.size), np.float32)

    def index_upto(self, n: int) -> Iterator[int]:
        """Embed items until the first n are indexed, yielding the number so far."""
        while (size := len(self._features)) < n:
            items = self._model.bank_items(size, min(size + BATCH, n))
            self._features = np.concatenate([self._features, self._model.embed(items.pixels)])
            yield len(self._features)

    def nearest(
        self,
        feature: Direction,
        n: int,
        among: int,
        on_progress: Callable[[int], None] | None = None,
    ) -> Neighbours:
        """The n of the bank's first `among` items whose features (d) are nearest by cosine.

        Ties keep the bank's order. Raises ConfigError unless 1 <= n <= among.
        """
        if not 1 <= n <= among:
            raise ConfigError(f"nearest: n = {n} among {among}; ask for 1 to {among}")
        for size in self.index_upto(among):
            if on_progress is not None:
                on_progress(size)
        cosine = self._features[:among] @ normalize_rows(feature)
        items = np.argsort(-cosine, kind="stable")[:n]
        samples = [self._model.bank_items(int(item), int(item) + 1) for item in items]
        latents, pixels = (np.concatenate(parts) for parts in zip(*samples, strict=True))
        return Neighbours(items, cosine[items], latents, pixels)
