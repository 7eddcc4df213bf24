"""Whole slides, cut into tiles at a given number of microns per pixel where there is tissue."""

import io
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, PngImagePlugin
from pydantic import Field

from controlgen._version import __version__
from controlgen.base_config import runtime_field
from controlgen.datasets.arrays import ArrayDataset
from controlgen.datasets.base import DatasetConfig, content_identity
from controlgen.datasets.cache import (
    cache_folder,
    cached_pixels,
    default_cache,
    explain_write_errors,
)
from controlgen.datasets.slides._reader import SlideError, SlideReader
from controlgen.datasets.slides._tiling import (
    Shares,
    Slide,
    TileGrid,
    Tiles,
    TilingPlan,
    cache_key,
    content_hash,
    find_slides,
    iter_runs,
    make_grid,
    make_mask,
    select_tiles,
    slides_in_split,
)
from controlgen.errors import DataError
from controlgen.rng import stream
from controlgen.stains import AnyStain, NoStain
from controlgen.stains.base import StainProfile
from controlgen.types import Indices, Pixels
from controlgen.utils.files import write_bytes, write_text
from controlgen.utils.progress import TqdmReporter

VERSION = 1  # of the tiling rule; part of the cache's identity
CHUNK_TILES = 64  # tiles in memory at a time
REPORT = "report.json"
STAIN_TILES = 64  # most tiles of a slide on which its stain is measured
OUTLINE_COLOUR = (0, 160, 60)  # of the tiles in a thumbnail


class SlideTiles(ArrayDataset):
    """Tiles of slides; the group of a tile is the number of its slide."""

    def __init__(self, pixels: NDArray[np.uint8], plan: TilingPlan, folder: Path) -> None:
        super().__init__(pixels, groups=plan.tiles[:, 0])
        self._plan = plan
        self.folder = folder  # pixels, coordinates.json, report.json, thumbnail-NNNN.png
        self.files = {grid.number: grid.file for grid in plan.grids}  # by slide number

    def coordinates(self, indices: Indices) -> Tiles:
        """Rows (n 3) int64: slide number, x and y of the top left corner at level 0."""
        return np.array(self._plan.tiles[indices])

    def tissue(self, indices: Indices) -> Shares:
        """Share of tissue in each tile, 0..1."""
        return np.array(self._plan.shares[indices])


