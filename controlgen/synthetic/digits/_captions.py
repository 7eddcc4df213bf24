"""What people say about a digit: its name and, at times, how it is drawn."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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


class Scale(NamedTuple):
    """Words for a measured quantity: `words[i]` are said of values between cuts i - 1 and i."""

    of: Callable[[Floats], float]
    cuts: tuple[float, ...]
    words: tuple[tuple[str, ...], ...]


def _measured(name: str) -> Callable[[Floats], float]:
    column = ATTRIBUTES.index(name)
    return lambda row: float(row[column])


def _aspect(row: Floats) -> float:
    return float(row[ATTRIBUTES.index("width")] / max(row[ATTRIBUTES.index("height")], 1))


SCALES = (
    Scale(
        _measured("stroke"),
        (1.75, 2.1, 2.6, 3.1),
        (
            ("very thin", "fine", "hairline"),
            ("thin", "light"),
            ("medium",),
            ("bold", "thick", "heavy"),
            ("very bold", "very thick"),
        ),
    ),
    Scale(
        _measured("slant"),
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
    Scale(
        _aspect,
        (0.4, 0.6, 0.85, 1.02),
        (
            ("very narrow", "skinny"),
            ("narrow",),
            ("normal",),
            ("wide", "broad"),
            ("very wide",),
        ),
    ),
    Scale(
        lambda row: float(max(row[ATTRIBUTES.index("height")], row[ATTRIBUTES.index("width")])),
        (15.5, 18.5, 20.5, 22.5),
        (("tiny",), ("small", "little"), ("",), ("large", "big"), ("huge",)),
    ),
)


def caption(digit: int, measured: Floats, chances: Floats) -> str:
    """A sentence about one glyph, true by what was `measured` (5); `chances` (8) in 0..1 choose.

    A quarter name the digit alone, the rest describe it in up to three ways as well, and of these
    one in eight leaves the name out.
    """
    name = str(digit) if chances[0] < 0.3 else NAMES[digit]
    if chances[1] < 0.25:
        return _pick(PLAIN, chances[2]).format(d=name)

    # One to three different scales have their say; a word may be none, as for ordinary size.
    first = int(chances[3] * len(SCALES))
    stride = 1 + 2 * int(chances[4] * 2)
    turns = [(first + stride * turn) % len(SCALES) for turn in range(1 + int(chances[5] * 3))]
    said = [_word(SCALES[turn], measured, chances[6]) for turn in turns]
    words = " ".join(word for word in said if word)
    if not words:
        return _pick(PLAIN, chances[2]).format(d=name)
    if chances[7] < 0.12:
        return _pick(NAMELESS, chances[2]).format(w=words)
    return _pick(DESCRIBED, chances[2]).format(d=name, w=words)


def prompts() -> list[list[str]]:
    """PROMPTS for each digit, by word and by figure."""
    return [
        [template.format(d=name) for template in PROMPTS for name in (NAMES[digit], str(digit))]
        for digit in range(10)
    ]


def _word(scale: Scale, measured: Floats, chance: float) -> str:
    step = int(np.searchsorted(scale.cuts, scale.of(measured), side="right"))
    return _pick(scale.words[step], chance)


def _pick(options: tuple[str, ...], chance: float) -> str:
    return options[min(int(chance * len(options)), len(options) - 1)]
