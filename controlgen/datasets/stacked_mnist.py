"""Stacked MNIST: three random digits as red, green and blue, a thousand modes (Metz et al. 2017).

Unrolled GAN, section 3.3; PacGAN and R3GAN count modes on it. A fixed seed draws the digits, so
item i is always the same.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from controlgen.base_config import runtime_field
from controlgen.datasets.arrays import ArrayDataset
from controlgen.datasets.base import DatasetConfig
from controlgen.datasets.mnist import MNIST
from controlgen.errors import DataError
from controlgen.rng import stream
from controlgen.types import Indices, Pixels, Shape

COUNTS = {"train": 60_000, "test": 10_000}


class StackedImages:
    """Pixels (N 3 32 32), stacked on access; no classes."""

    def __init__(self, digits: ArrayDataset, triples: NDArray[np.int64]) -> None:
        self._digits, self._triples = digits, triples

    @property
    def image_shape(self) -> Shape:
        """(3, 32, 32)."""
        return (3, *self._digits.image_shape[1:])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Empty: a digit classifier counts the thousand modes."""
        return ()

    def __len__(self) -> int:
        return len(self._triples)

    def pixels(self, indices: Indices) -> Pixels:
        """Pixels (n 3 32 32), a copy. Raises IndexError beyond the last image."""
        triples = self._triples[indices]
        planes = self._digits.pixels(triples.ravel())
        return planes.reshape(len(triples), *self.image_shape)

    def labels(self, indices: Indices) -> NDArray[np.int64]:
        """Raises DataError: there are no labels."""
        raise DataError("stacked-mnist has no classes; judge its channels with a judge of MNIST")

    def groups(self, indices: Indices) -> NDArray[np.int64]:
        """Each image is its own source."""
        return np.arange(len(self))[indices]


class StackedMNIST(DatasetConfig):
    """Three MNIST digits per image; the test split stacks test digits."""

    kind: Literal["stacked-mnist"] = "stacked-mnist"
    split: Literal["train", "test"] = "train"
    cache: Path | None = runtime_field(None)

    def open(self) -> StackedImages:
        """Read, downloading if necessary. Raises DataError with every source that failed."""
        digits = MNIST(split=self.split, cache=self.cache).open()
        draws = stream(0, f"stacked {self.split}")
        return StackedImages(digits, draws.integers(0, len(digits), (COUNTS[self.split], 3)))
