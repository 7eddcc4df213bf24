"""Whole slides, cut into tiles at a stated number of microns per pixel where there is tissue."""

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
from controlgen.base_config import BaseConfig, runtime_field
from controlgen.datasets._content_hash import pinned_identity
from controlgen.datasets.arrays import ArrayImages
from controlgen.datasets.cache import prepared, prepared_folder, write_whole
from controlgen.datasets.mnist_files import default_cache
from controlgen.datasets.slides._reader import BadSlide, Pyramid
from controlgen.datasets.slides._tiling import (
    Grid,
    Plan,
    Shares,
    Slide,
    Tiles,
    chosen_for,
    described,
    digest,
    find_slides,
    grid_on,
    mask_of,
    reading,
    tiles_on,
)
from controlgen.errors import DataError
from controlgen.rng import stream
from controlgen.stains import AnyStain, NoStain
from controlgen.stains.base import StainProfile
from controlgen.types import Indices, Pixels
from controlgen.utils.progress import TqdmReporter

VERSION = 1  # of the rule by which tiles are cut; part of the cache's identity
BLOCK = 64  # tiles that are in memory at a time
REPORT = "report.json"
MEASURED = 64  # tiles of a slide that its stain is measured on, fewer where it has fewer
BOX = (0, 160, 60)  # colour of the tiles drawn into a thumbnail


class SlideTiles(ArrayImages):
    """Tiles of slides; the group of a tile is the number of its slide."""

    def __init__(self, pixels: NDArray[np.uint8], plan: Plan, folder: Path) -> None:
        super().__init__(pixels, groups=plan.tiles[:, 0])
        self._plan = plan
        self.folder = folder  # pixels, coordinates.json, report.json, thumbnail-NNNN.png
        self.files = {grid.number: grid.file for grid in plan.grids}  # by number of the slide

    def coordinates(self, indices: Indices) -> Tiles:
        """Rows (n 3) int64: number of the slide, x and y of the top left corner at level 0."""
        return np.array(self._plan.tiles[indices])

    def tissue(self, indices: Indices) -> Shares:
        """Share of tissue in each tile, 0..1."""
        return np.array(self._plan.shares[indices])


