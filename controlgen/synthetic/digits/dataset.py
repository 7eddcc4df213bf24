"""Procedural handwriting: white digits on black, drawn and framed as MNIST is, with captions.

No image and no label of any data set goes into it. Framing after LeCun et al. 1998: the glyph's box
fits 20x20 pixels with its aspect kept, its centre of mass lies at the middle of 28x28; here two
black pixels are added around, for 32x32.
"""

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from controlgen.base_config import BaseConfig
from controlgen.synthetic.base import CaptionedBatch, RandomColumns
from controlgen.synthetic.digits._captions import NAMES, caption, prompts
from controlgen.synthetic.digits._fonts import FONTS, draw_printed, render_fonts
from controlgen.synthetic.digits._rasterize import (
    ATTRIBUTES,
    SIDE,
    draw_strokes,
    measure_digits,
    fit_to_box,
)
from controlgen.synthetic.digits._strokes import StrokeBasis, build_stroke_basis
from controlgen.types import Pixels, Shape

Floats = NDArray[np.float32]
POINTS = 80
PAD = 2
COLUMNS = 160
BOX = 20.0  # pixels, the longer side of a digit's box


class SyntheticDigits(BaseConfig):
    """Digits 0..9 by hand (pen strokes) and, now and then, in print (fonts)."""

    kind: Literal["glyphs"] = "glyphs"
    printed: float = Field(default=0.08, ge=0, le=1, description="share of printed digits")

    @property
    def image_shape(self) -> Shape:
        """One channel, 32 x 32."""
        return 1, SIDE + 2 * PAD, SIDE + 2 * PAD

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """digit, then what is measured on the pixels: ink, stroke, slant, width, height."""
        return ("digit", *ATTRIBUTES)

    @property
    def classes(self) -> tuple[str, ...]:
        """The ten digits by name."""
        return NAMES

    def prompts(self) -> list[list[str]]:
        """Sentences that name each class and nothing else, for zero-shot reading."""
        return prompts()

    def draw(self, seed: int, start: int, stop: int) -> CaptionedBatch:
        """Items start..stop; item i depends on `seed` and i alone, not on what it is drawn with."""
        draws = RandomColumns(seed, "glyphs", start, stop, COLUMNS)
        digits = draws.choice(10)
        printed = draws.uniform() < self.printed
        ink = _handwritten(draws, digits)
        _print_over(draws, digits, printed, ink)

        # Paper and scanner: full white or a little less, with a faint change of contrast.
        gain = 1 - 0.2 * draws.uniform() ** 3
        pixels = _padded(np.clip(ink * gain[:, None, None], 0, 1))
        measured = measure_digits(pixels)
        words = draws.uniform(8)
        captions = [caption(*row) for row in zip(digits, measured, words, strict=True)]
        attributes = np.concatenate([digits[:, None].astype(np.float32), measured], 1)
        return CaptionedBatch(pixels, captions, attributes)


def _handwritten(draws: RandomColumns, digits: NDArray[np.intp]) -> Floats:
    """Ink (n 28 28) of pen strokes; every habit of the hand is drawn anew for each item."""
    # A way to write the digit, its control points off by more for a careless hand.
    ways = _ways()
    way = ways.first[digits] + (draws.uniform() * ways.ways[digits]).astype(np.intp)
    care = 0.02 + 0.06 * draws.uniform()
    controls = ways.controls[way] + care[:, None, None] * draws.normal(*ways.controls.shape[1:])
    points = np.matmul(ways.basis[way], controls) - 0.5
    pieces = np.matmul(ways.slopes[way], controls)

    # The page bends: a smooth cubic displacement field, then slant, turn and aspect.
    points += _bend(points, draws.normal(2, 16) * (0.16 * draws.uniform())[:, None, None])
    matrix = _hand(draws)
    points = np.matmul(points, matrix.transpose(0, 2, 1))
    pieces = np.matmul(pieces, matrix.transpose(0, 2, 1))

    # Pen width is lognormal about 2.4 pixels; the digit with its pen fills the box, or less of it.
    radius = np.clip(1.18 * np.exp(0.34 * draws.normal()), 0.55, 2.8)
    scale, shift = fit_to_box(points, radius * 0.9, _heights(draws))
    points = points * scale[:, None, None] + shift[:, None]
    lengths = np.linalg.norm(pieces, axis=2) * scale[:, None]

    # Pressure swings slowly along the writing; then the centre of mass goes to the middle.
    lengths = np.maximum(lengths, 0.05) * np.exp(_pressure(draws))
    mass = (points * lengths[:, :, None]).sum(1) / lengths.sum(1)[:, None]
    points -= mass[:, None]
    softness = 0.6 + 0.7 * draws.uniform()
    return draw_strokes(points, lengths, radius, softness)


