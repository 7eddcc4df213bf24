"""Who judges a run: a classifier, a probe or nobody, and how well they read real images."""

from dataclasses import dataclass

import numpy as np

from controlgen.config import EvaluateConfig
from controlgen.metrics.bootstrap import Interval, interval
from controlgen.metrics.classifier import (
    Judge,
    LabelledDataset,
    read_right,
    sources_of,
    train_judge,
)
from controlgen.metrics.linear_probe import Embedding, train_probe


@dataclass(frozen=True)
class Judging:
    """Kind of judge, a sentence about it, and the share of the real test set that it reads right.

    The interval of `accuracy` draws sources whole. `strength` is a probe's C and `cross_validated`
    its accuracy on held-out sources of the training split. All of them are None where nobody
    judges.
    """

    kind: str
    said: str
    accuracy: Interval | None = None
    strength: float | None = None
    cross_validated: float | None = None


def has_classes(dataset: LabelledDataset) -> bool:
    """Whether a set of images tells classes; one that has no `class_names` at all is asked."""
    names = getattr(dataset, "class_names", None)
    return names is None or len(names) > 0


def find_judge(
    real_train: LabelledDataset,
    real_test: LabelledDataset,
    audit: Embedding,
    config: EvaluateConfig,
) -> tuple[Judge | None, Judging]:
    """Teach the configured judge on real training images and try it on the real test images.

    Labels enter here, and only the judge learns from them. None where nobody is to judge or where
    the data carry no classes. Raises DataError where there are too few sources for a probe.
    """
    if config.judge == "none":
        return None, Judging("none", 'no judge was asked for (evaluate.judge = "none")')
    if not has_classes(real_train):
        return None, Judging("none", "the data carry no classes, so there is no judge")
    judge: Judge
    if config.judge == "classifier":
        judge = train_judge(real_train, config.judge_epochs, config.seed)
        said = "labels are used by the judge alone, a classifier"
        return judge, Judging("classifier", said, _accuracy(judge, real_test, config))
    judge = probe = train_probe(real_train, audit, config.seed)
    said = (
        "labels are used by the judge alone, a linear probe on the audit features of "
        f"{probe.images} real training images of {probe.sources} sources (C = "
        f"{probe.strength.value:g}, chosen by cross-validation over sources, where it reads "
        f"{probe.strength.accuracy:.2%})"
    )
    accuracy = _accuracy(judge, real_test, config)
    return judge, Judging("probe", said, accuracy, probe.strength.value, probe.strength.accuracy)


def _accuracy(judge: Judge, real_test: LabelledDataset, config: EvaluateConfig) -> Interval:
    sources = sources_of(real_test, np.arange(len(real_test)))
    return interval(read_right(judge, real_test), config.seed, config.bootstraps, sources)
