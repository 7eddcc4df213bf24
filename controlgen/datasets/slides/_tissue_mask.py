"""Where a slide has tissue: Otsu on saturation, specks removed, small holes closed.

Otsu, "A threshold selection method from gray-level histograms", IEEE SMC 9 (1979). On H&E and IHC
slides glass is near grey and tissue is coloured, so saturation separates the two better than
brightness does.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from skimage.filters import threshold_otsu
from skimage.measure import label

MASK_MICRONS = 8.0  # edge of a mask pixel; larger where the slide is over LONGEST pixels then
LONGEST = 4096  # mask pixels along the longer side, so that a mask fits in memory
SPECK = 10_000.0  # square microns: a smaller piece of tissue is removed
HOLE = 40_000.0  # square microns: a smaller hole is closed; lumens and fat belong to the tissue
# Saturation: the threshold is kept between these. Glass stays below the first; above the second lie
# all but the palest tenth of H&E tiles of colon seen at 8 microns, of which 0.2 would lose a third.
PALEST, STRONGEST = 0.05, 0.10
DARKEST = 30  # pixels whose brightest channel is below are a scanner's void or ink, not tissue

Thumbnail = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]
Levels = UInt8[np.ndarray, "h w"]
Lefts = Float64[np.ndarray, "columns"]
Tops = Float64[np.ndarray, "rows"]
Spots = Float64[np.ndarray, "k"]
Table = Float64[np.ndarray, "n m"] | Int64[np.ndarray, "n m"]
Rows = Float64[np.ndarray, "k m"]
ShareGrid = Float64[np.ndarray, "rows columns"]
Areas = Int64[np.ndarray, "H W"]  # H = h + 1, W = w + 1


def saturation(thumbnail: Thumbnail) -> Levels:
    """Saturation of HSV, 0..255; 0 where a pixel is darker than DARKEST."""
    # Stripes bound the memory: a thumbnail of 4096 x 4096 would be widened to 200 MB at once.
    result = np.zeros(thumbnail.shape[:2], np.uint8)
    for top in range(0, len(thumbnail), 256):
        stripe = thumbnail[top : top + 256].astype(np.float32)
        brightest, darkest = stripe.max(2), stripe.min(2)
        share = np.divide(
            brightest - darkest, brightest, where=brightest >= DARKEST, out=np.zeros_like(darkest)
        )
        result[top : top + 256] = np.rint(share * 255)
    return result


def tissue_mask(thumbnail: Thumbnail, microns: float) -> Mask:
    """True where there is tissue; `microns` is the edge of a thumbnail pixel.

    The threshold is Otsu's, kept within PALEST and STRONGEST: on a blank slide Otsu would split
    the noise, and on a slide full of tissue it would split the tissue. Pieces smaller than SPECK
    are removed, then holes smaller than HOLE closed; a gap open to the slide's border is no hole.
    """
    levels = saturation(thumbnail)
    flat = levels.min() == levels.max()
    otsu = 0 if flat else threshold_otsu(levels)  # type: ignore[no-untyped-call]
    mask = levels > np.clip(otsu, PALEST * 255, STRONGEST * 255)
    mask &= ~_small_pieces(mask, SPECK / microns**2, at_border=True)
    return np.asarray(mask | _small_pieces(~mask, HOLE / microns**2, at_border=False))


def _small_pieces(mask: Mask, pixels: float, at_border: bool) -> Mask:
    """Connected pieces (by edges) of fewer than `pixels` pixels, those on the border on request."""
    pieces = label(mask, connectivity=1)  # type: ignore[no-untyped-call]
    small = np.bincount(pieces.ravel()) < pixels
    small[0] = False
    if not at_border:
        for border in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
            small[border] = False
    return np.asarray(small[pieces])


def summed_areas(mask: Mask) -> Areas:
    """Sums of the mask over the rectangles from the top left corner to each grid line."""
    areas = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    mask.cumsum(0, out=areas[1:, 1:])
    areas.cumsum(1, out=areas)
    return areas


def tissue_shares(
    areas: Areas,
    left: Lefts,
    top: Tops,
    width: float,
    height: float,
) -> ShareGrid:
    """Share of tissue, 0..1, in each rectangle of a grid; positions are in mask pixels.

    Exact for rectangles between mask pixels too: the summed areas are linear within a pixel.
    """
    strips = _between(areas, top + height) - _between(areas, top)
    sums = _between(strips.T, left + width) - _between(strips.T, left)
    return np.asarray(np.clip(sums.T / (width * height), 0, 1))


def _between(table: Table, at: Spots) -> Rows:
    """Rows (k m) of a table (n m) at k fractional positions."""
    at = np.clip(at, 0, len(table) - 1)
    below = np.minimum(at.astype(np.int64), len(table) - 2)
    share = (at - below)[:, None]
    return np.asarray(table[below] * (1 - share) + table[below + 1] * share)
