"""Scores of a text-and-image space: zero-shot classification, and linear regression."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from controlgen.features import TextSpace
from controlgen.types import Features, Pixels

Floats = NDArray[np.float32]


def zero_shot_classes(space: TextSpace, prompts: Sequence[Sequence[str]]) -> Features:
    """One unit row per class: the mean of its sentences' features (k d), CLIP section 3.1.4."""
    rows = [space.embed_text(list(sentences)).mean(0) for sentences in prompts]
    means = np.stack(rows)
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), np.float32)


def zero_shot_predictions(
    space: TextSpace, prompts: Sequence[Sequence[str]], pixels: Pixels
) -> NDArray[np.int64]:
    """The class whose sentences lie nearest to each image (n)."""
    scores = space.embed(pixels) @ zero_shot_classes(space, prompts).T
    return np.asarray(scores.argmax(1), np.int64)


def linear_r2(features: Features, values: Floats) -> Floats:
    """R^2 of each value from a linear map of the features: (k), fitted on the first half.

    `features` (n d), `values` (n k). Ridge with its penalty chosen by leave-one-out; scored on the
    second half: 1 is exact, 0 is the mean, negative is worse than the mean.
    """
    half = len(features) // 2
    scores = []
    for column in values.T:
        ridge = RidgeCV(alphas=np.logspace(-4, 3, 15)).fit(features[:half], column[:half])
        scores.append(ridge.score(features[half:], column[half:]))
    return np.array(scores, np.float32)
