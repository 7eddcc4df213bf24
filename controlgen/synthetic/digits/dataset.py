"""Procedural handwriting: white digits on black, framed as in MNIST, with captions.

It uses no image and no label of any data set. Framing after LeCun et al. 1998: the digit's box fits
20x20 pixels at its aspect ratio, its centre of mass lies at the middle of 28x28; two black pixels
are added around, for 32x32.
"""

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
    fit_to_box,
    measure_digits,
)
from controlgen.synthetic.digits._strokes import build_stroke_basis
from controlgen.types import Pixels, Shape

Floats = NDArray[np.float32]
POINTS = 80
PAD = 2
COLUMNS = 160
BOX = 20.0  # pixels, the longer side of a digit's box


class SyntheticDigits(BaseConfig):
    """Digits 0..9, handwritten (pen strokes) or printed (fonts)."""

    kind: Literal["glyphs"] = "glyphs"
    printed: float = Field(default=0.08, ge=0, le=1, description="share of printed digits")

    @property
    def image_shape(self) -> Shape:
        """One channel, 32 x 32."""
        return 1, SIDE + 2 * PAD, SIDE + 2 * PAD

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """digit, then attributes measured on the pixels: ink, stroke, slant, width, height."""
        return ("digit", *ATTRIBUTES)

    @property
    def classes(self) -> tuple[str, ...]:
        """The ten digits by name."""
        return NAMES

    def prompts(self) -> list[list[str]]:
        """Sentences that name each class and nothing else, for zero-shot classification."""
        return prompts()

    def draw(self, seed: int, start: int, stop: int) -> CaptionedBatch:
        """Items start..stop; item i depends on `seed` and i alone, not on the batch."""
        draws = RandomColumns(seed, "glyphs", start, stop, COLUMNS)
        digits = draws.choice(10)
        printed = draws.uniform() < self.printed
        ink = _draw_handwritten(draws, digits)
        _print_over(draws, digits, printed, ink)

        # Paper and scanner: full white or a little less, with a faint change of contrast.
        gain = 1 - 0.2 * draws.uniform() ** 3
        pixels = _to_pixels(np.clip(ink * gain[:, None, None], 0, 1))
        measured = measure_digits(pixels)
        words = draws.uniform(8)
        captions = [caption(*row) for row in zip(digits, measured, words, strict=True)]
        attributes = np.concatenate([digits[:, None].astype(np.float32), measured], 1)
        return CaptionedBatch(pixels, captions, attributes)


def _draw_handwritten(draws: RandomColumns, digits: NDArray[np.intp]) -> Floats:
    """Ink (n 28 28) of pen strokes; all parameters are drawn independently for each item."""
    # A template of the digit with jittered control points.
    strokes = build_stroke_basis(POINTS)
    index = strokes.first[digits] + (draws.uniform() * strokes.counts[digits]).astype(np.intp)
    jitter = 0.02 + 0.06 * draws.uniform()
    noise = draws.normal(*strokes.controls.shape[1:])
    controls = strokes.controls[index] + jitter[:, None, None] * noise
    points = np.matmul(strokes.basis[index], controls) - 0.5
    pieces = np.matmul(strokes.slopes[index], controls)

    # The page bends: a smooth cubic displacement field, then slant, turn and aspect.
    points += _displacement(points, draws.normal(2, 16) * (0.16 * draws.uniform())[:, None, None])
    matrix = _affine_matrices(draws)
    points = np.matmul(points, matrix.transpose(0, 2, 1))
    pieces = np.matmul(pieces, matrix.transpose(0, 2, 1))

    # Pen width is lognormal about 2.4 pixels; the digit with its pen fills the box, or less of it.
    radius = np.clip(1.18 * np.exp(0.34 * draws.normal()), 0.55, 2.8)
    scale, shift = fit_to_box(points, radius * 0.9, _box_lengths(draws))
    points = points * scale[:, None, None] + shift[:, None]
    lengths = np.linalg.norm(pieces, axis=2) * scale[:, None]

    # Pressure varies slowly along the stroke; then the centre of mass moves to the middle.
    lengths = np.maximum(lengths, 0.05) * np.exp(_log_pressure(draws))
    mass = (points * lengths[:, :, None]).sum(1) / lengths.sum(1)[:, None]
    points -= mass[:, None]
    softness = 0.6 + 0.7 * draws.uniform()
    return draw_strokes(points, lengths, radius, softness)


