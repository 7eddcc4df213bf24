"""Types of arrays, and the interface of data sets.

n items, c channels, h x w pixels, z latent size, d feature size.
"""

from typing import Protocol

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

Pixels = UInt8[np.ndarray, "n c h w"]  # stored images, 0..255
Latents = Float32[np.ndarray, "n z"]  # standard normal for a sample
Features = Float32[np.ndarray, "n d"]  # rows of unit length
Direction = Float32[np.ndarray, "d"]  # a direction in feature space
Indices = NDArray[np.int64]
Shape = tuple[int, int, int]  # c h w


class Dataset(Protocol):
    """Images by index. Labels, if a source has them, are used for evaluation only."""

    @property
    def image_shape(self) -> Shape: ...

    def __len__(self) -> int: ...

    def pixels(self, indices: Indices) -> Pixels: ...