def _print_over(
    draws: RandomColumns, digits: NDArray[np.intp], printed: NDArray[np.bool_], ink: Floats
) -> None:
    """Replace the items that `printed` marks by printed digits, bent and slanted a little."""
    font = draws.choice(len(FONTS))
    matrix = _hand(draws) / np.array([0.78, 1.0], np.float32)
    height, bend = _heights(draws), draws.normal(2, 4, 4)
    heavier, softness = 0.5 * draws.normal(), 0.8 + 0.9 * draws.uniform()
    if not printed.any():
        return

    # The outline says how large the digit becomes, its centre of mass where it goes.
    known, of = render_fonts(), (digits[printed], font[printed])
    outline = np.matmul(known.outlines[of], matrix[printed].transpose(0, 2, 1))
    scale, _ = fit_to_box(outline, np.zeros(len(outline), np.float32), height[printed])
    fitted = np.asarray(matrix[printed] * scale[:, None, None], np.float32)
    shift = -np.matmul(fitted, known.centres[of][:, :, None])[:, :, 0]
    ink[printed] = draw_printed(
        known.distances[of],
        fitted,
        shift,
        bend[printed],
        heavier[printed],
        softness[printed],
    )


def _hand(draws: RandomColumns) -> Floats:
    """Matrices (n 2 2): aspect, then slant (mostly to the right), then a turn of the page."""
    aspect = 0.78 * np.exp(0.27 * draws.normal())
    slant = 0.12 + 0.28 * draws.normal()
    turn = 0.14 * draws.normal()
    cosine, sine = np.cos(turn), np.sin(turn)
    rows = [[cosine * aspect, -cosine * slant - sine], [sine * aspect, cosine - sine * slant]]
    return np.asarray(np.moveaxis(np.array(rows), 2, 0), np.float32)


def _heights(draws: RandomColumns) -> Floats:
    """Length in pixels (n) of the longer side of the box: mostly 20, at times less or more."""
    chance, amount = draws.uniform(), draws.uniform()
    other = np.where(chance < 0.92, 14 + 6 * amount, 20 + 3 * amount)
    return np.asarray(np.where(chance < 0.75, BOX, other), np.float32)


def _pressure(draws: RandomColumns) -> Floats:
    """Log pressure (n POINTS): three slow cosines."""
    t = (np.arange(POINTS, dtype=np.float32) + 0.5) / POINTS
    waves = np.cos(np.pi * np.arange(1, 4)[:, None] * t).astype(np.float32)
    strength = 0.6 * draws.uniform()[:, None]
    return np.asarray(strength * np.einsum("nk,kp->np", draws.normal(3), waves), np.float32)


def _bend(points: Floats, knots: Floats) -> Floats:
    """Displacement (n p 2) at points in -0.5..0.5: Bernstein cubics over 4x4 knots (n 2 16)."""
    x, y = _bernstein(points[:, :, 0] + 0.5), _bernstein(points[:, :, 1] + 0.5)
    weights = (y[:, :, :, None] * x[:, :, None, :]).reshape(*points.shape[:2], 16)
    return np.asarray(np.matmul(weights, knots.transpose(0, 2, 1)))


def _bernstein(t: Floats) -> Floats:
    t = np.clip(t, 0, 1)
    u = 1 - t
    return np.stack([u**3, 3 * u * u * t, 3 * u * t * t, t**3], -1)


def _padded(ink: Floats) -> Pixels:
    whole = np.rint(ink * 255).astype(np.uint8)[:, None]
    return np.pad(whole, ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)))


@cache
def _ways() -> StrokeBasis:
    return build_stroke_basis(POINTS)