class Slides(BaseConfig):
    """One slide, or every slide under a folder, read through openslide.

    A tile is `size` pixels of `mpp` microns: read from the nearest finer level of the pyramid and
    reduced with antialiasing. With several slides a split takes whole slides, by a hash of their
    names; a single slide is cut by a vertical line, test on its right. No pixel is in both.
    """

    kind: Literal["slides"] = "slides"
    root: Path
    split: Literal["train", "test"] = "train"
    size: int = Field(64, ge=8)  # pixels
    mpp: float = Field(0.5, gt=0)  # microns per pixel of a tile
    assume_mpp: float | None = Field(None, gt=0)  # of level 0, for slides that do not say theirs
    overlap: float = Field(0.0, ge=0, lt=1)  # share of a tile's width that the next one repeats
    tissue: float = Field(0.5, ge=0, le=1)  # least share of tissue in a tile
    most: int | None = Field(None, ge=1)  # tiles; a sample by `seed` where there are more
    seed: int = 0
    test_share: float = Field(0.2, gt=0, lt=1)  # of the slides, or of a single slide's tissue
    stain: AnyStain = NoStain()
    on_bad: Literal["skip", "refuse"] = "skip"
    content: str | None = None  # digest that the slides must have; `pinned` sets it
    cache: Path | None = runtime_field(None)

    def identity(self) -> dict[str, Any]:
        """See `pinned_identity`."""
        return pinned_identity(super().identity(), "root", self.content, self.stain)

    def pinned(self) -> "Slides":
        """The same with `content` set: a digest (12 hex) of the slides' names, sizes in bytes,
        microns per pixel and openslide's quick hashes; slides are too large to be read whole.

        Raises DataError as `open` does.
        """
        return self.model_copy(update={"content": digest(self._found({}))})

    def open(self) -> SlideTiles:
        """Cut the tiles, once; a killed cut is continued. Raises DataError.

        Bad files and slides without tissue are skipped and listed in report.json, or refused.
        A slide without microns per pixel, or one too coarse, is an error either way.
        """
        listed: dict[str, str] = {}
        slides, base, cache = self._found(listed), self._base, self.cache or default_cache()
        files = len(slides) + len(listed)
        if self.content is not None and (content := digest(slides)) != self.content:
            raise DataError(
                f"{self.root}: holds other slides (content {content}) than the ones asked for "
                f"({self.content}); bring those back or leave content out"
            )
        damaged: dict[str, str] = {}
        while True:
            # Damage deep in a slide shows when its tiles are read; then the cut begins anew
            # without that slide, and every other slide stays in its split.
            identity = self._cut_identity(slides, sorted(damaged))
            folder = prepared_folder(cache, self.kind, identity)
            plan = self._plan(folder, base, slides, damaged)
            shape = (3, self.size, self.size)
            try:
                pixels = prepared(
                    cache,
                    self.kind,
                    identity,
                    len(plan.tiles),
                    shape,
                    partial(self._produce, base, plan),
                )
            except BadSlide as error:
                if self.on_bad == "refuse":
                    raise
                damaged[error.path.relative_to(base).as_posix()] = error.why
                continue
            listed |= damaged | plan.without
            lay_beside(folder, base, plan, listed, self.seed)
            if listed:
                said = f"{len(listed)} of {files} slides left out; see {folder / REPORT}"
                print(f"{self.root}: {said}", file=sys.stderr)
            return SlideTiles(pixels, plan, folder)

    def judging(self, split: Literal["train", "test"]) -> "Slides":
        """The same source at the named split, for judges."""
        return self.model_copy(update={"split": split})

    def _found(self, listed: dict[str, str]) -> list[Slide]:
        """The slides that open; the others are noted in `listed` with the reason, or refused."""

        def bad(error: BadSlide) -> None:
            if self.on_bad == "refuse":
                raise error
            listed[error.path.relative_to(self._base).as_posix()] = error.why

        return find_slides(self.root, self._base, self.assume_mpp, bad)

    @property
    def _base(self) -> Path:
        """The folder that the names of files are relative to."""
        return self.root.parent if self.root.is_file() else self.root

    def _cut_identity(self, slides: Sequence[Slide], damaged: list[str]) -> dict[str, Any]:
        rule = {
            name: value
            for name, value in self.identity().items()
            if name not in ("root", "content")
        }
        return {
            **rule,
            "stain": self.stain.content(),
            "slides": described(slides),
            "damaged": damaged,
            "version": VERSION,
        }

    def _plan(
        self, folder: Path, base: Path, slides: Sequence[Slide], damaged: dict[str, str]
    ) -> Plan:
        """The tiles to cut, kept beside the prepared folder: masks take long on many slides."""
        kept = folder.with_name(f"{folder.name}.plan.json")
        try:
            return Plan.loaded(kept.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            plan = self._planned(base, slides, damaged)
        make_folder(kept.parent)
        write_whole(kept, plan.dumped())
        return plan

    def _planned(self, base: Path, slides: Sequence[Slide], damaged: dict[str, str]) -> Plan:
        """Lay the grids, keep tiles with tissue, draw the sample. Raises DataError."""
        half = (self.split, self.test_share) if len(slides) == 1 else None
        chosen = chosen_for(self.split, slides, self.test_share)
        grids: list[Grid] = []
        tiles, shares = [np.empty((0, 3), np.int64)], [np.empty(0)]
        without: dict[str, str] = {}
        with TqdmReporter().meter("find tissue", len(chosen), 0, "slides") as meter:
            for done, slide in enumerate(chosen, 1):
                if slide.file in damaged:
                    continue
                try:
                    with Pyramid(base / slide.file) as pyramid:
                        grid = grid_on(pyramid, slide, self.size, self.mpp, self.overlap)
                        mask, scale = mask_of(pyramid, slide, grid)
                        if self.tissue > 0 and not mask.any():
                            raise BadSlide(pyramid.path, "shows no tissue")
                        found = tiles_on(pyramid, grid, mask, scale, self.tissue, half)
                except BadSlide as error:
                    if self.on_bad == "refuse":
                        raise
                    without[slide.file] = error.why
                    continue
                grids.append(grid)
                tiles.append(found[0])
                shares.append(found[1])
                meter.to(done)
        plan = Plan(tuple(grids), np.concatenate(tiles), np.concatenate(shares), without)
        if not len(plan.tiles):
            raise DataError(self._nothing({**damaged, **without}, len(chosen)))
        return self._sampled(plan)

    def _nothing(self, left_out: dict[str, str], chosen: int) -> str:
        reasons = "; ".join(f"{file} {why}" for file, why in sorted(left_out.items())[:3])
        if len(left_out) >= chosen:
            return f"{self.root}: nothing to cut for {self.split}: {reasons}; name other slides"
        return (
            f"{self.root}: no tile of {self.size} pixels at mpp = {self.mpp:g} for {self.split} is "
            f"{self.tissue:.0%} tissue; lower tissue, size or mpp"
        )

    def _sampled(self, plan: Plan) -> Plan:
        if self.most is None or self.most >= len(plan.tiles):
            return plan
        draws = stream(self.seed, "slides/sample")
        rows = np.sort(draws.choice(len(plan.tiles), self.most, replace=False, shuffle=False))
        return Plan(plan.grids, plan.tiles[rows], plan.shares[rows], plan.without)

    def _produce(self, base: Path, plan: Plan, start: int) -> Iterator[Pixels]:
        """Blocks of tiles from number `start` on, in the plan's order."""
        grids = {grid.number: grid for grid in plan.grids}
        for number, first, end in reading(plan.tiles):
            if end <= start:
                continue
            grid = grids[number]
            with Pyramid(base / grid.file) as pyramid:
                profile = self._profile(pyramid, grid, plan, first, end)
                for begin in range(max(first, start), end, BLOCK):
                    pixels = self._cut(pyramid, grid, plan.tiles[begin : min(begin + BLOCK, end)])
                    yield self.stain.apply(pixels, profile)

    def _profile(
        self, pyramid: Pyramid, grid: Grid, plan: Plan, first: int, end: int
    ) -> StainProfile:
        """The stain of one slide, from a fixed sample of its tiles that are half tissue or more."""
        if isinstance(self.stain, NoStain):
            return self.stain.measure(np.empty((0, 3, self.size, self.size), np.uint8))
        shares = plan.shares[first:end]
        good = first + np.flatnonzero(shares >= min(0.5, shares.max()))
        draws = stream(self.seed, f"slides/stain/{grid.file}")
        rows = np.sort(draws.permutation(good)[:MEASURED])
        return self.stain.measure(self._cut(pyramid, grid, plan.tiles[rows]))

    def _cut(self, pyramid: Pyramid, grid: Grid, tiles: Tiles) -> Pixels:
        """Read tiles and reduce them to (n 3 size size), bicubic with antialiasing."""
        pixels = np.empty((len(tiles), 3, self.size, self.size), np.uint8)
        box = (0, 0, min(grid.extent[0], grid.span[0]), min(grid.extent[1], grid.span[1]))
        for row, (_, x, y) in enumerate(tiles.tolist()):
            region = Image.fromarray(pyramid.read(x, y, grid.level, *grid.span))
            seen = region.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)
            pixels[row] = np.asarray(seen).transpose(2, 0, 1)
        return pixels