def _print_over(
    draws: RandomColumns, digits: NDArray[np.intp], printed: NDArray[np.bool_], ink: Floats
) -> None:
    """Replace the items in the mask `printed` by printed digits, slightly bent and slanted."""
    font = draws.choice(len(FONTS))
    matrix = _affine_matrices(draws) / np.array([0.78, 1.0], np.float32)
    height, bend = _box_lengths(draws), draws.normal(2, 4, 4)
    heavier, softness = 0.5 * draws.normal(), 0.8 + 0.9 * draws.uniform()
    if not printed.any():
        return

    # The outline determines the digit's size, its centre of mass the position.
    fonts, glyphs = render_fonts(), (digits[printed], font[printed])
    outline = np.matmul(fonts.outlines[glyphs], matrix[printed].transpose(0, 2, 1))
    scale, _ = fit_to_box(outline, np.zeros(len(outline), np.float32), height[printed])
    fitted = np.asarray(matrix[printed] * scale[:, None, None], np.float32)
    shift = -np.matmul(fitted, fonts.centres[glyphs][:, :, None])[:, :, 0]
    ink[printed] = draw_printed(
        fonts.distances[glyphs],
        fitted,
        shift,
        bend[printed],
        heavier[printed],
        softness[printed],
    )


def _affine_matrices(draws: RandomColumns) -> Floats:
    """Matrices (n 2 2): aspect, then slant (mostly to the right), then a turn of the page."""
    aspect = 0.78 * np.exp(0.27 * draws.normal())
    slant = 0.12 + 0.28 * draws.normal()
    turn = 0.14 * draws.normal()
    cosine, sine = np.cos(turn), np.sin(turn)
    rows = [[cosine * aspect, -cosine * slant - sine], [sine * aspect, cosine - sine * slant]]
    return np.asarray(np.moveaxis(np.array(rows), 2, 0), np.float32)


def _box_lengths(draws: RandomColumns) -> Floats:
    """Length in pixels (n) of the box's longer side: mostly 20, sometimes less or more."""
    chance, amount = draws.uniform(), draws.uniform()
    other = np.where(chance < 0.92, 14 + 6 * amount, 20 + 3 * amount)
    return np.asarray(np.where(chance < 0.75, BOX, other), np.float32)


def _log_pressure(draws: RandomColumns) -> Floats:
    """Log pressure (n POINTS): three slow cosines."""
    t = (np.arange(POINTS, dtype=np.float32) + 0.5) / POINTS
    waves = np.cos(np.pi * np.arange(1, 4)[:, None] * t).astype(np.float32)
    strength = 0.6 * draws.uniform()[:, None]
    return np.asarray(strength * np.einsum("nk,kp->np", draws.normal(3), waves), np.float32)


def _displacement(points: Floats, knots: Floats) -> Floats:
    """Displacement (n p 2) at points in -0.5..0.5: Bernstein cubics over 4x4 knots (n 2 16)."""
    x, y = _bernstein(points[:, :, 0] + 0.5), _bernstein(points[:, :, 1] + 0.5)
    weights = (y[:, :, :, None] * x[:, :, None, :]).reshape(*points.shape[:2], 16)
    return np.asarray(np.matmul(weights, knots.transpose(0, 2, 1)))


def _bernstein(t: Floats) -> Floats:
    t = np.clip(t, 0, 1)
    u = 1 - t
    return np.stack([u**3, 3 * u * u * t, 3 * u * t * t, t**3], -1)


def _to_pixels(ink: Floats) -> Pixels:
    pixels = np.rint(ink * 255).astype(np.uint8)[:, None]
    return np.pad(pixels, ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)))
