"""Stacked MNIST: three random digits as red, green and blue, a thousand modes (Metz et al. 2017).

Unrolled GAN, section 3.3; as PacGAN and R3GAN count modes on it. Which digits are stacked is drawn
once by a fixed seed, so item i is always the same.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from controlgen.base_config import BaseConfig, runtime_field
from controlgen.datasets.arrays import ArrayImages
from controlgen.datasets.mnist import MNIST
from controlgen.errors import DataError
from controlgen.rng import stream
from controlgen.types import Indices, Pixels, Shape

COUNTS = {"train": 60_000, "test": 10_000}


class StackedImages:
    """Pixels (N 3 32 32) put together when asked for; no classes."""

    def __init__(self, digits: ArrayImages, triples: NDArray[np.int64]) -> None:
        self._digits, self._triples = digits, triples

    @property
    def image_shape(self) -> Shape:
        """(3, 32, 32)."""
        return (3, *self._digits.image_shape[1:])

    @property
    def class_names(self) -> tuple[str, ...]:
        """None: the thousand modes are counted by whoever reads digits."""
        return ()

    def __len__(self) -> int:
        return len(self._triples)

    def pixels(self, indices: Indices) -> Pixels:
        """Pixels (n 3 32 32), a copy. Raises IndexError beyond the last image."""
        chosen = self._triples[indices]
        planes = self._digits.pixels(chosen.ravel())
        return planes.reshape(len(chosen), *self.image_shape)

    def labels(self, indices: Indices) -> NDArray[np.int64]:
        """Raises DataError: there are none."""
        raise DataError("stacked-mnist has no classes; judge its channels with a judge of MNIST")

    def groups(self, indices: Indices) -> NDArray[np.int64]:
        """Every image is its own source."""
        return np.arange(len(self))[indices]


class StackedMNIST(BaseConfig):
    """MNIST's digits, found as MNIST is; the test split stacks test digits."""

    kind: Literal["stacked-mnist"] = "stacked-mnist"
    split: Literal["train", "test"] = "train"
    cache: Path | None = runtime_field(None)

    def open(self) -> StackedImages:
        """Read (fetch if need be). Raises DataError naming each way that was tried."""
        digits = MNIST(split=self.split, cache=self.cache).open()
        draws = stream(0, f"stacked {self.split}")
        return StackedImages(digits, draws.integers(0, len(digits), (COUNTS[self.split], 3)))

    def judging(self, split: Literal["train", "test"]) -> "StackedMNIST":
        """The same source at the named split, for judges."""
        return self.model_copy(update={"split": split})