class Slides(DatasetConfig):
    """A slide, or every slide under a folder, read through openslide.

    A tile is `size` pixels of `mpp` microns: read from the nearest finer level of the pyramid and
    reduced with antialiasing. With several slides a split takes whole slides, by a hash of their
    names; a single slide is divided by a vertical line, test on its right. No pixel is in both.
    """

    kind: Literal["slides"] = "slides"
    root: Path
    split: Literal["train", "test"] = "train"
    size: int = Field(64, ge=8)  # pixels
    mpp: float = Field(0.5, gt=0)  # microns per pixel of a tile
    assume_mpp: float | None = Field(None, gt=0)  # of level 0, for slides that do not state theirs
    overlap: float = Field(0.0, ge=0, lt=1)  # share of a tile's width that the next tile repeats
    tissue: float = Field(0.5, ge=0, le=1)  # smallest share of tissue in a tile
    most: int | None = Field(None, ge=1)  # tiles; larger sets are sampled by `seed`
    seed: int = 0
    test_share: float = Field(0.2, gt=0, lt=1)  # of the slides, or of a single slide's tissue
    stain: AnyStain = NoStain()
    on_bad: Literal["skip", "refuse"] = "skip"
    content: str | None = None  # hash that the slides must have, set by `with_content_hash`
    cache: Path | None = runtime_field(None)

    def identity(self) -> dict[str, Any]:
        """See `content_identity`."""
        return content_identity(super().identity(), "root", self.content, self.stain)

    def with_content_hash(self) -> "Slides":
        """The same with `content` set: a hash (12 hex) of the slides' names, sizes in bytes,
        microns per pixel and openslide's quick hashes; slides are too large to be read whole.

        Raises DataError as `open` does.
        """
        return self.model_copy(update={"content": content_hash(self._find_slides({}))})

    def open(self) -> SlideTiles:
        """Cut the tiles, once; an interrupted cut is continued. Raises DataError.

        Bad files and slides without tissue are skipped and listed in report.json, or refused. A
        slide without microns per pixel, or one too coarse, is an error in either case.
        """
        left_out: dict[str, str] = {}
        slides, base, cache = self._find_slides(left_out), self._base, self.cache or default_cache()
        files = len(slides) + len(left_out)
        if self.content is not None and (content := content_hash(slides)) != self.content:
            raise DataError(
                f"{self.root}: holds other slides (content {content}) than expected "
                f"({self.content}); bring those back or leave content out"
            )
        damaged: dict[str, str] = {}
        while True:
            # Damage deep in a slide shows when its tiles are read; then the cut begins anew
            # without that slide, and every other slide stays in its split.
            identity = self._cut_identity(slides, sorted(damaged))
            folder = cache_folder(cache, self.kind, identity)
            plan = self._cached_plan(folder, base, slides, damaged)
            produce = partial(self._produce, base, plan)
            shape = (3, self.size, self.size)
            try:
                pixels = cached_pixels(cache, self.kind, identity, len(plan.tiles), shape, produce)
            except SlideError as error:
                if self.on_bad == "refuse":
                    raise
                damaged[error.path.relative_to(base).as_posix()] = error.why
                continue
            left_out |= damaged | plan.without
            write_sidecars(folder, base, plan, left_out, self.seed)
            if left_out:
                summary = f"{len(left_out)} of {files} slides left out; see {folder / REPORT}"
                print(f"{self.root}: {summary}", file=sys.stderr)
            return SlideTiles(pixels, plan, folder)

    def _find_slides(self, left_out: dict[str, str]) -> list[Slide]:
        """The slides that open; the reasons of the others go to `left_out`, or are raised."""

        def on_error(error: SlideError) -> None:
            if self.on_bad == "refuse":
                raise error
            left_out[error.path.relative_to(self._base).as_posix()] = error.why

        return find_slides(self.root, self._base, self.assume_mpp, on_error)

    @property
    def _base(self) -> Path:
        """The folder that file names are relative to."""
        return self.root.parent if self.root.is_file() else self.root

    def _cut_identity(self, slides: Sequence[Slide], damaged: list[str]) -> dict[str, Any]:
        rule = {
            name: value
            for name, value in self.identity().items()
            if name not in ("root", "content")
        }
        return {
            **rule,
            "stain": self.stain.cache_identity(),
            "slides": cache_key(slides),
            "damaged": damaged,
            "version": VERSION,
        }

    def _cached_plan(
        self, folder: Path, base: Path, slides: Sequence[Slide], damaged: dict[str, str]
    ) -> TilingPlan:
        """The tiles to cut, stored next to the cache folder: masks of many slides take long."""
        path = folder.with_name(f"{folder.name}.plan.json")
        try:
            return TilingPlan.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            plan = self._make_plan(base, slides, damaged)
        with explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, plan.to_json())
        return plan

    def _make_plan(
        self, base: Path, slides: Sequence[Slide], damaged: dict[str, str]
    ) -> TilingPlan:
        """Make the grids, select tiles with tissue, draw the sample. Raises DataError."""
        half = (self.split, self.test_share) if len(slides) == 1 else None
        in_split = slides_in_split(self.split, slides, self.test_share)
        grids: list[TileGrid] = []
        tiles, shares = [np.empty((0, 3), np.int64)], [np.empty(0)]
        without: dict[str, str] = {}
        with TqdmReporter().start("find tissue", len(in_split), 0, "slides") as bar:
            for done, slide in enumerate(in_split, 1):
                if slide.file in damaged:
                    continue
                try:
                    with SlideReader(base / slide.file) as reader:
                        grid = make_grid(reader, slide, self.size, self.mpp, self.overlap)
                        mask, scale = make_mask(reader, slide, grid)
                        if self.tissue > 0 and not mask.any():
                            raise SlideError(reader.path, "shows no tissue")
                        selected = select_tiles(reader, grid, mask, scale, self.tissue, half)
                except SlideError as error:
                    if self.on_bad == "refuse":
                        raise
                    without[slide.file] = error.why
                    continue
                grids.append(grid)
                tiles.append(selected[0])
                shares.append(selected[1])
                bar.update_to(done)
        plan = TilingPlan(tuple(grids), np.concatenate(tiles), np.concatenate(shares), without)
        if not len(plan.tiles):
            raise DataError(self._no_tiles_message({**damaged, **without}, len(in_split)))
        return self._sample(plan)

    def _no_tiles_message(self, left_out: dict[str, str], slides: int) -> str:
        reasons = "; ".join(f"{file} {why}" for file, why in sorted(left_out.items())[:3])
        if len(left_out) >= slides:
            return f"{self.root}: nothing to cut for {self.split}: {reasons}; name other slides"
        return (
            f"{self.root}: no tile of {self.size} pixels at mpp = {self.mpp:g} for {self.split} is "
            f"{self.tissue:.0%} tissue; lower tissue, size or mpp"
        )

    def _sample(self, plan: TilingPlan) -> TilingPlan:
        if self.most is None or self.most >= len(plan.tiles):
            return plan
        draws = stream(self.seed, "slides/sample")
        rows = np.sort(draws.choice(len(plan.tiles), self.most, replace=False, shuffle=False))
        return TilingPlan(plan.grids, plan.tiles[rows], plan.shares[rows], plan.without)

    def _produce(self, base: Path, plan: TilingPlan, start: int) -> Iterator[Pixels]:
        """Blocks of tiles from number `start` on, in the plan's order."""
        grids = {grid.number: grid for grid in plan.grids}
        for number, first, end in iter_runs(plan.tiles):
            if end <= start:
                continue
            grid = grids[number]
            with SlideReader(base / grid.file) as reader:
                profile = self._measure_stain(reader, grid, plan, first, end)
                for begin in range(max(first, start), end, CHUNK_TILES):
                    chunk = plan.tiles[begin : min(begin + CHUNK_TILES, end)]
                    yield self.stain.apply(self._cut(reader, grid, chunk), profile)

    def _measure_stain(
        self, reader: SlideReader, grid: TileGrid, plan: TilingPlan, first: int, end: int
    ) -> StainProfile:
        """The stain of a slide, from a fixed sample of its tiles that are half tissue or more."""
        if isinstance(self.stain, NoStain):
            return self.stain.measure(np.empty((0, 3, self.size, self.size), np.uint8))
        shares = plan.shares[first:end]
        good = first + np.flatnonzero(shares >= min(0.5, shares.max()))
        draws = stream(self.seed, f"slides/stain/{grid.file}")
        rows = np.sort(draws.permutation(good)[:STAIN_TILES])
        return self.stain.measure(self._cut(reader, grid, plan.tiles[rows]))

    def _cut(self, reader: SlideReader, grid: TileGrid, tiles: Tiles) -> Pixels:
        """Read tiles and reduce them to (n 3 size size), bicubic with antialiasing."""
        pixels = np.empty((len(tiles), 3, self.size, self.size), np.uint8)
        box = (0, 0, min(grid.extent[0], grid.span[0]), min(grid.extent[1], grid.span[1]))
        for row, (_, x, y) in enumerate(tiles.tolist()):
            region = Image.fromarray(reader.read(x, y, grid.level, *grid.span))
            tile = region.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)
            pixels[row] = np.asarray(tile).transpose(2, 0, 1)
        return pixels


