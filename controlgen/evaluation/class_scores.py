"""Which classes do images show? What a judge, taught on real labelled images, reads in them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from controlgen.evaluation.context import CONFIDENT
from controlgen.evaluation.judge import has_classes
from controlgen.evaluation.scores import Better, Score
from controlgen.metrics.bootstrap import Interval, interval
from controlgen.metrics.classifier import Judge, LabelledDataset
from controlgen.metrics.mode_coverage import mode_coverage
from controlgen.rng import stream
from controlgen.types import Pixels

CLASSES = "classes"  # what asks for all of it
BOOTSTRAPS = 1000


def class_scores(
    judge: Judge,
    shares: NDArray[np.floating],
    generated: Pixels,
    unseen: Pixels | None,
    seed: int,
) -> list[Score]:
    """Classes found, share of the rarest, KL(generated || real) in nats and share read clearly.

    `shares` (k) are those of the real classes, all above 0. `generated` and `unseen`, real images
    for the floor that the judge was not taught on, are Pixels (n c h w). The interval of the
    classes found is over draws of as many images again: it reaches below and never above. Raises
    ValueError where `shares` do not fit, and what the judge raises.
    """
    k = len(shares)
    measures: dict[str, tuple[Better, Callable[[_Read], Interval]]] = {
        f"classes found, of {k}": ("higher", lambda side: side.found(k)),
        "smallest class": ("higher", lambda side: side.smallest(k)),
        "KL of classes": ("lower", lambda side: side.divergence(shares)),
        "judge confident": ("higher", lambda side: side.confident),
    }
    ours = _Read(judge, generated, seed)
    real = None if unseen is None else _Read(judge, unseen, seed)
    return [
        Score(name, of(ours), None if real is None else of(real), better)
        for name, (better, of) in measures.items()
    ]


def shares_of(dataset: LabelledDataset) -> NDArray[np.float64] | None:
    """Share of each class (k) in a data set; None where it tells no classes, or lacks one."""
    if not has_classes(dataset):
        return None
    counts = np.bincount(dataset.labels(np.arange(len(dataset))))
    return None if len(counts) < 2 or not counts.all() else counts / counts.sum()


class _Read:
    # One side, as the judge reads it.
    def __init__(self, judge: Judge, pixels: Pixels, seed: int) -> None:
        probabilities = judge.probabilities(pixels)
        self._calls = probabilities.argmax(1)
        self._clear, self._seed = probabilities.max(1) > CONFIDENT, seed

    def found(self, k: int) -> Interval:
        n = len(self._calls)
        counts = np.bincount(self._calls, minlength=k)
        draws = stream(self._seed, "classes found").multinomial(n, counts / n, size=BOOTSTRAPS)
        low, high = np.percentile((draws > 0).sum(1), (2.5, 97.5))
        return Interval(float((counts > 0).sum()), float(low), float(high), n)

    def smallest(self, k: int) -> Interval:
        rarest = np.bincount(self._calls, minlength=k).argmin()
        return interval(self._calls == rarest, self._seed)

    def divergence(self, shares: NDArray[np.floating]) -> Interval:
        return mode_coverage(self._calls, self._seed, len(shares), shares).kl

    @property
    def confident(self) -> Interval:
        return interval(self._clear, self._seed)
