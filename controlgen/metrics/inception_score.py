"""Inception Score: are images clear, and are all classes there? By any classifier's word.

Salimans et al. 2016, section 4: exp(E KL(p(y|x) || p(y))). Higher is better, from 1 to the number
of classes. It never looks at real images, so it cannot see that samples look like none of them; it
is biased downwards at small n. The published scale is Inception-v3's ImageNet classes: by another
judge the number is to be named after the judge.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.jackknife import half_width, jackknife_error

Floats = NDArray[np.float64]


def inception_score(probabilities: NDArray[np.floating]) -> Interval:
    """exp(mean KL(p(y|x) || p(y))) of probabilities (n k), rows that sum to 1, over all n at once.

    The 95 % interval is the jackknife's of its logarithm, so it keeps the bias at this n.
    Raises ValueError where there are fewer than two rows or rows are no probabilities.
    """
    table = _checked(probabilities)
    count = len(table)
    surprise, total = -xlogy(table, table).sum(1), table.sum(0)

    # The logarithm is the entropy of the mean less the mean entropy: whole, then without each row.
    score = _log_score(total / count, surprise.mean())
    left = np.maximum(total - table, 0) / (count - 1)
    others = _log_score(left, (surprise.sum() - surprise) / (count - 1))
    reach = half_width(jackknife_error(np.asarray(others)), count)
    mean, low, high = (float(np.exp(score + move)) for move in (0.0, -reach, reach))
    return Interval(mean, low, high, count)


def split_scores(probabilities: NDArray[np.floating], splits: int = 10) -> Floats:
    """The score of each of `splits` consecutive parts (splits), as papers print mean and deviation.

    Parts are smaller than the whole, so their mean lies below `inception_score`. Shuffle rows that
    are sorted. Raises ValueError as `inception_score` does, and where a part would be empty.
    """
    table = _checked(probabilities)
    if not 1 <= splits <= len(table):
        raise ValueError(f"split_scores: {len(table)} rows do not make {splits} parts")
    edges = [part * len(table) // splits for part in range(splits + 1)]
    parts = [table[low:high] for low, high in pairwise(edges)]
    scores = [_log_score(part.mean(0), -xlogy(part, part).sum(1).mean()) for part in parts]
    return np.exp(np.array(scores))


def _log_score(mean: Floats, surprise: Floats | np.float64) -> Floats:
    return np.asarray(-xlogy(mean, mean).sum(-1) - surprise)


def _checked(probabilities: NDArray[np.floating]) -> Floats:
    # Softmax in float32 leaves rows that sum to 1 within about 1e-6.
    table = np.asarray(probabilities, np.float64)
    if table.ndim != 2 or len(table) < 2:
        raise ValueError(f"inception_score: needs probabilities (n k), n >= 2, got {table.shape}")
    if not (table >= 0).all() or not np.allclose(table.sum(1), 1, rtol=0, atol=1e-4):
        raise ValueError("inception_score: rows must be probabilities that sum to 1 (not logits)")
    return table
