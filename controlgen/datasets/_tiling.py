"""How a picture becomes squares of the model's size."""

from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from controlgen.errors import DataError
from controlgen.image_io import Picture

Cut = Literal["whole", "tiles"]
Square = UInt8[np.ndarray, "c s s"]
Squares = UInt8[np.ndarray, "n c s s"]  # Pixels as high as wide


def pieces_of(extent: tuple[int, ...], cut: Cut, size: int, tile: int | None) -> int:
    """How many squares a picture of `extent` (h, w) gives. Raises DataError where it is tiny."""
    height, width = extent
    least = size if tile is None else tile
    if min(height, width) < least:
        what = "size" if tile is None else "tile"
        raise DataError(f"{width}x{height} is smaller than {what} {least}")
    return 1 if cut == "whole" or tile is None else (height // tile) * (width // tile)


def pieces(picture: Picture, cut: Cut, size: int, tile: int | None) -> Squares:
    """The squares of a picture (c h w), row by row, as Pixels (n c size size).

    Whole: the centre square, an odd pixel more being dropped at the right and the bottom. Tiles:
    squares of `tile` pixels from the upper left, the remainder dropped. Each is resized bicubically
    with antialiasing, from its own pixels alone.
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
    return np.stack([_resized(square, size) for square in squares])


def _resized(square: Picture, size: int) -> Square:
    if square.shape[1] == size:
        return square
    plane = square[0] if len(square) == 1 else square.transpose(1, 2, 0)
    image = Image.fromarray(np.ascontiguousarray(plane))
    small = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), np.uint8)
    return small[None] if len(square) == 1 else small.transpose(2, 0, 1)
