"""Inception Score: are images clear and all classes present? With any classifier.

Salimans et al. 2016, section 4: exp(E KL(p(y|x) || p(y))). Higher is better, from 1 to the number
of classes. It ignores real images, so it cannot detect samples that resemble none of them; it is
biased downwards at small n. The published scale is that of Inception-v3's ImageNet classes: with
another classifier the score is named after it.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.jackknife import half_width, jackknife_error

Floats = NDArray[np.float64]
ROWS = 64  # rows per block
TINY = np.finfo(np.float64).tiny


def inception_score(probabilities: NDArray[np.floating]) -> Interval:
    """exp(mean KL(p(y|x) || p(y))) of probabilities (n k), rows that sum to 1, over all n at once.

    The 95 % interval is the jackknife's of its logarithm, so it keeps the bias at this n.
    Raises ValueError where there are fewer than two rows or rows are no probabilities.
    """
    table = _checked(probabilities)
    count, total, entropies = len(table), table.sum(0), _entropies(table)

    # The logarithm is the entropy of the mean less the mean entropy: whole, then without each row.
    score = _entropies(total[None] / count)[0] - entropies.mean()
    left = [
        _entropies(np.maximum(total - table[first : first + ROWS], 0) / (count - 1))
        for first in range(0, count, ROWS)
    ]
    others = np.concatenate(left) - (entropies.sum() - entropies) / (count - 1)
    reach = half_width(jackknife_error(others), count)
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
    scores = [_entropies(part.mean(0)[None])[0] - _entropies(part).mean() for part in parts]
    return np.asarray(np.exp(scores))


def _entropies(table: Floats) -> Floats:
    # Of each row (n k), some rows at a time, which stay in the processor's cache. 0 log 0 is 0.
    rows = [np.empty(0)]
    for first in range(0, len(table), ROWS):
        part = table[first : first + ROWS]
        rows.append(-np.einsum("nk,nk->n", part, np.log(np.maximum(part, TINY))))
    return np.concatenate(rows)


def _checked(probabilities: NDArray[np.floating]) -> Floats:
    # Softmax in float32 leaves rows that sum to 1 within about 1e-6.
    table = np.asarray(probabilities, np.float64)
    if table.ndim != 2 or len(table) < 2:
        raise ValueError(f"inception_score: needs probabilities (n k), n >= 2, got {table.shape}")
    if not (table >= 0).all() or not np.allclose(table.sum(1), 1, rtol=0, atol=1e-4):
        raise ValueError("inception_score: rows must be probabilities that sum to 1 (not logits)")
    return table