def make_folder(path: Path) -> None:
    """Make a folder of the cache. Raises DataError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be made ({error.strerror}); set CONTROLGEN_DATA to a folder that can"
        ) from None


def lay_beside(folder: Path, base: Path, plan: Plan, listed: dict[str, str], seed: int) -> None:
    """Lay coordinates, thumbnails and the list of what was left out beside the pixels."""
    if not (folder / "coordinates.json").exists():
        write_whole(folder / "coordinates.json", plan.dumped())
    for number, first, end in reading(plan.tiles):
        picture = folder / f"thumbnail-{number:04d}.png"
        if not picture.exists():
            grid = next(grid for grid in plan.grids if grid.number == number)
            write_whole(picture, thumbnail(base, grid, plan.tiles[first:end], seed))
    report = [
        {"file": file, "wrong": why, "done": "skipped"} for file, why in sorted(listed.items())
    ]
    write_whole(folder / REPORT, json.dumps(report, indent=1) + "\n")


def thumbnail(base: Path, grid: Grid, tiles: Tiles, seed: int) -> bytes:
    """A PNG of the whole slide at the mask's resolution with the outline of every tile.

    `seed` drew the sample of tiles; the picture says so, as every PNG does.
    """
    with Pyramid(base / grid.file) as pyramid:
        pixels, scale = pyramid.thumbnail(grid.mask_downsample)
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    across, down = (extent * grid.downsample / scale for extent in grid.extent)
    for _, x, y in tiles.tolist():
        left, top = x / scale, y / scale
        right, bottom = left + max(across - 1, 0), top + max(down - 1, 0)
        pen.rectangle((left, top, right, bottom), outline=BOX)
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("synthetic", "no: a real slide")
    chunks.add_text("source", grid.file)
    chunks.add_text("seed", str(seed))
    chunks.add_text("recipe", f"the slide 1 to {scale:g}, outlined {len(tiles)} tiles cut of it")
    chunks.add_text("version", __version__)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()
