"""Perceptual path length: how far an image moves when its latent moves a little.

Karras et al. 2019 (StyleGAN), section 4.1: E d(G(p(t)), G(p(t + epsilon))) / epsilon^2 along a path
p between two latents. *Lower is better* (a smoother latent space), from 0, without an upper end;
some libraries declare the opposite. A generator of one image scores 0, so it is to be read beside a
measure of variety. The number depends on the distance and on the path: compare equal ones only.

Latents here have lengths that mean something, so the path keeps them: it goes round, and its length
goes evenly from one end's to the other's. Scaling latents to length one first would ask the
generator about latents it never saw. Images stay floating point: eight bits would round the small
steps away.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from controlgen.metrics.bootstrap import Interval, interval

LOWER_IS_BETTER = True
EPSILON = 1e-4
DISCARD = (0.01, 0.99)  # the share of lengths below and above which they are left out
BATCH = 64  # pairs of images at once
STRAIGHT = 1e-6  # sine of the angle below which two directions are taken for one line

Floats = NDArray[np.float64]
Path = Callable[[Floats, Floats, Floats], Floats]  # start (n z), end (n z), position (n 1) -> (n z)
Images = NDArray[np.floating]  # whatever the generator gives and the distance takes, (n ...)


def turning(start: Floats, end: Floats, position: Floats) -> Floats:
    """The point at `position` (n 1), 0..1, of the round way from start (n z) to end (n z).

    Directions turn evenly (Shoemake 1985); lengths change evenly. Where both point the same way the
    way is straight. Raises ValueError for opposite or zero latents, between which no way is
    shortest.
    """
    lengths = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in (start, end)]
    if not all((one > 0).all() for one in lengths):
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


def straight(start: Floats, end: Floats, position: Floats) -> Floats:
    """The point at `position` (n 1), 0..1, of the straight way from start (n z) to end (n z).

    It passes latents shorter than either end: right for mapped latents (the paper's w), not for
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
    path: Path = turning,
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
    """Mean of path lengths (n) with its interval; `n` counts those that are kept.

    As published, lengths beyond the two quantiles of `discard` are left out: a jump makes one
    length enormous and the mean would be its alone. None keeps all.
    Raises ValueError where there is nothing to average.
    """
    if discard is not None and len(lengths):
        low = np.quantile(lengths, discard[0], method="lower")
        high = np.quantile(lengths, discard[1], method="higher")
        lengths = lengths[(lengths >= low) & (lengths <= high)]
    return interval(lengths, seed)
