"""Placement of glands, nuclei, vacuoles and red cells in a drawn tile."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.synthetic.base import RandomTable
from controlgen.synthetic.tissue._parameters import TileParameters
from controlgen.synthetic.tissue._shapes import (
    MAX_HALF_AXIS,
    SIDE,
    Blobs,
    Floats,
    Glands,
    Integers,
    crop,
    grain,
    join,
)

Mask = NDArray[np.bool_]
LATTICE_SIDE = 7  # glands along each side of the lattice
MAX_GLAND_NUCLEI = 90  # nuclei
MAX_GOBLETS = 32  # vacuoles in a row of a gland
FIELD_SIDE = 24  # cells along each side of the lattice outside glands
MAX_RED_CELLS = 30
TABLE_COLUMNS = 32768  # uniform numbers per tile
UNIFORM_SCALE = float(np.sqrt(12))  # a uniform number less its mean, times this, has variance one


class Cells(NamedTuple):
    """Contents of the tiles. `lymphoid` (m) marks nuclei of lymphocytes; `cosine` and `sine` (n)
    are the direction of the stroma, `glands` and `irregularity` (n) the glands' count and outline.
    """

    nuclei: Blobs
    lymphoid: Mask
    vacuoles: Blobs
    red: Blobs
    cosine: Floats
    sine: Floats
    glands: Floats
    irregularity: Floats


def place_glands(tiles: TileParameters, table: RandomTable) -> Glands:
    """Glands on a rotated, jittered hexagonal lattice, as far as they touch their tile."""
    turn, offset = table.next() * 2 * np.pi, table.next(2) - 0.5
    jitter, own = (
        table.next(LATTICE_SIDE, LATTICE_SIDE, 2),
        table.next(LATTICE_SIDE, LATTICE_SIDE, 2),
    )
    waves = (table.next(LATTICE_SIDE, LATTICE_SIDE, 5, 2) - 0.5) * UNIFORM_SCALE

    # Centres: rows of a hexagonal lattice, half a step apart, about the middle of the tile.
    steps = np.arange(LATTICE_SIDE, dtype=np.float32) - LATTICE_SIDE // 2
    column = steps[None, :] + 0.5 * (steps[:, None] % 2)
    row = np.broadcast_to(steps[:, None] * np.sqrt(0.75), column.shape)
    lattice = np.stack([column, row], -1) + offset[:, None, None] + 0.3 * (jitter - 0.5)
    radius = tiles.get("radius")
    lattice = lattice * (2 * radius * tiles.get("gap"))[:, None, None, None]
    c, s = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    x = lattice[..., 0] * c - lattice[..., 1] * s + SIDE / 2
    y = lattice[..., 0] * s + lattice[..., 1] * c + SIDE / 2

    # Outlines: an oval rotated with the lattice, and waves that weaken with their number.
    decay = np.array([0.6, 0.9, 1.0, 0.8, 0.6], np.float32)
    waves = waves * decay[:, None] * tiles.get("irregular")[:, None, None, None, None]
    twice = np.stack([np.cos(2 * turn), np.sin(2 * turn)], -1) * tiles.get("oval")[:, None]
    waves[:, :, :, 1] += twice[:, None, None]
    size = radius[:, None, None] * (0.85 + 0.3 * own[..., 0])

    reach = size * 1.2
    present = (x > -reach) & (x < SIDE + reach) & (y > -reach) & (y < SIDE + reach)
    present &= (tiles.get("glandular") > 0.4)[:, None, None] & (own[..., 1] < 0.93)
    tile, up, along = np.nonzero(present)
    x, y, size, waves = (_f32(column[tile, up, along]) for column in (x, y, size, waves))
    return Glands(tile, up * LATTICE_SIDE + along, x, y, size, waves)


def place_cells(
    tiles: TileParameters, glands: Glands, relative: Floats, torn: Floats, table: RandomTable
) -> Cells:
    """All blobs. `relative` (n 64 64) is the distance of `nearest_gland`, `torn` 0..1 marks where
    the section is missing.
    """
    direction = table.next() * np.pi
    cosine, sine = np.cos(direction), np.sin(direction)
    ring = _gland_nuclei(tiles, glands, relative, table)
    outside, lymphoid = _stromal_nuclei(tiles, relative, direction, table)
    vacuoles = _goblet_vacuoles(tiles, glands, relative, table)
    red = _red_cells(tiles, relative, table)
    nuclei = join([ring, outside])
    lymphoid = np.concatenate([np.zeros(len(ring.tile), bool), lymphoid])

    # Blobs beyond the border, or where the section is torn, are dropped.
    present = _touches_tile(nuclei) & (_values_at(torn, nuclei) < 0.5)
    n = len(torn)
    number, irregularity = _gland_statistics(n, glands)
    return Cells(
        nuclei.select(present),
        lymphoid[present],
        vacuoles.select(_touches_tile(vacuoles)),
        red.select(_touches_tile(red) & (_values_at(torn, red) < 0.5)),
        _f32(cosine),
        _f32(sine),
        number,
        irregularity,
    )


def _gland_nuclei(
    tiles: TileParameters, glands: Glands, relative: Floats, table: RandomTable
) -> Blobs:
    """Nuclei of gland cells: in a row at the base, or in layers up to the lumen."""
    chances = table.next(LATTICE_SIDE * LATTICE_SIDE, MAX_GLAND_NUCLEI, 4)[glands.tile, glands.slot]
    t = glands.tile
    width = (tiles.zoom * tiles.get("size"))[t]
    layers = tiles.get("stratified")[t]
    room = 2 * np.pi * 0.9 * glands.radius / (tiles.get("spacing")[t] * width)
    counts = np.clip(room * (1 + 0.8 * layers), 3, MAX_GLAND_NUCLEI).astype(np.intp)
    gland, k = np.nonzero(np.arange(MAX_GLAND_NUCLEI) < counts[:, None])
    u = chances[gland, k]
    t, width, layers = t[gland], width[gland], layers[gland]
    angle = 2 * np.pi * (k + 0.7 * (u[:, 0] - 0.5)) / counts[gland]
    c, s = _f32(np.cos(angle)), _f32(np.sin(angle))
    edge = glands.edge(c, s, gland)

    # Elongated along the cell, its outer end near the base of the gland.
    diameter, aspect = _nucleus_sizes(tiles, t, width, u[:, 1])
    long = diameter / 2 / np.sqrt(aspect)
    base = edge - long - 0.5
    top = np.maximum(tiles.get("lumen")[t], 0.12) * edge + 0.6 * long
    distance = base - np.maximum(base - top, 0) * layers * u[:, 2]
    tilt = (0.15 + 0.9 * layers) * (u[:, 3] - 0.5) * 2
    direction = angle + tilt
    x, y = glands.x[gland] + distance * c, glands.y[gland] + distance * s
    blobs = _make_nuclei(tiles, t, x, y, diameter, aspect, direction, u[:, 1])
    return blobs.select(_values_at(relative, blobs) > distance / edge - 0.2)


def _stromal_nuclei(
    tiles: TileParameters, relative: Floats, direction: Floats, table: RandomTable
) -> tuple[Blobs, Mask]:
    """Nuclei outside glands on a jittered lattice (spindle cells, lymphocytes or sheets of tumour),
    and which of them are lymphocytes.
    """
    u, start = table.next(FIELD_SIDE, FIELD_SIDE, 7), table.next(2)
    solid = tiles.is_solid()
    width = tiles.zoom * np.where(solid, tiles.get("size"), 1.0)
    step = width * np.where(solid, 1.22, 1.3)
    ticks = np.arange(FIELD_SIDE, dtype=np.float32) - FIELD_SIDE / 2
    x = (ticks[None, None, :] + start[:, :1, None] + 0.8 * (u[..., 0] - 0.5)) * step[:, None, None]
    y = (ticks[None, :, None] + start[:, 1:, None] + 0.8 * (u[..., 1] - 0.5)) * step[:, None, None]
    x, y = x + SIDE / 2, y + SIDE / 2

    # Clusters make the density vary over the tile.
    corner = (start * 255).astype(np.intp)
    crowd = 1 + 1.2 * tiles.get("clusters")[:, None, None] * crop(
        grain(18.0), corner[:, 0], corner[:, 1]
    )
    column = np.clip(x, 0, SIDE - 1).astype(np.intp)
    row = np.clip(y, 0, SIDE - 1).astype(np.intp)
    items = np.arange(len(u))[:, None, None]
    chance = tiles.get("cellular")[:, None, None] * np.clip(crowd[items, row, column], 0, 2)
    free = relative[items, row, column] > 1.06
    t, i, j = np.nonzero((u[..., 2] < chance) & free)
    u, x, y = u[t, i, j], x[t, i, j], y[t, i, j]

    lymphoid = u[:, 3] < tiles.get("lymphoid")[t]
    spindle = ~lymphoid & ~solid[t]
    diameter, aspect = _nucleus_sizes(tiles, t, width[t], u[:, 4])
    diameter = np.where(lymphoid, tiles.zoom[t] * (0.78 + 0.14 * u[:, 4]), diameter)
    aspect = np.where(lymphoid, 0.85 + 0.15 * u[:, 5], aspect)
    aspect = np.where(spindle, 0.22 + 0.3 * u[:, 5], aspect)
    angle = direction[t] + np.where(spindle, 1.0, 2 * np.pi) * (u[:, 6] - 0.5)
    blobs = _make_nuclei(tiles, t, x, y, diameter, aspect, angle, u[:, 4])
    depth = np.where(lymphoid, np.maximum(blobs.depth, 0.42), blobs.depth)
    pale = np.where(lymphoid | spindle, 0.1, blobs.pale)
    return blobs._replace(depth=_f32(depth), pale=_f32(pale)), np.asarray(lymphoid)


def _goblet_vacuoles(
    tiles: TileParameters, glands: Glands, relative: Floats, table: RandomTable
) -> Blobs:
    """Mucin of goblet cells: a row of drops between nuclei and lumen, a second row if space
    allows.
    """
    chances = table.next(LATTICE_SIDE * LATTICE_SIDE, 2, MAX_GOBLETS, 3)[glands.tile, glands.slot]
    t = glands.tile
    wide = 1.9 * tiles.zoom[t]
    inner = np.maximum(tiles.get("lumen")[t], 0.05) * glands.radius
    outer = glands.radius - 1.35 * tiles.zoom[t]
    room = np.maximum(outer - inner, 0)
    rows = np.where(room > 13, 2, 1)
    parts = []
    for layer in range(2):
        high = outer - layer * room / rows
        low = high - room / rows
        middle = (high + low) / 2
        counts = np.clip(2 * np.pi * middle / (1.08 * wide), 1, MAX_GOBLETS).astype(np.intp)
        gland, k = np.nonzero((np.arange(MAX_GOBLETS) < counts[:, None]) & (layer < rows)[:, None])
        u = chances[gland, layer, k]
        present = (u[:, 0] < tiles.get("goblet")[t][gland]) & (room[gland] > 2)
        gland, k, u = gland[present], k[present], u[present]
        angle = 2 * np.pi * (k + 0.5 * layer + 0.3 * (u[:, 1] - 0.5)) / counts[gland]
        c, s = _f32(np.cos(angle)), _f32(np.sin(angle))
        stretch = glands.edge(c, s, gland) / glands.radius[gland]
        distance = middle[gland] * stretch
        long = np.clip((high - low)[gland] / 2 * stretch, 0.8, MAX_HALF_AXIS) * 0.97
        short = np.minimum(wide[gland] / 2 * (0.85 + 0.3 * u[:, 2]), MAX_HALF_AXIS)
        # Drops are wider than high in narrow rows; the long axis is then along the row.
        upright = long >= short
        parts.append(
            Blobs(
                t[gland],
                _f32(glands.x[gland] + distance * c),
                _f32(glands.y[gland] + distance * s),
                _f32(np.maximum(long, short)),
                _f32(np.minimum(long, short)),
                _f32(np.where(upright, c, -s)),
                _f32(np.where(upright, s, c)),
                _f32(0.75 + 0.25 * u[:, 2]),
                _f32(np.zeros(len(gland))),
            )
        )
    blobs = join(parts)
    return blobs.select(_values_at(relative, blobs) < 0.95)


def _red_cells(tiles: TileParameters, relative: Floats, table: RandomTable) -> Blobs:
    """Red cells around a point outside the glands."""
    u, centre = table.next(MAX_RED_CELLS, 4), table.next(2) * SIDE
    t, k = np.nonzero(u[..., 0] < tiles.get("bleeding")[:, None])
    u = u[t, k]
    size = _f32(0.45 * tiles.zoom[t])
    x = centre[t, 0] + 3.0 * tiles.zoom[t] * UNIFORM_SCALE * (u[:, 1] - 0.5)
    y = centre[t, 1] + 2.0 * tiles.zoom[t] * UNIFORM_SCALE * (u[:, 2] - 0.5)
    ones, zeros = np.ones(len(t), np.float32), np.zeros(len(t), np.float32)
    depth = _f32(0.34 + 0.2 * u[:, 3])
    blobs = Blobs(t, _f32(x), _f32(y), size, size, ones, zeros, depth, zeros)
    return blobs.select(_values_at(relative, blobs) > 1.05)


def _nucleus_sizes(
    tiles: TileParameters, t: Integers, width: Floats, u: Floats
) -> tuple[Floats, Floats]:
    """Diameter in pixels and ratio of axes; large nuclei vary in shape as they do in size."""
    vary = tiles.get("vary")[t]
    diameter = width * np.maximum(1 + vary * UNIFORM_SCALE * (u - 0.5), 0.4)
    aspect = np.clip(tiles.get("aspect")[t] + vary * ((u * 7) % 1 - 0.5), 0.2, 1)
    return _f32(diameter), _f32(aspect)


def _make_nuclei(
    tiles: TileParameters,
    t: Integers,
    x: NDArray[np.floating[Any]],
    y: NDArray[np.floating[Any]],
    diameter: Floats,
    aspect: Floats,
    angle: Floats,
    u: Floats,
) -> Blobs:
    long = np.minimum(diameter / 2 / np.sqrt(aspect), MAX_HALF_AXIS)
    short = np.minimum(diameter / 2 * np.sqrt(aspect), MAX_HALF_AXIS)
    vary = 1 + 2 * tiles.get("vary")[t] * ((u * 13) % 1 - 0.5)
    depth = tiles.get("dark")[t] * vary
    c, s = np.cos(angle), np.sin(angle)
    columns = (x, y, long, np.maximum(short, 0.6), c, s, depth, tiles.get("pale")[t])
    return Blobs(t, *(_f32(column) for column in columns))


def _gland_statistics(n: int, glands: Glands) -> tuple[Floats, Floats]:
    """Number of glands (n) with half their radius on the tile, and the mean amplitude of their
    outline's waves relative to the radius, without the oval.
    """
    half = glands.radius / 2
    present = (glands.x > -half) & (glands.x < SIDE + half)
    present &= (glands.y > -half) & (glands.y < SIDE + half)
    number = np.bincount(glands.tile, present, n)
    amplitude = np.sqrt((glands.waves[:, [0, 2, 3, 4]] ** 2).sum((1, 2)) / 2)
    mean = np.bincount(glands.tile, present * amplitude, n) / np.maximum(number, 1)
    return _f32(number), _f32(mean)


def _touches_tile(blobs: Blobs) -> Mask:
    x, y, far = blobs.x, blobs.y, blobs.long
    return np.asarray((x > -far) & (x < SIDE + far) & (y > -far) & (y < SIDE + far))


def _values_at(planes: Floats, blobs: Blobs) -> Floats:
    """Values of `planes` (n 64 64) at the centres, or at the border next to them."""
    column = np.clip(blobs.x, 0, SIDE - 1).astype(np.intp)
    row = np.clip(blobs.y, 0, SIDE - 1).astype(np.intp)
    return np.asarray(planes[blobs.tile, row, column])


def _f32(values: NDArray[Any]) -> Floats:
    return np.asarray(values, np.float32)
