"""Procedural tissue: tiles like those of a haematoxylin and eosin (H&E) section, with captions.

It uses no tile and no label of any data set: nuclei are ellipses, glands are star-shaped rings of
cells about a lumen, stroma is streaked, and both stains absorb by Beer-Lambert's law. Ranges of
sizes and of stain (Ruifrok & Johnston 2001, Macenko et al. 2009 print vectors alike) were set by
eye, so that tiles look like sections of colon at 2 microns a pixel. The architectures follow
textbooks: benign crypts are round, evenly spaced and full of goblet cells; malignant
glands are crowded and irregular, with large, varied, stratified nuclei.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from controlgen import rng
from controlgen.base_config import BaseConfig
from controlgen.synthetic.base import CaptionedBatch, RandomColumns, RandomTable
from controlgen.synthetic.tissue._captions import ATTRIBUTES, caption, prompts
from controlgen.synthetic.tissue._cells import (
    TABLE_COLUMNS,
    Cells,
    place_cells,
    place_glands,
)
from controlgen.synthetic.tissue._parameters import CLASSES, FREE, TileParameters, sample_parameters
from controlgen.synthetic.tissue._shapes import (
    GRAIN,
    SIDE,
    Floats,
    crop,
    fibres,
    grain,
    nearest_gland,
    rasterize_depth,
)
from controlgen.types import Pixels, Shape

COLUMNS = 96
CHUNK = 32  # tiles per batch, to stay in the CPU cache


class SyntheticTissue(BaseConfig):
    """H&E-like tiles: glands, sheets of tumour, stroma and inflammation, in varied stains."""

    kind: Literal["tissue"] = "tissue"
    size: Literal[32, 64] = Field(default=64, description="pixels; drawn at 64")

    @property
    def image_shape(self) -> Shape:
        """RGB, size x size."""
        return 3, self.size, self.size

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """architecture (index of `classes`, -1 for a mixture), then the drawn values.

        haematoxylin, eosin: mean OD. nuclear_area, gland_area, lumen, goblet, stroma: shares 0..1
        of the tile. nuclear_count, glands, lymphocytes: numbers. nucleus_size: mean diameter in
        pixels of a 64-pixel tile. roundness: mean ratio of axes 0..1. pleomorphism: standard
        deviation over mean of the diameters. darkness: mean nuclear OD. irregularity: relative
        amplitude of the glands' outline. blood: red cells. blur: 0..1.
        """
        return ("architecture", *ATTRIBUTES)

    @property
    def classes(self) -> tuple[str, ...]:
        """The five architectures."""
        return CLASSES

    def prompts(self) -> list[list[str]]:
        """Sentences that name each class and nothing else, for zero-shot classification."""
        return prompts()

    def draw(self, seed: int, start: int, stop: int) -> CaptionedBatch:
        """Items start..stop; item i depends on `seed` and i alone, not on the batch."""
        draws = RandomColumns(seed, "tissue", start, stop, COLUMNS)
        parameters, words = sample_parameters(draws), draws.uniform(10)
        corner = (draws.uniform(8) * GRAIN).astype(np.intp)
        pixels = np.empty((stop - start, 3, SIDE, SIDE), np.uint8)
        measured = np.empty((stop - start, len(ATTRIBUTES)), np.float32)
        for first in range(0, stop - start, CHUNK):
            part = slice(first, min(first + CHUNK, stop - start))
            chances = [
                rng.stream(seed, "tissue cells", start + index).random(TABLE_COLUMNS, np.float32)
                for index in range(part.start, part.stop)
            ]
            pixels[part], measured[part] = _draw_tiles(
                parameters.select(part), corner[part], np.stack(chances)
            )
        architecture = np.where(parameters.architecture == FREE, -1, parameters.architecture)
        captions = [caption(*row) for row in zip(architecture, measured, words, strict=True)]
        attributes = np.concatenate([architecture[:, None].astype(np.float32), measured], 1)
        if self.size != SIDE:
            pixels = _downsample(pixels)
        return CaptionedBatch(pixels, captions, attributes)


def _draw_tiles(
    tiles: TileParameters, corner: NDArray[np.intp], chances: Floats
) -> tuple[Pixels, Floats]:
    """Pixels (n 3 SIDE SIDE) of the tiles, and their ATTRIBUTES (n k)."""
    n = len(chances)
    table = RandomTable(chances)
    glands = place_glands(tiles, table)
    relative, edge = nearest_gland(n, glands)
    rough = crop(grain(7.0), corner[:, 0], corner[:, 1])
    torn = _coverage((_per_pixel(tiles.get("torn")) + 0.3 * rough - 0.55) * 9)
    content = place_cells(tiles, glands, relative, torn, table)
    fine = crop(grain(1.6), corner[:, 2], corner[:, 3])
    bend = _per_pixel(tiles.get("wavy")) * crop(grain(14.0), corner[:, 4], corner[:, 5])
    streaks = fibres(content.cosine, content.sine, bend, 0.4 * tiles.zoom, corner[:, 6])

    # Layers of stain, from the bottom: stroma or sheets of cytoplasm, epithelium, ...
    within = _coverage((1 - relative) * edge)
    cleft = _coverage((np.abs(relative - 1.04) * edge) - 0.6 * _per_pixel(1 - tiles.get("filling")))
    solid = _per_pixel(tiles.is_solid().astype(np.float32))
    density = np.clip(
        _per_pixel(tiles.get("filling")) + (0.42 - 0.25 * solid) * streaks + 0.12 * fine, 0, 1.3
    )
    eosin = _per_pixel(tiles.get("pink")) * density * cleft
    blue = (0.02 + 0.9 * solid * _per_pixel(tiles.get("cytoplasm_blue"))) * density * cleft
    granular = 1 + 0.2 * rough + 0.22 * fine
    eosin += within * (_per_pixel(tiles.get("cytoplasm_pink")) * granular - eosin)
    blue += within * (_per_pixel(tiles.get("cytoplasm_blue")) * granular - blue)

    # ... lumen and vacuoles, which are almost clear, ...
    hollow = _coverage((_per_pixel(tiles.get("lumen")) * (1 + 0.3 * rough) - relative) * edge)
    hollow = np.where(_per_pixel(tiles.get("lumen")) > 0.03, hollow, 0)
    vacuole = rasterize_depth(n, content.vacuoles) * (1 - hollow)
    clear = (1 - 0.97 * hollow) * (1 - 0.9 * vacuole)
    eosin, blue = eosin * clear, blue * clear + 0.02 * vacuole

    # ... red cells and nuclei; where the section is torn there is glass.
    red, nuclear = rasterize_depth(n, content.red), rasterize_depth(n, content.nuclei)
    eosin = np.maximum(eosin, red) * (1 - torn)
    nuclear = nuclear * (1 - torn)
    blue = np.maximum(blue * (1 - torn), nuclear * (1 + 0.3 * fine))
    amounts = np.stack([blue, eosin], 1) * tiles.strength[:, :, None, None]
    pixels = _photograph(np.maximum(amounts, 0), tiles, corner)
    present = 1 - torn
    areas = [(hollow * present), (vacuole * present), (within * present)]
    shares = [_mean(area) for area in areas]
    stroma = _mean((1 - within) * present * (1 - solid))
    return pixels, _measure(tiles, content, amounts, nuclear, shares, stroma)


def _measure(
    tiles: TileParameters,
    content: Cells,
    amounts: Floats,
    nuclear: Floats,
    shares: list[Floats],
    stroma: Floats,
) -> Floats:
    """ATTRIBUTES (n k) of the drawn content, before the camera's blur."""
    n = len(amounts)
    nuclei = content.nuclei.select(content.nuclei.inside_tile())
    lymphoid = content.lymphoid[content.nuclei.inside_tile()]
    count = np.bincount(nuclei.tile, minlength=n)
    diameter = 2 * np.sqrt(nuclei.long * nuclei.short)

    # Size, shape and their spread exclude lymphocytes unless there are only lymphocytes.
    others = np.bincount(nuclei.tile, ~lymphoid, n)
    weight = np.where((others > 0)[nuclei.tile], ~lymphoid, True).astype(np.float64)
    total = np.maximum(np.bincount(nuclei.tile, weight, n), 1)
    size = np.bincount(nuclei.tile, weight * diameter, n) / total
    square = np.bincount(nuclei.tile, weight * diameter**2, n) / total
    spread = np.sqrt(np.maximum(square - size**2, 0)) / np.maximum(size, 1e-6)
    roundness = np.bincount(nuclei.tile, weight * nuclei.short / nuclei.long, n) / total
    depth = nuclei.depth * (1 - nuclei.pale / 2) * tiles.strength[nuclei.tile, 0]
    darkness = np.bincount(nuclei.tile, depth, n) / np.maximum(count, 1)
    hollow, vacuole, within = shares
    columns: dict[str, NDArray[Any]] = {
        "haematoxylin": _mean(amounts[:, 0]),
        "eosin": _mean(amounts[:, 1]),
        "nuclear_area": _mean(nuclear > 0.1),
        "nuclear_count": count,
        "nucleus_size": size,
        "roundness": roundness,
        "pleomorphism": spread,
        "darkness": darkness,
        "glands": content.glands,
        "gland_area": within,
        "irregularity": content.irregularity,
        "lumen": hollow,
        "goblet": vacuole,
        "lymphocytes": np.bincount(nuclei.tile, lymphoid, n),
        "stroma": stroma,
        "blood": np.bincount(content.red.tile[content.red.inside_tile()], minlength=n),
        "blur": tiles.blur,
    }
    return np.stack([columns[name] for name in ATTRIBUTES], 1).astype(np.float32)


