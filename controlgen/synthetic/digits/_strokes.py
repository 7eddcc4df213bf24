"""Pen strokes as matrices: from the control points of a way to the curve a pen follows."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.synthetic.digits._stroke_templates import WAYS


class StrokeBasis(NamedTuple):
    """Every way as matrices: points = basis @ controls, tangents = slopes @ controls.

    `controls` (v k 2) in 0..1, padded with zeros; `basis` and `slopes` (v p k); `digits` (v).
    A tangent is the piece of curve its point stands for. `first` and `ways` (10): where those of
    each digit begin and how many they are.
    """

    controls: NDArray[np.float32]
    basis: NDArray[np.float32]
    slopes: NDArray[np.float32]
    digits: NDArray[np.intp]
    first: NDArray[np.intp]
    ways: NDArray[np.intp]


def build_stroke_basis(points: int) -> StrokeBasis:
    """Compile WAYS so that each is drawn with `points` points spread evenly along its strokes."""
    digits = np.repeat(np.arange(10), [len(WAYS[digit]) for digit in range(10)])
    parsed = [_parse(way) for digit in range(10) for way in WAYS[digit]]
    most = max(len(controls) for controls, _ in parsed)
    padded = np.zeros((len(parsed), most, 2), np.float32)
    basis = np.zeros((len(parsed), points, most), np.float32)
    slopes = np.zeros_like(basis)
    for index, (controls, strokes) in enumerate(parsed):
        padded[index, : len(controls)] = controls
        basis[index], slopes[index] = _curves(controls, strokes, points, most)
    count = np.bincount(digits, minlength=10)
    return StrokeBasis(padded, basis, slopes, digits, np.cumsum(count) - count, count)


def _parse(way: str) -> tuple[NDArray[np.float64], list[list[int]]]:
    # Points written alike are one control, so joints and loops share it.
    names: dict[str, int] = {}
    strokes = [
        [names.setdefault(point, len(names)) for point in stroke.split()]
        for stroke in way.split("|")
    ]
    controls = np.array([[float(part) for part in name.split(",")] for name in names]) / 100
    return controls, strokes


def _curves(
    controls: NDArray[np.float64], strokes: list[list[int]], points: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Every stroke gets its share of the points by its length, at least four.
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
    """Weights of each control in `points` curve points, and in the pieces they stand for.

    Uniform Catmull-Rom (Catmull and Rom 1974), sampled evenly in chord length.
    """
    chords = np.linalg.norm(np.diff(controls[stroke], axis=0), axis=1)
    ends = np.concatenate([[0], np.cumsum(chords)])
    places = (np.arange(points) + 0.5) / points * ends[-1]
    span = np.clip(np.searchsorted(ends, places, side="right") - 1, 0, len(chords) - 1)
    t = (places - ends[span]) / chords[span]

    # The four controls around each span; a loop goes round, an open end is mirrored.
    last = len(stroke) - 1
    looped = stroke[0] == stroke[last]
    weights = np.zeros((2, points, width))
    powers = np.stack([np.ones_like(t), t, t**2, t**3], 1) @ _CATMULL_ROM
    slopes = np.stack([np.zeros_like(t), np.ones_like(t), 2 * t, 3 * t**2], 1) @ _CATMULL_ROM
    slopes *= (ends[-1] / points / chords[span])[:, None]
    for row in range(points):
        for offset in range(4):
            change = np.array([powers[row, offset], slopes[row, offset]])
            _add(weights[:, row], stroke, int(span[row]) + offset - 1, looped, change)
    return weights[0], weights[1]


def _add(
    weights: NDArray[np.float64],
    stroke: list[int],
    place: int,
    looped: bool,
    change: NDArray[np.float64],
) -> None:
    """Add `change` (2) to the weights of the control at `place`, perhaps one beyond an end."""
    last = len(stroke) - 1
    if 0 <= place <= last:
        weights[:, stroke[place]] += change
    elif looped:
        weights[:, stroke[place % last]] += change
    else:
        end, inner = (stroke[0], stroke[1]) if place < 0 else (stroke[last], stroke[last - 1])
        weights[:, end] += 2 * change
        weights[:, inner] -= change


_CATMULL_ROM = 0.5 * np.array([[0.0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]])
