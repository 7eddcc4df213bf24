"""Diversity of a set of images, and distance to the nearest real images.

Mean distance of pairs. With LPIPS (Zhang et al. 2018) as the distance this is the diversity of Zhu
et al. 2017 (BicycleGAN), section 5; with another distance the metric is named after it. Higher is
more diverse, which is better only up to the value of real images: noise is the most diverse. 0 if
all images are equal.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen.metrics.bootstrap import Interval, mean_interval
from controlgen.rng import stream

Items = NDArray[Any]  # images or features, n first
Distance = Callable[[Items, Items], NDArray[np.floating]]  # n pairs -> (n)
BATCH = 256  # pairs per call of the distance


def euclidean(a: Items, b: Items) -> NDArray[np.float64]:
    """Length of the difference of each pair of rows (n d): (n)."""
    return np.asarray(np.linalg.norm(a.astype(np.float64) - b.astype(np.float64), axis=1))


def diversity(items: Items, distance: Distance, seed: int) -> Interval:
    """Mean distance of random pairs of items (n ...), each item in one pair: n // 2 of them.

    Pairs that share no item are independent, so the interval is valid; `n` counts pairs. Raises
    ValueError below two items.
    """
    if len(items) < 2:
        raise ValueError(f"diversity: needs two items, got {len(items)}")
    pairs = stream(seed, "diversity pairs").permutation(len(items))[: len(items) // 2 * 2]
    return mean_interval(_distances(items, items, pairs[0::2], pairs[1::2], distance), seed)


def group_diversity(
    items: Items, groups: NDArray[np.integer], distance: Distance, seed: int
) -> Interval:
    """Mean over groups of the mean distance of all pairs within a group, e.g. edits of one
    source.

    `groups` (n) numbers each item's group. Groups have equal weight and are resampled as a whole;
    `n` counts groups. Raises ValueError if a group has one item only or lengths differ.
    """
    if len(items) != len(groups):
        raise ValueError(f"group_diversity: {len(items)} items but {len(groups)} group numbers")
    means = []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        if len(members) < 2:
            raise ValueError(f"group_diversity: group {group} has one item and so no pair")
        first, second = np.triu_indices(len(members), 1)
        distances = _distances(items, items, members[first], members[second], distance)
        means.append(distances.mean())
    return mean_interval(np.array(means), seed)


def nearest_distance(
    items: Items, references: Items, candidates: NDArray[np.integer], distance: Distance
) -> NDArray[np.float64]:
    """Distance of each item (n ...) to the nearest of its own candidates among references: (n).

    `candidates` (n c) are indices of references, chosen by a cheaper distance: the result is an
    upper bound of the distance to the nearest reference, exact if all are candidates. Smaller is
    closer to a real image; near 0 is a copy. Raises ValueError if an item has no candidate.
    """
    if candidates.ndim != 2 or len(candidates) != len(items) or not candidates.shape[1]:
        raise ValueError(f"nearest_distance: {len(items)} items, candidates {candidates.shape}")
    count = candidates.shape[1]
    mine = np.repeat(np.arange(len(items)), count)
    distances = _distances(items, references, mine, candidates.ravel(), distance)
    return np.asarray(distances.reshape(-1, count).min(1))


def _distances(
    a: Items, b: Items, left: NDArray[Any], right: NDArray[Any], distance: Distance
) -> NDArray[np.float64]:
    rows = [np.empty(0)]
    for first in range(0, len(left), BATCH):
        part = slice(first, first + BATCH)
        rows.append(np.asarray(distance(a[left[part]], b[right[part]]), np.float64))
    return np.concatenate(rows)
