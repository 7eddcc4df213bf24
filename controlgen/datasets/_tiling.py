"""Images cut into squares of the model's size, resized and stain-normalised tile by tile."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from controlgen.errors import DataError
from controlgen.image_io import Picture
from controlgen.stains import AnyStain, NoStain
from controlgen.types import Pixels

Cut = Literal["whole", "tiles"]


def tile_count(extent: tuple[int, ...], cut: Cut, size: int, tile: int | None) -> int:
    """Number of squares in an image of `extent` (h, w). Raises DataError if it is too small."""
    height, width = extent
    smallest = size if tile is None else tile
    if min(height, width) < smallest:
        setting = "size" if tile is None else "tile"
        raise DataError(f"{width}x{height} is smaller than {setting} {smallest}")
    return 1 if cut == "whole" or tile is None else (height // tile) * (width // tile)


def cut_tiles(picture: Picture, cut: Cut, size: int, tile: int | None) -> NDArray[np.uint8]:
    """The squares of an image (c h w), row by row, as Pixels (n c size size).

    "whole": the centre square; an odd remainder is dropped at the right and the bottom. "tiles":
    squares of `tile` pixels from the upper left; the remainder is dropped.
    """
    _, height, width = picture.shape
    if cut == "whole" or tile is None:
        side = min(height, width)
        corners = [((height - side) // 2, (width - side) // 2)]
    else:
        side = tile
        corners = [
            (top, left)
            for top in range(0, height - side + 1, side)
            for left in range(0, width - side + 1, side)
        ]
    squares = [picture[:, top : top + side, left : left + side] for top, left in corners]
    return resize(np.stack(squares), size)


def resize(pixels: Pixels, size: int) -> NDArray[np.uint8]:
    """Pixels (n c h w) -> (n c size size), bicubic; Pillow antialiases when it shrinks."""
    if pixels.shape[2:] == (size, size):
        return pixels
    n, channels = pixels.shape[:2]
    result = np.empty((n, channels, size, size), np.uint8)
    for index, channel in np.ndindex(n, channels):
        plane = Image.fromarray(np.ascontiguousarray(pixels[index, channel]))
        small = plane.resize((size, size), Image.Resampling.BICUBIC)
        result[index, channel] = np.asarray(small)
    return result


def normalize_stain_per_tile(pixels: Pixels, stain: AnyStain) -> Pixels:
    """Pixels (n c h w), each tile brought to the reference stain by its own profile."""
    if isinstance(stain, NoStain) or not len(pixels):
        return pixels
    tiles = (pixels[index : index + 1] for index in range(len(pixels)))
    return np.concatenate([stain.apply(tile, stain.measure(tile)) for tile in tiles])
