"""The 1 797 8x8 digits that scikit-learn carries (UCI optical recognition), enlarged to 32x32.

Real handwriting that is there without any download: what the tests and configs/tiny.toml train on.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from controlgen.spec import Spec
from controlgen.types import Indices, Pixels, Shape

HELD_OUT = 397  # the last ones are the test split


class DigitImages:
    """Grey digits, 8x8 enlarged bicubically to 24x24 in a black 32x32 frame."""

    def __init__(self, split: str) -> None:
        bunch = load_digits()
        part = slice(None, -HELD_OUT) if split == "train" else slice(-HELD_OUT, None)
        small = np.minimum(bunch.images[part] * 16, 255).astype(np.uint8)
        resized = [
            Image.fromarray(item).resize((24, 24), Image.Resampling.BICUBIC) for item in small
        ]
        self._pixels = np.pad(
            np.stack([np.asarray(item) for item in resized]), ((0, 0), (4, 4), (4, 4))
        )
        self._labels = bunch.target[part].astype(np.int64)

    @property
    def image_shape(self) -> Shape:
        """(1, 32, 32)."""
        return (1, 32, 32)

    def __len__(self) -> int:
        return len(self._pixels)

    def pixels(self, indices: Indices) -> Pixels:
        """Pixels (n 1 32 32)."""
        return self._pixels[indices][:, None]

    def labels(self, indices: Indices) -> NDArray[np.int64]:
        """Class 0..9 of each image, for judges only."""
        return np.asarray(self._labels[indices])


class Digits(Spec):
    """scikit-learn's digits; the last 397 are the test split."""

    kind: Literal["digits"] = "digits"
    split: Literal["train", "test"] = "train"

    def open(self) -> DigitImages:
        """Read from the installed scikit-learn."""
        return DigitImages(self.split)

    def judging(self, split: Literal["train", "test"]) -> "Digits":
        """The same source at the named split, for judges."""
        return self.model_copy(update={"split": split})
