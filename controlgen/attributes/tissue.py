"""Attributes of haematoxylin and eosin (H&E) tiles, measured without a model.

Colour deconvolution after Ruifrok & Johnston 2001, "Quantification of histochemical staining by
color deconvolution", with the stain vectors of scikit-image's `rgb2hed`. Thresholds are fixed: a
per-tile threshold would find as many nuclei in stroma as in dense tissue, and values of two tiles
could not be compared.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from skimage.color import hed_from_rgb

from controlgen.base_config import BaseConfig
from controlgen.errors import ConfigError, Incompatible
from controlgen.types import Pixels, Shape

Floats = NDArray[np.float64]
Planes = NDArray[np.float32]  # n h w
Mask = NDArray[np.bool_]  # n h w

NAMES = ("haematoxylin", "eosin", "nuclear_area", "nuclear_count", "lumen", "texture")
TILE_MICRONS = 128.0  # of a tile of unknown scale: 64 pixels at 2 microns

# Nuclei hold haematoxylin of OD 0.3 and more, mucin and stroma less than 0.1. Cytoplasm lies
# between; 0.22 is near Otsu's threshold on many pooled H&E tiles.
NUCLEUS_OD = 0.22
NUCLEUS_SMOOTHING = 1.0  # microns, Gaussian sigma that removes grain below nuclear detail
MIN_NUCLEUS_AREA = 12.0  # square microns: a disc 4 microns wide, below any human nucleus
PEAK_SMOOTHING = 2.4  # microns, Gaussian sigma that leaves one peak per nucleus
PEAK_DISTANCE = 5.0  # microns between the peaks of different nuclei, at least

# Glass and empty lumen transmit more than 83 % in every channel, nearly alike: less than 0.07 OD
# between channels, where the palest stain still absorbs green more than red or blue.
LUMEN_OD = 0.08
LUMEN_COLOUR_OD = 0.07
MIN_LUMEN_AREA = 160.0  # square microns: a disc 14 microns wide; a capillary or a vacuole is less
GREY_LEVELS = 16  # levels of the co-occurrence matrix
PAIR_DISTANCE = 2.0  # microns between the two pixels of a pair

_OD_OF_BYTE = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_IN_PLANE = np.zeros((3, 3, 3), bool)  # neighbours by edge or corner within one tile only
_IN_PLANE[1] = True
CHUNK = 64  # tiles per batch, to stay in the CPU cache


class TissueAttributes(BaseConfig):
    """Stain, nuclei, lumen and texture of H&E tiles."""

    kind: Literal["tissue"] = "tissue"
    microns_per_pixel: float | None = Field(None, gt=0, description="of the tiles; none: unknown")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of `measure`."""
        return NAMES

    def check(self, shape: Shape) -> None:
        """Raise Incompatible unless images are RGB."""
        if shape[0] != 3:
            raise Incompatible(f"tissue attributes: images of shape {shape}; give RGB tiles")

    def measure(self, pixels: Pixels) -> Floats:
        """`measure_tissue` of the tiles (n 3 h w): (n 6)."""
        return measure_tissue(pixels, self.microns_per_pixel)


def measure_tissue(pixels: Pixels, microns_per_pixel: float | None = None) -> Floats:
    """One row of `NAMES` per tile: (n 6), for RGB Pixels (n 3 h w).

    haematoxylin, eosin: mean optical density (base 10, along the unit stain vector). nuclear_area:
    share 0..1 of the tile. nuclear_count: nuclei in the tile. lumen: share 0..1 that is empty.
    texture: entropy in bits (0..8) of the grey-level co-occurrence. `microns_per_pixel` scales
    sizes; without it a tile counts as TILE_MICRONS high. Raises Incompatible if tiles are not RGB
    and ConfigError if the scale is not positive.
    """
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise Incompatible(f"tissue attributes: tiles of shape {pixels.shape[1:]}; give RGB tiles")
    scale = TILE_MICRONS / pixels.shape[2] if microns_per_pixel is None else microns_per_pixel
    if not scale > 0:
        raise ConfigError(f"microns_per_pixel {scale}: must be above 0")
    rows = [np.empty((0, len(NAMES)))]
    for start in range(0, len(pixels), CHUNK):
        rows.append(_measure(pixels[start : start + CHUNK], scale))
    return np.concatenate(rows)


def unmix_stains(pixels: Pixels) -> Planes:
    """Optical density (base 10) of haematoxylin, eosin and the rest at every pixel: (n 3 h w).

    Beer-Lambert: OD = -log10(byte / 255) is linear in the amounts of stain; a byte of 0 counts as
    1. Small negative amounts, of colours outside the cone of the stains, stay: they keep means
    linear.
    """
    density = _OD_OF_BYTE[pixels]
    unmix = hed_from_rgb.astype(np.float32)
    planes = [
        sum(density[:, colour] * unmix[colour, stain] for colour in range(3)) for stain in range(3)
    ]
    return np.stack(planes, 1).astype(np.float32)


