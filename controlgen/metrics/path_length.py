"""Perceptual path length: the change of an image for a small step of its latent.

Karras et al. 2019 (StyleGAN), section 4.1: E d(G(p(t)), G(p(t + epsilon))) / epsilon^2 along a path
p between two latents. *Lower is better* (a smoother latent space), from 0, unbounded; some
libraries declare the opposite. A generator of one image scores 0, so it is read together with a
measure of diversity. The value depends on the distance and on the path: compare equal ones only.

The length of latents is meaningful here, so the path preserves it: it is an arc whose length
changes evenly from one end's to the other's. Scaling latents to unit length first would evaluate
the generator at latents outside its training distribution. Images stay floating point: eight bits
would round small steps to nothing.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from controlgen.metrics.bootstrap import Interval, mean_interval

LOWER_IS_BETTER = True
EPSILON = 1e-4
DISCARD = (0.01, 0.99)  # quantiles of lengths that are discarded
BATCH = 64  # pairs of images at once
STRAIGHT = 1e-6  # sine of the angle below which two directions count as one line

Floats = NDArray[np.float64]
Path = Callable[[Floats, Floats, Floats], Floats]  # start (n z), end (n z), position (n 1) -> (n z)
Images = NDArray[np.floating]  # whatever the generator gives and the distance takes, (n ...)


def slerp(start: Floats, end: Floats, position: Floats) -> Floats:
    """The point at `position` (n 1), 0..1, of the arc from start (n z) to end (n z).

    Directions rotate evenly (Shoemake 1985); lengths change evenly. Parallel latents are connected
    by a straight line. Raises ValueError for opposite or zero latents, between which no arc is
    shortest.
    """
    lengths = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in (start, end)]
    if not all((lengths_of_side > 0).all() for lengths_of_side in lengths):
        raise ValueError("turning: a latent of length zero has no direction")
    a, b = start / lengths[0], end / lengths[1]
    cosine = np.clip((a * b).sum(1, keepdims=True), -1, 1)
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    flat = sine < STRAIGHT
    if (flat & (cosine < 0)).any():
        raise ValueError("turning: there is no shortest way between opposite latents")

    # Where the angle vanishes, so does the difference between the chord and the arc.
    safe = np.where(flat, 1, sine)
    first = np.where(flat, 1 - position, np.sin((1 - position) * angle) / safe)
    second = np.where(flat, position, np.sin(position * angle) / safe)
    length = (1 - position) * lengths[0] + position * lengths[1]
    return np.asarray((first * a + second * b) * length)


def lerp(start: Floats, end: Floats, position: Floats) -> Floats:
    """The point at `position` (n 1), 0..1, of the line from start (n z) to end (n z).

    It passes latents shorter than either end: right for mapped latents (the paper's w), wrong for
    normal ones.
    """
    return np.asarray(start + (end - start) * position)


def path_lengths(
    generate: Callable[[NDArray[np.float32]], Images],
    distance: Callable[[Images, Images], NDArray[np.floating]],
    start: NDArray[np.floating],
    end: NDArray[np.floating],
    positions: NDArray[np.floating],
    epsilon: float = EPSILON,
    path: Path = slerp,
) -> Floats:
    """Length of each small step, d(G(p(t)), G(p(t + epsilon))) / epsilon^2: (n), from 0.

    `start` and `end` (n z), `positions` (n) in 0..1: draws from 0..1 give the paper's "full"
    length, zeros its "end". `generate` takes latents (m z) in float32; `distance` compares m pairs,
    (m), and must grow with the square of a small difference, as LPIPS does.
    Raises ValueError where shapes differ or epsilon is not positive.
    """
    if start.shape != end.shape or positions.shape != start.shape[:1] or epsilon <= 0:
        raise ValueError(
            f"path_lengths: needs equal latents and a position for each, got {start.shape}, "
            f"{end.shape}, {positions.shape} and epsilon {epsilon:g}"
        )
    lengths = [np.empty(0)]
    for first in range(0, len(start), BATCH):
        part = slice(first, first + BATCH)
        ends = start[part].astype(np.float64), end[part].astype(np.float64)
        here = positions[part, None].astype(np.float64)
        steps = (path(*ends, here + move).astype(np.float32) for move in (0.0, epsilon))
        images = [generate(latents) for latents in steps]
        lengths.append(np.asarray(distance(*images), np.float64) / epsilon**2)
    return np.concatenate(lengths)


def path_length(
    lengths: Floats, seed: int, discard: tuple[float, float] | None = DISCARD
) -> Interval:
    """Mean of path lengths (n) with its interval; `n` counts the lengths that are used.

    As published, lengths beyond the two quantiles of `discard` are left out: a single jump would
    dominate the mean. None uses all. Raises ValueError if no length is left.
    """
    if discard is not None and len(lengths):
        low = np.quantile(lengths, discard[0], method="lower")
        high = np.quantile(lengths, discard[1], method="higher")
        lengths = lengths[(lengths >= low) & (lengths <= high)]
    return mean_interval(lengths, seed)
