"""Printed digits in the fonts that matplotlib ships, the same on every machine."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt

from controlgen.synthetic.digits._rasterize import SIDE

Floats = NDArray[np.float32]
CANVAS = 96
OUTLINE = 48
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "cmr10",
    "cmss10",
    "cmb10",
    "cmtt10",
)


class PrintedDigits(NamedTuple):
    """Digits of every font: distance inside the edge (d f 96 96), outline points (d f 48 2) and
    centre of mass (d f 2), in canvas pixels about the middle.
    """

    distances: Floats
    outlines: Floats
    centres: Floats


@cache
def render_fonts() -> PrintedDigits:
    """Render all digits of FONTS once."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    glyphs = [
        [_glyph(ImageFont.truetype(folder / f"{font}.ttf", 88), str(digit)) for font in FONTS]
        for digit in range(10)
    ]
    parts = [np.array([[g[part] for g in row] for row in glyphs], np.float32) for part in range(3)]
    return PrintedDigits(*parts)


def _glyph(font: ImageFont.FreeTypeFont, text: str) -> tuple[Floats, Floats, Floats]:
    canvas = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(canvas).text((CANVAS / 2, CANVAS / 2), text, fill=255, font=font, anchor="mm")
    inside = np.asarray(canvas) > 127
    distance = distance_transform_edt(inside) - distance_transform_edt(~inside)

    # The outline is thinned to a fixed number of points, in order of angle.
    y, x = np.nonzero(inside & (distance <= 1))
    order = np.argsort(np.arctan2(y - y.mean(), x - x.mean()))
    subset = order[np.linspace(0, len(order) - 1, OUTLINE).astype(int)]
    middle = (CANVAS - 1) / 2
    outline = np.stack([x[subset], y[subset]], 1) - middle
    mass_y, mass_x = np.nonzero(inside)
    centre = np.array([mass_x.mean(), mass_y.mean()]) - middle
    return distance.astype(np.float32), outline.astype(np.float32), centre.astype(np.float32)


def draw_printed(
    distances: Floats,
    matrix: Floats,
    shift: Floats,
    bend: Floats,
    heavier: Floats,
    softness: Floats,
) -> Floats:
    """Ink 0..1 (n 28 28) of printed digits with edge distances (n 96 96).

    A canvas point c lands at `matrix` (n 2 2) @ c + `shift` (n 2), pixels about the image's middle.
    `bend` (n 2 4 4) displaces the sampling positions in canvas pixels, interpolated bicubically;
    `heavier` (n) moves the edge outward in pixels; `softness` (n) is the edge's width in pixels.
    """
    n = len(distances)
    ticks = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(1, -1, 2)
    canvas = (grid - shift[:, None]) @ np.linalg.inv(matrix).transpose(0, 2, 1)
    smooth = functional.interpolate(
        torch.from_numpy(bend), (SIDE, SIDE), mode="bicubic", align_corners=True
    )
    positions = torch.from_numpy(canvas.astype(np.float32)).view(n, SIDE, SIDE, 2)
    positions = (positions + smooth.permute(0, 2, 3, 1)) / (CANVAS / 2)
    sampled = functional.grid_sample(
        torch.from_numpy(distances)[:, None], positions, padding_mode="border", align_corners=False
    )
    scale = np.sqrt(np.abs(np.linalg.det(matrix)))[:, None, None]
    inward = sampled[:, 0].numpy() * scale + heavier[:, None, None]
    return np.asarray(np.clip(0.5 + inward / softness[:, None, None], 0, 1), np.float32)
