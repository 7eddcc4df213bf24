"""Captions of digits: the digit's name and, in part, its appearance."""

import numpy as np
from numpy.typing import NDArray

from controlgen.synthetic.captions import CaptionScale, pick
from controlgen.synthetic.digits._rasterize import ATTRIBUTES

Floats = NDArray[np.float32]
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

PLAIN = (
    "{d}",
    "the digit {d}",
    "a digit {d}",
    "the number {d}",
    "a handwritten {d}",
    "handwritten {d}",
    "a photo of the number {d}",
    "an image of the digit {d}",
    "someone wrote {d}",
    "{d} in white on black",
)
DESCRIBED = (
    "a {w} {d}",
    "a {w} digit {d}",
    "the digit {d}, {w}",
    "a {w} handwritten {d}",
    "{w} {d}",
    "the number {d}, {w}",
    "an image of a {w} {d}",
)
NAMELESS = ("a {w} digit", "{w} handwriting", "a {w} number", "{w}")
PROMPTS = ("{d}", "the digit {d}", "a digit {d}", "the number {d}", "a handwritten {d}")

SCALES = (
    CaptionScale(
        "stroke",
        (1.75, 2.1, 2.6, 3.1),
        (
            ("very thin", "fine", "hairline"),
            ("thin", "light"),
            ("medium",),
            ("bold", "thick", "heavy"),
            ("very bold", "very thick"),
        ),
    ),
    CaptionScale(
        "slant",
        (-0.25, -0.08, 0.12, 0.3, 0.5),
        (
            ("strongly left slanted", "backward leaning"),
            ("left slanted", "slanted left"),
            ("upright", "straight"),
            ("right slanted", "slanted right", "slanted"),
            ("strongly right slanted", "forward leaning"),
            ("very strongly right slanted", "extremely slanted"),
        ),
    ),
    CaptionScale(
        lambda values: values["width"] / max(values["height"], 1),
        (0.4, 0.6, 0.85, 1.02),
        (
            ("very narrow", "skinny"),
            ("narrow",),
            ("normal",),
            ("wide", "broad"),
            ("very wide",),
        ),
    ),
    CaptionScale(
        lambda values: max(values["height"], values["width"]),
        (15.5, 18.5, 20.5, 22.5),
        (("tiny",), ("small", "little"), ("",), ("large", "big"), ("huge",)),
    ),
)


def caption(digit: int, measured: Floats, chances: Floats) -> str:
    """A true sentence about a digit by its `measured` ATTRIBUTES (5); `chances` (8) in 0..1 choose.

    A quarter of the captions name the digit alone; the others add up to three descriptions, and
    one in eight of these omits the name.
    """
    name = str(digit) if chances[0] < 0.3 else NAMES[digit]
    if chances[1] < 0.25:
        return pick(PLAIN, chances[2]).format(d=name)

    # One to three different scales; a word may be empty, as for an ordinary size.
    values = dict(zip(ATTRIBUTES, (float(value) for value in measured), strict=True))
    first = int(chances[3] * len(SCALES))
    stride = 1 + 2 * int(chances[4] * 2)
    turns = [(first + stride * turn) % len(SCALES) for turn in range(1 + int(chances[5] * 3))]
    words = [SCALES[turn].word(values, chances[6]) for turn in turns]
    description = " ".join(word for word in words if word)
    if not description:
        return pick(PLAIN, chances[2]).format(d=name)
    if chances[7] < 0.12:
        return pick(NAMELESS, chances[2]).format(w=description)
    return pick(DESCRIBED, chances[2]).format(d=name, w=description)


def prompts() -> list[list[str]]:
    """PROMPTS for each digit, as a word and as a figure."""
    return [
        [template.format(d=name) for template in PROMPTS for name in (NAMES[digit], str(digit))]
        for digit in range(10)
    ]
