"""Which tiles are cut from which slide: found, split and sampled before a single one is read."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64

from controlgen.datasets.slides._reader import BadSlide, Pyramid
from controlgen.datasets.slides._tissue_mask import (
    LONGEST,
    MASK_MICRONS,
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
}  # what openslide reads, by name; files of other names in a folder are not looked at
ENLARGED = 1.1  # a slide at most this much coarser than asked for is enlarged; else refused
BAND = 64  # rows of the grid whose tissue is measured at a time
NEIGHBOURS = 2048  # pixels of the level: tiles are read square by square of this edge

Tiles = Int64[np.ndarray, "n 3"]  # number of the slide, x, y in pixels of level 0
Shares = Float64[np.ndarray, "n"]  # of tissue in a tile, 0..1
Bad = Callable[[BadSlide], None]  # notes a bad slide, or raises it


@dataclass(frozen=True)
class Slide:
    """A slide that opens: its number among all of them, file, microns per pixel, identity."""

    number: int
    file: str
    microns: tuple[float, float]
    content: tuple[int, int, str | None]  # bytes, time of change in ns, openslide's quick hash


@dataclass(frozen=True)
class Grid:
    """How tiles lie on one slide; lengths in pixels of `level`, x before y."""

    number: int
    file: str
    level: int
    downsample: float  # pixels of level 0 along one of the level
    extent: tuple[float, float]  # exact size of a tile
    span: tuple[int, int]  # whole pixels that are read for it
    step: tuple[int, int]  # from a tile to the next
    mask_downsample: float  # pixels of level 0 along one of the mask, at most


@dataclass(frozen=True)
class Plan:
    """Every tile in the order it is read; slides without a tile are not among the grids."""

    grids: tuple[Grid, ...]
    tiles: Tiles
    shares: Shares
    without: dict[str, str]  # slides that were left out, and why

    def dumped(self) -> str:
        """As JSON: `slides` with their geometry, `tiles` as rows of slide, x, y, tissue."""
        rows = zip(self.tiles.tolist(), self.shares.tolist(), strict=True)
        lines = ",\n".join(json.dumps([*place, share]) for place, share in rows)
        slides = json.dumps([asdict(grid) for grid in self.grids], indent=1)
        without = json.dumps(self.without)
        return f'{{"slides": {slides},\n"without": {without},\n"tiles": [\n{lines}\n]}}\n'

    @classmethod
    def loaded(cls, text: str) -> "Plan":
        """What `dumped` wrote. Raises ValueError, KeyError or TypeError where it is not that."""
        found = json.loads(text)
        rows = np.array(found["tiles"], np.float64).reshape(-1, 4)
        pairs = ("extent", "span", "step")
        grids = [
            Grid(**{**grid, **{name: tuple(grid[name]) for name in pairs}})
            for grid in found["slides"]
        ]
        return cls(tuple(grids), rows[:, :3].astype(np.int64), rows[:, 3], found["without"])


def find_slides(root: Path, base: Path, assumed: float | None, bad: Bad) -> list[Slide]:
    """Every slide under `root` that opens; files are named relative to `base`.

    Sorted by name, hidden files left out. The same slide twice is one slide and a bad one.
    Raises DataError where there is none, or one does not say its microns per pixel.
    """
    slides: list[Slide] = []
    hashes: dict[str, str] = {}
    for path in _candidates(root):
        file = path.relative_to(base).as_posix()
        try:
            with Pyramid(path) as pyramid:
                twin = hashes.get(pyramid.hash or "")
                if twin is not None:
                    raise BadSlide(path, f"is the same slide as {twin}")
                if pyramid.hash is not None:
                    hashes[pyramid.hash] = file
                found = path.stat()
                content = (found.st_size, found.st_mtime_ns, pyramid.hash)
                slides.append(Slide(len(slides), file, pyramid.microns(assumed), content))
        except BadSlide as error:
            bad(error)
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
    found = [
        path
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and (path.is_file() or path.is_symlink())
    ]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def chosen_for(split: str, slides: Sequence[Slide], test_share: float) -> list[Slide]:
    """The slides of a split, by a keyed hash of their names; a single slide is in both.

    The seed of a sample has no say, so that two samples of one folder never mix the splits.
    """
    if len(slides) == 1:
        return list(slides)
    drawn = sorted(slides, key=lambda slide: key(0, f"slides/split/{slide.file}"))
    held_out = min(max(round(test_share * len(slides)), 1), len(slides) - 1)
    part = drawn[:held_out] if split == "test" else drawn[held_out:]
    return sorted(part, key=lambda slide: slide.number)


def grid_on(
    pyramid: Pyramid, slide: Slide, size: int, microns_per_pixel: float, overlap: float
) -> Grid:
    """How tiles of `size` pixels lie on a slide. Raises DataError where it is too coarse."""
    wanted = [microns_per_pixel / microns for microns in slide.microns]
    if min(wanted) * ENLARGED < 1:
        raise DataError(
            f"{pyramid.path}: its finest level has {max(slide.microns):g} microns per pixel, so "
            f"{microns_per_pixel:g} would be invented; set mpp = {max(slide.microns):.4g} or more"
        )
    level = pyramid.level(min(wanted))
    downsample = pyramid.downsamples[level]
    across, down = (size * share / downsample for share in wanted)
    return Grid(
        slide.number,
        slide.file,
        level,
        downsample,
        (across, down),
        (math.ceil(across - 1e-6), math.ceil(down - 1e-6)),
        (_step(across, overlap), _step(down, overlap)),
        max(MASK_MICRONS / float(np.mean(slide.microns)), max(pyramid.levels[0]) / LONGEST, 1.0),
    )


def _step(extent: float, overlap: float) -> int:
    # Without overlap no pixel may be read twice, so the step is rounded up.
    return math.ceil(extent - 1e-6) if overlap == 0 else max(1, round(extent * (1 - overlap)))


def mask_of(pyramid: Pyramid, slide: Slide, grid: Grid) -> tuple[Mask, float]:
    """The tissue mask, and how many pixels of level 0 one of its pixels is wide."""
    thumbnail, scale = pyramid.thumbnail(grid.mask_downsample)
    return tissue_mask(thumbnail, float(np.mean(slide.microns)) * scale), scale


def tiles_on(
    pyramid: Pyramid,
    grid: Grid,
    mask: Mask,
    scale: float,
    least: float,
    half: tuple[Literal["train", "test"], float] | None,
) -> tuple[Tiles, Shares]:
    """The tiles of a grid with at least the share `least` of tissue, in reading order.

    `half` is a split and its test share where one slide serves both splits: a vertical line is
    drawn that leaves this share of the tissue on its right, for test. A tile across it is dropped.
    """
    spots = [
        np.arange(0, edge - span + 1, step)
        for edge, span, step in zip(pyramid.levels[grid.level], grid.span, grid.step, strict=True)
    ]
    columns, rows = (np.rint(spot * grid.downsample).astype(np.int64) for spot in spots)
    across, down = (extent * grid.downsample for extent in grid.extent)
    if half is not None:
        line = _line(mask, half[1]) * scale
        reach = grid.span[0] * grid.downsample + 1
        columns = columns[columns + reach <= line if half[0] == "train" else columns >= line]

    # A band of the grid at a time, so that memory goes with the tiles that are kept.
    areas = summed_areas(mask)
    found, kept = [np.empty((0, 3), np.int64)], [np.empty(0)]
    for first in range(0, len(rows), BAND):
        band = rows[first : first + BAND]
        shares = tissue_shares(
            areas, columns / scale, band / scale, across / scale, down / scale
        ).round(4)
        row, column = np.nonzero(shares >= least)
        places = (np.full(len(row), grid.number), columns[column], band[row])
        found.append(np.stack(places, 1))
        kept.append(shares[row, column])
    tiles, shares = np.concatenate(found), np.concatenate(kept)

    # Neighbours are read together: what openslide decodes for one tile serves the next.
    square = tiles[:, 1:] // int(NEIGHBOURS * grid.downsample)
    order = np.lexsort((tiles[:, 1], tiles[:, 2], square[:, 0], square[:, 1]))
    return tiles[order], shares[order]


def _line(mask: Mask, test_share: float) -> int:
    sums = (mask if mask.any() else ~mask).sum(0).cumsum()
    return int(np.searchsorted(sums, (1 - test_share) * sums[-1])) + 1


def reading(tiles: Tiles) -> Iterator[tuple[int, int, int]]:
    """Runs of tiles of one slide: its number, first and one past the last tile."""
    numbers, firsts = np.unique(tiles[:, 0], return_index=True)
    ends = [*firsts[1:].tolist(), len(tiles)]
    yield from zip(numbers.tolist(), firsts.tolist(), ends, strict=True)


def described(slides: Sequence[Slide]) -> list[Any]:
    """What identifies the slides for a cache."""
    return [[slide.file, list(slide.microns), list(slide.content)] for slide in slides]


def digest(slides: Sequence[Slide]) -> str:
    """What identifies the slides wherever they lie and whenever they were copied: 12 hex digits."""
    told = [(slide.file, slide.microns, slide.content[0], slide.content[2]) for slide in slides]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
