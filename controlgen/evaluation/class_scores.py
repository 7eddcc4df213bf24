"""Class distribution of generated images, by a judge trained on real labelled images."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from controlgen.evaluation.context import MIN_CONFIDENCE
from controlgen.evaluation.judge import has_classes
from controlgen.evaluation.scores import Better, Score
from controlgen.metrics.bootstrap import Interval, mean_interval
from controlgen.metrics.classifier import Judge, LabelledDataset
from controlgen.metrics.mode_coverage import mode_coverage
from controlgen.rng import stream
from controlgen.types import Pixels

CLASSES = "classes"  # the measure that selects all of these scores
BOOTSTRAPS = 1000


def class_scores(
    judge: Judge,
    shares: NDArray[np.floating],
    generated: Pixels,
    unseen: Pixels | None,
    seed: int,
) -> list[Score]:
    """Score classes present, share of the rarest, KL(generated || real) in nats and confidence.

    `shares` (k) are those of the real classes, all above 0. `generated` and `unseen` are Pixels
    (n c h w); `unseen` are real images for the floor, not in the judge's training set. The interval
    of the classes present is over resampled images and never exceeds the count. Raises ValueError
    where `shares` do not fit the judge.
    """
    k = len(shares)
    measures: dict[str, tuple[Better, Callable[[_ClassifiedImages], Interval]]] = {
        f"classes found, of {k}": ("higher", lambda images: images.class_count(k)),
        "smallest class": ("higher", lambda images: images.rarest_share(k)),
        "KL of classes": ("lower", lambda images: images.kl_divergence(shares)),
        "judge confident": ("higher", lambda images: images.confident),
    }
    classified = _ClassifiedImages(judge, generated, seed)
    real = None if unseen is None else _ClassifiedImages(judge, unseen, seed)
    return [
        Score(name, measure(classified), None if real is None else measure(real), better)
        for name, (better, measure) in measures.items()
    ]


def class_shares(dataset: LabelledDataset) -> NDArray[np.float64] | None:
    """Return the share of each class (k) in a data set; None without labels or if one is absent."""
    if not has_classes(dataset):
        return None
    counts = np.bincount(dataset.labels(np.arange(len(dataset))))
    return None if len(counts) < 2 or not counts.all() else counts / counts.sum()


class _ClassifiedImages:
    def __init__(self, judge: Judge, pixels: Pixels, seed: int) -> None:
        probabilities = judge.probabilities(pixels)
        self._labels = probabilities.argmax(1)
        self._confident, self._seed = probabilities.max(1) > MIN_CONFIDENCE, seed

    def class_count(self, k: int) -> Interval:
        n = len(self._labels)
        counts = np.bincount(self._labels, minlength=k)
        draws = stream(self._seed, "classes found").multinomial(n, counts / n, size=BOOTSTRAPS)
        low, high = np.percentile((draws > 0).sum(1), (2.5, 97.5))
        return Interval(float((counts > 0).sum()), float(low), float(high), n)

    def rarest_share(self, k: int) -> Interval:
        rarest = np.bincount(self._labels, minlength=k).argmin()
        return mean_interval(self._labels == rarest, self._seed)

    def kl_divergence(self, shares: NDArray[np.floating]) -> Interval:
        return mode_coverage(self._labels, self._seed, len(shares), shares).kl

    @property
    def confident(self) -> Interval:
        return mean_interval(self._confident, self._seed)
