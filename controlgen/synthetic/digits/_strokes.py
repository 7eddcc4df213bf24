"""Pen strokes as matrices: from the control points of a template to the curve of the pen.

stroke_templates.json lists several templates for each digit. Strokes are separated by "|", points
are "x,y" in per cent of the digit's box with y downwards. A stroke is a smooth curve through its
points (Catmull-Rom); two points make a straight line. Strokes that share a point stay joined there
when points are jittered, which makes a corner; a stroke that ends where it began is a closed loop.
"""

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class StrokeBasis(NamedTuple):
    """Every template as matrices: points = basis @ controls, tangents = slopes @ controls.

    `controls` (v k 2) in 0..1, padded with zeros; `basis` and `slopes` (v p k); `digits` (v).
    A tangent is the piece of curve that its point represents. `first` and `counts` (10): index of
    each digit's first template and number of its templates.
    """

    controls: NDArray[np.float32]
    basis: NDArray[np.float32]
    slopes: NDArray[np.float32]
    digits: NDArray[np.intp]
    first: NDArray[np.intp]
    counts: NDArray[np.intp]


def load_templates() -> tuple[tuple[str, ...], ...]:
    """The stroke templates of each digit."""
    text = files(__package__).joinpath("stroke_templates.json").read_text(encoding="utf-8")
    templates = json.loads(text)
    return tuple(tuple(templates[str(digit)]) for digit in range(10))


@cache
def build_stroke_basis(points: int) -> StrokeBasis:
    """Compile all templates to `points` points each, spread evenly along the strokes."""
    templates = load_templates()
    digits = np.repeat(np.arange(10), [len(of_digit) for of_digit in templates])
    parsed = [_parse(template) for of_digit in templates for template in of_digit]
    most = max(len(controls) for controls, _ in parsed)
    padded = np.zeros((len(parsed), most, 2), np.float32)
    basis = np.zeros((len(parsed), points, most), np.float32)
    slopes = np.zeros_like(basis)
    for index, (controls, strokes) in enumerate(parsed):
        padded[index, : len(controls)] = controls
        basis[index], slopes[index] = _curves(controls, strokes, points, most)
    counts = np.bincount(digits, minlength=10)
    return StrokeBasis(padded, basis, slopes, digits, np.cumsum(counts) - counts, counts)


def _parse(template: str) -> tuple[NDArray[np.float64], list[list[int]]]:
    # Equal points are one control, so that joints and loops share it.
    numbers: dict[str, int] = {}
    strokes = [
        [numbers.setdefault(point, len(numbers)) for point in stroke.split()]
        for stroke in template.split("|")
    ]
    controls = np.array([[float(part) for part in point.split(",")] for point in numbers]) / 100
    return controls, strokes


def _curves(
    controls: NDArray[np.float64], strokes: list[list[int]], points: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Points are shared among strokes by length, at least four each.
    lengths = [
        float(np.linalg.norm(np.diff(controls[stroke], axis=0), axis=1).sum()) for stroke in strokes
    ]
    shares = [max(4, int(points * length / sum(lengths))) for length in lengths]
    shares[int(np.argmax(lengths))] += points - sum(shares)
    rows = [
        _catmull_rom(controls, stroke, share, width)
        for stroke, share in zip(strokes, shares, strict=True)
    ]
    return np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows])


def _catmull_rom(
    controls: NDArray[np.float64], stroke: list[int], points: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of each control in `points` curve points, and in the pieces they represent.

    Uniform Catmull-Rom (Catmull and Rom 1974), sampled evenly in chord length.
    """
    chords = np.linalg.norm(np.diff(controls[stroke], axis=0), axis=1)
    ends = np.concatenate([[0], np.cumsum(chords)])
    positions = (np.arange(points) + 0.5) / points * ends[-1]
    span = np.clip(np.searchsorted(ends, positions, side="right") - 1, 0, len(chords) - 1)
    t = (positions - ends[span]) / chords[span]

    # The four controls around each span; a loop wraps around, an open end is mirrored.
    last = len(stroke) - 1
    looped = stroke[0] == stroke[last]
    weights = np.zeros((2, points, width))
    powers = np.stack([np.ones_like(t), t, t**2, t**3], 1) @ _CATMULL_ROM
    slopes = np.stack([np.zeros_like(t), np.ones_like(t), 2 * t, 3 * t**2], 1) @ _CATMULL_ROM
    slopes *= (ends[-1] / points / chords[span])[:, None]
    for row in range(points):
        for offset in range(4):
            change = np.array([powers[row, offset], slopes[row, offset]])
            _add_weights(weights[:, row], stroke, int(span[row]) + offset - 1, looped, change)
    return weights[0], weights[1]


def _add_weights(
    weights: NDArray[np.float64],
    stroke: list[int],
    index: int,
    looped: bool,
    change: NDArray[np.float64],
) -> None:
    """Add `change` (2) to the weights of control `index`, which may be one beyond an end."""
    last = len(stroke) - 1
    if 0 <= index <= last:
        weights[:, stroke[index]] += change
    elif looped:
        weights[:, stroke[index % last]] += change
    else:
        end, inner = (stroke[0], stroke[1]) if index < 0 else (stroke[last], stroke[last - 1])
        weights[:, end] += 2 * change
        weights[:, inner] -= change


_CATMULL_ROM = 0.5 * np.array([[0.0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]])
