"""Targets with a known image, from easy to out of reach, on which confidence is fitted.

Samples of the model, mixtures and distortions of them, real images, and procedural patterns. Labels
are not used.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from controlgen.rng import stream
from controlgen.types import Indices, Pixels, Shape

Image = NDArray[np.float64]  # (c h w), 0..255
MIXTURES = ("averaged", "pasted")
DISTORTIONS = ("blurred", "inverted", "shifted", "rotated", "noisy")
IN_DISTRIBUTION = ("bank", "real", *MIXTURES)  # kinds similar to the training data
OUT_OF_DISTRIBUTION = "foreign"
# Shares of all targets, rescaled where there are no real images.
SHARES = {
    "bank": 0.25,
    "real": 0.15,
    **dict.fromkeys(MIXTURES, 0.1),
    **dict.fromkeys(DISTORTIONS, 0.06),
    OUT_OF_DISTRIBUTION: 0.1,
}


class ProbeTargets(NamedTuple):
    """Pixels (n c h w), their kinds (n) and source ids (n), equal for targets of one source."""

    pixels: Pixels
    kinds: NDArray[np.str_]
    sources: Indices


def draw_probe_targets(
    samples: Pixels, real: Pixels | None, real_sources: Indices | None, n: int, seed: int
) -> ProbeTargets:
    """About n targets from generated images (m c h w) and, optionally, real ones.

    Mixtures take neighbours 2i and 2i + 1, which count as one source; `real_sources` groups real
    images, each its own source by default; every pattern is its own source. Target i of a kind
    depends only on the seed, the kind and i. A kind has at most as many targets as images to make
    them from, mixtures half as many.
    """
    shares = {kind: share for kind, share in SHARES.items() if kind != "real" or real is not None}
    total = sum(shares.values())
    pixels, kinds, sources = [], [], []
    for kind, share in shares.items():
        n_kind = max(round(n * share / total), 1)
        for index in range(min(n_kind, _max_targets(kind, samples, real))):
            random = stream(seed, f"trial {kind}", index)
            image, source = _make_target(kind, index, samples, real, random)
            if kind == "real" and real_sources is not None:
                source = -1 - int(real_sources[index])  # negative: distinct from all other kinds
            pixels.append(np.rint(image).clip(0, 255).astype(np.uint8))
            kinds.append(kind)
            sources.append(source)
    return ProbeTargets(np.stack(pixels), np.array(kinds), np.array(sources, np.int64))


def _max_targets(kind: str, samples: Pixels, real: Pixels | None) -> int:
    if kind == OUT_OF_DISTRIBUTION:
        return int(1e9)
    if kind == "real":
        return 0 if real is None else len(real)
    return len(samples) // 2 if kind in MIXTURES else len(samples)


def _make_target(
    kind: str, index: int, samples: Pixels, real: Pixels | None, random: np.random.Generator
) -> tuple[Image, int]:
    # Source ids number pairs of samples, then real images, then patterns.
    pairs = len(samples) // 2 + 1
    if kind == "real" and real is not None:
        return np.asarray(real[index], np.float64), pairs + index
    if kind == OUT_OF_DISTRIBUTION:
        shape = samples.shape[1], samples.shape[2], samples.shape[3]
        source = pairs + (0 if real is None else len(real)) + index
        return synthetic_pattern(shape, random), source
    if kind in MIXTURES:
        a, b = np.asarray(samples[2 * index : 2 * index + 2], np.float64)
        return (_averaged if kind == "averaged" else _pasted)(a, b, random), index
    image = np.asarray(samples[index], np.float64)
    return (image if kind == "bank" else DISTORT[kind](image, random)), index // 2


def _averaged(a: Image, b: Image, random: np.random.Generator) -> Image:
    share = random.uniform(0.1, 0.9)
    return share * a + (1 - share) * b


def _pasted(a: Image, b: Image, random: np.random.Generator) -> Image:
    # Along a straight cut through a point near the centre, at any angle.
    height, width = a.shape[1:]
    y, x = np.mgrid[:height, :width]
    angle = random.uniform(0, 2 * np.pi)
    centre = random.uniform(0.3, 0.7, 2) * [height, width]
    side = (y - centre[0]) * np.sin(angle) + (x - centre[1]) * np.cos(angle)
    return np.where(side > 0, a, b)


def _blurred(image: Image, random: np.random.Generator) -> Image:
    sigma = random.uniform(0.01, 0.1) * image.shape[1]
    return np.asarray(ndimage.gaussian_filter(image, (0, sigma, sigma), mode="nearest"))


def _inverted(image: Image, random: np.random.Generator) -> Image:
    return 255 - image


def _shifted(image: Image, random: np.random.Generator) -> Image:
    offset = random.uniform(-0.25, 0.25, 2) * image.shape[1:]
    return np.asarray(ndimage.shift(image, (0, *offset), order=1, mode="nearest"))


def _rotated(image: Image, random: np.random.Generator) -> Image:
    angle = random.uniform(-180, 180)
    rotated = ndimage.rotate(image, angle, axes=(1, 2), reshape=False, order=1, mode="nearest")
    return np.asarray(rotated)


def _noisy(image: Image, random: np.random.Generator) -> Image:
    return image + random.uniform(5, 80) * random.standard_normal(image.shape)


DISTORT: dict[str, Callable[[Image, np.random.Generator], Image]] = {
    "blurred": _blurred,
    "inverted": _inverted,
    "shifted": _shifted,
    "rotated": _rotated,
    "noisy": _noisy,
}


def synthetic_pattern(shape: Shape, random: np.random.Generator) -> Image:
    """A procedural pattern (c h w), 0..255, between two colours.

    Gratings, checkerboards, rings, smooth noise or random boxes.
    """
    channels, height, width = shape
    y, x = np.mgrid[:height, :width] / max(height, width)
    pattern = random.integers(5)
    waves, angle = random.uniform(1.5, 6), random.uniform(0, np.pi)
    if pattern == 0:
        phase = x * np.cos(angle) + y * np.sin(angle)
        mask = 0.5 + 0.5 * np.sin(2 * np.pi * waves * phase)
    elif pattern == 1:
        mask = (np.floor(x * waves * 2) + np.floor(y * waves * 2)) % 2
    elif pattern == 2:
        centre = random.uniform(0.2, 0.8, 2)
        mask = 0.5 + 0.5 * np.sin(2 * np.pi * waves * np.hypot(y - centre[0], x - centre[1]))
    elif pattern == 3:
        noise = ndimage.gaussian_filter(random.standard_normal((height, width)), height / 16)
        mask = (noise - noise.min()) / max(np.ptp(noise), 1e-9)
    else:
        mask = np.zeros((height, width))
        for _ in range(random.integers(2, 8)):
            top, left, box_height, box_width = random.uniform(0.05, 0.6, 4)
            inside = (y > top) & (y < top + box_height) & (x > left) & (x < left + box_width)
            mask[inside] = random.uniform(0.2, 1)
    dark, light = random.uniform(0, 100, channels), random.uniform(150, 255, channels)
    return np.asarray(dark[:, None, None] + mask * (light - dark)[:, None, None])
