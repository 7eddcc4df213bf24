"""Shapes of drawn tissue on a square of SIDE pixels: ellipses, glands and textures."""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen import rng

Floats = NDArray[np.float32]
Integers = NDArray[np.intp]
SIDE = 64
GRAIN = 256  # side of the seamlessly repeating textures
MAX_HALF_AXIS = 8  # pixels, the largest half axis of a blob


class Blobs(NamedTuple):
    """Ellipses, one per row: `tile` (m), centre `x`, `y` and half axes `long`, `short` in pixels,
    direction `cosine`, `sine` of the long axis, `depth` of stain, and `pale`, the share 0..1 by
    which the middle holds less stain than the rim.
    """

    tile: Integers
    x: Floats
    y: Floats
    long: Floats
    short: Floats
    cosine: Floats
    sine: Floats
    depth: Floats
    pale: Floats

    def select(self, mask: NDArray[np.bool_]) -> "Blobs":
        """The rows in `mask` (m)."""
        rest = (column[mask] for column in self[1:])
        return Blobs(self.tile[mask], *rest)

    def inside_tile(self) -> NDArray[np.bool_]:
        """Which centres lie on the tile (m)."""
        inside = (self.x >= 0) & (self.x < SIDE) & (self.y >= 0) & (self.y < SIDE)
        return np.asarray(inside)


def join(parts: list[Blobs]) -> Blobs:
    """All rows of several sets."""
    return Blobs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def rasterize_depth(tiles: int, blobs: Blobs) -> Floats:
    """Depth (tiles SIDE SIDE) of the deepest blob at every pixel, 0 elsewhere.

    Edges are one pixel soft.
    """
    # Small blobs are drawn on small patches.
    plane = np.zeros(tiles * SIDE * SIDE, np.float32)
    sizes = (0.0, 1.4, 2.4, 4.4, np.inf)
    for low, high, reach in zip(sizes, sizes[1:], (2, 4, 6, MAX_HALF_AXIS + 1), strict=False):
        _rasterize_patches(plane, blobs.select((blobs.long >= low) & (blobs.long < high)), reach)
    return plane.reshape(tiles, SIDE, SIDE)


def _rasterize_patches(plane: Floats, blobs: Blobs, reach: int) -> None:
    ticks = np.arange(-reach, reach + 1)
    left, top = np.floor(blobs.x).astype(np.intp), np.floor(blobs.y).astype(np.intp)
    dx = (ticks - (blobs.x - left - 0.5)[:, None]).astype(np.float32)[:, None, :]
    dy = (ticks - (blobs.y - top - 0.5)[:, None]).astype(np.float32)[:, :, None]

    # Distance from the edge along the ray from the centre, in pixels, positive inside.
    c, s = blobs.cosine[:, None, None], blobs.sine[:, None, None]
    along = (dx * c + dy * s) / blobs.long[:, None, None]
    across = (dy * c - dx * s) / blobs.short[:, None, None]
    relative = np.sqrt(along**2 + across**2)
    inward = (1 - relative) * blobs.short[:, None, None]
    depth = np.clip(inward + 0.5, 0, 1) * blobs.depth[:, None, None]
    depth *= 1 - blobs.pale[:, None, None] * np.clip(1 - relative**2, 0, 1)

    # Pixels outside the tile are dropped; where blobs overlap the deepest wins.
    column = left[:, None, None] + ticks[None, None, :]
    row = top[:, None, None] + ticks[None, :, None]
    inside = (column >= 0) & (column < SIDE) & (row >= 0) & (row < SIDE) & (depth > 0)
    pixel = (blobs.tile[:, None, None] * SIDE + row) * SIDE + column
    np.maximum.at(plane, pixel[inside], depth[inside])


