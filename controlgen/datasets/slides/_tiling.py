"""Which tiles are cut from which slide, decided before any tile is read."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64

from controlgen.datasets.slides._reader import SlideError, SlideReader
from controlgen.datasets.slides._tissue_mask import (
    MASK_MICRONS,
    MAX_MASK_EDGE,
    Mask,
    summed_areas,
    tissue_mask,
    tissue_shares,
)
from controlgen.errors import DataError
from controlgen.rng import key

SUFFIXES = {
    *(".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif"),
    *(".czi", ".dcm"),
}  # what openslide reads; other files in a folder are ignored
MAX_ENLARGEMENT = 1.1  # a slide at most this much coarser than `mpp` is enlarged; else refused
BAND_ROWS = 64  # rows of the grid whose tissue is measured at a time
SQUARE_EDGE = 2048  # pixels of the level: tiles are read square by square of this edge

Tiles = Int64[np.ndarray, "n 3"]  # number of the slide, x, y in pixels of level 0
Shares = Float64[np.ndarray, "n"]  # of tissue in a tile, 0..1
ErrorHandler = Callable[[SlideError], None]  # records a bad slide, or raises the error


@dataclass(frozen=True)
class Slide:
    """A slide that opens: its number among all slides, file, microns per pixel, identity."""

    number: int
    file: str
    microns: tuple[float, float]
    content: tuple[int, int, str | None]  # bytes, mtime in ns, openslide's quick hash


@dataclass(frozen=True)
class TileGrid:
    """The grid of tiles on a slide; lengths in pixels of `level`, x before y."""

    number: int
    file: str
    level: int
    downsample: float  # pixels of level 0 per pixel of the level
    extent: tuple[float, float]  # exact size of a tile
    span: tuple[int, int]  # whole pixels that are read for a tile
    step: tuple[int, int]  # from a tile to the next
    mask_downsample: float  # most pixels of level 0 per pixel of the mask


@dataclass(frozen=True)
class TilingPlan:
    """Every tile in reading order; slides without a tile have no grid."""

    grids: tuple[TileGrid, ...]
    tiles: Tiles
    shares: Shares
    without: dict[str, str]  # slides that were left out, and why

    def to_json(self) -> str:
        """`slides` with their geometry, `tiles` as rows of slide, x, y, tissue."""
        rows = zip(self.tiles.tolist(), self.shares.tolist(), strict=True)
        lines = ",\n".join(json.dumps([*tile, share]) for tile, share in rows)
        slides = json.dumps([asdict(grid) for grid in self.grids], indent=1)
        without = json.dumps(self.without)
        return f'{{"slides": {slides},\n"without": {without},\n"tiles": [\n{lines}\n]}}\n'

    @classmethod
    def from_json(cls, text: str) -> "TilingPlan":
        """The inverse of `to_json`. Raises ValueError, KeyError or TypeError for other text."""
        fields = json.loads(text)
        rows = np.array(fields["tiles"], np.float64).reshape(-1, 4)
        pairs = ("extent", "span", "step")
        grids = [
            TileGrid(**{**grid, **{name: tuple(grid[name]) for name in pairs}})
            for grid in fields["slides"]
        ]
        return cls(tuple(grids), rows[:, :3].astype(np.int64), rows[:, 3], fields["without"])


def find_slides(
    root: Path, base: Path, assumed: float | None, on_error: ErrorHandler
) -> list[Slide]:
    """Every slide under `root` that opens; files are named relative to `base`.

    Sorted by name, hidden files left out. A second copy of a slide is an error for `on_error`.
    Raises DataError if no slide opens, or one does not state its microns per pixel.
    """
    slides: list[Slide] = []
    hashes: dict[str, str] = {}
    for path in _candidates(root):
        file = path.relative_to(base).as_posix()
        try:
            with SlideReader(path) as reader:
                twin = hashes.get(reader.hash or "")
                if twin is not None:
                    raise SlideError(path, f"is the same slide as {twin}")
                if reader.hash is not None:
                    hashes[reader.hash] = file
                state = path.stat()
                content = (state.st_size, state.st_mtime_ns, reader.hash)
                slides.append(Slide(len(slides), file, reader.microns(assumed), content))
        except SlideError as error:
            on_error(error)
    if not slides:
        raise DataError(
            f"{root}: no slide in it can be opened; name a slide or a folder of slides "
            f"({', '.join(sorted(SUFFIXES))})"
        )
    return slides


def _candidates(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise DataError(f"{root}: no such slide or folder of slides")
    paths = [
        path
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and (path.is_file() or path.is_symlink())
    ]
    return sorted(paths, key=lambda path: path.relative_to(root).as_posix())


def slides_in_split(split: str, slides: Sequence[Slide], test_share: float) -> list[Slide]:
    """The slides of a split, by a keyed hash of their names; a single slide is in both.

    Independent of the seed of a sample, so that two samples of a folder never mix the splits.
    """
    if len(slides) == 1:
        return list(slides)
    shuffled = sorted(slides, key=lambda slide: key(0, f"slides/split/{slide.file}"))
    held_out = min(max(round(test_share * len(slides)), 1), len(slides) - 1)
    part = shuffled[:held_out] if split == "test" else shuffled[held_out:]
    return sorted(part, key=lambda slide: slide.number)


def make_grid(
    reader: SlideReader, slide: Slide, size: int, microns_per_pixel: float, overlap: float
) -> TileGrid:
    """The grid of tiles of `size` pixels on a slide. Raises DataError if it is too coarse."""
    scales = [microns_per_pixel / microns for microns in slide.microns]
    if min(scales) * MAX_ENLARGEMENT < 1:
        raise DataError(
            f"{reader.path}: its finest level has {max(slide.microns):g} microns per pixel, so "
            f"{microns_per_pixel:g} would be invented; set mpp = {max(slide.microns):.4g} or more"
        )
    level = reader.level(min(scales))
    downsample = reader.downsamples[level]
    across, down = (size * scale / downsample for scale in scales)
    mask_downsample = MASK_MICRONS / float(np.mean(slide.microns))
    return TileGrid(
        slide.number,
        slide.file,
        level,
        downsample,
        (across, down),
        (math.ceil(across - 1e-6), math.ceil(down - 1e-6)),
        (_step(across, overlap), _step(down, overlap)),
        max(mask_downsample, max(reader.levels[0]) / MAX_MASK_EDGE, 1.0),
    )


def _step(extent: float, overlap: float) -> int:
    # Without overlap no pixel may be read twice, so the step is rounded up.
    return math.ceil(extent - 1e-6) if overlap == 0 else max(1, round(extent * (1 - overlap)))


def make_mask(reader: SlideReader, slide: Slide, grid: TileGrid) -> tuple[Mask, float]:
    """The tissue mask, and the width of its pixels in pixels of level 0."""
    thumbnail, scale = reader.thumbnail(grid.mask_downsample)
    return tissue_mask(thumbnail, float(np.mean(slide.microns)) * scale), scale


def select_tiles(
    reader: SlideReader,
    grid: TileGrid,
    mask: Mask,
    scale: float,
    min_share: float,
    half: tuple[Literal["train", "test"], float] | None,
) -> tuple[Tiles, Shares]:
    """The tiles of a grid with at least `min_share` of tissue, in reading order.

    `half` is a split and its test share if one slide serves both splits: a vertical line leaves
    this share of the tissue on its right, for test. Tiles across the line are dropped.
    """
    corners = [
        np.arange(0, edge - span + 1, step)
        for edge, span, step in zip(reader.levels[grid.level], grid.span, grid.step, strict=True)
    ]
    columns, rows = (np.rint(corner * grid.downsample).astype(np.int64) for corner in corners)
    across, down = (extent * grid.downsample for extent in grid.extent)
    if half is not None:
        line = _dividing_column(mask, half[1]) * scale
        reach = grid.span[0] * grid.downsample + 1
        columns = columns[columns + reach <= line if half[0] == "train" else columns >= line]

    # A band of the grid at a time, so that memory grows with the selected tiles only.
    areas = summed_areas(mask)
    tile_parts, share_parts = [np.empty((0, 3), np.int64)], [np.empty(0)]
    for first in range(0, len(rows), BAND_ROWS):
        band = rows[first : first + BAND_ROWS]
        shares = tissue_shares(
            areas, columns / scale, band / scale, across / scale, down / scale
        ).round(4)
        row, column = np.nonzero(shares >= min_share)
        numbers = np.full(len(row), grid.number)
        tile_parts.append(np.stack((numbers, columns[column], band[row]), 1))
        share_parts.append(shares[row, column])
    tiles, shares = np.concatenate(tile_parts), np.concatenate(share_parts)

    # Neighbours are read together: what openslide decodes for one tile serves the next.
    square = tiles[:, 1:] // int(SQUARE_EDGE * grid.downsample)
    order = np.lexsort((tiles[:, 1], tiles[:, 2], square[:, 0], square[:, 1]))
    return tiles[order], shares[order]


def _dividing_column(mask: Mask, test_share: float) -> int:
    sums = (mask if mask.any() else ~mask).sum(0).cumsum()
    return int(np.searchsorted(sums, (1 - test_share) * sums[-1])) + 1


def iter_runs(tiles: Tiles) -> Iterator[tuple[int, int, int]]:
    """Runs of tiles of one slide: its number, first and one past the last tile."""
    numbers, firsts = np.unique(tiles[:, 0], return_index=True)
    ends = [*firsts[1:].tolist(), len(tiles)]
    yield from zip(numbers.tolist(), firsts.tolist(), ends, strict=True)


def cache_key(slides: Sequence[Slide]) -> list[Any]:
    """The identity of the slides for a cache."""
    return [[slide.file, list(slide.microns), list(slide.content)] for slide in slides]


def content_hash(slides: Sequence[Slide]) -> str:
    """Hash (12 hex) of the slides, independent of their folder and of when they were copied."""
    entries = [(slide.file, slide.microns, slide.content[0], slide.content[2]) for slide in slides]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:12]
