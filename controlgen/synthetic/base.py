"""What a procedural world is: images that know their own captions, so that a CLIP can be taught."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from controlgen import rng
from controlgen.types import Pixels, Shape

Floats = NDArray[np.float32]


class CaptionedBatch(NamedTuple):
    """Pixels (n c h w), a sentence for each, and what was measured on each (n k)."""

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


class RandomColumns:
    """Random columns for items start..stop, handed out left to right; row i depends on i alone."""

    def __init__(self, seed: int, purpose: str, start: int, stop: int, columns: int) -> None:
        self._table = rng.normals(seed, purpose, start, stop, columns)
        self._used = 0

    def normal(self, *shape: int) -> Floats:
        """Standard normals (n, *shape)."""
        count = int(np.prod(shape))
        if self._used + count > self._table.shape[1]:
            raise IndexError(f"Draws holds {self._table.shape[1]} columns; more were asked for")
        part = self._table[:, self._used : self._used + count]
        self._used += count
        return part.reshape(len(part), *shape)

    def uniform(self, *shape: int) -> Floats:
        """Uniform in 0..1 (n, *shape)."""
        return np.asarray(ndtr(self.normal(*shape)), np.float32)

    def choice(self, options: int) -> NDArray[np.intp]:
        """A whole number below `options` for each item (n)."""
        return np.minimum(self.uniform() * options, options - 1).astype(np.intp)
