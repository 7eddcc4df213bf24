"""Tissue mask of a slide: Otsu on saturation, specks removed, small holes closed.

Otsu, "A threshold selection method from gray-level histograms", IEEE SMC 9 (1979). On H&E and IHC
slides glass is near grey and tissue is coloured, so saturation separates the two better than
brightness does.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from skimage.filters import threshold_otsu
from skimage.measure import label

MASK_MICRONS = 8.0  # edge of a mask pixel; larger if the mask would exceed MAX_MASK_EDGE
MAX_MASK_EDGE = 4096  # mask pixels along the longer side, so that a mask fits in memory
MIN_PIECE_AREA = 10_000.0  # square microns: smaller pieces of tissue are removed
MIN_HOLE_AREA = 40_000.0  # square microns: smaller holes (lumens, fat) are closed
# Bounds of the saturation threshold. Glass lies below the first; above the second lie all but the
# palest tenth of H&E tiles of colon at 8 microns, of which 0.2 would lose a third.
MIN_THRESHOLD, MAX_THRESHOLD = 0.05, 0.10
MIN_BRIGHTNESS = 30  # of the brightest channel; darker pixels are void or ink, not tissue

Thumbnail = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]
Levels = UInt8[np.ndarray, "h w"]
Lefts = Float64[np.ndarray, "columns"]
Tops = Float64[np.ndarray, "rows"]
Positions = Float64[np.ndarray, "k"]
Table = Float64[np.ndarray, "n m"] | Int64[np.ndarray, "n m"]
Rows = Float64[np.ndarray, "k m"]
ShareGrid = Float64[np.ndarray, "rows columns"]
Areas = Int64[np.ndarray, "H W"]  # H = h + 1, W = w + 1


def saturation(thumbnail: Thumbnail) -> Levels:
    """Saturation of HSV, 0..255; 0 for pixels darker than MIN_BRIGHTNESS."""
    # Stripes bound the memory: a thumbnail of 4096 x 4096 would be widened to 200 MB at once.
    result = np.zeros(thumbnail.shape[:2], np.uint8)
    for top in range(0, len(thumbnail), 256):
        stripe = thumbnail[top : top + 256].astype(np.float32)
        brightest, darkest = stripe.max(2), stripe.min(2)
        share = np.divide(
            brightest - darkest,
            brightest,
            where=brightest >= MIN_BRIGHTNESS,
            out=np.zeros_like(darkest),
        )
        result[top : top + 256] = np.rint(share * 255)
    return result


def tissue_mask(thumbnail: Thumbnail, microns: float) -> Mask:
    """True for tissue; `microns` is the edge of a thumbnail pixel.

    Otsu's threshold, clipped to MIN_THRESHOLD..MAX_THRESHOLD: on a blank slide Otsu would split the
    noise, and on a slide full of tissue it would split the tissue. Pieces smaller than
    MIN_PIECE_AREA are removed, then holes smaller than MIN_HOLE_AREA closed; a gap that reaches the
    border is not a hole.
    """
    levels = saturation(thumbnail)
    flat = levels.min() == levels.max()
    otsu = 0 if flat else threshold_otsu(levels)  # type: ignore[no-untyped-call]
    mask = levels > np.clip(otsu, MIN_THRESHOLD * 255, MAX_THRESHOLD * 255)
    mask &= ~_small_pieces(mask, MIN_PIECE_AREA / microns**2, at_border=True)
    return np.asarray(mask | _small_pieces(~mask, MIN_HOLE_AREA / microns**2, at_border=False))


def _small_pieces(mask: Mask, pixels: float, at_border: bool) -> Mask:
    """Connected pieces (by edges) of fewer than `pixels` pixels; those at the border on request."""
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
    strips = _interpolate_rows(areas, top + height) - _interpolate_rows(areas, top)
    sums = _interpolate_rows(strips.T, left + width) - _interpolate_rows(strips.T, left)
    return np.asarray(np.clip(sums.T / (width * height), 0, 1))


def _interpolate_rows(table: Table, at: Positions) -> Rows:
    """Rows (k m) of a table (n m) at k fractional positions."""
    at = np.clip(at, 0, len(table) - 1)
    below = np.minimum(at.astype(np.int64), len(table) - 2)
    share = (at - below)[:, None]
    return np.asarray(table[below] * (1 - share) + table[below + 1] * share)