def _photograph(amounts: Floats, tiles: TileParameters, corner: NDArray[np.intp]) -> Pixels:
    """Light through the stains (n 2 SIDE SIDE, OD), a soft lens, sensor noise, coarse colour."""
    density = np.einsum("nshw,nsc->nchw", amounts, tiles.stains)
    light = np.power(np.float32(10), -density) * tiles.paper[:, :, None, None]
    mix = (0.02 + 0.8 * tiles.blur)[:, None, None, None]
    light += mix * (_blur(light) - light)
    light += mix**2 * (_blur(light) - light)
    grey = crop(grain(0.6), corner[:, 7], corner[:, 0])
    light += (tiles.noise[:, None, None] * grey)[:, None]

    # As in JPEG, colour has half the resolution of brightness.
    bright = light.mean(1, keepdims=True)
    colour = light - bright
    coarse = colour.reshape(len(light), 3, SIDE // 2, 2, SIDE // 2, 2).mean((3, 5))
    coarse = np.repeat(np.repeat(coarse, 2, 2), 2, 3)
    light = bright + 0.5 * colour + 0.5 * coarse
    return np.asarray(np.rint(np.clip(light, 0, 1) * 255), np.uint8)


def _blur(planes: Floats) -> Floats:
    # Binomial filter 1 2 1, across and down.
    padded = np.pad(planes, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    across = (padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]) / 4
    return np.asarray((across[:, :, :-2] + 2 * across[:, :, 1:-1] + across[:, :, 2:]) / 4)


def _downsample(pixels: Pixels) -> Pixels:
    n, channels, height, width = pixels.shape
    blocks = pixels.reshape(n, channels, height // 2, 2, width // 2, 2)
    return np.asarray(np.rint(blocks.mean((3, 5), dtype=np.float32)), np.uint8)


def _coverage(inward: NDArray[np.floating[Any]]) -> Floats:
    """Coverage 0..1 of a pixel by its distance in pixels inside an edge."""
    return np.asarray(np.clip(inward + 0.5, 0, 1), np.float32)


def _mean(planes: Floats | NDArray[np.bool_]) -> Floats:
    # Each tile is summed alone, in an order that does not depend on the number of tiles.
    flat = np.ascontiguousarray(planes).reshape(len(planes), -1)
    return np.asarray(flat.mean(1, dtype=np.float64), np.float32)


def _per_pixel(column: Floats) -> Floats:
    return column[:, None, None]
