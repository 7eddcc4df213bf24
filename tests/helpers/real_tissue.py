"""scikit-image's tissue picture and helpers for tests of published data sets."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from controlgen.errors import DataError

PICTURE = np.asarray(data.immunohistochemistry())


def planes(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return stored.transpose(0, 3, 1, 2)


def by_pillow(tile: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    picture = Image.fromarray(tile).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture).transpose(2, 0, 1)


def one_line(error: pytest.ExceptionInfo[DataError], path: Path) -> None:
    assert "\n" not in str(error.value) and str(path) in str(error.value)
