"""Procedural data sets whose images come with true captions, to train a CLIP model."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from controlgen import rng
from controlgen.types import Pixels, Shape

Floats = NDArray[np.float32]


class CaptionedBatch(NamedTuple):
    """Pixels (n c h w), a sentence for each image, and its measured attributes (n k)."""

    pixels: Pixels
    captions: list[str]
    attributes: Floats


class SyntheticDataset(Protocol):
    """An endless captioned data set: item i depends on the seed and i alone."""

    @property
    def image_shape(self) -> Shape: ...

    @property
    def attribute_names(self) -> tuple[str, ...]: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    def prompts(self) -> list[list[str]]: ...

    def draw(self, seed: int, start: int, stop: int) -> CaptionedBatch: ...


class RandomTable:
    """Random numbers (n columns), handed out left to right; a row belongs to one item."""

    def __init__(self, table: Floats) -> None:
        self._table = table
        self._used = 0

    def next(self, *shape: int) -> Floats:
        """The next numbers (n, *shape). Raises IndexError if none are left."""
        count = int(np.prod(shape))
        columns = self._table.shape[1]
        if self._used + count > columns:
            raise IndexError(f"the random table has only {columns} columns")
        part = self._table[:, self._used : self._used + count]
        self._used += count
        return part.reshape(len(part), *shape)


class RandomColumns(RandomTable):
    """Random columns for items start..stop; row i depends on `seed`, `purpose` and i alone."""

    def __init__(self, seed: int, purpose: str, start: int, stop: int, columns: int) -> None:
        super().__init__(rng.normals(seed, purpose, start, stop, columns))

    def normal(self, *shape: int) -> Floats:
        """Standard normals (n, *shape)."""
        return self.next(*shape)

    def uniform(self, *shape: int) -> Floats:
        """Uniform in 0..1 (n, *shape)."""
        return np.asarray(ndtr(self.normal(*shape)), np.float32)

    def choice(self, options: int) -> NDArray[np.intp]:
        """An integer below `options` for each item (n)."""
        return np.minimum(self.uniform() * options, options - 1).astype(np.intp)
