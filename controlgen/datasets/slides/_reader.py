"""A whole slide: its pyramid levels, read region by region through openslide in bounded memory."""

import math
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from controlgen.errors import DataError

BLOCK_EDGE = 1024  # edge in pixels of the blocks decoded for a thumbnail
Picture = UInt8[np.ndarray, "h w 3"]


class SlideError(DataError):
    """A file is damaged or not a slide; `why` is the reason in a few words."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f'{path}: {why}; mend or remove it, or set on_bad = "skip" to go on without it'
        )
        self.path, self.why = path, why


def _import_openslide() -> Any:
    try:
        import openslide
    except (ImportError, OSError) as error:
        raise DataError(
            f"slides are read through openslide, which cannot be imported ({error}); "
            "pip install 'controlgen[histology]'"
        ) from None
    return openslide


class SlideReader:
    """An open slide. Raises SlideError if it cannot be opened, and later if it is damaged."""

    def __init__(self, path: Path) -> None:
        self._library = _import_openslide()
        self.path = path
        try:
            self._slide = self._library.OpenSlide(path)
        except self._library.OpenSlideError as error:
            raise SlideError(path, f"cannot be opened as a slide ({_reason(error)})") from None
        self.levels: tuple[tuple[int, int], ...] = self._slide.level_dimensions
        self.downsamples: tuple[float, ...] = self._slide.level_downsamples

    def __enter__(self) -> "SlideReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._slide.close()

    @property
    def hash(self) -> str | None:
        """openslide's quick hash of the smallest level and the properties; None if absent."""
        value = self._slide.properties.get("openslide.quickhash-1")
        return None if value is None else str(value)

    def microns(self, assumed: float | None) -> tuple[float, float]:
        """Microns per pixel of level 0 in x and y; `assumed` if the slide does not state them.

        Raises DataError if neither is available.
        """
        try:
            stated = [float(self._slide.properties[f"openslide.mpp-{axis}"]) for axis in "xy"]
        except (KeyError, ValueError):
            stated = []
        if stated and all(0 < value < math.inf for value in stated):
            return stated[0], stated[1]
        if assumed is None:
            raise DataError(
                f"{self.path}: does not state its microns per pixel; set assume_mpp "
                "(0.25 is usual for a scan at 40x, 0.5 at 20x)"
            )
        return assumed, assumed

    def level(self, downsample: float) -> int:
        """The coarsest level that is as fine as `downsample`, to within one per cent."""
        return int(self._slide.get_best_level_for_downsample(downsample * 1.01))

    def read(self, x: int, y: int, level: int, width: int, height: int) -> Picture:
        """Pixels (height width 3) of a level; x, y in pixels of level 0. Void is white."""
        try:
            region = self._slide.read_region((x, y), level, (width, height))
        except self._library.OpenSlideError as error:
            why = f"is damaged near x {x}, y {y} ({_reason(error)})"
            raise SlideError(self.path, why) from None
        colour, alpha = region.convert("RGB"), region.getchannel("A")
        if alpha.getextrema()[0] < 255:
            colour = Image.composite(colour, Image.new("RGB", region.size, "white"), alpha)
        return np.asarray(colour, np.uint8)

    def thumbnail(self, downsample: float) -> tuple[Picture, float]:
        """The whole slide (h w 3), and the width of its pixels in pixels of level 0.

        Means over whole pixels of the nearest finer level, at most `downsample` of level 0.
        Computed block by block, so that a slide without small levels needs bounded memory too.
        """
        level = self.level(downsample)
        fine = self.downsamples[level]
        factor = max(1, int(downsample * 1.01 / fine))
        width, height = self.levels[level]
        block = max(1, BLOCK_EDGE // factor) * factor
        picture = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
        for top in range(0, height, block):
            for left in range(0, width, block):
                size = min(block, width - left), min(block, height - top)
                region = self.read(round(left * fine), round(top * fine), level, *size)
                small = np.asarray(Image.fromarray(region).reduce(factor))
                row, column = top // factor, left // factor
                picture[row : row + small.shape[0], column : column + small.shape[1]] = small
        return picture, factor * fine


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