def segment_nuclei(
    haematoxylin: Planes, microns_per_pixel: float
) -> tuple[Mask, NDArray[np.float64]]:
    """Mask (n h w) and number (n) of nuclei, from haematoxylin OD (n h w).

    A nucleus is a connected area above NUCLEUS_OD of at least MIN_NUCLEUS_AREA; an area with
    several peaks at least PEAK_DISTANCE apart counts as that many touching nuclei.
    """
    smooth = _smooth(haematoxylin, NUCLEUS_SMOOTHING / microns_per_pixel)
    mask, labels, large = _large_areas(smooth > NUCLEUS_OD, MIN_NUCLEUS_AREA / microns_per_pixel**2)

    # Peaks of a smoother plane (plateaus count once) belong to the area they lie in.
    smoother = _smooth(haematoxylin, PEAK_SMOOTHING / microns_per_pixel)
    window = 2 * max(1, round(PEAK_DISTANCE / microns_per_pixel / 2)) + 1
    highest = ndimage.maximum_filter(smoother, (1, window, window), mode="nearest")
    peaks, number = ndimage.label((smoother == highest) & mask, _IN_PLANE)
    of_area = ndimage.maximum(labels, peaks, np.arange(1, number + 1)).astype(int)
    counts = np.maximum(np.bincount(of_area, minlength=len(large)), 1) * large

    # An area lies in one tile: that of any of its pixels.
    tile = np.zeros(len(large), int)
    tile[labels[mask]] = np.nonzero(mask)[0]
    return mask, np.bincount(tile, weights=counts, minlength=len(mask)).astype(np.float64)


def segment_lumen(pixels: Pixels, microns_per_pixel: float) -> Mask:
    """Mask (n h w) of empty areas: bright, colourless, of at least MIN_LUMEN_AREA.

    Large clear vacuoles and tears of the section count too.
    """
    density = _smooth(_OD_OF_BYTE[pixels], 0.7 / microns_per_pixel)
    darkest = density.max(1)
    empty = (darkest < LUMEN_OD) & (darkest - density.min(1) < LUMEN_COLOUR_OD)
    return _large_areas(empty, MIN_LUMEN_AREA / microns_per_pixel**2)[0]


def cooccurrence_entropy(pixels: Pixels, step: int = 1) -> Floats:
    """Entropy in bits (n) of pairs of grey levels `step` pixels apart, across and down.

    Haralick et al. 1973, feature 9, of the symmetric co-occurrence matrix of GREY_LEVELS levels
    over both directions. 0 for a uniform tile, at most 2 log2(GREY_LEVELS).
    """
    grey = np.einsum("nchw,c->nhw", pixels.astype(np.float32), _LUMA)
    level = np.minimum(grey * np.float32(GREY_LEVELS / 256), GREY_LEVELS - 1).astype(np.intp)
    n, cells = len(level), GREY_LEVELS * GREY_LEVELS
    offset = (np.arange(n) * cells)[:, None, None]
    across = offset + level[:, :, :-step] * GREY_LEVELS + level[:, :, step:]
    down = offset + level[:, :-step] * GREY_LEVELS + level[:, step:]
    pairs = np.concatenate([across.ravel(), down.ravel()])
    counts = (
        np.bincount(pairs, minlength=n * cells)
        .reshape(n, GREY_LEVELS, GREY_LEVELS)
        .astype(np.float64)
    )
    counts += counts.transpose(0, 2, 1)
    share = counts / np.maximum(counts.sum((1, 2), keepdims=True), 1)
    logs = np.log2(share, out=np.zeros_like(share), where=share > 0)
    return np.asarray(np.abs((share * logs).sum((1, 2))))


def _measure(pixels: Pixels, scale: float) -> Floats:
    amounts = unmix_stains(pixels)
    mask, count = segment_nuclei(amounts[:, 0], scale)
    columns = (
        amounts[:, 0].mean((1, 2), dtype=np.float64),
        amounts[:, 1].mean((1, 2), dtype=np.float64),
        mask.mean((1, 2)),
        count,
        segment_lumen(pixels, scale).mean((1, 2)),
        cooccurrence_entropy(pixels, max(1, round(PAIR_DISTANCE / scale))),
    )
    return np.stack(columns, 1)


def _large_areas(mask: Mask, smallest: float) -> tuple[Mask, NDArray[np.int32], Mask]:
    # Connected areas of at least `smallest` pixels: mask, labels, and which labels are large.
    labels, number = ndimage.label(mask, _IN_PLANE)
    size = np.bincount(labels.ravel(), minlength=number + 1)
    large = size >= smallest
    large[0] = False
    return large[labels], labels, large


def _smooth(planes: Planes, sigma: float) -> Planes:
    smooth = ndimage.gaussian_filter(planes, sigma, axes=(-2, -1), mode="nearest", truncate=3)
    return np.asarray(smooth, np.float32)
