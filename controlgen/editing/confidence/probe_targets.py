"""Targets whose image is known, from easy to out of reach, to learn from how far to believe.

Samples of the model, mixtures and distortions of them, real images, and procedural pictures of
nothing. No label takes part.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from controlgen.rng import stream
from controlgen.types import Indices, Pixels, Shape

Planes = NDArray[np.float64]  # one image (c h w), 0..255
MIXED = ("averaged", "pasted")
DISTORTED = ("blurred", "inverted", "shifted", "rotated", "noisy")
NEAR = ("bank", "real", *MIXED)  # kinds that look like what the model was made for
FOREIGN = "foreign"
# Shares of all targets; where there are no real images theirs goes to the others.
SHARES = {
    "bank": 0.25,
    "real": 0.15,
    **dict.fromkeys(MIXED, 0.1),
    **dict.fromkeys(DISTORTED, 0.06),
    FOREIGN: 0.1,
}


class Trials(NamedTuple):
    """Pixels (n c h w), their kinds (n), and a number (n) that those of one source image share."""

    pixels: Pixels
    kinds: NDArray[np.str_]
    sources: Indices


def draw_trials(
    samples: Pixels, real: Pixels | None, real_sources: Indices | None, n: int, seed: int
) -> Trials:
    """About n targets from images (m c h w) that the model made and, where given, real ones.

    Mixtures take neighbours 2i and 2i + 1, and the two are one source; `real_sources` says which
    real images are one, each by itself if left out; each foreign image is one. Target i of a kind
    depends on the seed, the kind and i alone. A kind comes to its end with the images it is made
    from, mixtures with half as many.
    """
    shares = {kind: share for kind, share in SHARES.items() if kind != "real" or real is not None}
    total = sum(shares.values())
    pixels, kinds, sources = [], [], []
    for kind, share in shares.items():
        wanted = max(round(n * share / total), 1)
        for index in range(min(wanted, _most(kind, samples, real))):
            draws = stream(seed, f"trial {kind}", index)
            image, source = _one(kind, index, samples, real, draws)
            if kind == "real" and real_sources is not None:
                source = -1 - int(real_sources[index])  # numbers that no other kind has
            pixels.append(np.rint(image).clip(0, 255).astype(np.uint8))
            kinds.append(kind)
            sources.append(source)
    return Trials(np.stack(pixels), np.array(kinds), np.array(sources, np.int64))


def _most(kind: str, samples: Pixels, real: Pixels | None) -> int:
    if kind == FOREIGN:
        return int(1e9)
    if kind == "real":
        return 0 if real is None else len(real)
    return len(samples) // 2 if kind in MIXED else len(samples)


def _one(
    kind: str, index: int, samples: Pixels, real: Pixels | None, draws: np.random.Generator
) -> tuple[Planes, int]:
    # Sources are numbered by pairs of samples; real and foreign images come after them.
    pairs = len(samples) // 2 + 1
    if kind == "real" and real is not None:
        return np.asarray(real[index], np.float64), pairs + index
    if kind == FOREIGN:
        shape = samples.shape[1], samples.shape[2], samples.shape[3]
        return foreign(shape, draws), pairs + (0 if real is None else len(real)) + index
    if kind in MIXED:
        a, b = np.asarray(samples[2 * index : 2 * index + 2], np.float64)
        return (_averaged if kind == "averaged" else _pasted)(a, b, draws), index
    image = np.asarray(samples[index], np.float64)
    return (image if kind == "bank" else DISTORT[kind](image, draws)), index // 2


def _averaged(a: Planes, b: Planes, draws: np.random.Generator) -> Planes:
    share = draws.uniform(0.1, 0.9)
    return share * a + (1 - share) * b


def _pasted(a: Planes, b: Planes, draws: np.random.Generator) -> Planes:
    # Across a straight cut through a point near the middle, at any angle.
    height, width = a.shape[1:]
    y, x = np.mgrid[:height, :width]
    angle = draws.uniform(0, 2 * np.pi)
    middle = draws.uniform(0.3, 0.7, 2) * [height, width]
    side = (y - middle[0]) * np.sin(angle) + (x - middle[1]) * np.cos(angle)
    return np.where(side > 0, a, b)


def _blurred(image: Planes, draws: np.random.Generator) -> Planes:
    sigma = draws.uniform(0.01, 0.1) * image.shape[1]
    return np.asarray(ndimage.gaussian_filter(image, (0, sigma, sigma), mode="nearest"))


def _inverted(image: Planes, draws: np.random.Generator) -> Planes:
    return 255 - image


def _shifted(image: Planes, draws: np.random.Generator) -> Planes:
    by = draws.uniform(-0.25, 0.25, 2) * image.shape[1:]
    return np.asarray(ndimage.shift(image, (0, *by), order=1, mode="nearest"))


def _rotated(image: Planes, draws: np.random.Generator) -> Planes:
    angle = draws.uniform(-180, 180)
    turned = ndimage.rotate(image, angle, axes=(1, 2), reshape=False, order=1, mode="nearest")
    return np.asarray(turned)


def _noisy(image: Planes, draws: np.random.Generator) -> Planes:
    return image + draws.uniform(5, 80) * draws.standard_normal(image.shape)


DISTORT: dict[str, Callable[[Planes, np.random.Generator], Planes]] = {
    "blurred": _blurred,
    "inverted": _inverted,
    "shifted": _shifted,
    "rotated": _rotated,
    "noisy": _noisy,
}


def foreign(shape: Shape, draws: np.random.Generator) -> Planes:
    """A procedural picture (c h w), 0..255, of nothing: between two colours, one of five patterns.

    Gratings, checkerboards, rings, soft noise, and random boxes.
    """
    channels, height, width = shape
    y, x = np.mgrid[:height, :width] / max(height, width)
    pattern = draws.integers(5)
    waves, angle = draws.uniform(1.5, 6), draws.uniform(0, np.pi)
    if pattern == 0:
        phase = x * np.cos(angle) + y * np.sin(angle)
        mask = 0.5 + 0.5 * np.sin(2 * np.pi * waves * phase)
    elif pattern == 1:
        mask = (np.floor(x * waves * 2) + np.floor(y * waves * 2)) % 2
    elif pattern == 2:
        middle = draws.uniform(0.2, 0.8, 2)
        mask = 0.5 + 0.5 * np.sin(2 * np.pi * waves * np.hypot(y - middle[0], x - middle[1]))
    elif pattern == 3:
        soft = ndimage.gaussian_filter(draws.standard_normal((height, width)), height / 16)
        mask = (soft - soft.min()) / max(np.ptp(soft), 1e-9)
    else:
        mask = np.zeros((height, width))
        for _ in range(draws.integers(2, 8)):
            top, left, tall, wide = draws.uniform(0.05, 0.6, 4)
            inside = (y > top) & (y < top + tall) & (x > left) & (x < left + wide)
            mask[inside] = draws.uniform(0.2, 1)
    dark, light = draws.uniform(0, 100, channels), draws.uniform(150, 255, channels)
    return np.asarray(dark[:, None, None] + mask * (light - dark)[:, None, None])