class Glands(NamedTuple):
    """Star-shaped outlines, one per row: `tile`, centre `x`, `y`, mean `radius` in pixels, and
    `waves` (m 5 2) of the relative radius, cosine and sine parts of one to five turns; `slot`
    numbers the glands of a tile.
    """

    tile: Integers
    slot: Integers
    x: Floats
    y: Floats
    radius: Floats
    waves: Floats

    def edge(self, cosine: Floats, sine: Floats, row: Integers | slice = slice(None)) -> Floats:
        """Radius in pixels in the direction (`cosine`, `sine`) of glands `row`."""
        waves = self.waves[row].reshape(-1, 5, 2)
        extra = (...,) + (None,) * (np.ndim(cosine) - 1)
        relative = np.ones_like(cosine)
        real, imaginary = cosine, sine
        for turn in range(5):
            relative = (
                relative + waves[:, turn, 0][extra] * real + waves[:, turn, 1][extra] * imaginary
            )
            real, imaginary = real * cosine - imaginary * sine, real * sine + imaginary * cosine
        return np.asarray(self.radius[row][extra] * np.maximum(relative, 0.25), np.float32)


def nearest_gland(tiles: int, glands: Glands) -> tuple[Floats, Floats]:
    """For every pixel (tiles SIDE SIDE): distance to the centre of the nearest gland relative to
    its edge (below 1 inside), and that edge in pixels. 9 in tiles without a gland.
    """
    relative = np.full((tiles, SIDE, SIDE), 9, np.float32)
    edges = np.ones_like(relative)
    order = np.argsort(glands.tile, kind="stable")
    turn = np.arange(len(order)) - np.searchsorted(glands.tile[order], glands.tile[order])
    ticks = np.arange(SIDE, dtype=np.float32) + 0.5
    for k in range(int(turn.max(initial=-1)) + 1):
        rows = order[turn == k]
        dx = ticks[None, None, :] - glands.x[rows][:, None, None]
        dy = ticks[None, :, None] - glands.y[rows][:, None, None]
        distance = np.sqrt(dx * dx + dy * dy) + np.float32(1e-3)
        edge = glands.edge(dx / distance, dy / distance, rows)
        ratio, tile = distance / edge, glands.tile[rows]
        nearer = ratio < relative[tile]
        relative[tile] = np.where(nearer, ratio, relative[tile])
        edges[tile] = np.where(nearer, edge, edges[tile])
    return relative, edges


def crop(texture: Floats, x: Integers, y: Integers) -> Floats:
    """Crops (n SIDE SIDE) of a repeating texture (GRAIN GRAIN) from corner x, y (n)."""
    ticks = np.arange(SIDE)
    rows, columns = (y[:, None] + ticks) % GRAIN, (x[:, None] + ticks) % GRAIN
    return np.asarray(texture[rows[:, :, None], columns[:, None, :]])


def fibres(cosine: Floats, sine: Floats, bend: Floats, width: Floats, x: Integers) -> Floats:
    """Streaks (n SIDE SIDE), standard normal, along (`cosine`, `sine`) (n), `width` (n) pixels
    wide, displaced by `bend` (n SIDE SIDE) pixels.
    """
    ticks = np.arange(SIDE, dtype=np.float32) - SIDE / 2
    c, s = cosine[:, None, None], sine[:, None, None]
    across = (ticks[None, :, None] * c - ticks[None, None, :] * s + bend) / width[:, None, None]
    along = (ticks[None, None, :] * c + ticks[None, :, None] * s) / (4 * width[:, None, None])
    column = (across * 3 + x[:, None, None]).astype(np.intp) % GRAIN
    row = (along * 3 + x[:, None, None] // 7).astype(np.intp) % GRAIN
    return np.asarray(grain(3.0)[row, column])


@cache
def grain(scale: float) -> Floats:
    """A repeating texture (GRAIN GRAIN), standard normal, correlated over `scale` pixels."""
    purpose = f"tissue grain {scale}"
    white = rng.stream(0, purpose).standard_normal((GRAIN, GRAIN))
    frequency = np.hypot(np.fft.fftfreq(GRAIN)[:, None], np.fft.fftfreq(GRAIN)[None, :])
    low = np.fft.fft2(white) * np.exp(-2 * (np.pi * frequency * scale / 2) ** 2)
    smooth = np.fft.ifft2(low).real
    return np.asarray((smooth - smooth.mean()) / smooth.std(), np.float32)