def write_sidecars(
    folder: Path, base: Path, plan: TilingPlan, left_out: dict[str, str], seed: int
) -> None:
    """Write coordinates, thumbnails and the list of skipped slides next to the pixels."""
    with explain_write_errors(folder):
        if not (folder / "coordinates.json").exists():
            write_text(folder / "coordinates.json", plan.to_json())
        for number, first, end in iter_runs(plan.tiles):
            path = folder / f"thumbnail-{number:04d}.png"
            if not path.exists():
                grid = next(grid for grid in plan.grids if grid.number == number)
                write_bytes(path, draw_thumbnail(base, grid, plan.tiles[first:end], seed))
        report = [
            {"file": file, "wrong": why, "done": "skipped"}
            for file, why in sorted(left_out.items())
        ]
        write_text(folder / REPORT, json.dumps(report, indent=1) + "\n")


def draw_thumbnail(base: Path, grid: TileGrid, tiles: Tiles, seed: int) -> bytes:
    """A PNG of the whole slide at the mask's resolution with the outline of every tile.

    `seed`, with which the tiles were sampled, is recorded in the PNG.
    """
    with SlideReader(base / grid.file) as reader:
        pixels, scale = reader.thumbnail(grid.mask_downsample)
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    across, down = (extent * grid.downsample / scale for extent in grid.extent)
    for _, x, y in tiles.tolist():
        left, top = x / scale, y / scale
        right, bottom = left + max(across - 1, 0), top + max(down - 1, 0)
        pen.rectangle((left, top, right, bottom), outline=OUTLINE_COLOUR)
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("synthetic", "no: a real slide")
    chunks.add_text("source", grid.file)
    chunks.add_text("seed", str(seed))
    chunks.add_text("recipe", f"the slide 1 to {scale:g}, outlined {len(tiles)} tiles cut of it")
    chunks.add_text("version", __version__)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()
