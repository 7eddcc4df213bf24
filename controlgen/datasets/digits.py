"""The 1 797 8x8 digits that scikit-learn carries (UCI optical recognition), enlarged to 32x32.

Real handwriting that is there without any download: what the tests and configs/tiny.toml train on.
"""

from typing import Literal

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from controlgen.base_config import BaseConfig
from controlgen.datasets.arrays import ArrayImages

HELD_OUT = 397  # the last ones are the test split
FRAME = ((0, 0), (4, 4), (4, 4))  # 24x24 digits sit in the middle of 32x32
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Digits(BaseConfig):
    """scikit-learn's digits; the last 397 are the test split."""

    kind: Literal["digits"] = "digits"
    split: Literal["train", "test"] = "train"

    def open(self) -> ArrayImages:
        """Read from the installed scikit-learn: 8x8 enlarged bicubically to 24x24, on black."""
        bunch = load_digits()
        part = slice(None, -HELD_OUT) if self.split == "train" else slice(-HELD_OUT, None)
        small = np.minimum(bunch.images[part] * 16, 255).astype(np.uint8)
        enlarged = [
            Image.fromarray(item).resize((24, 24), Image.Resampling.BICUBIC) for item in small
        ]
        framed = np.pad(np.stack([np.asarray(item) for item in enlarged]), FRAME)
        return ArrayImages(framed[:, None], bunch.target[part], DIGITS)

    def judging(self, split: Literal["train", "test"]) -> "Digits":
        """The same source at the named split, for judges."""
        return self.model_copy(update={"split": split})
