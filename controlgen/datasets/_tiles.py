"""What sources of ready-made tiles share: resizing, and stain handled tile by tile."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from controlgen.stains import AnyStain, NoStain
from controlgen.types import Pixels


def resized(pixels: Pixels, size: int) -> NDArray[np.uint8]:
    """Pixels (n c h w) -> (n c size size): bicubic, which in Pillow averages when it shrinks."""
    if pixels.shape[2:] == (size, size):
        return pixels
    n, channels = pixels.shape[:2]
    result = np.empty((n, channels, size, size), np.uint8)
    for index, channel in np.ndindex(n, channels):
        plane = Image.fromarray(np.ascontiguousarray(pixels[index, channel]))
        small = plane.resize((size, size), Image.Resampling.BICUBIC)
        result[index, channel] = np.asarray(small)
    return result


def stained_each(pixels: Pixels, stain: AnyStain) -> Pixels:
    """Pixels (n c h w) with each tile brought to the reference by its own profile."""
    if isinstance(stain, NoStain) or not len(pixels):
        return pixels
    tiles = (pixels[index : index + 1] for index in range(len(pixels)))
    return np.concatenate([stain.apply(tile, stain.measure(tile)) for tile in tiles])
