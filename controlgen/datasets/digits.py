"""The 1 797 8x8 digits of scikit-learn (UCI optical recognition), enlarged to 32x32.

Real handwriting without a download; the tests and configs/tiny.toml train on it.
"""

from typing import Literal

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from controlgen.datasets.arrays import ArrayDataset
from controlgen.datasets.base import DatasetConfig

HELD_OUT = 397  # the last images are the test split
FRAME = ((0, 0), (4, 4), (4, 4))  # centres 24x24 digits in 32x32
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Digits(DatasetConfig):
    """scikit-learn's digits; the last 397 are the test split."""

    kind: Literal["digits"] = "digits"
    split: Literal["train", "test"] = "train"

    def open(self) -> ArrayDataset:
        """Read from the installed scikit-learn: 8x8 enlarged bicubically to 24x24, on black."""
        bunch = load_digits()
        part = slice(None, -HELD_OUT) if self.split == "train" else slice(-HELD_OUT, None)
        small = np.minimum(bunch.images[part] * 16, 255).astype(np.uint8)
        enlarged = [
            Image.fromarray(item).resize((24, 24), Image.Resampling.BICUBIC) for item in small
        ]
        framed = np.pad(np.stack([np.asarray(item) for item in enlarged]), FRAME)
        return ArrayDataset(framed[:, None], bunch.target[part], DIGITS)
