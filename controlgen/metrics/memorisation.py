"""Memorisation audit: are samples copies of training images?

A sample is compared with every training image in all eight poses of the square, by the cosine
distance of features. The scale comes from real images of other sources, which cannot be copies:
their distances to the same training images (the data-copying question of Meehan et al. 2020, "A
Non-Parametric Test to Detect Data-Copying", for the nearest few).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, hypergeom

from controlgen.errors import Incompatible
from controlgen.metrics.bootstrap import LEVELS, Interval, resample_counts
from controlgen.types import Features, Indices, Pixels, Shape

# poses of a square: pose 4 f + k is mirrored left-right (f = 1), then rotated by k quarters
POSES = 8
PERCENT = 1  # share of held-out images nearer than the threshold
UNLIKELY = 0.025  # p-value below which near samples are significant
TILES = 128  # training images embedded at once, in one pose
CHUNK = 2048  # rows on either side of one table of distances

CLEAR, SUSPECTED = "no sign of copies", "copies suspected"


class NearestMatch(NamedTuple):
    """For each query (n): the cosine distance 0..2, the training image and its pose."""

    distance: NDArray[np.float64]
    item: Indices
    pose: NDArray[np.int64]

    def part(self, rows: slice) -> "NearestMatch":
        """The matches of some of the queries."""
        return NearestMatch(self.distance[rows], self.item[rows], self.pose[rows])


class FeatureBlock(NamedTuple):
    """Unit features (m d) of training images `item` (m), all in one pose."""

    features: Features
    item: Indices
    pose: int


@dataclass(frozen=True)
class Audit:
    """Distances of samples to their nearest training images against those of held-out images.

    `share` is the share of samples nearer than `threshold`; 0.01 is expected if they are as new as
    held-out images. `chance` is the probability that at least as many samples are so near if they
    are as new, with every source of held-out images counted once. `nearer_than_all` is the share
    nearer than any held-out image.
    """

    samples: int
    held_out: int
    sources: int
    threshold: float
    share: Interval
    chance: float
    nearer_than_all: float
    median: float
    held_out_median: float
    verdict: str

    @property
    def suspected(self) -> bool:
        """Whether the verdict is that samples are copies."""
        return self.verdict == SUSPECTED


def has_poses(shape: Shape) -> bool:
    """Whether images (c h w) are compared in all poses: square colour images, because tissue has
    no orientation. Grey images are not: digits and letters have one.
    """
    channels, height, width = shape
    return channels == 3 and height == width


def apply_pose(pixels: Pixels, pose: int) -> Pixels:
    """Square Pixels (n c s s) in pose 0..7, numbered as in `controlgen.augmentations.geometry`.

    Raises Incompatible if they are not square and so have no eight poses.
    """
    if pixels.shape[2] != pixels.shape[3]:
        raise Incompatible(
            f"images of {pixels.shape[3]}x{pixels.shape[2]} have no eight poses; compare them as "
            "they are (poses=False)"
        )
    flipped = pixels[..., ::-1] if pose >= 4 else pixels
    return np.ascontiguousarray(np.rot90(flipped, pose % 4, axes=(2, 3)))


def iter_pose_features(
    read: Callable[[Indices], Pixels],
    indices: Indices,
    embed: Callable[[Pixels], Features],
    poses: bool = True,
) -> Iterator[FeatureBlock]:
    """Yield features of the images `indices`, a block of images and one pose at a time.

    `poses=False` uses the upright pose only.
    """
    for first in range(0, len(indices), TILES):
        chosen = indices[first : first + TILES]
        pixels = read(chosen)
        for pose in range(POSES if poses else 1):
            posed = apply_pose(pixels, pose) if poses else pixels
            yield FeatureBlock(embed(posed), chosen, pose)


def nearest(queries: Features, blocks: Iterable[FeatureBlock]) -> NearestMatch:
    """The nearest of all blocks' rows to each query (n d); ties go to the first.

    Both sides are rows of unit length. Memory: one block and CHUNK x CHUNK distances. Raises
    ValueError if the blocks are empty.
    """
    count = len(queries)
    best = np.full(count, -np.inf)
    index, pose = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for block in blocks:
        for first in range(0, len(block.item), CHUNK):
            rows = block.features[first : first + CHUNK]
            for start in range(0, count, CHUNK):
                # Only a strictly nearer row replaces the match of an earlier block.
                part = slice(start, start + CHUNK)
                table = queries[part] @ rows.T
                top = table.argmax(1)
                cosine = table[np.arange(len(table)), top]
                won = start + np.flatnonzero(cosine > best[part])
                best[won] = cosine[won - start]
                index[won] = block.item[first + top[won - start]]
                pose[won] = block.pose
    if count and np.isneginf(best).any():
        raise ValueError("nearest: there is no training image to compare with")
    return NearestMatch(np.clip(1 - best, 0, 2), index, pose)


def nearest_posed(
    pixels: Pixels, embed: Callable[[Pixels], Features], blocks: Iterable[FeatureBlock]
) -> NearestMatch:
    """The nearest upright row to each of a few images (n c s s) in any of their eight poses.

    `pose` is the pose in which the match aligns with the query. For few images and many rows: the
    rows of `iter_pose_features` are read once instead of eight times. Raises as `nearest` and
    `apply_pose`.
    """
    count = len(pixels)
    views = np.concatenate([embed(apply_pose(pixels, pose)) for pose in range(POSES)])
    match = nearest(views, blocks)
    pose = match.distance.reshape(POSES, count).argmin(0)
    rows = pose * count + np.arange(count)
    back = np.where(pose >= POSES // 2, pose, -pose % 4)  # a mirrored pose is its own inverse
    return NearestMatch(match.distance[rows], match.item[rows], back)


def audit(
    samples: NDArray[np.float64],
    held_out: NDArray[np.float64],
    seed: int,
    bootstraps: int = 1000,
    sources: NDArray[np.int64] | None = None,
) -> Audit:
    """Compare the nearest distances of samples (n) with those of held-out real images (m).

    The threshold is the 1st percentile of the held-out distances: the smallest of them at or below
    which 1 % of them lie, so fewer than 1 % of the held-out images are nearer. Below 100 held-out
    images it is their minimum, and it is coarse below several hundred.

    The 95 % interval of the share covers bootstrap draws of samples *and* held-out images (so that
    an accidental threshold widens it; `sources` (m) are resampled as a whole) and the exact
    binomial (Clopper and Pearson 1934) at the threshold. Copies are suspected if its lower end lies
    above 1 % and `chance` below 2.5 %. With few sources this takes many near samples (of 1 000
    samples 40 against 95 sources, 25 against 400), and a few copies among many samples stay
    undetected: inspect the closest pairs in any case. Samples are assumed independent. Raises
    ValueError if either side is empty.
    """
    if not len(samples) or not len(held_out):
        raise ValueError("audit: needs samples and held-out images")
    ranked, order = np.sort(samples), np.argsort(held_out, kind="stable")
    reference = held_out[order]

    # The share itself is the case in which every image is drawn exactly once.
    once = np.ones((1, len(ranked))), np.ones((1, len(reference)))
    threshold = float(_percentile(reference, once[1])[0])
    share = float(_share_below(ranked, once[0], np.array([threshold]))[0])

    owners = np.arange(len(held_out)) if sources is None else sources
    _, positions = np.unique(owners, return_inverse=True)
    groups = int(positions.max()) + 1
    counts = resample_counts(groups, seed, bootstraps)[:, positions[order]]
    drawn_samples = resample_counts(len(ranked), seed + 1, bootstraps)
    shares = _share_below(ranked, drawn_samples, _percentile(reference, counts))
    low, high = np.percentile(shares, LEVELS)
    near = round(share * len(ranked))
    exact = binomtest(near, len(ranked)).proportion_ci(0.95, "exact")
    low, high = min(low, exact.low), max(high, exact.high)
    chance = p_value(near, len(ranked), groups)
    suspected = low > PERCENT / 100 and chance < UNLIKELY
    return Audit(
        samples=len(samples),
        held_out=len(held_out),
        sources=groups,
        threshold=threshold,
        share=Interval(share, float(low), float(high), len(ranked)),
        chance=chance,
        nearer_than_all=float((samples < reference[0]).mean()),
        median=float(np.median(samples)),
        held_out_median=float(np.median(held_out)),
        verdict=SUSPECTED if suspected else CLEAR,
    )


def p_value(near: int, samples: int, held_out: int) -> float:
    """Probability that `near` or more samples lie below the 1st percentile of the held-out ones,
    if all are independent draws of one distribution, whatever it is.

    Then all orders are equally likely. At least `near` samples come before the r-th held-out one
    exactly if fewer than r held-out ones are among the first near + r - 1: a hypergeometric
    probability. r is the rank of the percentile, `held_out` / 100 rounded up.
    """
    rank = -(-held_out * PERCENT // 100)
    first = near + rank - 1
    return float(hypergeom.cdf(rank - 1, samples + held_out, held_out, first))


def _percentile(ranked: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    # For each draw (B m) of ranked values (m): the first at which 1 % of the draw is reached.
    # Counts are integers, so no rounding decides.
    reached = np.cumsum(counts, axis=1) * 100 >= counts.sum(1, keepdims=True) * PERCENT
    return np.asarray(ranked[reached.argmax(1)])


def _share_below(
    ranked: NDArray[np.float64], counts: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    # For each draw (B n) of ranked values (n): the share strictly below that draw's threshold (B).
    sums = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts, axis=1)], axis=1)
    below = np.searchsorted(ranked, thresholds, side="left")
    return np.asarray(sums[np.arange(len(counts)), below] / sums[:, -1])
